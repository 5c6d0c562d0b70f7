"""Conditions of a generator: one of several names, or a number, as the network takes them.

A condition turns values into rows of numbers, and all conditions of a model side by side make its
conditioner (B, K, 1); a row of zeros stands for no condition.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from signal_diffusion.errors import InputError

#: Values of a range.
MOST_VALUES = 100_000
#: A name or a number; None is no condition.
Value = str | float | None


class Condition(ABC):
    """One condition of a generator; subclasses are frozen dataclasses.

    Attributes:
        name: as the command line has it, e.g. "class" or "pitch".
        width: numbers that encode a value.
    """

    name: str
    width: int

    @abstractmethod
    def row(self, value: str | float) -> Tensor:
        """The numbers (width,) of a value.

        Raises:
            InputError: there is no such value.
        """

    @abstractmethod
    def values(self, words: str) -> list[Value]:
        """The values that a word of the command line lists: "1,3", "60..72" or "all".

        Raises:
            InputError: there are no such values.
        """

    @property
    @abstractmethod
    def description(self) -> str:
        """The allowed values, in words."""


@dataclass(frozen=True)
class Names(Condition):
    """One of several names.

    >>> digits = Names("class", ("zero", "one", "two"))
    >>> digits.row("one")
    tensor([0., 1., 0.])
    >>> digits.values("zero..two"), digits.values("two,0")
    (['zero', 'one', 'two'], ['two', 'zero'])
    """

    name: str
    names: Sequence[str]

    @property
    def width(self) -> int:  # type: ignore[override]
        return len(self.names)

    def row(self, value: str | float) -> Tensor:
        row = torch.zeros(self.width)
        row[self._place(str(value))] = 1
        return row

    def values(self, words: str) -> list[Value]:
        if words == "all":
            return list(self.names)
        found: list[Value] = []
        for word in words.split(","):
            first, dots, last = word.partition("..")
            start = self._place(first)
            stop = self._place(last) if dots else start
            _require_range(self.name, word, stop - start)
            found += self.names[start : stop + 1]
        return found

    @property
    def description(self) -> str:
        return ", ".join(self.names)

    def _place(self, word: str) -> int:
        """Where a name stands in the list; its number does for it, too."""
        if word in self.names:
            return list(self.names).index(word)
        if word.isdecimal() and len(word) < 10 and int(word) < len(self.names):
            return int(word)
        raise InputError(f"{self.name} is '{word}'; choose of {self.description}, or all")


@dataclass(frozen=True)
class Number(Condition):
    """A number between two others, encoded by how near it is to each of `knots` even places.

    >>> Number("pitch", 40, 80, knots=3).row(50)
    tensor([0.5000, 0.5000, 0.0000])
    """

    name: str
    low: float
    high: float
    knots: int = 17

    def __post_init__(self) -> None:
        if not self.low < self.high or self.knots < 2:
            raise InputError(f"{self.name} goes from {self.low} to {self.high}, {self.knots} knots")

    @property
    def width(self) -> int:  # type: ignore[override]
        return self.knots

    def row(self, value: str | float) -> Tensor:
        number = self._number(str(value))
        place = (number - self.low) / (self.high - self.low) * (self.knots - 1)
        return (1 - (torch.arange(self.knots) - place).abs()).clamp_min(0)

    def values(self, words: str) -> list[Value]:
        if words == "all":
            words = f"{self.low:g}..{self.high:g}"
        found: list[Value] = []
        for word in words.split(","):
            first, dots, last = word.partition("..")
            start = self._number(first)
            steps = self._number(last) - start if dots else 0
            _require_range(self.name, word, steps)
            found += [start + step for step in range(int(steps) + 1)]
        return found

    @property
    def description(self) -> str:
        return f"a number from {self.low:g} to {self.high:g}"

    def _number(self, word: str) -> float:
        try:
            number = float(word)
        except ValueError:
            number = float("nan")
        if not self.low <= number <= self.high:
            raise InputError(f"{self.name} is '{word}'; give {self.description}")
        return number


@dataclass(frozen=True)
class Pitch(Number):
    """A pitch in semitones, encoded as a number and by the places of its partials.

    Partial k lies 12 log2 k semitones above the pitch; a second row of places, as far apart as the
    knots and going on to the highest partial, tells how near each is to a partial. So a network
    that has learnt where sound at a place goes knows it in the notes of all pitches.

    >>> Pitch("pitch", 60, 62, knots=3, partials=2).row(61).tolist()[3:]
    [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    """

    partials: int = 16

    @property
    def width(self) -> int:  # type: ignore[override]
        return self.knots + self._places

    def row(self, value: str | float) -> Tensor:
        semitones = float(value) - self.low + 12 * torch.arange(1, self.partials + 1).log2()
        places = torch.arange(self._places) - self._each * semitones[:, None]
        return torch.cat([super().row(value), (1 - places.abs()).clamp_min(0).amax(0)])

    @property
    def _each(self) -> float:
        """Knots a semitone."""
        return (self.knots - 1) / (self.high - self.low)

    @property
    def _places(self) -> int:
        return self.knots + math.ceil(12 * math.log2(self.partials) * self._each)


def encoded(
    conditions: Sequence[Condition], requested: Sequence[Mapping[str, Value]]
) -> Tensor | None:
    """The conditioner (B, K, 1) of B signals, from values by name; None if the model has none.

    Raises:
        InputError: a model has no such condition, or not that value.
    """
    if not conditions:
        _require_names((), requested)
        return None
    _require_names([condition.name for condition in conditions], requested)
    rows = [torch.cat([_row(c, one.get(c.name)) for c in conditions]) for one in requested]
    return torch.stack(rows)[..., None]


def _require_range(name: str, word: str, steps: float) -> None:
    if not 0 <= steps < MOST_VALUES:
        raise InputError(
            f"{name} is '{word}': a range goes from a lower to a higher value, with {MOST_VALUES} "
            "values at most"
        )


def _row(condition: Condition, value: Value) -> Tensor:
    return torch.zeros(condition.width) if value is None else condition.row(value)


def _require_names(names: Sequence[str], requested: Sequence[Mapping[str, Value]]) -> None:
    unknown = [name for one in requested for name in one if name not in names]
    if unknown:
        present = ", ".join(names) or "none"
        raise InputError(f"this model has no condition '{unknown[0]}'; it has: {present}")
