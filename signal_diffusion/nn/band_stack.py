"""The backbone of speech: gated dilated convolutions over time whose weights all bands share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from signal_diffusion.errors import InputError
from signal_diffusion.nn.blocks import TILE, Dilated, Layer, infers, run_tiles
from signal_diffusion.nn.stack import TimeEmbedding

#: Added to the variance of a frame's channels, as `layer_norm` does.
FLOOR = 1e-5


class BandStack(Dilated):
    """Gated dilated blocks over frames of bands, with a complex gain and a residual for each bin.

    A spectrum is cut into bands of some bins, each of which becomes `channels` numbers a frame. All
    bands go through the same blocks and differ by a learnt embedding of their place alone, so that
    what is learnt of one serves the others and a voice without some of them is still a voice. In
    each block, the bands of a frame exchange a few channels.

    The estimate is `gain * reference + residual` in every bin, where the reference is the
    observation y if there is one and the state otherwise; the complex gain starts at 1, the
    residual at 0. No statistic crosses time: the receptive field is finite.

    Args:
        state_channels: K of the state: the real parts of K/2 bins, then their imaginary parts.
        bands, widths: how many bands there are of how many bins, from the lowest frequency up; what
            they hold beyond K/2 bins is zeros.
        channels, hidden: width of a band's residual path and of its bottleneck.
        mixed: channels of a band that enter the other bands of the frame.
        layers, dilation_cycle: block i has dilation 2^(i mod dilation_cycle).
        paired: whether an observation y comes with the state.
        cond_channels: channels of the per-frame conditioner (B, cond_channels, N), 0 for none. It
            enters with weights that start at 0, and frames of zeros are as good as none.
        causal: look at past frames only.
        time_channels: width of the time embedding.

    Source: Kong and others 2021 (arXiv:2009.09761) for the gated stack; Luo and Yu 2023
    (arXiv:2209.15174) for bands of their own widths; Quan and Li 2024 (arXiv:2307.16516) for
    blocks that bands share and a narrow dense layer across them.
    """

    def __init__(
        self,
        state_channels: int,
        *,
        bands: Sequence[int] = (16, 4, 2),
        widths: Sequence[int] = (8, 16, 33),
        channels: int = 64,
        hidden: int = 48,
        mixed: int = 8,
        layers: int = 12,
        dilation_cycle: int = 5,
        paired: bool = False,
        cond_channels: int = 0,
        causal: bool = False,
        time_channels: int = 64,
    ) -> None:
        super().__init__()
        self.state_channels, self.bands, self.widths = state_channels, list(bands), list(widths)
        self.channels, self.hidden, self.mixed = channels, hidden, mixed
        self.layers, self.dilation_cycle, self.paired = layers, dilation_cycle, paired
        self.cond_channels, self.causal = cond_channels, causal
        self.time_channels = time_channels
        self.bins = sum(n * width for n, width in zip(self.bands, self.widths, strict=True))
        if state_channels % 2 or self.bins < state_channels // 2:
            raise InputError(
                f"bands {self.bands} of {self.widths} bins hold {self.bins} bins: the state has "
                f"{state_channels} channels, real and imaginary parts of half as many bins"
            )
        self.embedding = TimeEmbedding(time_channels)
        features = 3 * (1 + paired)
        self.inward = nn.ModuleList(nn.Linear(features * width, channels) for width in self.widths)
        self.place = nn.Parameter(torch.empty(sum(self.bands), channels))
        self.time = nn.Linear(time_channels, channels)
        self.conditioner = nn.Linear(cond_channels, channels, bias=False) if cond_channels else None
        self.blocks = nn.ModuleList(
            BandBlock(channels, hidden, mixed=mixed, bands=sum(self.bands), shifts=shifts)
            for shifts in self.shifts
        )
        self.head = nn.ModuleList(nn.Linear(channels, 4 * width) for width in self.widths)
        self._start()

    def _start(self) -> None:
        if self.place.is_meta:
            # An outline without numbers; drawing them there would import torch's compiler.
            return
        nn.init.normal_(self.place, std=0.3)
        for block in self.blocks:
            assert isinstance(block, BandBlock)
            nn.init.normal_(block.outward.weight, std=1 / math.sqrt(2 * self.layers * self.hidden))
        if self.conditioner is not None:
            nn.init.zeros_(self.conditioner.weight)
        for head in self.head:
            assert isinstance(head, nn.Linear)
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def forward(
        self, x: Tensor, t: Tensor, y: Tensor | None = None, cond: Tensor | None = None
    ) -> Tensor:
        """State (B, K, N) at times t (B,) to an estimate (B, K, N)."""
        framed = [self._parts(v) for v in (x, y) if v is not None]
        h = self._entered([part for v in framed for part in _features(*v)])
        steps, rows, bands, channels = h.shape
        h = h + self.time(self.embedding(t))[:, None].to(h)
        if self.conditioner is not None and cond is not None:
            h = h + self.conditioner(cond.permute(2, 0, 1))[:, :, None].to(h)
        h = h.flatten(1, 2)
        if infers(h):
            layers = [_BandLayer(cast(BandBlock, block), h) for block in self.blocks]
            run_tiles(layers, steps, max(1, TILE // h.shape[1]))
        else:
            for block in self.blocks:
                h = block(h)
        h = F.silu(F.layer_norm(h, (channels,))).view(steps, rows, bands, channels)
        return self._estimate(h, framed[-1])

    def _parts(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Real and imaginary parts (N, B, bins) of a state (B, K, N)."""
        v = v.unflatten(1, (2, -1)).permute(1, 3, 0, 2)
        real, imag = F.pad(v, (0, self.bins - v.shape[-1]))
        return real, imag

    def _entered(self, features: Sequence[Tensor]) -> Tensor:
        """Features (N, B, bins) of the bins to the channels of the bands (N, B, F, C)."""
        groups = zip(*(self._grouped(v) for v in features), strict=True)
        found = [
            linear(torch.cat(group, dim=-1))
            for linear, group in zip(self.inward, groups, strict=True)
        ]
        h = torch.cat(found, dim=2)
        return h + self.place.to(h)

    def _grouped(self, v: Tensor) -> list[Tensor]:
        """Bins (N, B, bins) as bands (N, B, n, width), one tensor for each width."""
        sizes = [n * width for n, width in zip(self.bands, self.widths, strict=True)]
        return [
            part.unflatten(-1, (-1, width))
            for part, width in zip(v.split(sizes, dim=-1), self.widths, strict=True)
        ]

    def _estimate(self, h: Tensor, reference: tuple[Tensor, Tensor]) -> Tensor:
        """The estimate (B, K, N) from the bands' channels and the reference's parts."""
        made = [
            head(part).float().unflatten(-1, (4, -1)).movedim(-2, 0).flatten(-2)
            for head, part in zip(self.head, h.split(self.bands, dim=2), strict=True)
        ]
        gain_real, gain_imag, left_real, left_imag = torch.cat(made, dim=-1).unbind()
        real, imag = reference
        kept = real + gain_real * real - gain_imag * imag + left_real
        turned = imag + gain_real * imag + gain_imag * real + left_imag
        both = torch.stack([kept, turned])[..., : self.state_channels // 2]
        return both.permute(2, 0, 3, 1).flatten(1, 2)


class BandBlock(nn.Module):
    """An exchange between the bands, and a dilated gate of three taps, added to a residual path.

        n = layer_norm(x);  h = silu(n A + silu(silu(n B) across all bands) C)
        x + (h * V)(sigmoid(h * G)) D

    with * the dilated convolution. The product across all bands alone has a bias, by which a block
    knows the bands apart; `BandStack` adds those of time and place.

    Args:
        channels, hidden, mixed: see `BandStack`.
        bands: number of bands.
        shifts: frames that are seen before and after.
    """

    def __init__(
        self, channels: int, hidden: int, *, mixed: int, bands: int, shifts: tuple[int, int]
    ) -> None:
        super().__init__()
        self.bands, self.shifts = bands, shifts
        self.inward = nn.Linear(channels, hidden, bias=False)
        self.squeeze = nn.Linear(channels, mixed, bias=False)
        self.across = nn.Linear(bands * mixed, bands * mixed)
        self.spread = nn.Linear(mixed, hidden, bias=False)
        self.dilated = nn.Parameter(torch.empty(2, 3, hidden, hidden))
        self.outward = nn.Linear(hidden, channels, bias=False)
        if not self.dilated.is_meta:
            nn.init.normal_(self.dilated, std=1 / math.sqrt(3 * hidden))
            nn.init.zeros_(self.across.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Residual path (N, rows of bands, C) to the next."""
        steps, rows, channels = x.shape
        normal = F.layer_norm(x, (channels,)).flatten(0, 1)
        mixed = F.silu(self.squeeze(normal)).view(steps * rows // self.bands, -1)
        mixed = F.silu(self.across(mixed)).view(steps * rows, -1)
        h = self.inward(normal)
        h = F.silu(torch.addmm(h, mixed.to(h), self.spread.weight.t().to(h)))
        h = GatedTaps.apply(h.view(steps, rows, -1), self.dilated.to(h), *self.shifts)
        return torch.addmm(x.flatten(0, 1), h.flatten(0, 1), self.outward.weight.t().to(h)).view_as(
            x
        )


class _BandLayer(Layer):
    """A `BandBlock` at work on a residual path (N, rows of bands, C), which it adds to in place."""

    def __init__(self, block: BandBlock, x: Tensor) -> None:
        self.hidden = block.inward.out_features
        inner = x.new_zeros(block.shifts[0], x.shape[1], self.hidden)
        super().__init__(block.shifts, inner, steps=len(x), dim=0)
        self.x, self.bands, self.across = x, block.bands, block.across
        # What the layer's norm takes off frames, their means, is taken off the weights instead.
        entry = torch.cat([block.inward.weight, block.squeeze.weight])
        self.entry = (entry - entry.mean(dim=1, keepdim=True)).t()
        self.spread, self.outward = block.spread.weight.t(), block.outward.weight.t()
        self.dilated = torch.cat(list(block.dilated), dim=-1)

    def _inner(self, start: int, stop: int) -> Tensor:
        x = self.x[start:stop].flatten(0, 1)
        power = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_() / x.shape[-1]
        variance = (power - x.mean(dim=-1, keepdim=True).square_()).clamp_min_(0)
        scale = (variance + FLOOR).rsqrt_()
        both = x @ self.entry
        mixed = F.silu(both[:, self.hidden :] * scale, inplace=True).view(
            -1, self.across.in_features
        )
        mixed = F.silu(self.across(mixed), inplace=True).view(len(x), -1)
        h = (both[:, : self.hidden] * scale).addmm_(mixed, self.spread)
        return F.silu(h, inplace=True).view(stop - start, -1, self.hidden)

    def _add(self, inner: Tensor, start: int, stop: int) -> None:
        gated = F.glu(self._taps(inner, list(self.dilated), stop - start), dim=-1)
        self.x[start:stop].flatten(0, 1).addmm_(gated, self.outward)


class GatedTaps(torch.autograd.Function):
    """Frames (N, R, H) by weights (2, 3, H, H): value times the sigmoid of the gate, (N, R, H).

    Both are dilated convolutions of three taps, as products of matrices that lie in memory as they
    are, without copies of the frames and with contiguous halves: on a CPU the fastest form.
    """

    @staticmethod
    def forward(ctx: Any, h: Tensor, weight: Tensor, past: int, future: int) -> Tensor:
        taps = _taps(len(h), past, future)
        value, gate = (_convolved(h, part, taps) for part in weight)
        gate = gate.sigmoid_()
        ctx.save_for_backward(h, weight, value, gate)
        ctx.taps = taps
        return value * gate

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        h, weight, value, gate = ctx.saved_tensors
        taps, grad = ctx.taps, grad.contiguous()
        sides = grad * gate, torch.ops.aten.sigmoid_backward(grad * value, gate)
        back = torch.zeros_like(h)
        for side, part in zip(sides, weight, strict=True):
            for (to, of), w in zip(taps, part, strict=True):
                _rows(back[of]).addmm_(_rows(side[to]), w.t())
        found = [_rows(h[of]).t() @ _rows(side[to]) for side in sides for to, of in taps]
        return back, torch.stack(found).view_as(weight), None, None


def _convolved(h: Tensor, weight: Tensor, taps: Sequence[tuple[slice, slice]]) -> Tensor:
    """Frames (N, R, H) convolved by the weights (3, H, H) of three taps."""
    out = h.new_zeros(*h.shape[:2], weight.shape[-1])
    for (to, of), w in zip(taps, weight, strict=True):
        _rows(out[to]).addmm_(_rows(h[of]), w)
    return out


def _taps(steps: int, past: int, future: int) -> list[tuple[slice, slice]]:
    """For each tap, which frames are made of which."""
    offsets = (-past, (future - past) // 2, future)
    return [
        (
            slice(max(0, -by), max(0, steps - max(0, by))),
            slice(max(0, by), max(0, steps + min(0, by))),
        )
        for by in offsets
    ]


def _rows(x: Tensor) -> Tensor:
    return x.flatten(0, 1)


def _features(real: Tensor, imag: Tensor) -> list[Tensor]:
    return [real, imag, 0.5 * torch.log(real.square() + imag.square() + 1e-4)]
