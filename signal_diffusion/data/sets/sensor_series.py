"""Sensors of machines before and while they fail: a series of the Numenta benchmark, and SKAB."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from signal_diffusion.data.batches import Recordings, Source
from signal_diffusion.data.corpus import manifest_arrays
from signal_diffusion.data.crops import crops_of
from signal_diffusion.dsp import Array
from signal_diffusion.dsp.robust import Scale
from signal_diffusion.errors import InputError

#: Its name in the benchmark, and how many seconds lie between readings.
SERIES, STEP = "realKnownCause/machine_temperature_system_failure.csv", 300
#: Where in the series the splits begin and end.
SPLITS = {"train": (0.0, 0.6), "valid": (0.6, 0.75), "test": (0.75, 1.0)}


@dataclass(frozen=True)
class TemperatureSources:
    """One sensor, a reading every five minutes for eleven weeks, split in time.

    The part to train on holds two failures and the days around them: it teaches what is usual by
    far the most of the time, and medians are taken where they would count.

    Args:
        root: folder with a `manifest.csv` whose subset "nab" names the splits "train" and "valid"
            of an NPZ, or a clone of github.com/numenta/NAB, which has time stamps and labels, too.
        length: readings of a crop.

    Raises:
        InputError: there is no such file, or it holds something else.

    Source: Lavin and Ahmad 2015, arXiv:1510.03336.
    """

    root: str
    length: int = 288

    def __call__(self) -> tuple[Source, Source, Recordings]:
        train, held = ([self.scale(self.readings(split))] for split in ("train", "valid"))
        return crops_of(train, held, self.length)

    @property
    def scale(self) -> Scale:
        """Of the readings to train on."""
        return Scale.of(self.readings("train"))

    def readings(self, split: str) -> Array:
        """The temperatures (1, n) of a split."""
        if self._is_clone:
            return np.array([[float(row["value"]) for row in self._part(split)]])
        where = {"subset": ["nab"], "split": [split]}
        row, file = manifest_arrays(self.root, where=where)[0]
        return np.asarray(file[row["key"]], np.float64)[None]

    def stamps(self, split: str) -> list[str] | None:
        """When the readings were taken, where the source says so."""
        return [row["timestamp"] for row in self._part(split)] if self._is_clone else None

    def faulty(self, split: str) -> Array | None:
        """Which readings lie in a labelled window, where there are labels."""
        path, stamps = Path(self.root) / "labels" / "combined_windows.json", self.stamps(split)
        if stamps is None or not path.is_file():
            return None
        try:
            windows = json.loads(path.read_text())[SERIES]
        except (ValueError, KeyError) as error:
            raise InputError(f"{path} has no windows of {SERIES}: {error}") from error
        # A window's ends carry fractions of a second that the stamps lack.
        return np.array([any(a[:19] <= t <= b[:19] for a, b in windows) for t in stamps])

    @property
    def _is_clone(self) -> bool:
        return self._series.is_file()

    @property
    def _series(self) -> Path:
        return Path(self.root) / "data" / SERIES

    def _part(self, split: str) -> list[dict[str, str]]:
        with self._series.open(newline="") as file:
            rows = list(csv.DictReader(file))
        if not rows or not {"timestamp", "value"} <= set(rows[0]):
            raise InputError(f"{self._series} has no columns 'timestamp' and 'value'")
        first, last = (int(share * len(rows)) for share in SPLITS[split])
        return rows[first:last]


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
        found = self._arrays(split)
        return {row["key"]: file[row["key"]].T.astype(np.float64) for row, file in found}

    def rows(self, split: str) -> list[dict[str, str]]:
        """What the manifest says of the runs of a split."""
        return [row for row, _ in self._arrays(split)]

    def columns(self) -> list[str]:
        """Names of the sensors."""
        return [str(name) for name in self._arrays("train")[0][1]["columns"]]

    def _arrays(self, split: str) -> list[tuple[dict[str, str], Mapping[str, Any]]]:
        return manifest_arrays(self.root, where={"subset": ["skab"], "split": [split]})
