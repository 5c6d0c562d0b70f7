"""Draw estimates of a recording of any length in pieces, which equal those of the whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, product

import numpy as np
import torch
from torch import Tensor

from signal_diffusion import samplers
from signal_diffusion.denoiser import Denoiser
from signal_diffusion.dsp import Array
from signal_diffusion.dsp.buffer import Buffer
from signal_diffusion.nn.frames import signals_of
from signal_diffusion.noise import Noise
from signal_diffusion.samplers import Progress

#: Samples that a piece of a long recording and its context have, or the rows of one batch.
PIECE = 480_000
#: The same in steps of the network, whose memory goes by them.
STEPS = 32_768
#: Samples, over all rows, of the estimates of one piece, and of pieces that are that long only
#: because their context is.
ESTIMATE, LARGEST_ESTIMATE = 1 << 22, 1 << 24


@dataclass(frozen=True)
class Sampling:
    """One way of drawing estimates: of every channel, `shots` of them.

    Args:
        denoiser: see `tasks.denoise.denoise`.
        times: grid of the sampler.
        sampler: a function of `samplers`, or one of the same form.
        seed: of the fresh noise.
        shots: estimates that are drawn of every channel.
    """

    denoiser: Denoiser
    times: Tensor
    sampler: Callable[..., Tensor]
    seed: int
    shots: int = 1

    @property
    def budget(self) -> int:
        """Samples, over the rows of a batch, that fit into the memory meant for it."""
        return min(PIECE, STEPS * self.denoiser.hop)

    @property
    def context(self) -> tuple[int, int] | None:
        """Samples that one sample of an estimate sees before and after itself, None for all."""
        calls = samplers.network_calls(self.sampler, len(self.times))
        return None if calls is None else self.denoiser.context(calls)

    def __call__(
        self,
        x: Array,
        start: int,
        cut: slice = slice(None),
        progress: Progress | None = None,
        missing: Array | None = None,
    ) -> Array:
        """Estimates (C, shots, n) of a part of levelled samples (C, L), which begin at `start`.

        `missing` (C, L) tells masked denoisers where samples were filled in.
        """
        rows = list(product(range(len(x)), range(self.shots)))
        batch = max(1, self.budget // x.shape[1])
        batches = [rows[n : n + batch] for n in range(0, len(rows), batch)]
        estimates = [
            self._rows(x, part, start, part_of(progress, index, len(batches)), missing)[:, cut]
            for index, part in enumerate(batches)
        ]
        return np.concatenate(estimates).reshape(len(x), self.shots, -1)

    def _rows(
        self,
        x: Array,
        rows: list[tuple[int, int]],
        start: int,
        progress: Progress | None,
        missing: Array | None,
    ) -> Array:
        denoiser, codec = self.denoiser, self.denoiser.recording.codec
        signal = torch.from_numpy(x[[channel for channel, _ in rows]]).to(_device(denoiser))
        with torch.no_grad():
            state, y = codec.encode(signal[:, None]), None
            cond = _mask(missing, [channel for channel, _ in rows], like=signal)
            noise = Noise(self.seed, rows=rows, channels=state.shape[1])
            first = start // codec.hop
            if denoiser.schedule.paired:
                y = state
                state = samplers.initial_state(
                    denoiser.schedule,
                    self.times[0],
                    y=y,
                    noise=noise,
                    start=first,
                    length=y.shape[-1],
                )
            else:
                state = denoiser.schedule(self.times[0])[0].to(state) * state
            x_hat = self.sampler(
                denoiser,
                state,
                self.times,
                y=y,
                cond=cond,
                noise=noise,
                start=first,
                progress=progress,
            )
            return signals_of(codec, x_hat, x.shape[-1])


class Pieces:
    """Levelled samples in, block by block, estimates out as soon as what they depend on is there.

    Pieces are cut, never padded, at the recording's ends, and lie on whole steps of the state with
    the context that the receptive field asks for, so that the result is that of the whole.

    Args:
        sampling: how to draw estimates.
        channels: C.
        least: samples that are waited for before a piece is processed: 1 hands out at once what can
            be known, more recompute less context. None: as many as are processed at most.
        most: samples of the longest piece; None bounds the memory.
        length: samples of the recording, for the progress alone.
        progress: called as progress(done calls, all calls).
    """

    def __init__(
        self,
        sampling: Sampling,
        *,
        channels: int,
        least: int | None = None,
        most: int | None = None,
        length: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.sampling, self.channels = sampling, channels
        self.grid = grid = sampling.denoiser.hop
        context = sampling.context
        self.past: int | None = None
        self.future = 0
        if context is not None:
            self.past, self.future = (_whole(n, grid) for n in context)
        rows = channels * sampling.shots
        self.most = _whole(most or self._bounded(rows), grid)
        self.least = self.most if least is None else min(_whole(least, grid), self.most)
        self.progress, self.pieces = progress, -(-length // self.most) if length else 1
        self._held, self._low, self._start, self._done = Buffer(), 0, 0, 0
        self._missing = Buffer()

    def _bounded(self, rows: int) -> int:
        context = (self.past or 0) + self.future
        # Rows that don't fit at once are batches: short pieces of all would waste their context.
        usual = min(self.sampling.budget - context, ESTIMATE // rows)
        return max(usual, min(2 * context, LARGEST_ESTIMATE // rows), 1)

    def push(self, x: Array, missing: Array | None = None) -> Array:
        """The estimates (C, shots, m) that a block (C, n) makes known.

        `missing` (C, n) goes with every block, or with none.
        """
        self._held.push(x)
        if missing is not None:
            self._missing.push(missing)
        if self.past is None:
            return self._nothing()
        estimates = [self._nothing()]
        while (size := self._ready()) >= self.least:
            estimates.append(self._piece(min(size, self.most)))
        return np.concatenate(estimates, axis=-1)

    def flush(self) -> Array:
        """The rest, once the recording is over."""
        estimates = [self._nothing()]
        while left := self._low + len(self._held) - self._start:
            estimates.append(self._piece(left if self.past is None else min(left, self.most)))
        return np.concatenate(estimates, axis=-1)

    def _ready(self) -> int:
        """Samples whose context is there, in whole steps of the grid."""
        ready = self._low + len(self._held) - self.future - self._start
        return ready // self.grid * self.grid

    def _piece(self, size: int) -> Array:
        begin = self._start - self._low
        x = self._held.peek(begin + size + self.future)
        missing = self._missing.peek(x.shape[1]) if len(self._missing) else None
        report = part_of(self.progress, self._done, max(self.pieces, self._done + 1))
        estimate = self.sampling(x, self._low, slice(begin, begin + size), report, missing)
        self._start, self._done = self._start + size, self._done + 1
        if self.past is not None and (stale := self._start - self.past - self._low) > 0:
            self._held.take(stale)
            if missing is not None:
                self._missing.take(stale)
            self._low += stale
        return estimate

    def _nothing(self) -> Array:
        return np.zeros((self.channels, self.sampling.shots, 0), np.float32)


def part_of(progress: Progress | None, index: int, parts: int) -> Progress | None:
    """Progress within one of several parts, told as that of the whole."""
    if progress is None or parts == 1:
        return progress
    return lambda done, total: progress(index * total + done, parts * total)


def _whole(count: int, grid: int) -> int:
    """The count rounded up to whole steps of a grid."""
    return -(-count // grid) * grid


def _mask(missing: Array | None, channels: list[int], *, like: Tensor) -> Tensor | None:
    """The conditioner (B, 1, L) of some channels' masks (C, L); None where nothing is missing."""
    if missing is None or not missing[channels].any():
        return None
    return torch.from_numpy(missing[channels]).to(like)[:, None]


def _device(denoiser: Denoiser) -> torch.device:
    held = next(chain(denoiser.parameters(), denoiser.buffers()), None)
    return torch.device("cpu") if held is None else held.device
