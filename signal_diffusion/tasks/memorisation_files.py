"""The report on a generator's memory: figures, a histogram, and its closest pairs as sound."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from signal_diffusion.errors import InputError
from signal_diffusion.pictures import INPUT, REMOVED, RESULT
from signal_diffusion.plots import DRAWING, as_png, require_matplotlib
from signal_diffusion.provenance import MARK, write_generated
from signal_diffusion.recordings.partials import beside, failures, require_writable
from signal_diffusion.tasks.memorisation import (
    CHANCE,
    REFERENCES,
    VERY_NEAR,
    Clips,
    Comparison,
    Memorisation,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES, HISTOGRAM = "memorisation.json", "histogram.png"
#: Seconds of silence between the two sounds of a pair.
PAUSE = 0.25
QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def require_folder(
    folder: Path, *, force: bool, names: Sequence[str] = (FIGURES, HISTOGRAM)
) -> None:
    """Raise an InputError unless a report of such files may be written into a folder."""
    if folder.suffix or (folder.exists() and not folder.is_dir()):
        raise InputError(f"{folder} is no folder: name one for the report, e.g. -o report")
    if not folder.absolute().parent.is_dir():
        raise InputError(f"{folder} can't be made: there is no folder {folder.absolute().parent}")
    for name in names:
        if (folder / name).exists() and not force:
            raise InputError(f"{folder / name} exists: pass --force to replace it")


def write_report(
    folder: Path,
    found: Memorisation,
    drawn: Clips,
    training: Clips,
    *,
    sample_rate: int,
    against: str = "held-out",
    pairs: int = 20,
    told: Mapping[str, Any] | None = None,
    force: bool = False,
) -> Comparison:
    """Write the figures, the histogram and the closest pairs into a folder; each appears whole.

    A pair is a WAV file in which the drawn signal is followed, after a short silence, by the
    training clip that is nearest to it, both at a peak of 0.9.

    Args:
        folder: is made.
        found: what `memorisation` found of the drawn and training clips.
        sample_rate: Hz.
        against: the reference of the verdict, see `memorisation.REFERENCES`.
        pairs: how many to list and write.
        told: what else the JSON is to hold, such as the model.
        force: replace files that exist.

    Returns:
        The comparison that the verdict rests on.

    Raises:
        InputError: something can't be written.
    """
    verdict = found.against(against)
    require_folder(folder, force=force)
    with failures(folder):
        folder.mkdir(exist_ok=True)
    closest = found.closest(pairs)
    for place, index in enumerate(closest, start=1):
        path = folder / f"closest_{place:02d}.wav"
        _write_pair(path, _pair(found, drawn, training, index), drawn, training, sample_rate, force)
    _write_png(folder / HISTOGRAM, found, verdict, force)
    listed = [
        {key: pair[key] for key in ("drawn", "training", "distance")}
        for pair in (_pair(found, drawn, training, index) for index in closest)
    ]
    figures = {**(told or {}), **summary(found, against), "closest": listed}
    _write_json(folder / FIGURES, figures, force)
    return verdict


def summary(found: Memorisation, against: str) -> dict[str, Any]:
    """The figures of a comparison as plain values, the verdict among them."""
    verdict = found.against(against)
    sets = {"drawn": found.drawn, "held_out": found.held_out, "training": found.training}
    return {
        "verdict": "passed" if verdict.passed else "failed",
        "against": against,
        "sentence": sentence(verdict),
        "very_near_share": VERY_NEAR,
        "chance": CHANCE,
        "comparisons": {name: asdict(found.against(name)) for name in REFERENCES},
        "p_held_out_like_training": found.p_alike,
        "counts": {name: len(distances) for name, distances in sets.items()},
        "quantiles": {
            name: {f"{q:g}": round(float(np.quantile(x, q)), 4) for q in QUANTILES}
            for name, x in sets.items()
        },
    }


def sentence(verdict: Comparison) -> str:
    """A verdict in words."""
    those = "held-out clips" if verdict.reference == "held-out" else "training clips of each other"
    return (
        f"{'passed' if verdict.passed else 'failed'}: {100 * verdict.share:.3g} % of the drawn "
        f"signals lie nearer to a training clip than the nearest {100 * VERY_NEAR:g} % of "
        f"{those} do, {verdict.under_all} nearer than all (p = {verdict.p:.2g})"
    )


def _pair(found: Memorisation, drawn: Clips, training: Clips, index: int) -> dict[str, Any]:
    neighbour = int(found.neighbours[index])
    return {
        "drawn": drawn.names[index],
        "training": training.names[neighbour],
        "distance": round(float(found.drawn[index]), 4),
        "numbers": (index, neighbour),
    }


def _write_pair(
    path: Path,
    pair: Mapping[str, Any],
    drawn: Clips,
    training: Clips,
    sample_rate: int,
    force: bool,
) -> None:
    first, second = pair["numbers"]
    pause = np.zeros(round(PAUSE * sample_rate), np.float32)
    both = [_peaked(drawn.signal(first)), pause, _peaked(training.signal(second))]
    told = {
        MARK: True, "drawn, then training": [pair["drawn"], pair["training"]],
        "distance": pair["distance"],
    }  # fmt: skip
    write_generated(path, np.concatenate(both)[None], sample_rate, told, force=force)


def _peaked(x: np.ndarray) -> np.ndarray:
    peak = float(np.abs(x).max())
    return np.asarray(0.9 * x / peak if peak > 0 else x, np.float32)


def _write_json(path: Path, figures: Mapping[str, Any], force: bool) -> None:
    require_writable(path, force=force)
    with beside(path) as partial, failures(path):
        partial.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        os.replace(partial, path)


def _write_png(path: Path, found: Memorisation, verdict: Comparison, force: bool) -> None:
    require_matplotlib()
    require_writable(path, force=force)
    with DRAWING:
        picture = as_png(_figure(found, verdict))
    with beside(path) as partial, failures(path):
        partial.write_bytes(picture)
        os.replace(partial, path)


def _figure(found: Memorisation, verdict: Comparison) -> Figure:
    from matplotlib.figure import Figure

    sets = [
        ("drawn", found.drawn, REMOVED, 2.0),
        ("held-out clips", found.held_out, RESULT, 1.2),
        ("training clips, to the others", found.training, INPUT, 1.2),
    ]
    edges = np.linspace(0, max(float(x.max()) for _, x, _, _ in sets) * 1.02 + 1e-6, 60).tolist()
    figure = Figure(figsize=(9, 4.5), dpi=100, layout="constrained")
    axes = figure.subplots()
    for label, x, colour, width in sets:
        weights = np.full(len(x), 100 / len(x))
        name = f"{label} ({len(x)})"
        axes.hist(x, edges, weights=weights, histtype="step", color=colour, lw=width, label=name)
    axes.axvline(
        verdict.very_near, color="black", ls=":", lw=1,
        label=f"nearest {100 * VERY_NEAR:g} % of the reference ({verdict.reference})",
    )  # fmt: skip
    axes.set_xlabel("distance to the nearest training clip (0: a copy)")
    axes.set_ylabel("share, %")
    axes.set_title(sentence(verdict), fontsize=9, wrap=True)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    return figure
