"""Vibration of machines in white, pink and recorded noise, mixed on the fly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from signal_diffusion.data.batches import Batch, Recordings, Source, recordings_of
from signal_diffusion.data.corpus import Corpus, clips_of, manifest_arrays, manifest_rows
from signal_diffusion.data.crops import piece_of
from signal_diffusion.dsp import Array
from signal_diffusion.dsp.levels import level_db

#: Samples taken for `GIVEN`: the machine runs up to a tenth slower or faster.
SPEEDS = (7500, 7776, 8192, 8640, 9000)
GIVEN, EDGE = 8192 + 512, 256
#: What recorded noise is that of machines.
MACHINES = (
    "helicopter",
    "chainsaw",
    "exercise_bike",
    "loop_industrial",
    "loop_3d_printer",
    "train",
    "boat",
    "running_tap",
    "rain",
    "wind",
    "storm",
    "clock_tick",
)


@dataclass(frozen=True)
class MachineMixer:
    """Draws batches of vibration (clean, noisy) of 8192 samples.

    Args:
        records: vibration (L,) of any unit.
        noise: recordings of noise at the same rate.
        snr_db: range of the signal-to-noise ratio.
        shares: how often the noise is white, pink or recorded.
        response_db: standard deviation of a random smooth response of the path to the sensor.
        level_db, level_jitter_db: level of the noisy clip, and its standard deviation.
    """

    records: Sequence[Array]
    noise: Corpus
    snr_db: tuple[float, float] = (-8.0, 13.0)
    shares: tuple[float, float, float] = (0.35, 0.3, 0.35)
    response_db: float = 3.0
    level_db: float = 0.0
    level_jitter_db: float = 2.0

    def __call__(self, rng: np.random.Generator, size: int) -> Batch:
        """A batch of `size` clips."""
        taken = int(rng.choice(SPEEDS))
        picks = rng.integers(len(self.records), size=size)
        clean = np.stack([self._piece(rng, int(index), taken) for index in picks])
        spectra = np.fft.rfft(clean)[:, : GIVEN // 2 + 1]
        spectra = np.pad(spectra, ((0, 0), (0, GIVEN // 2 + 1 - spectra.shape[1])))
        spectra *= _responses(rng, size, spectra.shape[1], self.response_db)
        scaled = np.fft.irfft(spectra, GIVEN)[:, EDGE:-EDGE] * GIVEN / taken
        clean = (scaled / scaled.std(axis=1, keepdims=True)).astype(np.float32)
        kinds = rng.choice(3, size, p=self.shares)
        noise = np.stack([self._noise(rng, int(kind), clean.shape[1]) for kind in kinds])
        noise = noise / (noise.std(axis=1, keepdims=True) + 1e-9)
        noisy = clean + noise * 10 ** (-rng.uniform(*self.snr_db, (size, 1)) / 20)
        both = torch.from_numpy(np.stack([clean, noisy]).astype(np.float32))[:, :, None]
        jitter = rng.standard_normal((size, 1, 1)).astype(np.float32) * self.level_jitter_db
        both = both * 10 ** ((self.level_db + torch.from_numpy(jitter) - level_db(both[1])) / 20)
        return Batch(both[0], both[1], [f"record {index}" for index in picks])

    def _piece(self, rng: np.random.Generator, index: int, length: int) -> Array:
        return piece_of(rng, self.records[index], length) * (1 if rng.random() < 0.5 else -1)

    def _noise(self, rng: np.random.Generator, kind: int, length: int) -> Array:
        if kind == 2:
            return self.noise.crop(rng, int(rng.integers(len(self.noise))), length)
        white = rng.standard_normal(length)
        return white.astype(np.float32) if kind == 0 else pink(white)


def pink(white: NDArray[np.floating]) -> Array:
    """White noise (L,) whose power is brought to fall by 3 dB an octave."""
    spectrum = np.fft.rfft(white)
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[0] = 0
    return np.fft.irfft(spectrum, len(white)).astype(np.float32)


@dataclass(frozen=True)
class VibrationSources:
    """Vibration of a manifest's NPZ (domain "vibration") and its noise of machines.

    Args:
        root: folder of the files and of `manifest`.
        mixer: options of `MachineMixer`.
        recordings: held-out clips to validate on.
    """

    root: str
    manifest: str = "manifest.csv"
    sample_rate: int = 12000
    mixer: Mapping[str, Any] = field(default_factory=dict)
    recordings: int = 48

    def __call__(self) -> tuple[Source, Source, Recordings]:
        train, valid = (self.mixer_of(split) for split in ("train", "valid"))
        return train, valid, recordings_of(valid, self.recordings)

    def mixer_of(self, split: str) -> MachineMixer:
        """The mixer of the records and noises of one split."""
        where = {"domain": ["noise"], "split": [split], "label": MACHINES}
        rows = manifest_rows(self.root, self.manifest, where=where)
        noise = Corpus(clips_of(self.root, rows), sample_rate=self.sample_rate)
        return MachineMixer([x for _, x in self.records(split)], noise, **self.mixer)

    def records(self, split: str) -> list[tuple[dict[str, str], Array]]:
        """Rows of the manifest and their vibration, at a deviation of 1."""
        where = {"domain": ["vibration"], "split": [split]}
        found = manifest_arrays(self.root, self.manifest, where=where)
        arrays = [(row, file[row["key"]].astype(np.float32)) for row, file in found]
        return [(row, (x - x.mean()) / x.std()) for row, x in arrays]


def _responses(rng: np.random.Generator, size: int, bins: int, spread_db: float) -> Array:
    """Random smooth gains (size, bins), interpolated between nine points."""
    points = rng.standard_normal((size, 9)) * spread_db
    places = np.linspace(0, 8, bins)
    low = np.minimum(places.astype(int), 7)
    smooth = points[:, low] * (low + 1 - places) + points[:, low + 1] * (places - low)
    return (10 ** (smooth / 20)).astype(np.float32)
