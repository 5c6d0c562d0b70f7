"""The temperature of an industrial machine that failed: a series of the Numenta benchmark."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from signal_diffusion.data.batches import Recordings, Source
from signal_diffusion.data.corpus import manifest_rows
from signal_diffusion.data.sets.skab import crops_of
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
        row = manifest_rows(self.root, "manifest.csv", where=where)[0]
        with np.load(Path(self.root) / row["path"]) as file:
            return np.asarray(file[row["key"]], np.float64)[None]

    def stamps(self, split: str) -> list[str] | None:
        """When the readings were taken, where that is known."""
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
