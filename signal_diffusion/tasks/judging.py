"""Scores of sounds in the eyes of a classifier, beside those of real ones that it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from signal_diffusion.metrics import diversity, frechet_distance
from signal_diffusion.metrics.likeness import distances, imprints
from signal_diffusion.tasks.classifying import Classifier

Array = NDArray[Any]
#: By its heading: the score that a column shows, and how.
Columns = Mapping[str, tuple[str, Callable[[float], str]]]


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


def scores(judge: Classifier, some: Sounds, seen: Sounds) -> dict[str, float]:
    """What the judge makes of sounds, and how near they are to those that it has seen.

    `recognised` is a share; diversities are those within the groups, and Fréchet distances those to
    what was seen, each by log-mel (`metrics.likeness`) and in the judge's features.
    """
    rate, features = judge.sample_rate, judge.features(some.signals)
    imprint = imprints(some.signals, sample_rate=rate)
    law = statistics(some.signals, rate), statistics(seen.signals, rate)
    found = {
        "recognised": judge.accuracy(some.signals, some.labels),
        "diversity_log_mel": diversity(imprint, some.groups, distances=distances),
        "diversity_features": diversity(features, some.groups),
        "frechet_features": frechet_distance(features, judge.features(seen.signals)),
        "frechet_log_mel": frechet_distance(*law),
    }
    return {name: round(value, 5) for name, value in found.items()}


def relative(row: Mapping[str, float], whole: Mapping[str, float]) -> dict[str, float]:
    """Scores, with the diversities over those of other sounds besides.

    >>> row = {"diversity_log_mel": 0.2, "diversity_features": 3.0}
    >>> relative(row, row)["diversity_features_ratio"]
    1.0
    """
    over = ("diversity_log_mel", "diversity_features")
    return {**row, **{f"{key}_ratio": round(row[key] / whole[key], 4) for key in over}}


def mean_of(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each score over rows that have the same ones.

    >>> mean_of([{"recognised": 0.5}, {"recognised": 1.0}])
    {'recognised': 0.75}
    """
    return {name: round(float(np.mean([row[name] for row in rows])), 5) for name in rows[0]}


def interval(share: float, count: int) -> dict[str, float]:
    """The 95 % interval (Wilson 1927) of the share that all such sounds would be recognised to.

    >>> interval(0.9, 20)
    {'recognised_low': 0.699, 'recognised_high': 0.9721}
    """
    from scipy.stats import binomtest

    low, high = binomtest(round(share * count), count).proportion_ci(method="wilson")
    return {"recognised_low": round(float(low), 4), "recognised_high": round(float(high), 4)}


def table_of_scores(rows: Mapping[str, Mapping[str, float]], columns: Columns) -> str:
    """Scores as a table in Markdown, with nothing where a row lacks one.

    >>> print(table_of_scores({"ours": {"b": 2.0}}, {"A": ("a", str), "B": ("b", str)}))
    |  | A | B |
    | --- | ---: | ---: |
    | ours |  | 2.0 |
    """
    lines = [f"|  | {' | '.join(columns)} |", f"| --- |{' ---: |' * len(columns)}"]
    for name, row in rows.items():
        cells = [form(row[key]) if key in row else "" for key, form in columns.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


#: What the scores above are shown as.
SHOWN: Columns = {
    "recognised %": ("recognised", lambda value: f"{100 * value:.1f}"),
    "diversity: log-mel": ("diversity_log_mel_ratio", "{:.2f}".format),
    "features": ("diversity_features_ratio", "{:.2f}".format),
    "Fréchet: log-mel": ("frechet_log_mel", "{:.3f}".format),
    "in features": ("frechet_features", "{:.2f}".format),
    "seconds a second": ("real_time_factor", "{:.3f}".format),
}
