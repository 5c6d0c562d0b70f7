"""Readings of several sensors at once, from runs without faults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from signal_diffusion.data.batches import Batch, Recordings, Source
from signal_diffusion.data.corpus import manifest_rows
from signal_diffusion.dsp import Array
from signal_diffusion.dsp.robust import Scale


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
        x = torch.from_numpy(np.stack([self._crop(rng, self.runs[n]) for n in picks]))
        return Batch(x, x, [f"run {n}" for n in picks])

    def _crop(self, rng: np.random.Generator, run: Array) -> Array:
        start = int(rng.integers(run.shape[1] - self.length + 1))
        return run[:, start : start + self.length]


def crops_of(
    train: Sequence[Array], held: Sequence[Array], length: int
) -> tuple[Source, Source, Recordings]:
    """What `DiffusionData` takes, of crops from runs (C, n) to train on and from others."""
    items = [(torch.from_numpy(x), torch.from_numpy(x), f"run {n}") for n, x in enumerate(held)]
    return RunCrops(train, length), RunCrops(held, length), Recordings(items)


@dataclass(frozen=True)
class SkabSources:
    """Runs of the SKAB water pump: eight sensors at 1 Hz, before the faults.

    Args:
        root: folder with a `manifest.csv` whose subset "skab" names arrays (n, 8) of an NPZ.
        length: samples of a crop.
        healthy: rows at the beginning of a run that are without faults; of runs named
            "anomaly-free" all are.
    """

    root: str
    length: int = 128
    healthy: int = 400

    def __call__(self) -> tuple[Source, Source, Recordings]:
        train, held = (list(self.runs(split).values()) for split in ("train", "valid"))
        return crops_of(train, held, self.length)

    def runs(self, split: str) -> dict[str, Array]:
        """The parts (8, n) without faults by key, of channels brought to median 0, deviation 1."""
        whole = {key: Scale.of(run)(run) for key, run in self.whole(split).items()}
        return {
            key: run if key.startswith("anomaly-free") else run[:, : self.healthy]
            for key, run in whole.items()
        }

    def whole(self, split: str) -> dict[str, Array]:
        """The runs (8, n) of a split as they were recorded, by key."""
        rows = self.rows(split)
        with np.load(Path(self.root) / rows[0]["path"]) as file:
            return {row["key"]: file[row["key"]].T.astype(np.float64) for row in rows}

    def rows(self, split: str) -> list[dict[str, str]]:
        """What the manifest says of the runs of a split."""
        where = {"subset": ["skab"], "split": [split]}
        return manifest_rows(self.root, "manifest.csv", where=where)

    def columns(self) -> list[str]:
        """Names of the sensors."""
        with np.load(Path(self.root) / self.rows("train")[0]["path"]) as file:
            return [str(name) for name in file["columns"]]
