"""Noisy recordings alone: crops in which the white noise has a variance of 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.signal
import torch
from numpy.typing import NDArray

from signal_diffusion.data.mixing import Batch
from signal_diffusion.data.module import Recordings, Source
from signal_diffusion.data.signal_bands import signal_bands
from signal_diffusion.errors import InputError
from signal_diffusion.levels import LevelMeter
from signal_diffusion.recordings import CONTAINERS, opened

Array = NDArray[Any]

#: Share of each recording, its end, that is held out, and samples of it at most.
HELD_OUT, MOST_HELD_OUT = 0.15, 1 << 15


@dataclass(frozen=True)
class Channel:
    """A channel in noise of variance 1, and the part of it that lies in the signal's bands.

    Attributes:
        noisy: (L,).
        passed: (L,), what the bands leave of it.
        bands: response (n,), see `signal_bands`.
    """

    noisy: Array
    passed: Array
    bands: Array

    @classmethod
    def of(cls, noisy: Array, bands: Array) -> Channel:
        """A channel (L,) within some bands."""
        passed = scipy.signal.oaconvolve(noisy, bands, mode="same").astype(np.float32)
        return cls(noisy, passed, bands)


@dataclass(frozen=True)
class NoisyCrops:
    """Draws batches of crops from channels; what is to be learnt is what their bands pass.

    Args:
        channels: what to draw from, each as often as it is long.
        length: samples of a crop.
    """

    channels: Sequence[Channel]
    length: int = 2048

    def __call__(self, rng: np.random.Generator, size: int) -> Batch:
        lengths = np.array([len(x.noisy) for x in self.channels], np.float64)
        picks = [int(n) for n in rng.choice(len(lengths), size, p=lengths / lengths.sum())]
        crops = np.stack([self._crop(rng, self.channels[index]) for index in picks], axis=1)
        turned = np.where(rng.random((size, 1, 1)) < 0.5, -1, 1).astype(np.float32)
        noisy, passed = torch.from_numpy(crops[:, :, None] * turned)
        bands = torch.from_numpy(_stacked([self.channels[index].bands for index in picks]))
        return Batch(passed, noisy, [f"channel {index}" for index in picks], bands=bands[:, None])

    def _crop(self, rng: np.random.Generator, channel: Channel) -> Array:
        """The same stretch (2, L) of a channel and of what its bands pass."""
        start = int(rng.integers(len(channel.noisy) - self.length + 1))
        return np.stack([x[start : start + self.length] for x in (channel.noisy, channel.passed)])


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
        train, held = [], []
        for x in channels:
            cut = len(x) - max(self.length, min(round(HELD_OUT * len(x)), MOST_HELD_OUT))
            if cut >= self.length:
                bands = signal_bands(x[:cut])
                train.append(Channel.of(x[:cut], bands))
                held.append(Channel.of(x[cut:], bands))
        if not train:
            raise InputError(
                f"{self.root} has no recording of {2 * self.length} samples or more: "
                "pass shorter crops and a narrower view, e.g. data.sources.length=512 "
                "model.denoiser.backbone.dilation_cycle=6"
            )
        if not any(x.bands.any() for x in train):
            raise InputError(
                f"{self.root} holds nothing that exceeds its white noise: if the noise's deviation "
                "is less than was taken, pass it in the recordings' units, data.sources.noise_std"
            )
        items = [(torch.from_numpy(x.noisy[None]),) * 2 for x in held]
        recordings = Recordings([(*pair, f"end of {n}") for n, pair in enumerate(items)])
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
    from signal_diffusion.recordings.tables import is_table

    if root.is_file():
        return [root]
    if not root.is_dir():
        raise InputError(f"{root}: there is no such folder: give one of noisy recordings")
    known = [p for p in sorted(root.rglob("*")) if is_table(p) or p.suffix.lower() in CONTAINERS]
    # A WFDB record is its header and its samples: one of the two names it.
    found = [p for p in known if p.suffix.lower() != ".dat"]
    if not found:
        raise InputError(f"{root} has no recordings: it needs .csv, .parquet, .npy, .hea or sound")
    return found


def _samples(path: Path, rate: float | None) -> Array:
    from signal_diffusion.recordings.tables import is_table, opened_table

    if is_table(path):
        with opened_table(path, rate=rate) as reader:
            return np.concatenate(list(reader.blocks()), axis=1)
    with opened(path) as sound:
        return np.concatenate(list(sound.blocks()), axis=1).astype(np.float64)
