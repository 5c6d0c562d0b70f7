"""Electrocardiograms in the noise of electrodes, muscles and movement, mixed on the fly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import scipy.signal
import torch
from numpy.typing import NDArray

from signal_diffusion.data.batches import Batch, Recordings, Source
from signal_diffusion.data.corpus import manifest_arrays
from signal_diffusion.data.crops import piece_of
from signal_diffusion.dsp import Array
from signal_diffusion.dsp.gaps import filled
from signal_diffusion.dsp.levels import level_db
from signal_diffusion.errors import InputError

Mask = NDArray[np.bool_]
#: Factors on the heart's pace, as (samples taken, samples given).
PACES = ((3840, 4608), (4200, 4608), (4608, 4608), (5000, 4608), (5400, 4608))
#: Samples that are cut off at both ends, where the change of pace wraps around.
EDGE = 256
#: Kinds of recorded noise.
KINDS = ("bw", "em", "ma")


@dataclass(frozen=True)
class Gaps:
    """Draws which samples of clips are missing: blocks, single samples, or both, a third each.

    Args:
        share: of the clips that have gaps.
        longest: samples of the longest block; lengths are log-uniform, from 2 on.
        most_blocks: blocks of a clip, at most.
        singles: range of the share of single samples, which is log-uniform.

    >>> masks = Gaps(share=0.5)(np.random.default_rng(0), 8, 4096)
    >>> masks.shape, bool(0 < masks.mean() < 0.5), int(masks.any(axis=1).sum())
    ((8, 4096), True, 3)
    """

    share: float = 0.0
    longest: int = 400
    most_blocks: int = 16
    singles: tuple[float, float] = (0.01, 0.4)

    def __call__(self, rng: np.random.Generator, size: int, length: int) -> Mask:
        """Masks (size, length), true where a sample is missing."""
        masks = np.zeros((size, length), bool)
        if not self.share:
            return masks
        for row in np.flatnonzero(rng.random(size) < self.share):
            kind = int(rng.integers(3))
            if kind != 0:
                masks[row] |= self._blocks(rng, length)
            if kind != 1:
                masks[row] |= rng.random(length) < np.exp(rng.uniform(*np.log(self.singles)))
        return masks

    def _blocks(self, rng: np.random.Generator, length: int) -> Mask:
        mask = np.zeros(length, bool)
        for _ in range(int(rng.integers(1, self.most_blocks + 1))):
            size = round(np.exp(rng.uniform(np.log(2), np.log(self.longest))))
            start = int(rng.integers(length - size + 1))
            mask[start : start + size] = True
        return mask


@dataclass(frozen=True)
class Lead:
    """One lead of a record in mV, (L,), as it was recorded and without its drift."""

    name: str
    raw: Array
    clean: Array


def without_drift(record: NDArray[np.floating], rate: float) -> Array:
    """A lead (L,) high-passed at 0.5 Hz (second order, zero phase)."""
    sections = scipy.signal.butter(2, 0.5, "highpass", fs=rate, output="sos")
    return np.array(scipy.signal.sosfiltfilt(sections, record), np.float32, order="C")


@dataclass(frozen=True)
class ElectrodeMixer:
    """Draws batches of leads (clean, noisy) with recorded noise at random levels.

    The clean lead has no drift; the noisy one keeps its own, and gets more. Its gaps are filled in.

    Args:
        leads: what is wanted.
        noise: recordings of electrode noise (L,) by kind: "bw" wander, "em" motion, "ma" muscle.
        snr_db: range of the signal-to-noise ratio of the noise that is added.
        made: share of the clips with noise from random numbers: white, mains hum, steps.
        turned: share of the clips upside down, as other leads are.
        clean_only: share of the clips without added noise.
        gaps: draws what is missing.
        calm: share of the clips with gaps that get no noise.
        level_db, level_jitter_db: level of the noisy clip, and its standard deviation.
    """

    leads: Sequence[Lead]
    noise: Mapping[str, Sequence[Array]]
    rate: int = 360
    snr_db: tuple[float, float] = (-6.0, 14.0)
    made: float = 0.15
    turned: float = 0.3
    clean_only: float = 0.03
    gaps: Gaps = field(default_factory=Gaps)
    calm: float = 0.5
    level_db: float = 0.0
    level_jitter_db: float = 3.0

    def __call__(self, rng: np.random.Generator, size: int) -> Batch:
        """A batch of `size` clips of 4096 samples."""
        taken, given = PACES[int(rng.integers(len(PACES)))]
        pieces, names = zip(*(self._lead(rng, taken) for _ in range(size)), strict=True)
        raw, clean = _paced(np.stack(pieces), given).swapaxes(0, 1)
        noises, kinds = zip(
            *(self.drawn_noise(rng, clean.shape[1]) for _ in range(size)), strict=True
        )
        missing = self.gaps(rng, *clean.shape)
        noisy = raw + self._gains(rng, clean, missing) * np.stack(noises)
        noisy = filled(noisy, missing)
        noisy -= np.median(noisy, axis=1, keepdims=True)
        both = torch.from_numpy(np.stack([clean, noisy]).astype(np.float32))[:, :, None]
        jitter = rng.standard_normal((size, 1, 1)).astype(np.float32) * self.level_jitter_db
        wanted = self.level_db + torch.from_numpy(jitter)
        both = both * 10 ** ((wanted - level_db(both[1])) / 20)
        turn = np.where(rng.random((size, 1, 1)) < self.turned, -1, 1).astype(np.float32)
        both = both * torch.from_numpy(turn)
        pairs = [f"{a} + {b}" for a, b in zip(names, kinds, strict=True)]
        mask = torch.from_numpy(missing[:, None].astype(np.float32)) if self.gaps.share else None
        return Batch(both[0], both[1], pairs, mask)

    def _lead(self, rng: np.random.Generator, length: int) -> tuple[Array, str]:
        lead = self.leads[int(rng.integers(len(self.leads)))]
        start = int(rng.integers(len(lead.raw) - length + 1))
        cut = slice(start, start + length)
        return np.stack([lead.raw[cut], lead.clean[cut]]), f"{lead.name}[{start}]"

    def drawn_noise(self, rng: np.random.Generator, length: int) -> tuple[Array, str]:
        """Noise (L,) of unit power, of one kind or several at random strengths, and its name."""
        kinds = [kind for kind in KINDS if rng.random() < 0.5] or [str(rng.choice(KINDS))]
        total = np.zeros(length, np.float32)
        for kind in kinds:
            total += rng.uniform(0.3, 1.0) * _unit(self._recorded(rng, kind, length))
        if rng.random() < self.made:
            total += rng.uniform(0.1, 1.0) * _unit(self._invented(rng, length))
            kinds = [*kinds, "made"]
        return _unit(total), "+".join(kinds)

    def _recorded(self, rng: np.random.Generator, kind: str, length: int) -> Array:
        recordings = self.noise[kind]
        noise = recordings[int(rng.integers(len(recordings)))]
        piece = piece_of(rng, noise, length) * (1 if rng.random() < 0.5 else -1)
        return piece[::-1] if rng.random() < 0.3 else piece

    def _invented(self, rng: np.random.Generator, length: int) -> Array:
        if rng.random() < 0.4:
            time = np.arange(length) / self.rate
            mains = rng.choice([50.0, 60.0]) * rng.uniform(0.995, 1.005)
            return np.sin(2 * np.pi * (mains * time + rng.random())).astype(np.float32)
        return rng.standard_normal(length, dtype=np.float32)

    def _gains(self, rng: np.random.Generator, clean: Array, missing: Mask) -> Array:
        snr = rng.uniform(*self.snr_db, (len(clean), 1))
        power = np.square(clean).mean(axis=1, keepdims=True)
        gain = np.sqrt(power) * 10 ** (-snr / 20)
        share = np.where(missing.any(axis=1), self.calm, self.clean_only)
        gain[rng.random(len(clean)) < share] = 0
        return gain.astype(np.float32)


@dataclass(frozen=True)
class EcgSources:
    """Leads and noises of a manifest's NPZ files (domains "ecg" and "ecg_noise"), split by record.

    Args:
        root: folder of the files and of `manifest`.
        mixer: options of `ElectrodeMixer`.
        gaps: draws what is missing.
        recordings: held-out clips to validate on.
    """

    root: str
    manifest: str = "manifest.csv"
    mixer: Mapping[str, Any] = field(default_factory=dict)
    gaps: Gaps = field(default_factory=Gaps)
    recordings: int = 48

    def __call__(self) -> tuple[Source, Source, Recordings]:
        train, valid = (self.mixer_of(split) for split in ("train", "valid"))
        plain = replace(valid, turned=0.0, clean_only=0.0, made=0.0, snr_db=(-3.0, 10.0))
        batch = plain(np.random.default_rng(0), self.recordings)
        parts = [batch.clean, batch.noisy, batch.names]
        if batch.cond is not None:
            parts.append(batch.cond.bool())
        return train, valid, Recordings(list(zip(*parts, strict=True)))

    def mixer_of(self, split: str) -> ElectrodeMixer:
        """The mixer of the records and noises of one split."""
        leads = [
            Lead(row["key"], raw, without_drift(raw, float(row["sample_rate"])))
            for row, raw in self._arrays("ecg", split)
        ]
        noise: dict[str, list[Array]] = {kind: [] for kind in KINDS}
        for row, samples in self._arrays("ecg_noise", split):
            noise[row["label"]].append(samples)
        missing = [kind for kind, found in noise.items() if not found]
        if not leads or missing:
            raise InputError(f"{self.root} has no {missing or 'records'} of the {split} split")
        return ElectrodeMixer(leads, noise, gaps=self.gaps, **self.mixer)

    def _arrays(self, domain: str, split: str) -> list[tuple[dict[str, str], Array]]:
        where = {"domain": [domain], "split": [split]}
        found = manifest_arrays(self.root, self.manifest, where=where)
        return [(row, _millivolts(file, row["key"])) for row, file in found]


def _millivolts(file: Mapping[str, NDArray[Any]], key: str) -> Array:
    scale = f"{key.split('_')[0]}_scale_mv"
    factor = file[scale] if scale in file else file["scale_mv"]
    return (file[key] * float(factor)).astype(np.float32)


def _paced(pieces: Array, given: int) -> Array:
    """Pieces (B, 2, n) resampled to `given` samples, without their ends."""
    bins = min(pieces.shape[-1], given) // 2 + 1
    ends = np.linspace(pieces[..., :1], pieces[..., -1:], pieces.shape[-1], axis=-2)[..., 0]
    spectra = np.fft.rfft(pieces - ends)[..., :bins]
    moved = np.fft.irfft(spectra, given) * (given / pieces.shape[-1])
    ramp = np.linspace(pieces[..., :1], pieces[..., -1:], given, axis=-2)[..., 0]
    return (moved + ramp)[..., EDGE:-EDGE].astype(np.float32)


def _unit(x: Array) -> Array:
    """A signal (L,) without its mean, at a power of 1."""
    x = x - x.mean()
    return x / (np.sqrt(np.mean(np.square(x))) + 1e-6)
