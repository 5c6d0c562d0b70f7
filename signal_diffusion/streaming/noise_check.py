"""What was called noise by a denoiser that goes by the noise, beside the white noise meant."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from signal_diffusion.denoiser import Denoiser
from signal_diffusion.dsp import Array
from signal_diffusion.streaming.gain import Normal
from signal_diffusion.streaming.settings import Settings

#: Samples of a segment, which half overlap, and bands that its spectrum is averaged over.
SEGMENT, BANDS = 256, 32
#: Segments under which nothing is said of the spectrum.
FEWEST = 16
#: dB by which a band may differ from white noise and yet count as white.
TOLERANCE = 1.0
#: Relative standard error of the mean of one segment's band: four bins under a Hann window.
BAND_ERROR = 0.7


@dataclass(frozen=True)
class ChannelNoise:
    """What was removed from a channel, beside white noise of the deviation that was reckoned with.

    A recording is x + n. The best estimate leaves an error that is orthogonal to what was removed,
    so that the two spectra add up to the noise's:

        S_removed(f) + S_error(f) = S_n(f),    sigma^4 / (S_x + sigma^2) for Gaussian x

    What is removed well is thus white where the signal is weak or foretold by its past and future,
    below white noise where the two can't be told apart, and above it nowhere. A test of whiteness
    as such would refuse the best denoiser, and any other once a recording is long enough; so the
    bands are held to the noise's level instead, within `TOLERANCE` and three standard errors.

    Attributes:
        channel: name, or number from 1.
        share: of the channel's variance that was removed, 0 to 1 or so.
        noise_std: of the white noise, in the channel's unit.
        estimated: whether that was estimated, not given.
        ratio: deviation of what was removed over noise_std; None where there is no noise.
        white: share of the frequencies where what was removed is as strong as white noise; None
            where the recording is too short to tell.
        highest_db, highest_hz: by how much it is stronger than white noise in the band where it is
            most (less than 0: weaker everywhere), and the middle of that band; None as above.
        exceeds: whether that is more than chance: something else than white noise was removed.
    """

    channel: str
    share: float
    noise_std: float
    estimated: bool
    ratio: float | None = None
    white: float | None = None
    highest_db: float | None = None
    highest_hz: float | None = None
    exceeds: bool = False


class Removed:
    """Takes what comes by, and tells of each channel what was called noise, in bounded memory.

    Args:
        names: of the channels.
        sample_rate: Hz.
        noise_std: (C,) of the white noise, in the channels' units.
        estimated: whether that was estimated, not given.
        offset: (C,) that was removed on purpose, such as the medians.

    >>> noise = np.random.default_rng(0).standard_normal((1, 100_000))
    >>> removed = Removed(["a"], 100.0, np.ones(1))
    >>> removed(5 + noise, np.full((1, 1, 100_000), 5.0))    # all of the noise, and nothing else
    >>> found = removed.channels()[0]
    >>> round(found.share, 2), round(found.ratio, 2), found.white, found.exceeds
    (1.0, 1.0, 1.0, False)
    """

    def __init__(
        self,
        names: Sequence[str],
        sample_rate: float,
        noise_std: Array,
        *,
        estimated: bool = True,
        offset: Array | float = 0.0,
    ) -> None:
        self.names, self.sample_rate, self.estimated = names, sample_rate, estimated
        self.noise_std = noise_std
        count = len(names)
        self._offset = np.zeros((count, 1)) + np.reshape(offset, (-1, 1))
        self._first: Array | None = None
        self._sums = np.zeros((2, 2, count))
        self._frames = self._segments = 0
        self._rest = np.zeros((count, 0))
        self._powers = np.zeros((count, SEGMENT // 2 + 1))

    def __call__(self, noisy: Array, draws: Array) -> None:
        removed = np.subtract(noisy, draws.mean(axis=1), dtype=np.float64) - self._offset
        if self._first is None:
            # Variances about a reading, since the squares of an offset would swallow them.
            self._first = noisy[:, :1].astype(np.float64)
        both = np.stack([noisy - self._first, removed])
        self._sums += np.stack([both.sum(axis=-1), np.square(both).sum(axis=-1)])
        self._frames += noisy.shape[1]
        self._add_segments(np.concatenate([self._rest, removed], axis=-1))

    def channels(self) -> tuple[ChannelNoise, ...]:
        """What was seen."""
        return tuple(self._channel(n) for n in range(len(self.names)))

    def _add_segments(self, x: Array) -> None:
        count = max(0, (x.shape[1] - SEGMENT // 2) // (SEGMENT // 2))
        self._rest = x[:, count * SEGMENT // 2 :]
        if not count:
            return
        window = np.hanning(SEGMENT + 1)[:-1]
        segments = np.lib.stride_tricks.sliding_window_view(x, SEGMENT, axis=-1)
        powers = np.square(np.abs(np.fft.rfft(segments[:, :: SEGMENT // 2] * window)))
        self._powers += powers.sum(axis=1) / np.square(window).sum()
        self._segments += count

    def _channel(self, n: int) -> ChannelNoise:
        std, (before, removed) = float(self.noise_std[n]), self._variances[:, n]
        share = float(removed / before) if before > 0 else 0.0
        found = ChannelNoise(self.names[n], share, std, self.estimated)
        if not std > 0:
            return found
        found = replace(found, ratio=math.sqrt(removed) / std)
        return found if self._segments < FEWEST else self._with_bands(found, self._powers[n])

    def _with_bands(self, found: ChannelNoise, powers: Array) -> ChannelNoise:
        """What the spectrum tells, whose bins are all sigma^2 for white noise."""
        bands = np.array_split(powers / (self._segments * found.noise_std**2), BANDS)
        levels = np.array([10 * math.log10(max(band.mean(), 1e-30)) for band in bands])
        chance = 1 + 3 * BAND_ERROR / math.sqrt(self._segments)
        allowed = TOLERANCE + 10 * math.log10(chance)
        top = int(levels.argmax())
        return replace(
            found,
            white=float(np.mean(np.abs(levels) <= allowed)),
            highest_db=round(float(levels[top]), 2),
            highest_hz=(top + 0.5) / BANDS * self.sample_rate / 2,
            exceeds=bool(levels[top] > allowed),
        )

    @property
    def _variances(self) -> Array:
        """Of what came and of what was removed, (2, C)."""
        means, squares = self._sums / max(self._frames, 1)
        return np.asarray(np.maximum(squares - means**2, 0))


def removed_noise(
    denoiser: Denoiser, settings: Settings, normal: Normal, rate: float, names: Sequence[str]
) -> Removed | None:
    """What tells of the noise of a recording of some rate in Hz, where the denoiser goes by it.

    None where it doesn't, and where its rate is another one: what it knows is the noise there.
    """
    if denoiser.noise_std is None or denoiser.sample_rate not in (None, rate):
        return None
    count = len(names)
    gains = np.broadcast_to(np.reshape(normal.gain, (-1,)), (count,))
    dropped = normal.offset if denoiser.offset == "dropped" else 0.0
    return Removed(
        names,
        rate,
        denoiser.noise_std / gains,
        estimated=settings.noise_std is None,
        offset=settings.strength * np.asarray(dropped),
    )
