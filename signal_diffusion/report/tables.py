"""The tables of a report: methods, differences and groups, and a sentence on each metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from signal_diffusion.evaluation.measures import METRICS
from signal_diffusion.evaluation.methods import Untouched
from signal_diffusion.evaluation.run import Row
from signal_diffusion.report.charts import better_by, shown

GIVEN = Untouched().name
#: Units of durations, from the longest.
UNITS = (("h", 3600), ("min", 60), ("s", 0))


@dataclass(frozen=True)
class Cell:
    """A mean as it is shown: the number, its interval, and what it means.

    Attributes:
        mean, ends: as text; `ends` is empty where there is no interval.
        better: of differences, True if the interval lies on the better side of 0, False if on the
            worse, and None if it holds 0.
    """

    mean: str = ""
    ends: str = ""
    better: bool | None = None


def cell(metric: str, found: Mapping[str, float] | None, *, sign: str = "") -> Cell:
    """What a table shows of statistics; with a sign, they are of differences."""
    if found is None:
        return Cell()
    mean = shown(metric, found["mean"], sign=sign)
    if "low" not in found:
        return Cell(mean)
    low, high = found["low"], found["high"]
    ends = " to ".join(shown(metric, end, sign=sign) for end in (low, high))
    sure = bool(sign) and low * high > 0
    return Cell(mean, ends, better_by(metric, low) > 0 if sure else None)


def best_of(metric: str, means: Sequence[float | None]) -> set[int]:
    """Places of the best means, which are several where they are shown alike.

    >>> best_of("pesq", [1.411, None, 1.709, 1.7101])
    {2, 3}
    """
    values = [mean for mean in means if mean is not None]
    if not values:
        return set()
    best = shown(metric, max(values, key=lambda mean: better_by(metric, mean)))
    return {at for at, mean in enumerate(means) if mean is not None and shown(metric, mean) == best}


def duration(rows: Sequence[Row], model: str) -> str:
    """How much was denoised, in words.

    >>> duration([{"method": "a", "seconds": 100.0}, {"method": "a", "seconds": 50.0}], "a")
    '2.5 min'
    """
    seconds = sum(row["seconds"] or 0.0 for row in rows if row["method"] == model)
    unit, scale = next(part for part in UNITS if seconds >= part[1])
    return f"{seconds / (scale or 1):.3g} {unit}"


def failures_of(rows: Sequence[Row]) -> list[str]:
    """What failed, a line for each method and reason.

    >>> failures_of([{"method": "a", "file": f, "error": "no licence"} for f in ("x", "y")])
    ['a failed on 2 files, the first of which is x: no licence']
    """
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row["error"] is not None:
            found.setdefault((row["method"], row["error"]), []).append(row["file"])
    return [
        f"{method} failed on {f'{len(files)} files, the first of which is ' * (len(files) > 1)}"
        f"{files[0]}: {error}"
        for (method, error), files in found.items()
    ]


def changes_of(rows: Sequence[Row], metric: str, model: str) -> list[float]:
    """The model's scores less the input's, of the files where both have one."""
    given = {row["file"]: row[metric] for row in rows if row["method"] == GIVEN}
    return [
        row[metric] - given[row["file"]]
        for row in rows
        if row["method"] == model and None not in (row[metric], given[row["file"]])
    ]


def verdicts(facts: Mapping[str, Any], changes: Mapping[str, Sequence[float]]) -> list[str]:
    """What the model did to each metric, a sentence each."""
    found = []
    for metric, part in changes.items():
        if part:
            methods = (GIVEN, facts["compared_with"])
            means = [facts["methods"][name]["scores"][metric]["mean"] for name in methods]
            before, after = (shown(metric, mean) for mean in means)
            better = sum(better_by(metric, change) > 0 for change in part)
            name, direction = METRICS[metric].heading, METRICS[metric].direction
            found.append(
                f"{name}: {before} → {after} on average, better in {better} of {len(part)} files "
                f"({direction})."
            )
    return found
