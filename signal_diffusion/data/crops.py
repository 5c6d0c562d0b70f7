"""Unchanged pieces of recordings and runs: batches to train vocoders and generators on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from signal_diffusion.data.batches import Batch, Recordings, Source, recordings_of
from signal_diffusion.data.corpus import (
    Clip,
    Corpus,
    clip_weights,
    clips_of,
    list_folder,
    manifest_rows,
    split_by_speaker,
)
from signal_diffusion.dsp import Array


@dataclass(frozen=True)
class Crops:
    """Draws batches of pieces, long recordings more often; shorter ones lie in silence.

    Args:
        corpus: the recordings.
        length: samples of a piece.
    """

    corpus: Corpus
    length: int = 32768

    def __call__(self, rng: np.random.Generator, size: int) -> Batch:
        """A batch of `size` pieces; the observation is the piece itself."""
        picks = rng.choice(len(self.corpus), size, p=clip_weights(self.corpus, {}))
        pieces = [self.corpus.crop(rng, int(i), self.length) for i in picks]
        clean = torch.from_numpy(np.stack(pieces))[:, None]
        return Batch(clean, clean, [self.corpus.clips[i].name for i in picks])


@dataclass(frozen=True)
class CropSources:
    """Recordings of a manifest, or of a folder with one folder a speaker.

    Args:
        root: the folder.
        sample_rate: Hz.
        manifest: table in the folder, see `corpus.manifest_rows`; None takes all audio files.
        where: column to allowed values, besides the split.
        at_least: column to the least value, e.g. `floor_db`.
        length: samples of a piece.
        recordings: held-out pieces that the score is measured on.
        cache: folder for the decoded recordings, or None to keep them in memory.
    """

    root: str
    sample_rate: int
    manifest: str | None = "manifest.csv"
    where: Mapping[str, Sequence[str]] = field(default_factory=dict)
    at_least: Mapping[str, float] = field(default_factory=dict)
    length: int = 32768
    recordings: int = 12
    cache: str | None = None

    def __call__(self) -> tuple[Source, Source, Recordings]:
        train, valid = (self._crops(clips) for clips in self._clips())
        return train, valid, recordings_of(valid, self.recordings)

    def _crops(self, clips: Sequence[Clip]) -> Crops:
        return Crops(Corpus(clips, sample_rate=self.sample_rate, cache=self.cache), self.length)

    def _clips(self) -> list[list[Clip]]:
        if self.manifest is None:
            return list(split_by_speaker(list_folder(self.root)))
        wanted = ({**self.where, "split": [split]} for split in ("train", "valid"))
        rows = [
            manifest_rows(self.root, self.manifest, where=where, at_least=self.at_least)
            for where in wanted
        ]
        return [clips_of(self.root, found) for found in rows]


@dataclass(frozen=True)
class RunCrops:
    """Draws batches of crops from runs (C, n), each as often as it is long; clean is noisy.

    Args:
        runs: of a median of 0 and a deviation of 1 in every channel.
        length: samples of a crop.
    """

    runs: Sequence[Array]
    length: int = 128

    def __call__(self, rng: np.random.Generator, size: int) -> Batch:
        lengths = np.array([run.shape[1] for run in self.runs], np.float64)
        picks = [int(n) for n in rng.choice(len(lengths), size, p=lengths / lengths.sum())]
        x = torch.from_numpy(np.stack([piece_of(rng, self.runs[n], self.length) for n in picks]))
        return Batch(x, x, [f"run {n}" for n in picks])


def crops_of(
    train: Sequence[Array], held: Sequence[Array], length: int
) -> tuple[Source, Source, Recordings]:
    """What `DiffusionData` takes, of crops from runs (C, n) to train on and from others."""
    items = [(torch.from_numpy(x), torch.from_numpy(x), f"run {n}") for n, x in enumerate(held)]
    return RunCrops(train, length), RunCrops(held, length), Recordings(items)


def piece_of(rng: np.random.Generator, x: Array, length: int) -> Array:
    """A random piece (..., length) of a signal (..., L)."""
    start = int(rng.integers(x.shape[-1] - length + 1))
    return x[..., start : start + length]
