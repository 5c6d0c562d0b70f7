"""The best and the worst files of a report: scores, pictures and sounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from signal_diffusion.errors import InputError
from signal_diffusion.evaluation.measures import METRICS
from signal_diffusion.evaluation.methods import Method
from signal_diffusion.evaluation.pairs import Pair
from signal_diffusion.evaluation.run import Row
from signal_diffusion.report.charts import better_by, is_seen, shown
from signal_diffusion.report.clips import (
    TITLES,
    Panel,
    Scale,
    players,
    spectrograms,
    stretch_of,
    waveforms,
)

#: Files at either end.
MOST = 10
#: Relative difference of a score that is computed again: rounding, on another machine.
EQUAL = 1e-6
#: The input's row and the model's, of one file.
Both = tuple[Row, Row]


@dataclass(frozen=True)
class Score:
    """A metric of one file: of the input, of the result, and the change, as text.

    `better` tells whether the change is for the better; None where none is to be seen.
    """

    heading: str
    before: str
    after: str
    change: str
    better: bool | None


@dataclass(frozen=True)
class Example:
    """A file as the page has it; `trouble` is why nothing can be shown, or what is wrong."""

    name: str
    groups: tuple[tuple[str, str], ...]
    scores: list[Score]
    trouble: str = ""
    caption: str = ""
    begin: str = ""
    end: str = ""
    clips: list[Panel] = field(default_factory=list)
    scale: Scale | None = None


@dataclass(frozen=True)
class Maker:
    """What all examples have in common: the method, the metrics, and how many files there are."""

    method: Method
    metrics: Sequence[str]
    domain: str | None
    files: int


def chosen(
    rows: Sequence[Row], metric: str, model: str, given: str
) -> tuple[list[Both], list[Both]]:
    """The files that gained most by a metric, and those that gained least, each in that order.

    At most ten of either, and no file in both; without a score a file is neither.

    >>> rows = [{"file": f, "method": m, "snr": s} for f, m, s in [
    ...     ("a", "input", 1.0), ("a", "model", 3.0), ("b", "input", 1.0), ("b", "model", 0.0)]]
    >>> best, worst = chosen(rows, "snr", "model", "input")
    >>> [row["file"] for row, _ in best], [row["file"] for row, _ in worst]
    (['a'], ['b'])
    """
    inputs = {row["file"]: row for row in rows if row["method"] == given}
    both = [(inputs[row["file"]], row) for row in rows if row["method"] == model]
    scored = [pair for pair in both if None not in (pair[0][metric], pair[1][metric])]

    def gain(pair: Both) -> float:
        return better_by(metric, pair[1][metric] - pair[0][metric])

    ranked = sorted(scored, key=gain, reverse=True)
    best = ranked[: min(MOST, (len(ranked) + 1) // 2)]
    return best, ranked[len(best) :][::-1][:MOST]


def example_of(maker: Maker, pair: Pair, given: Row, result: Row) -> Example:
    """A file's scores and the part where most was removed; an error stands in its place."""
    scores = [_score(metric, given[metric], result[metric]) for metric in maker.metrics]
    plain, first = Example(pair.name, pair.groups, scores), maker.metrics[0]
    try:
        stretch = stretch_of(pair, maker.method, first, domain=maker.domain, files=maker.files)
    except InputError as error:
        return replace(plain, trouble=f"It can't be shown: {error}.")
    kind, draw = ("Waveform", waveforms) if stretch.form is None else ("Spectrogram", spectrograms)
    panels, scale = draw(stretch)
    caption, sounds = f"All of it, {stretch.seconds:.3g} s.", [""] * len(panels)
    span = f"{stretch.begin:.4g} to {stretch.end:.4g}"
    if stretch.end - stretch.begin < stretch.seconds - 1e-9:
        caption = f"From {span} of {stretch.seconds:.4g} s, where most was removed."
    if stretch.form is not None:
        sounds, gain = players(stretch)
        louder = f"{20 * math.log10(gain):+.0f} dB".replace("-", "−")
        lossy = ", and are compressed by MP3" if stretch.form.container == "MP3" else ""
        caption += f" All four sounds have the same gain, {louder}{lossy}."
    found, again = result[first], stretch.score
    same = found is again
    if found is not None and again is not None:
        same = math.isclose(again, found, rel_tol=EQUAL, abs_tol=EQUAL)
    trouble = (
        f"Made again for this page, the result scores {shown(first, again)}, not "
        f"{shown(first, found)}: what is here is not what was scored."
    )
    return replace(
        plain,
        trouble="" if same else trouble,
        caption=caption,
        begin=f"{stretch.begin:.4g} s",
        end=f"{stretch.end:.4g} s",
        clips=[
            replace(
                panel,
                title=title,
                sound=sound,
                alt=f"{kind} of {plain.name}, {title.lower()}, from {span} s",
            )
            for title, panel, sound in zip(TITLES, panels, sounds, strict=True)
        ],
        scale=scale,
    )


def _score(metric: str, before: float | None, after: float | None) -> Score:
    change = None if before is None or after is None else after - before
    text = shown(metric, change, sign="+")
    better = better_by(metric, change) > 0 if change is not None and is_seen(text) else None
    return Score(METRICS[metric].heading, shown(metric, before), shown(metric, after), text, better)
