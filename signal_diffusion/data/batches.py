"""The Lightning data module: batches named by (seed, step, rank), and recordings to validate on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset


@dataclass(frozen=True)
class Batch:
    """Clips (B, 1, L): the clean signal, the observation, and what they were made of.

    `cond` is the conditioner, as the denoiser takes it: what is asked for, or, of masked denoisers,
    (B, 1, L) with 1 where the observation has been filled in and 0 elsewhere; None is nothing.
    `bands` (B, 1, n) are responses that tell, where `clean` was made of noisy recordings without
    clean ones, what both have of the same noise; see `data.white_noise`.
    """

    clean: Tensor
    noisy: Tensor
    names: list[str]
    cond: Tensor | None = None
    bands: Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        cond, bands = (None if x is None else x.to(device) for x in (self.cond, self.bands))
        return Batch(self.clean.to(device), self.noisy.to(device), self.names, cond, bands)


Source = Callable[[np.random.Generator, int], Batch]


Item = tuple[Tensor, Tensor, str] | tuple[Tensor, Tensor, str, Tensor]


class Recordings(Dataset[Item]):
    """Whole recordings to validate on.

    Each is (clean (C, L), noisy (C, L), name), or with a mask (C, L) of what was missing besides.
    """

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = list(items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Item:
        return self.items[index]


def recordings_of(source: Source, count: int) -> Recordings:
    """Some clips of a source, always the same, as recordings to validate on."""
    batch = source(np.random.default_rng(0), count)
    return Recordings(list(zip(batch.clean, batch.noisy, batch.names, strict=True)))


class Batches(IterableDataset[Batch]):
    """The batches of the steps `first`, `first + 1`, ... each drawn from (seed, step, rank)."""

    def __init__(
        self,
        source: Source,
        size: int,
        *,
        seed: int,
        first: int = 0,
        rank: int = 0,
        count: int | None = None,
    ) -> None:
        self.source, self.size, self.seed = source, size, seed
        self.first, self.rank, self.count = first, rank, count

    def __iter__(self) -> Iterator[Batch]:
        worker = torch.utils.data.get_worker_info()
        offset, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        step = self.first + offset
        while self.count is None or step < self.first + self.count:
            yield self.source(np.random.default_rng((self.seed, step, self.rank)), self.size)
            step += stride


class DiffusionData(LightningDataModule):
    """Training batches and validation recordings from a factory that is called once, when needed.

    Args:
        sources: `sources() -> (train, valid, recordings)`: two sources of batches and the
            recordings that the score is measured on.
        batch_size: clips of a batch.
        valid_batches: held-out batches that the validation loss is averaged over.
        seed: with the step and the rank, names a batch.
        workers: processes that prepare batches; 0 prepares them between the steps.
    """

    def __init__(
        self,
        sources: Callable[[], tuple[Source, Source, Recordings]],
        *,
        batch_size: int = 12,
        valid_batches: int = 4,
        seed: int = 0,
        workers: int = 0,
    ) -> None:
        super().__init__()
        self.sources, self.batch_size, self.valid_batches = sources, batch_size, valid_batches
        self.seed, self.workers = seed, workers

    def setup(self, stage: str | None = None) -> None:
        if not hasattr(self, "train"):
            self.train, self.valid, self.recordings = self.sources()

    def train_dataloader(self) -> DataLoader[Batch]:
        first, rank = 0, 0
        if self.trainer is not None:
            first = self.trainer.global_step * self.trainer.accumulate_grad_batches
            rank = self.trainer.global_rank
        batches = Batches(self.train, self.batch_size, seed=self.seed, first=first, rank=rank)
        return DataLoader(batches, batch_size=None, num_workers=self.workers)

    def val_dataloader(self) -> list[DataLoader]:
        held_out = Batches(
            self.valid, self.batch_size, seed=self.seed + 1, count=self.valid_batches
        )
        return [
            DataLoader(held_out, batch_size=None),
            DataLoader(self.recordings, batch_size=None),
        ]
