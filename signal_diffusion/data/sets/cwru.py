"""Windows of bearing vibration with the fault that they show: batches to train a generator on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from signal_diffusion.conditions import Condition, Value, encoded
from signal_diffusion.data.batches import Batch, Recordings, Source, recordings_of
from signal_diffusion.data.crops import piece_of
from signal_diffusion.data.vibration import VibrationSources
from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError

#: Classes by the first letters of a record's label, such as "OR@6_21".
CLASSES = {"Normal": "normal", "B": "ball", "IR": "inner", "OR": "outer"}


def record_values(row: Mapping[str, str]) -> dict[str, Value]:
    """Class, fault's diameter in thousandths of an inch, and rpm of a record, by its manifest row.

    Raises:
        InputError: the label is no class and diameter.

    >>> record_values({"label": "OR@6_21", "rpm": "1797"})
    {'class': 'outer', 'diameter': 21.0, 'rpm': 1797.0}
    """
    kind, _, diameter = row["label"].partition("_")
    kind = kind.partition("@")[0]
    if kind not in CLASSES or not diameter.isdecimal():
        classes = ", ".join(CLASSES)
        raise InputError(f"label is '{row['label']}': give one of {classes}, '_' and a diameter")
    return {"class": CLASSES[kind], "diameter": float(diameter), "rpm": float(row["rpm"])}


@dataclass(frozen=True)
class BearingWindows:
    """Draws batches of windows of vibration at a deviation of 1, with what they are.

    Args:
        records: vibration (L,) of any unit.
        values: of each record, by the conditions' names.
        conditions: of the model.
        length: samples of a window.
        free: share of the windows that are shown without conditions, for guidance.
    """

    records: Sequence[Array]
    values: Sequence[Mapping[str, Value]]
    conditions: Sequence[Condition]
    length: int
    free: float = 0.15

    def __post_init__(self) -> None:
        shortest = min(len(x) for x in self.records)
        if shortest < self.length:
            raise InputError(f"windows are {self.length} samples, but a record has {shortest}")

    def __call__(self, rng: np.random.Generator, size: int) -> Batch:
        """A batch of `size` windows, the classes as often; the observation is the window itself."""
        picks = [int(i) for i in rng.choice(len(self.records), size, p=self._shares())]
        windows = [scaled(piece_of(rng, self.records[i], self.length)) for i in picks]
        clean = torch.from_numpy(np.stack(windows))[:, None]
        names = [condition.name for condition in self.conditions]
        shown: list[Mapping[str, Value]] = [
            {} if rng.random() < self.free else {n: self.values[i][n] for n in names} for i in picks
        ]
        return Batch(clean, clean, [f"record {i}" for i in picks], encoded(self.conditions, shown))

    def _shares(self) -> NDArray[np.float64]:
        """How often each record is drawn."""
        classes = [one["class"] for one in self.values]
        counts = np.array([classes.count(c) for c in classes])
        return 1 / counts / len(set(classes))


def scaled(x: NDArray[np.floating]) -> Array:
    """Windows (..., L) without their mean, at a deviation of 1."""
    x = x - x.mean(axis=-1, keepdims=True)
    return (x / (x.std(axis=-1, keepdims=True) + 1e-9)).astype(np.float32)


@dataclass(frozen=True)
class BearingSources:
    """The vibration of a manifest (domain "vibration") by class, diameter and rpm.

    Args:
        root, manifest: see `VibrationSources`; labels as `record_values` reads them.
        conditions: of the model: any of "class", "diameter" and "rpm".
        rpm: of the records to take, e.g. [1797]; none takes all.
        length: samples of a window.
        recordings: held-out windows that the score is measured on.
    """

    root: str
    conditions: Sequence[Condition]
    length: int
    manifest: str = "manifest.csv"
    rpm: Sequence[float] = ()
    recordings: int = 48

    def __call__(self) -> tuple[Source, Source, Recordings]:
        train, valid = self.split("train"), self.split("valid")
        return train, valid, recordings_of(valid, self.recordings)

    def split(self, split: str) -> BearingWindows:
        """The windows of one split of the manifest."""
        records = self.records(split)
        arrays = [x for _, x in records]
        return BearingWindows(arrays, [one for one, _ in records], self.conditions, self.length)

    def records(self, split: str) -> list[tuple[dict[str, Value], Array]]:
        """What each record is, and its vibration (L,).

        Raises:
            InputError: none has the speeds.
        """
        rows = VibrationSources(self.root, self.manifest).records(split)
        found = [(record_values(row), x) for row, x in rows]
        chosen = [(one, x) for one, x in found if not self.rpm or one["rpm"] in self.rpm]
        if not chosen:
            speeds = ", ".join(sorted({f"{one['rpm']:g}" for one, _ in found}))
            raise InputError(f"no {split} record at rpm {list(self.rpm)}: choose of {speeds}")
        return chosen
