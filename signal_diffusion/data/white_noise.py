"""Noisy recordings alone: crops in which the white noise has a variance of 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.fft
import scipy.signal
import torch
from torch import Tensor

from signal_diffusion.audio import CONTAINERS, opened
from signal_diffusion.data.batches import Batch, Recordings, Source
from signal_diffusion.dsp import Array
from signal_diffusion.dsp.levels import LevelMeter
from signal_diffusion.errors import InputError

#: Share of each recording, its end, that is held out, and samples of it at most.
HELD_OUT, MOST_HELD_OUT = 0.15, 1 << 16
#: Samples of a segment of the spectrum, in recordings that hold `SEGMENTS` of them.
LONGEST, SHORTEST, SEGMENTS = 4096, 64, 64
#: Standard deviations of an estimated power by which it must exceed that of the noise.
CLEARLY = 5.0
#: Bins that are looked at together, by which weak power over wide bands is found.
WIDTHS = (1, 9, 33, 129)
#: Bins that are kept on both sides of one with power: the window's lobe.
BESIDE = 2


@dataclass(frozen=True)
class Channel:
    """A channel in noise of variance 1, of which all that is beside the signal's bands is noise.

    Attributes:
        passed: (L,), what the bands leave of it.
        twice: response (n,), odd and symmetric, of the bands passed twice.
    """

    passed: Array
    twice: Array

    @classmethod
    def of(cls, noisy: Array, bands: Array) -> Channel:
        """A channel (L,) within some bands, whose response is odd and symmetric."""
        passed = scipy.signal.oaconvolve(noisy, bands, mode="same").astype(np.float32)
        return cls(passed, scipy.signal.fftconvolve(bands, bands).astype(np.float32))

    def crop(self, rng: np.random.Generator, length: int) -> Array:
        """Stretches (2, length) of the channel in new noise, and of what its bands pass.

        Near the channel's ends the bands pass only a part.
        """
        margin = min(len(self.twice) // 4, (len(self.passed) - length) // 2)
        start = int(rng.integers(margin, len(self.passed) - length - margin + 1))
        passed = self.passed[start : start + length]
        return np.stack([passed + self._beside(rng, length), passed])

    def _beside(self, rng: np.random.Generator, length: int) -> Array:
        """Noise (length,) that makes up white noise of variance 1 with what the bands pass."""
        # On a circle so long that what is cut out knows nothing of its being one.
        whole = scipy.fft.next_fast_len(length + len(self.twice), real=True)
        noise = scipy.fft.rfft(rng.standard_normal(whole, dtype=np.float32))
        power = np.clip(1 - np.abs(scipy.fft.rfft(self.twice, whole)), 0, None)
        return np.asarray(scipy.fft.irfft(noise * np.sqrt(power), whole)[:length])


@dataclass(frozen=True)
class NoisyCrops:
    """Draws batches of crops from channels; what is to be learnt is what their bands pass.

    The noise beside the bands, by which a network could tell the place and so the noise within,
    is replaced by a new draw each time.

    Args:
        channels: what to draw from, each as often as it is long.
        length: samples of a crop.
    """

    channels: Sequence[Channel]
    length: int = 2048

    def __call__(self, rng: np.random.Generator, size: int) -> Batch:
        lengths = np.array([len(x.passed) for x in self.channels], np.float64)
        picks = [int(n) for n in rng.choice(len(lengths), size, p=lengths / lengths.sum())]
        crops = np.stack([self.channels[n].crop(rng, self.length) for n in picks], axis=1)
        turned = np.where(rng.random((size, 1, 1)) < 0.5, -1, 1).astype(np.float32)
        noisy, passed = torch.from_numpy(crops[:, :, None] * turned)
        twice = torch.from_numpy(_stacked([self.channels[index].twice for index in picks]))
        return Batch(passed, noisy, [f"channel {index}" for index in picks], bands=twice[:, None])


def _stacked(responses: Sequence[Array]) -> Array:
    """Odd symmetric responses as rows of one length."""
    longest = max(len(x) for x in responses)
    return np.stack([np.pad(x, (longest - len(x)) // 2) for x in responses])


@dataclass(frozen=True)
class NoisySources:
    """Noisy recordings below a folder, each channel brought to a median of 0 and noise of 1.

    The end of each is held out for the score. Tables of readings (CSV, Parquet, NPY, WFDB) and
    sound files are taken.

    Args:
        root: folder, or one file.
        noise_std: of the noise in the recordings' own units; None estimates each channel's.
        rate: Hz, where the files don't say.
        length: samples of a crop; shorter recordings are left out.
    """

    root: str
    noise_std: float | None = None
    rate: float | None = None
    length: int = 2048

    def __call__(self) -> tuple[Source, Source, Recordings]:
        channels = [x for path in _files(Path(self.root)) for x in self._channels(path)]
        train, held, ends = [], [], []
        for x in channels:
            cut = len(x) - max(self.length, min(round(HELD_OUT * len(x)), MOST_HELD_OUT))
            if cut >= self.length:
                bands = signal_bands(x[:cut])
                train.append(Channel.of(x[:cut], bands))
                held.append(Channel.of(x[cut:], bands))
                ends.append(torch.from_numpy(x[None, cut:]))
        if not train:
            raise InputError(
                f"{self.root} has no recording of {2 * self.length} samples or more: "
                "pass shorter crops and a narrower view, e.g. data.sources.length=512 "
                "model.denoiser.backbone.dilation_cycle=6"
            )
        if not any(x.twice.any() for x in train):
            raise InputError(
                f"{self.root} holds nothing that exceeds its white noise: if the noise's deviation "
                "is less than was taken, pass it in the recordings' units, data.sources.noise_std"
            )
        recordings = Recordings([(end, end, f"end of {n}") for n, end in enumerate(ends)])
        return NoisyCrops(train, self.length), NoisyCrops(held, self.length), recordings

    def _channels(self, path: Path) -> list[Array]:
        """The channels of a file that vary at all, brought to noise of variance 1."""
        samples = _samples(path, self.rate)
        meter = LevelMeter(len(samples), centred=True)
        meter.push(samples)
        noise = meter.noise_std if self.noise_std is None else np.full(len(samples), self.noise_std)
        rows = zip(samples, meter.offsets, noise, strict=True)
        return [((x - offset) / std).astype(np.float32) for x, offset, std in rows if std > 0]


def _files(root: Path) -> list[Path]:
    from signal_diffusion.tables import is_table

    if root.is_file():
        return [root]
    if not root.is_dir():
        raise InputError(f"{root}: there is no such folder: give one of noisy recordings")
    files = [p for p in sorted(root.rglob("*")) if is_table(p) or p.suffix.lower() in CONTAINERS]
    # A WFDB record is its header and its samples: one of the two names it.
    found = [p for p in files if p.suffix.lower() != ".dat"]
    if not found:
        raise InputError(f"{root} has no recordings: it needs .csv, .parquet, .npy, .hea or sound")
    return found


def _samples(path: Path, rate: float | None) -> Array:
    from signal_diffusion.tables import Columns, is_table, opened_table

    if is_table(path):
        with opened_table(path, Columns(rate), domain="") as reader:
            return np.concatenate(list(reader.blocks()), axis=1)
    with opened(path) as sound:
        return np.concatenate(list(sound.blocks()), axis=1).astype(np.float64)


def signal_bands(x: Array) -> Array:
    """Impulse response (n,), odd and symmetric, that passes the bands with a signal in them.

    A bin of Welch's spectrum of x (L,), whose white noise has a variance of 1, is passed where
    it, or the mean over some bins around it, exceeds the noise's by five standard deviations of
    such a mean. So weaker parts of a signal are lost: at L = 100,000 those that are some 10 dB
    below the noise over 3 % of the band.

    >>> rng = np.random.default_rng(0)
    >>> tone = np.sin(np.arange(100_000))
    >>> response = signal_bands(tone + rng.standard_normal(100_000))
    >>> passed = scipy.signal.oaconvolve(tone, response, mode="same")
    >>> bool(np.abs(passed - tone)[1000:-1000].max() < 1e-3), bool(np.sum(response**2) < 0.05)
    (True, True)
    """
    segment = _segment(len(x))
    _, power = scipy.signal.welch(x, nperseg=segment, fs=2.0, detrend=False)
    # Segments that overlap by half under a Hann window count as 1.89 that don't.
    count = 1.89 * len(x) / segment
    held = np.zeros(len(power), bool)
    for width in (w for w in WIDTHS if 2 * w < len(power)):
        # A strong line is no reason to take its neighbours for a wide band.
        rest = np.where(held, 0.0, power - 1)
        mean = np.convolve(rest, np.ones(width) / width, mode="same")
        # Neighbouring bins share half of what they tell.
        independent = count * (1 if width == 1 else width / 2)
        found = mean * np.sqrt(independent) > CLEARLY
        held |= np.convolve(found, np.ones(2 * BESIDE + 1), mode="same") > 0
    response = np.fft.fftshift(np.fft.irfft(held.astype(float)))
    return (response * np.hanning(segment + 1)[:-1])[1:].astype(np.float32)


def _segment(length: int) -> int:
    wanted = max(SHORTEST, min(LONGEST, length // SEGMENTS))
    return int(2 ** np.floor(np.log2(wanted)))


def within(x: Tensor, response: Tensor) -> Tensor:
    """Signals (B, 1, L) through odd symmetric responses (B, 1, n), with nothing around them."""
    length, odd = x.shape[-1], response.shape[-1]
    whole = scipy.fft.next_fast_len(length + odd - 1, real=True)
    spectrum = torch.fft.rfft(x, whole) * torch.fft.rfft(response, whole)
    return torch.fft.irfft(spectrum, whole)[..., odd // 2 : odd // 2 + length]
