"""Score what a generator draws beside real recordings, without a trained judge."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from signal_diffusion.conditions import Value
from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError
from signal_diffusion.evaluation.run import Row
from signal_diffusion.evaluation.summary import statistics as statistics_of
from signal_diffusion.metrics import diversity, frechet_distance
from signal_diffusion.metrics.likeness import distances, imprints, nearest
from signal_diffusion.samplers import Progress
from signal_diffusion.streaming.background import threads
from signal_diffusion.streaming.settings import Settings
from signal_diffusion.tasks.generate import generate

#: What the row of the real ones is called that no other is compared with.
REAL = "real, other half"


@dataclass(frozen=True)
class Heading:
    """How a table shows a score of a set."""

    heading: str
    digits: int

    def shown(self, score: float, *, sign: str = "") -> str:
        return f"{score:{sign}.{self.digits}f}"


#: Scores of a set beside a half of the real ones, see `scores_of_set`.
SCORES: Mapping[str, Heading] = {
    "frechet": Heading("Fréchet distance", 3),
    "diversity": Heading("diversity, real: 1", 2),
    "nearest": Heading("distance to the nearest real one", 3),
}


@dataclass(frozen=True)
class Known:
    """Real signals (n, L), the name of each, and what each is by a model's conditions."""

    signals: Array
    names: Sequence[str]
    asked: Sequence[Mapping[str, Value]]

    def chosen(self, indices: Sequence[int]) -> Known:
        """Some of them."""
        places = list(indices)
        names, asked = [self.names[i] for i in places], [self.asked[i] for i in places]
        return Known(self.signals[places], names, asked)

    @property
    def kinds(self) -> list[Hashable]:
        """What is alike in each, so that it should differ in the rest."""
        return [tuple(one.items()) for one in self.asked]


def halves(known: Known, *, count: int | None = None, seed: int = 0) -> tuple[Known, Known]:
    """Two halves of real signals, by kind: one to compare with, and one that is compared.

    Args:
        known: the signals; one that is alone of its kind is in the first half.
        count: signals of the second half, evenly chosen; None for all.
        seed: of what goes where.

    Raises:
        InputError: no kind has two signals, or there are fewer than `count` or 2.
    """
    places = Sounds(np.arange(len(known.names))[:, None], list(known.names), known.kinds)
    first, second = (
        [int(i) for i in x.signals[:, 0]] for x in parted(places, parts=2, part=1, seed=seed)
    )
    most = len(second) if count is None else count
    if not 2 <= most <= len(second):
        raise InputError(
            f"count is {most}, but of {len(known.names)} recordings {len(second)} are left beside "
            f"those to compare with: give 2 to {max(2, len(second))}, or more recordings"
        )
    return known.chosen(first), known.chosen([second[n * len(second) // most] for n in range(most)])


def evaluate_draws(
    denoiser: NetworkDenoiser,
    known: Known,
    methods: Mapping[str, Settings],
    *,
    count: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[list[Row], dict[str, Any]]:
    """Rows of real and drawn signals, and a summary as `tasks.summary.summary` has it.

    Half of the real ones are compared with. The other half is the first row: what the law itself
    scores with so few. As many are drawn, each asked to be what one of these is.

    Args:
        denoiser: a generator.
        known: real signals of its rate and length.
        methods: settings by the names of their rows.
        count: signals that are drawn; None for as many as there are in the other half.
        seed: of the halves and the intervals; draws have that of their settings.
        progress: called as progress(done calls, all calls).

    Raises:
        InputError: there are too few real signals, or a setting can't be used.
    """
    assert denoiser.sample_rate is not None
    reference, other = halves(known, count=count, seed=seed)
    judge = _Judge(reference, denoiser.sample_rate, seed)
    rows, told = judge(REAL, other, None)
    scored = {REAL: told}
    for at, (name, settings) in enumerate(methods.items()):
        signals, taken = _drawn(denoiser, other, settings, _part(progress, at, len(methods)))
        names = [f"draw {n:04d}" for n in range(len(signals))]
        more, scored[name] = judge(name, Known(signals, names, other.asked), taken)
        rows += more
    ours = next(iter(methods))
    return rows, {"methods": scored, "compared_with": ours, "differences": {}, "groups": {}}


def scores_of_set(some: Known, reference: Known, sample_rate: int) -> dict[str, float]:
    """How the law of some signals lies beside that of others, by log-mel (`metrics.likeness`).

    `frechet`: distance of the means and deviations of the bands, which rises as there are fewer;
    `diversity`: mean distance of two signals of one kind, over that of the reference: below 1 they
    are too much alike.
    """
    law = (statistics(x.signals, sample_rate) for x in (some, reference))
    spread, usual = (
        diversity(imprints(x.signals, sample_rate=sample_rate), x.kinds, distances=distances)
        for x in (some, reference)
    )
    if not usual:
        raise InputError("recordings of one kind are all the same: give different ones")
    return {"frechet": frechet_distance(*law), "diversity": spread / usual}


class _Judge:
    """Scores sets beside one half of the real signals."""

    def __init__(self, reference: Known, sample_rate: int, seed: int) -> None:
        self.reference, self.rate, self.seed = reference, sample_rate, seed
        self._imprints = imprints(reference.signals, sample_rate=sample_rate)

    def __call__(
        self, method: str, some: Known, taken: float | None
    ) -> tuple[list[Row], dict[str, Any]]:
        """A row for each signal, and what is told of all."""
        near, places = nearest(imprints(some.signals, sample_rate=self.rate), self._imprints)
        seconds = some.signals.shape[1] / self.rate
        each = None if taken is None else round(taken / len(some.names), 6)
        rows = [
            {"file": name, "method": method, **asked, "nearest": round(float(distance), 6),
             "nearest_file": self.reference.names[int(place)], "seconds": seconds, "taken": each}
            for name, asked, distance, place in zip(
                some.names, some.asked, near, places, strict=True
            )
        ]  # fmt: skip
        whole = scores_of_set(some, self.reference, self.rate)
        scores = {name: {"mean": round(value, 6)} for name, value in whole.items()}
        apart = [row["nearest"] for row in rows]
        return rows, {
            "scores": {**scores, "nearest": statistics_of(apart, some.names, seed=self.seed)},
            "files": len(rows),
            "failed": 0,
            "real_time_factor": None if each is None else round(each / seconds, 5),
            "peak_memory_mb": None,
        }


def _drawn(
    denoiser: NetworkDenoiser, like: Known, settings: Settings, progress: Progress | None
) -> tuple[Array, float]:
    """Signals that are asked to be what others are, and the seconds that they took, in one thread.

    Of the processor, or by the clock where that would wait for a GPU.
    """
    idle = next(denoiser.parameters()).device.type != "cpu"
    clock: Callable[[], float] = time.perf_counter if idle else time.process_time
    with threads(1), torch.no_grad():
        began = clock()
        signals = generate(
            denoiser, asked=like.asked, steps=settings.times, sampler=settings.sampler,
            seed=settings.seed, progress=progress,
        )  # fmt: skip
    return signals, clock() - began


def _part(progress: Progress | None, index: int, parts: int) -> Progress | None:
    """Progress of one of several methods, in thousandths, since their calls differ in number."""
    if progress is None:
        return None
    return lambda done, total: progress(index * 1000 + 1000 * done // total, parts * 1000)


@dataclass(frozen=True)
class Sounds:
    """Signals (n, L) with the class of each, and the group within which they are to differ."""

    signals: Array
    labels: Sequence[str]
    groups: Sequence[Hashable]

    def chosen(self, indices: Sequence[int]) -> Sounds:
        """Some of them."""
        return Sounds(
            self.signals[list(indices)],
            [self.labels[i] for i in indices],
            [self.groups[i] for i in indices],
        )


def parted(
    sounds: Sounds, *, parts: int = 4, part: int = 0, seed: int = 0
) -> tuple[Sounds, Sounds]:
    """Most of the sounds, and one of so many even parts of each group; one alone is in no part.

    >>> some = Sounds(np.zeros((9, 1)), ["a"] * 9, ["x"] * 8 + ["y"])
    >>> [len(half.labels) for half in parted(some)]
    [7, 2]
    """
    rng, taken = np.random.default_rng(seed), set()
    for group in dict.fromkeys(sounds.groups):
        members = [index for index, other in enumerate(sounds.groups) if other == group]
        if len(members) > 1:
            taken |= {int(i) for i in rng.permutation(members)[part::parts]}
    rest = [index for index in range(len(sounds.groups)) if index not in taken]
    return sounds.chosen(rest), sounds.chosen(sorted(taken))


def statistics(signals: Array, sample_rate: int) -> torch.Tensor:
    """Mean and deviation over time of each band of the imprints: (n, L) to (n, 2 bands)."""
    imprint = imprints(signals, sample_rate=sample_rate)
    return torch.cat([imprint.mean(1), imprint.std(1)], dim=1)
