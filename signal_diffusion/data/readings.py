"""Readings of several sensors at once, from runs without faults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from signal_diffusion.data.corpus import manifest_rows
from signal_diffusion.data.mixing import Batch
from signal_diffusion.data.module import Recordings, Source
from signal_diffusion.denoiser import NetworkDenoiser

Array = NDArray[Any]

#: Deviations from the median beyond which a reading is cut off.
FURTHEST = 20.0


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
        items = [(torch.from_numpy(x), torch.from_numpy(x), f"run {n}") for n, x in enumerate(held)]
        return RunCrops(train, self.length), RunCrops(held, self.length), Recordings(items)

    def runs(self, split: str) -> dict[str, Array]:
        """The parts (8, n) without faults by key, of channels brought to median 0, deviation 1."""
        whole = {key: standard(run) for key, run in self.whole(split).items()}
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


def standard(run: Array) -> Array:
    """A run (C, n) with a median of 0 and a robust deviation of 1 in every channel, float32.

    >>> standard(np.arange(5.0)[None] + 7).tolist()
    [[-1.35, -0.67, 0.0, 0.67, 1.35]]
    """
    middle = np.median(run, axis=1, keepdims=True)
    near = 1.4826 * np.median(np.abs(run - middle), axis=1, keepdims=True)
    low, high = np.quantile(run, [0.1, 0.9], axis=1, keepdims=True)
    spread = np.maximum(near, (high - low) / 2.563)
    scaled = (run - middle) / np.where(spread > 0, spread, 1.0)
    return np.clip(scaled, -FURTHEST, FURTHEST).astype(np.float32)


class LevelErrors(nn.Module):
    """Learns states of any number of channels, at levels of noise drawn evenly in their logarithm.

        |D(x + sigma z; sigma) - x|^2 / c_out^2

    Args:
        least, most: range of sigma, over the signal.
    """

    def __init__(self, *, least: float = 0.05, most: float = 5.0) -> None:
        super().__init__()
        self.least, self.most = least, most

    def terms(
        self, denoiser: NetworkDenoiser, batch: Batch, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The loss of a batch, as `objectives.Objective.terms`."""
        share = torch.rand(len(batch.clean), 1, 1, generator=generator)
        sigma = self.least * (self.most / self.least) ** share
        error, t = self._error(denoiser, batch.clean, sigma, generator)
        return {"squared_error": (denoiser.loss_weight(t) * error).mean()}

    def score(self, denoiser: NetworkDenoiser, clean: Tensor, noisy: Tensor) -> Tensor:
        """The SNR of the estimates of a recording (B, C, L) out of noise as strong as it, in dB."""
        generator = torch.Generator().manual_seed(0)
        error, _ = self._error(denoiser, clean, torch.ones(1, 1, 1), generator)
        return 10 * torch.log10(clean.square().mean() / error.mean())

    def _error(
        self, denoiser: NetworkDenoiser, x: Tensor, sigma: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Squared errors of the estimates at noise sigma, and the times of it."""
        t = denoiser.schedule.time_at(-sigma.double().log()).to(x)
        z = torch.randn(x.shape, generator=generator).to(x)
        alpha, _, scale = denoiser.schedule(t)
        return (denoiser(alpha * x + scale * z, t).float() - x).square(), t
