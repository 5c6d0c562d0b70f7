"""Readings of turbofan engines that ran until they failed: NASA's C-MAPSS, set FD001."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from signal_diffusion.data.batches import Recordings, Source
from signal_diffusion.data.corpus import manifest_arrays
from signal_diffusion.data.crops import crops_of
from signal_diffusion.dsp import Array
from signal_diffusion.dsp.robust import Scale
from signal_diffusion.errors import InputError

#: Columns before those of the sensors: engine, cycle and three settings; and all of them.
FIRST, COLUMNS = 5, 26
#: Share of the engines of a text file that train: the first ones.
TRAIN = 0.8


@dataclass(frozen=True)
class TurbofanSources:
    """Engines of one operating condition: a reading a cycle, from the first one to the failure.

    Only sensors whose readings vary over the healthy cycles of the engines that train are taken.
    All are brought to the same scale, that of these cycles, since the engines are alike.

    Args:
        root: folder with a `manifest.csv` whose subset "cmapss" names an NPZ and the engines
            ("unit7") of each split, or NASA's text file `train_FD001.txt`, of whose engines the
            first 80 % train.
        length: cycles of a crop; healthy parts that are shorter are left out.
        healthy: share of an engine's life, from its first cycle on, that is without faults.

    Raises:
        InputError: there is no such file, or it holds something else.

    Source: Saxena and others 2008, "Damage propagation modeling for aircraft engine run-to-failure
    simulation".
    """

    root: str
    length: int = 32
    healthy: float = 0.3

    def __call__(self) -> tuple[Source, Source, Recordings]:
        train, held = (
            [run for run in self.runs(split) if run.shape[1] >= self.length]
            for split in ("train", "valid")
        )
        if not train or not held:
            raise InputError(
                f"{self.root} has no healthy parts of {self.length} cycles to train and to "
                "validate on: take shorter ones (data.sources.length)"
            )
        return crops_of(train, held, self.length)

    def runs(self, split: str) -> list[Array]:
        """The healthy cycles (C, n) of the engines of a split, without units."""
        return [self.scale(self._healthy(x)) for x in self.engines(split).values()]

    def engines(self, split: str) -> dict[int, Array]:
        """All cycles (C, n) of the engines of a split, as recorded, by number."""
        return {
            unit: self._table[self._table[:, 0] == unit][:, self._varying].T
            for unit in self._units(split)
        }

    @property
    def sensors(self) -> list[str]:
        """Names of the sensors that vary, as "s2"."""
        return [f"s{column - FIRST + 1}" for column in self._varying]

    @cached_property
    def scale(self) -> Scale:
        """Of the healthy cycles of the engines that train."""
        healthy = [self._healthy(x) for x in self.engines("train").values()]
        return Scale.of(np.concatenate(healthy, axis=1))

    def _healthy(self, x: Array) -> Array:
        return x[..., : max(1, round(self.healthy * x.shape[-1]))]

    @cached_property
    def _varying(self) -> list[int]:
        tables = [self._table[self._table[:, 0] == unit].T for unit in self._units("train")]
        low, high = np.quantile(
            np.concatenate([self._healthy(x) for x in tables], axis=1), [0.1, 0.9], axis=1
        )
        return [int(n) for n in np.flatnonzero(high > low) if n >= FIRST]

    def _units(self, split: str) -> list[int]:
        if not Path(self.root).is_file():
            return [int(row["key"].removeprefix("unit")) for row, _ in self._arrays(split)]
        units = np.unique(self._table[:, 0]).astype(int).tolist()
        first = round(TRAIN * len(units))
        return units[:first] if split == "train" else units[first:]

    def _arrays(self, split: str) -> list[tuple[dict[str, str], Mapping[str, Any]]]:
        return manifest_arrays(self.root, where={"subset": ["cmapss"], "split": [split]})

    @cached_property
    def _table(self) -> Array:
        """Rows of engine, cycle, settings and sensors."""
        if Path(self.root).is_file():
            return read_text(Path(self.root))
        return np.asarray(self._arrays("train")[0][1]["data"], np.float64)


def read_text(path: Path) -> Array:
    """The rows (n, 26) of a text file of C-MAPSS: numbers with spaces between, no header.

    Raises:
        InputError: it can't be read, or it holds something else.
    """
    try:
        rows = np.loadtxt(path, ndmin=2)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read as rows of numbers: {error}") from error
    if rows.shape[1] != COLUMNS or not np.isfinite(rows).all():
        raise InputError(
            f"{path} has {rows.shape[1]} columns; train_FD001.txt has {COLUMNS} of numbers: "
            "engine, cycle, 3 settings and 21 sensors"
        )
    return rows
