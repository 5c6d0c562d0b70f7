"""Gated dilated blocks over frames: to learn, and in place to infer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Rows of channels that go through the blocks at a time where no gradients are asked for.
TILE = 2_048
#: Added to the mean square of a frame.
FLOOR = 1e-6


class Dilated(nn.Module):
    """A stack of blocks of three taps, of which block i has dilation 2^(i mod dilation_cycle)."""

    layers: int
    dilation_cycle: int
    causal: bool = False

    @property
    def shifts(self) -> list[tuple[int, int]]:
        """Steps that each block sees before and after one."""
        dilations = [2 ** (i % self.dilation_cycle) for i in range(self.layers)]
        return [(2 * d, 0) if self.causal else (d, d) for d in dilations]

    @property
    def context(self) -> tuple[int, int]:
        """Steps that one step of the estimate sees before and after itself."""
        return sum(past for past, _ in self.shifts), sum(future for _, future in self.shifts)

    @property
    def receptive_field(self) -> int:
        """Steps that one step of the estimate depends on."""
        return 1 + sum(self.context)


class GatedBlock(nn.Module):
    """1x1 to a bottleneck, dilated gate of three taps, 1x1 back, added to the residual path.

    The convolution is a matrix product over three shifted copies of the frames (B, N, C): on a CPU
    that is the fastest form, forward and backward.
    """

    def __init__(self, channels: int, hidden: int, time_channels: int, *, shifts: tuple[int, int]):
        super().__init__()
        self.shifts = shifts
        self.norm = nn.Parameter(torch.ones(channels))
        self.inward = nn.Linear(channels, hidden)
        self.time = nn.Linear(time_channels, hidden)
        self.dilated = nn.Linear(3 * hidden, 2 * hidden)
        self.outward = nn.Linear(hidden, channels)

    def forward(self, x: Tensor, time: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor]:
        """Residual (B, N, C) to the next residual and the gate's output (B, N, hidden)."""
        h = self.inward(normalised(x, self.norm)) + self.time(time)
        h = F.silu(h if cond is None else h + cond)
        value, gate = self.dilated(_three_taps(h, *self.shifts)).chunk(2, dim=-1)
        h = torch.tanh(value) * torch.sigmoid(gate)
        return x + self.outward(h), h


def normalised(x: Tensor, weight: Tensor) -> Tensor:
    """Frames (..., C) scaled to a root mean square of 1 over channels, times a weight (C,)."""
    scale = (x.float().square().mean(dim=-1, keepdim=True) + FLOOR).rsqrt()
    return x * scale.to(x) * weight.to(x)


def learning(
    blocks: Sequence[GatedBlock],
    skip: nn.Linear,
    conditioner: nn.Linear | None,
    x: Tensor,
    time: Tensor,
    cond: Tensor | None,
) -> Tensor:
    """Frames (B, N, C) through the blocks: the residual path plus the skip path's sum.

    Args:
        blocks, skip, conditioner: of the stack.
        x: the frames.
        time: embedding of the time (B or 1, 1, time_channels).
        cond: conditioner (B, N or 1, cond_channels) or None.
    """
    shares: Sequence[Tensor | None] = [None] * len(blocks)
    if conditioner is not None and cond is not None:
        shares = conditioner(cond).chunk(len(blocks), dim=-1)
    gates = []
    for block, share in zip(blocks, shares, strict=True):
        x, gate = block(x, time, share)
        gates.append(gate)
    return x + skip(torch.cat(gates, dim=-1))


def inferring(
    blocks: Sequence[GatedBlock],
    skip: nn.Linear,
    conditioner: nn.Linear | None,
    x: Tensor,
    time: Tensor,
    cond: Tensor | None,
) -> Tensor:
    """As `learning`, but for rounding, where no gradients are asked for; far faster on a CPU.

    Residual and skip path lie beside each other and are added to in place. A tile of frames goes
    through all blocks, each of which lags behind the one before it by the frames that it looks
    ahead, so that what is worked on stays in the processor's cache.
    """
    rows, steps, channels = x.shape
    paths = torch.cat([x, skip.bias.expand_as(x)], dim=-1)
    shares = skip.weight.chunk(len(blocks), dim=1)
    entries: Sequence[Tensor | None] = [None] * len(blocks)
    if conditioner is not None and cond is not None:
        entries = conditioner.weight.chunk(len(blocks))
    many = max(1, TILE // max(1, steps))
    for first in range(0, rows, many):
        part = slice(first, first + many)
        entering = None if cond is None else _of(part, cond)
        layers = [
            _GatedLayer(
                block, share, paths[part], _of(part, block.time(time)), entry, cond=entering
            )
            for block, share, entry in zip(blocks, shares, entries, strict=True)
        ]
        run_tiles(layers, steps, TILE)
    return paths[..., :channels] + paths[..., channels:]


class Layer(ABC):
    """A block at work on a residual path whose frames come tile by tile.

    Args:
        shifts: frames that the block sees before and after.
        inner: frames of the bottleneck before the first, which are zeros.
        steps: frames of the path.
        dim: dimension of the frames.
    """

    def __init__(self, shifts: tuple[int, int], inner: Tensor, *, steps: int, dim: int) -> None:
        (past, self.future), self.steps, self.dim = shifts, steps, dim
        self.tap, self.inner, self.done = (past + self.future) // 2, inner, 0

    def push(self, start: int, stop: int) -> tuple[int, int]:
        """Take the path's frames start to stop; returns which frames have now got its share."""
        if start == stop:
            return start, stop
        ended = stop == self.steps
        parts = [self.inner, self._inner(start, stop)]
        if ended:
            shape = list(self.inner.shape)
            shape[self.dim] = self.future
            parts.append(self.inner.new_zeros(shape))
        inner = torch.cat(parts, dim=self.dim)
        start, self.done = self.done, max(self.done, stop if ended else stop - self.future)
        if start < self.done:
            self._add(inner, start, self.done)
        at = self.done - start
        self.inner = inner.narrow(self.dim, at, inner.shape[self.dim] - at)
        return start, self.done

    def _taps(self, inner: Tensor, weights: Sequence[Tensor], count: int) -> Tensor:
        """The dilated convolution (rows, 2H) of the bottleneck at `count` frames."""
        taps = [inner.narrow(self.dim, k * self.tap, count).flatten(0, 1) for k in range(3)]
        h = taps[0] @ weights[0]
        for tap, weight in zip(taps[1:], weights[1:], strict=True):
            h.addmm_(tap, weight)
        return h

    @abstractmethod
    def _inner(self, start: int, stop: int) -> Tensor:
        """The bottleneck of the frames start to stop."""

    @abstractmethod
    def _add(self, inner: Tensor, start: int, stop: int) -> None:
        """Add the block's output to the frames start to stop of the path."""


def run_tiles(layers: Sequence[Layer], steps: int, tile: int) -> None:
    """Lead tiles of frames through all layers, each of which lags by what it looks ahead."""
    tile = -(-steps // -(-steps // tile))  # alike, so that none is a rest of a few frames
    for first in range(0, steps, tile):
        start, stop = first, min(first + tile, steps)
        for layer in layers:
            start, stop = layer.push(start, stop)


def infers(h: Tensor) -> bool:
    """Whether blocks can work in place: no gradients, nothing that casts or compiles."""
    plain = not torch.is_grad_enabled() and not torch.compiler.is_compiling()
    return plain and h.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


class _GatedLayer(Layer):
    """A `GatedBlock` at work on some rows.

    Args:
        block: its weights.
        share: what the skip path makes of the gate, (C, hidden).
        paths: residual beside skip path (B, N, 2C), which it adds to: one row, or short ones.
        time: added in the bottleneck, (B or 1, 1, hidden).
        entry: what the bottleneck makes of the conditioner, (hidden, cond_channels) or None.
        cond: conditioner (B, N or 1, cond_channels) or None.
    """

    def __init__(
        self,
        block: GatedBlock,
        share: Tensor,
        paths: Tensor,
        time: Tensor,
        entry: Tensor | None,
        cond: Tensor | None,
    ) -> None:
        self.channels, self.hidden = block.inward.in_features, block.inward.out_features
        inner = paths.new_zeros(len(paths), block.shifts[0], self.hidden)
        super().__init__(block.shifts, inner, steps=paths.shape[1], dim=1)
        self.paths, self.entry, self.cond = paths, entry, cond
        self.inward = (block.inward.weight * block.norm).t()
        self.shift = block.inward.bias + time
        # tanh(v) is 2 sigmoid(2 v) - 1: with doubled weights, one sigmoid serves both halves.
        double = torch.ones_like(block.dilated.bias)
        double[: self.hidden] = 2
        self.dilated = (block.dilated.weight * double[:, None]).t().chunk(3)
        self.bias = block.dilated.bias * double
        self.outward, self.offset = torch.cat([block.outward.weight, share]).t(), block.outward.bias

    def _inner(self, start: int, stop: int) -> Tensor:
        x = self.paths[:, start:stop, : self.channels]
        power = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_() / self.channels
        shift = self.shift
        if self.entry is not None and self.cond is not None:
            cond = self.cond[:, start:stop] if self.cond.shape[1] > 1 else self.cond
            shift = shift + cond @ self.entry.t()
        # Of two dimensions, since only then the product is shared by the processor's cores.
        h = torch.mm(x.flatten(0, 1), self.inward).view(len(x), -1, self.hidden)
        return F.silu(torch.addcmul(shift, h, (power + FLOOR).rsqrt_()), inplace=True)

    def _add(self, inner: Tensor, start: int, stop: int) -> None:
        h = self._taps(inner, self.dilated, stop - start).add_(self.bias)
        value, gate = h.sigmoid_().chunk(2, dim=-1)
        tile = self.paths[:, start:stop].flatten(0, 1)
        tile.addmm_(torch.addcmul(-gate, value, gate, value=2), self.outward)
        tile[:, : self.channels] += self.offset


def _of(part: slice, values: Tensor) -> Tensor:
    """What belongs to some rows, or to all of them alike."""
    return values if len(values) == 1 else values[part]


def _three_taps(h: Tensor, past: int, future: int) -> Tensor:
    """Frames (B, N, H) beside their copies at the taps of a dilated convolution: (B, N, 3H)."""
    steps, tap = h.shape[1], (past + future) // 2
    h = F.pad(h, (0, 0, past, future))
    return torch.cat([h[:, k * tap : k * tap + steps] for k in range(3)], dim=-1)
