"""Scores of sounds in the eyes of a classifier, beside those of real ones that it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from shared.classifier import Classifier

from signal_diffusion.dsp import Array
from signal_diffusion.evaluation.generators import split, statistics
from signal_diffusion.evaluation.summary import markdown_table
from signal_diffusion.metrics import diversity, frechet_distance
from signal_diffusion.metrics.likeness import distances, imprints

#: By its heading: the score that a column shows, and how.
Columns = Mapping[str, tuple[str, Callable[[float], str]]]


@dataclass(frozen=True)
class Sounds:
    """Signals (n, L) with the class of each, and the group within which they are to differ."""

    signals: Array
    labels: Sequence[str]
    groups: Sequence[Hashable]

    def chosen(self, indices: Sequence[int]) -> Sounds:
        """A subset."""
        return Sounds(
            self.signals[list(indices)],
            [self.labels[i] for i in indices],
            [self.groups[i] for i in indices],
        )


def parted(
    sounds: Sounds, *, parts: int = 4, part: int = 0, seed: int = 0
) -> tuple[Sounds, Sounds]:
    """Most of the sounds, and one of so many even parts of each group, see `generators.split`."""
    rest, taken = split(sounds.groups, parts=parts, part=part, seed=seed)
    return sounds.chosen(rest), sounds.chosen(taken)


def scores(judge: Classifier, sounds: Sounds, seen: Sounds) -> dict[str, float]:
    """What the judge makes of sounds, and how near they are to those that it has seen.

    `recognised` is a share; diversities are those within the groups, and Fréchet distances those to
    what was seen, each by log-mel (`metrics.likeness`) and in the judge's features.
    """
    rate, features = judge.sample_rate, judge.features(sounds.signals)
    imprint = imprints(sounds.signals, sample_rate=rate)
    law = statistics(sounds.signals, rate), statistics(seen.signals, rate)
    found = {
        "recognised": judge.accuracy(sounds.signals, sounds.labels),
        "diversity_log_mel": diversity(imprint, sounds.groups, distances=distances),
        "diversity_features": diversity(features, sounds.groups),
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
    lines = [
        [name, *(form(row[key]) if key in row else "" for key, form in columns.values())]
        for name, row in rows.items()
    ]
    return markdown_table(["", *columns], lines)


#: What the scores above are shown as.
SHOWN: Columns = {
    "recognised %": ("recognised", lambda value: f"{100 * value:.1f}"),
    "diversity: log-mel": ("diversity_log_mel_ratio", "{:.2f}".format),
    "features": ("diversity_features_ratio", "{:.2f}".format),
    "Fréchet: log-mel": ("frechet_log_mel", "{:.3f}".format),
    "in features": ("frechet_features", "{:.2f}".format),
    "seconds a second": ("real_time_factor", "{:.3f}".format),
}
