"""Sets of labelled windows of bearing vibration: few of them, variants, and folders of data."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from signal_diffusion.conditions import Value
from signal_diffusion.data.sets.cwru import CLASSES, BearingSources, scaled
from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError


@dataclass(frozen=True)
class Windows:
    """Signals (n, L) at a deviation of 1, with what each is: its class, diameter and rpm."""

    signals: Array
    values: Sequence[Mapping[str, Value]]

    @property
    def classes(self) -> list[str]:
        return [str(one["class"]) for one in self.values]

    def places(self) -> dict[str, NDArray[np.int64]]:
        """Where the windows of each class stand."""
        classes = np.array(self.classes)
        return {name: np.flatnonzero(classes == name) for name in sorted(set(self.classes))}

    def chosen(self, indices: Sequence[int] | Array) -> Windows:
        """Some of them, perhaps more than once."""
        return Windows(self.signals[np.asarray(indices)], [self.values[int(i)] for i in indices])

    def at(self, rpm: Sequence[float]) -> Windows:
        """Those of some speeds."""
        return self.chosen([n for n, one in enumerate(self.values) if one["rpm"] in rpm])

    def shuffled(self, rng: np.random.Generator) -> Windows:
        """All of them, in another order."""
        return self.chosen(rng.permutation(len(self.values)))

    def few(self, count: int) -> Windows:
        """The first ones of each class.

        Raises:
            InputError: a class has fewer.
        """
        for name, at in self.places().items():
            if len(at) < count:
                raise InputError(f"{count} windows are asked for, but {name} has {len(at)}")
        return self.repeated(count)

    def repeated(self, count: int) -> Windows:
        """So many of each class, in turn, and from the first again where there are fewer."""
        return self.chosen(np.concatenate([np.resize(at, count) for at in self.places().values()]))

    def __add__(self, other: Windows) -> Windows:
        return Windows(np.concatenate([self.signals, other.signals]), [*self.values, *other.values])


def windows_of(sources: BearingSources, split: str, *, classes: Sequence[str]) -> Windows:
    """The windows of a split's records, end to end, of some classes."""
    signals, values = [], []
    for one, x in sources.records(split):
        pieces = x[: len(x) // sources.length * sources.length].reshape(-1, sources.length)
        if one["class"] in classes:
            signals.append(scaled(pieces))
            values += [one] * len(pieces)
    return Windows(np.concatenate(signals), values)


def varied(windows: Windows, rng: np.random.Generator) -> Windows:
    """Each window shifted, mixed with another of its class, in some noise, at another level.

    The mixture has up to half of the other, the noise is white and 10 to 40 dB under it, and the
    level within 6 dB. Windows are shifted around, so that nothing is cut off.
    """
    places, signals = windows.places(), []
    for x, name in zip(windows.signals, windows.classes, strict=True):
        other, share = windows.signals[rng.choice(places[name])], rng.uniform(0, 0.5)
        mixed = scaled((1 - share) * _turned(x, rng) + share * _turned(other, rng))
        noise = rng.standard_normal(len(x)) * 10 ** (-rng.uniform(10, 40) / 20)
        signals.append((mixed + noise) * 10 ** (rng.uniform(-6, 6) / 20))
    return Windows(np.stack(signals).astype(np.float32), windows.values)


def _turned(x: Array, rng: np.random.Generator) -> Array:
    return np.roll(x, int(rng.integers(len(x))))


def write_windows(folder: Path, windows: Windows) -> None:
    """Make a folder a root of `BearingSources` of windows, the same to train and validate on."""
    letters = {name: start for start, name in CLASSES.items()}
    np.savez(folder / "windows.npz", **{f"w{n}": x for n, x in enumerate(windows.signals)})
    with (folder / "manifest.csv").open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["path", "key", "domain", "split", "label", "rpm"])
        for split in ("train", "valid"):
            for n, one in enumerate(windows.values):
                label = f"{letters[str(one['class'])]}_{one['diameter']:.0f}"
                table.writerow(["windows.npz", f"w{n}", "vibration", split, label, one["rpm"]])
