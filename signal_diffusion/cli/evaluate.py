"""`signal-diffusion evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from signal_diffusion.cli import evaluate_options as own
from signal_diffusion.cli import evaluated as asked
from signal_diffusion.cli import evaluated_data as given
from signal_diffusion.cli import options as opt
from signal_diffusion.cli import worded
from signal_diffusion.cli.bars import bar
from signal_diffusion.cli.lines import count, say
from signal_diffusion.cli.quiet import libraries_silent
from signal_diffusion.cli.signals import interruptible
from signal_diffusion.errors import InputError

if TYPE_CHECKING:
    from signal_diffusion.denoiser import NetworkDenoiser
    from signal_diffusion.tasks.evaluation import Row
    from signal_diffusion.tasks.pairs import Pair
    from signal_diffusion.tasks.rivals import Method

#: Failures that are told one by one; files.csv has them all.
MOST_FAILED = 10


def evaluate(
    context: typer.Context,
    model: own.Model,
    output: own.Output,
    data: own.Data = None,
    html: own.Html = None,
    clean: own.Clean = None,
    noisy: own.Noisy = None,
    noise: own.Noise = None,
    snr: own.Snr = None,
    groups: own.Groups = None,
    metrics: own.Metrics = None,
    against: own.Against = None,
    against_command: own.AgainstCommand = None,
    against_folder: own.AgainstFolder = None,
    steps: own.Steps = None,
    count: own.Count = None,
    sampler: opt.Sampler = "ddim",
    seed: own.Seed = 0,
    device: opt.Device = "auto",
    jobs: opt.Jobs = 1,
    resume: own.Resume = False,
    force: opt.Force = False,
    quiet: opt.Quiet = False,
    noise_std: opt.NoiseStd = None,
    columns: opt.Columns = None,
    skip: opt.Skip = None,
    time: opt.Time = None,
    rate: own.Rate = None,
    delimiter: opt.Delimiter = None,
) -> None:
    """Score a model beside others: evaluate speech DATA -o FOLDER.

    Denoisers take pairs of sound or of tables of readings, and the input is a row of its own.
    Vocoders take recordings, and have no such row: their input, frames, is no sound.
    Generators take recordings, half of which they are compared with, beside the other half.
    """
    if force and resume:
        raise InputError("force replaces results and resume keeps them: give one of the two")
    _require_whole(seed=seed, jobs=jobs)
    levels, command = worded.levels(snr), worded.command_line(context)
    from signal_diffusion.denoiser import Denoiser
    from signal_diffusion.tasks.evaluation_files import groups_of, make_folder
    from signal_diffusion.tasks.plans import Columns

    denoiser = Denoiser.from_pretrained(model)
    calls = worded.counts(steps or asked.usual_steps(denoiser))
    table = Columns(rate, worded.names(columns) or None, time, delimiter, worded.names(skip))
    alone = given.rate_of_originals(denoiser)
    sources = given.Sources(
        data, clean, noisy, noise or (), levels, groups, seed, table, alone
    )  # fmt: skip
    pairs = sources.pairs()
    if denoiser.length is not None:
        asked.require_unused({
            "metrics": metrics, "against": against, "against-command": against_command,
            "against-folder": against_folder, "html": html, "resume": resume,
            "noise-std": noise_std,
        })  # fmt: skip
        how = asked.Drawing(model, calls, sampler, device, seed, count, output, quiet, command)
        return _draw(denoiser, pairs, how, force=force)
    if count is not None:
        raise InputError(f"count is {count}, but only generators draw: leave it")
    ours = asked.modelled(
        denoiser, model, calls, sampler=sampler, seed=seed, noise_std=noise_std, device=device
    )
    readings = given.takes_readings(denoiser, model, pairs)
    names = asked.metrics_of(denoiser, worded.words(metrics), readings=readings)
    rivals = asked.Rivals(worded.words(against), against_command or (), against_folder or ())
    others = rivals.methods(denoiser, pairs, readings=readings)
    groups_of(pairs, names)
    methods = [*asked.untouched(denoiser), *ours, *others]
    if html is not None:
        _require_report(html, output, methods, force=force or resume)
    make_folder(output, force=force, resume=resume)
    task = Task(pairs, methods, names, output, jobs, quiet, html, denoiser.domain)
    with libraries_silent(), interruptible("what is scored is kept; --resume does the rest"):
        failed = _run(task, model, ours[0].name, command=command, seed=seed)
    if failed:
        raise typer.Exit(1)


def _draw(
    denoiser: NetworkDenoiser, pairs: Sequence[Pair], how: asked.Drawing, *, force: bool
) -> None:
    from signal_diffusion.cli.evaluated_draws import evaluate_generator

    with libraries_silent(), interruptible("nothing was written"):
        evaluate_generator(denoiser, pairs, how, force=force)


@dataclass(frozen=True)
class Task:
    """What to score, and where."""

    pairs: Sequence[Pair]
    methods: Sequence[Method]
    metrics: Sequence[str]
    output: Path
    jobs: int
    quiet: bool
    html: Path | None
    domain: str | None


def _run(task: Task, model: str, ours: str, *, command: str, seed: int) -> bool:
    """Score, write and tell the results; whether something failed."""
    from signal_diffusion.tasks.evaluation import evaluate as score
    from signal_diffusion.tasks.evaluation_files import failed_lines, model_told, write_evaluation

    with bar("evaluating", quiet=task.quiet) as tell:
        rows = score(
            task.pairs, task.methods, task.metrics, task.output, jobs=task.jobs, progress=tell
        )
    text = write_evaluation(
        task.output, rows, task.pairs, model=ours, metrics=task.metrics, command=command,
        seed=seed, evaluated=model_told(model), jobs=task.jobs,
    )  # fmt: skip
    if task.html is not None:
        _write_report(task.html, task, rows)
    failed = failed_lines(rows)
    if not task.quiet:
        for line in [*text.splitlines(), f"{count(len(task.pairs), 'pair')}: {task.output}"]:
            say(line)
    for line in failed[:MOST_FAILED]:
        say(line, err=True)
    if len(failed) > MOST_FAILED:
        say(f"and {count(len(failed) - MOST_FAILED, 'further failure')}: see files.csv", err=True)
    return bool(failed)


def _require_report(path: Path, folder: Path, methods: Sequence[Method], *, force: bool) -> None:
    from signal_diffusion.tasks.report import require_report

    require_report(path, folder, methods, force=force)


def _write_report(path: Path, task: Task, rows: Sequence[Row]) -> None:
    from signal_diffusion.tasks.report import write_report

    with bar("writing the page", quiet=task.quiet) as tell:
        write_report(
            path, task.output, rows, task.pairs, task.methods, domain=task.domain, progress=tell
        )


def _require_whole(*, seed: int, jobs: int) -> None:
    if seed < 0:
        raise InputError(f"seed is {seed}; it must be 0 or more")
    if jobs < 1:
        raise InputError(f"jobs is {jobs}; it must be 1 or more")
