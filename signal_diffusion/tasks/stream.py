"""Denoise what is still being recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from signal_diffusion import samplers
from signal_diffusion.denoiser import Denoiser, denoiser_of
from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError
from signal_diffusion.samplers import sampler_named
from signal_diffusion.streaming.engine import Engine, Estimates
from signal_diffusion.streaming.settings import (
    LONGEST,
    Settings,
    block_of,
    checked,
    model_or_given_rate,
    require_number,
    require_whole,
)
from signal_diffusion.tasks.denoise import given_normal

#: Seconds that are waited for before a piece is processed, unless another time is asked for.
EVERY = 0.25


class DenoiseStream:
    """A running denoiser: blocks of any size in, what is known of the estimate out, in order.

    With the level given, all that comes out is `denoise` of all that went in with that level.
    Without one the gain of each channel follows its level, 0.26 s ahead: it falls before a louder
    voice begins, rises once a fainter one has lasted for 0.6 s, and rests in shorter pauses.
    `tasks.denoise.measured_level` of an earlier recording of the same source is a level to give.

    Args:
        denoiser: see `denoise`.
        sample_rate: of the stream in Hz; None means the denoiser's own, with a warning.
        channels: C.
        level: of the stream's loud frames in dB of full scale, one or one a channel, if known.
        every: seconds of new estimates that are computed at once; less answers sooner and computes
            more context again.
        steps, sampler, seed, noise_std, strength, band: see `denoise`.

    Raises:
        InputError: an argument or a block can't be used.

    >>> import numpy as np
    >>> from signal_diffusion import Denoiser, DenoiseStream
    >>> stream = DenoiseStream(Denoiser.from_pretrained("speech"), sample_rate=16000)
    >>> blocks = [stream.push(np.zeros(1600, np.float32)) for _ in range(30)]
    >>> sum(block.size for block in blocks) + stream.flush().size
    48000
    """

    def __init__(
        self,
        denoiser: Denoiser | str | Path,
        *,
        sample_rate: float | None = None,
        channels: int = 1,
        level: float | Sequence[float] | None = None,
        every: float = EVERY,
        steps: int = 1,
        sampler: Callable[..., Tensor] | str = samplers.ddim,
        seed: int = 0,
        noise_std: float | None = None,
        strength: float = 1.0,
        band: str = "full",
    ) -> None:
        settings = Settings(
            steps=steps,
            sampler=sampler_named(sampler),
            seed=seed,
            noise_std=noise_std,
            strength=strength,
            band=band,
            level=level,
        )
        require_whole("channels", channels, least=1)
        require_number("every", every)
        if not 0 < every <= LONGEST:
            raise InputError(f"every is {every} s; it goes up to {LONGEST:g}, above 0")
        denoiser = denoiser_of(denoiser)
        rate = model_or_given_rate(denoiser, sample_rate)
        self.channels = channels
        self._ndim = 1 if channels == 1 else 2
        self._over = False
        self._engine = Engine(
            denoiser,
            settings,
            rate=rate,
            channels=channels,
            normal=given_normal(denoiser, level),
            least=max(1, round(every * (denoiser.sample_rate or rate))),
        )

    @property
    def latency(self) -> int | None:
        """Samples after one that its estimate depends on at most; None for all that follow.

        Estimates come out that late, and up to `every` seconds later.
        """
        return self._engine.latency

    def push(self, block: Array) -> Array:
        """The estimates that a block (n,), for one channel, or (C, n) makes known, shaped alike."""
        if self._over:
            raise InputError("the stream was flushed, which ends it: make a new DenoiseStream")
        x = checked(block_of(block, self.channels))
        self._ndim = block.ndim
        return self._shaped(self._engine.push(x.astype(np.float32, copy=False)))

    def flush(self) -> Array:
        """The rest, which ends the stream."""
        if self._over:
            return self._shaped([])
        self._over = True
        return self._shaped(self._engine.flush())

    def _shaped(self, estimates: Iterable[Estimates]) -> Array:
        means = [draws.mean(axis=1) for _, draws in estimates]
        mean = np.concatenate([np.zeros((self.channels, 0), np.float32), *means], axis=1)
        return mean[0] if self._ndim == 1 else mean
