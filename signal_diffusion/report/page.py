"""The report of an evaluation: one page that needs nothing but itself."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

from signal_diffusion.errors import InputError, install
from signal_diffusion.evaluation.measures import METRICS
from signal_diffusion.evaluation.methods import Method
from signal_diffusion.evaluation.outputs import FIGURES
from signal_diffusion.evaluation.pairs import Pair
from signal_diffusion.evaluation.run import Row
from signal_diffusion.evaluation.summary import MOST_SHOWN
from signal_diffusion.files import atomic
from signal_diffusion.files.atomic import require_writable
from signal_diffusion.report import charts
from signal_diffusion.report.clips import HIGH, WIDE, colour_bar
from signal_diffusion.report.examples import Maker, chosen, example_of
from signal_diffusion.report.tables import (
    GIVEN,
    best_of,
    cell,
    changes_of,
    duration,
    failures_of,
    verdicts,
)
from signal_diffusion.samplers import Progress

TEMPLATES = Path(__file__).parent / "templates"
#: What draws and fills the page.
NEEDED = ("jinja2", "matplotlib")
#: Failures that are told one by one.
MOST_FAILED = 20


def require_report(path: Path, folder: Path, methods: Sequence[Method], *, force: bool) -> None:
    """Raise an InputError unless a report of methods can be written, once the folder is there."""
    for package in NEEDED:
        if importlib.util.find_spec(package) is None:
            raise InputError(f"html needs {package}, which is not installed: {install('evaluate')}")
    if GIVEN not in [method.name for method in methods]:
        raise InputError("html is for denoisers, whose input is scored too: leave it out")
    if folder.exists() or path.parent.resolve() != folder.resolve():
        require_writable(path, force=force)


def write_report(
    path: Path,
    folder: Path,
    rows: Sequence[Row],
    pairs: Sequence[Pair],
    methods: Sequence[Method],
    *,
    domain: str | None = None,
    progress: Progress | None = None,
) -> None:
    """Write what an evaluation found, with its best and worst files to look at and to hear.

    Those files are read and denoised again, since results are not kept.

    Args:
        path: of the page, which appears whole and replaces an earlier one.
        folder: of the evaluation, with its `summary.json`.
        rows: of `evaluation.evaluate`.
        pairs, methods: what they are of.
        domain: of the model; other signals than sound are drawn as waveforms.
        progress: called as progress(done files, all files).

    Raises:
        InputError: the page can't be written.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    facts = json.loads((folder / FIGURES).read_text(encoding="utf-8"))
    metrics, model, scored = facts["metrics"], facts["compared_with"], facts["methods"]
    best, worst = chosen(rows, metrics[0], model, GIVEN)
    files = {pair.name: pair for pair in pairs}
    method = next(method for method in methods if method.name == model)
    maker = Maker(method, metrics, domain, len(best) + len(worst))
    examples = []
    for done, (given, result) in enumerate([*best, *worst], start=1):
        examples.append(example_of(maker, files[given["file"]], given, result))
        if progress is not None:
            progress(done, maker.files)
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    scores = {name: found["scores"] for name, found in scored.items()}
    colours = charts.colours_of(list(scored), GIVEN)
    changes = {metric: changes_of(rows, metric, model) for metric in metrics}
    failed = failures_of(rows)
    # With one value a group says nothing, and with many it takes too much room.
    groups = {name: v for name, v in facts["groups"].items() if 1 < len(v) <= MOST_SHOWN}
    text = environment.get_template("report.html").render(
        facts=facts,
        model=model,
        given=GIVEN,
        best=examples[: len(best)],
        worst=examples[len(best) :],
        first=METRICS[metrics[0]].heading,
        direction=METRICS[metrics[0]].direction,
        verdicts=verdicts(facts, changes),
        duration=duration(rows, model),
        metrics=[METRICS[name] for name in metrics],
        cell=cell,
        best_rows={
            m: best_of(m, [s.get(m, {}).get("mean") for s in scores.values()]) for m in metrics
        },
        groups=groups,
        group_charts=[
            charts.group_chart(v, name, metrics[0], colours) for name, v in groups.items()
        ],
        charts=[charts.scores_chart(scores, m, colours) for m in metrics],
        changes=[charts.changes_chart(found, m) for m, found in changes.items() if found],
        colours=colours,
        failed=failed[:MOST_FAILED],
        unnamed=max(0, len(failed) - MOST_FAILED),
        bar=colour_bar(),
        wide=WIDE,
        high=HIGH,
    )
    atomic.write(path, text)
