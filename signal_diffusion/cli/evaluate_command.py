"""`signal-diffusion evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from signal_diffusion.cli import options as opt
from signal_diffusion.cli import parsing
from signal_diffusion.cli.messages import count, say
from signal_diffusion.cli.terminal import bar, interruptible, libraries_silent
from signal_diffusion.errors import InputError

if TYPE_CHECKING:
    from signal_diffusion.denoiser import NetworkDenoiser
    from signal_diffusion.evaluation import plan
    from signal_diffusion.evaluation.methods import Method
    from signal_diffusion.evaluation.pairs import Pair
    from signal_diffusion.evaluation.run import Row


#: Failures that are told one by one; files.csv has them all.
MOST_FAILED = 10


def evaluate(
    context: typer.Context,
    model: Model,
    output: Output,
    data: Data = None,
    html: Html = None,
    clean: Clean = None,
    noisy: Noisy = None,
    noise: Noise = None,
    snr: Snr = None,
    groups: Groups = None,
    metrics: Metrics = None,
    against: Against = None,
    against_command: AgainstCommand = None,
    against_folder: AgainstFolder = None,
    steps: Steps = None,
    count: Count = None,
    sampler: opt.Sampler = "ddim",
    seed: Seed = 0,
    device: opt.Device = "auto",
    jobs: opt.Jobs = 1,
    resume: Resume = False,
    force: opt.Force = False,
    quiet: opt.Quiet = False,
    noise_std: opt.NoiseStd = None,
    columns: opt.Columns = None,
    skip: opt.Skip = None,
    time: opt.Time = None,
    rate: Rate = None,
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
    levels, command = parsing.levels(snr), parsing.command_line(context)
    from signal_diffusion.denoiser import Denoiser
    from signal_diffusion.evaluation import plan
    from signal_diffusion.evaluation.outputs import groups_of, make_folder
    from signal_diffusion.tables.columns import Columns

    denoiser = Denoiser.from_pretrained(model)
    calls = parsing.counts(steps or plan.usual_steps(denoiser))
    table = Columns(rate, parsing.names(columns) or None, time, delimiter, parsing.names(skip))
    alone = plan.rate_of_originals(denoiser)
    sources = plan.Sources(
        data, clean, noisy, noise or (), levels, groups, seed, table, alone
    )  # fmt: skip
    pairs = sources.pairs()
    if denoiser.length is not None:
        plan.require_unused({
            "metrics": metrics, "against": against, "against-command": against_command,
            "against-folder": against_folder, "html": html, "resume": resume,
            "noise-std": noise_std,
        })  # fmt: skip
        how = plan.Drawing(model, calls, sampler, device, seed, count, output, quiet, command)
        return _draw(denoiser, pairs, how, force=force)
    if count is not None:
        raise InputError(f"count is {count}, but only generators draw: leave it")
    ours = plan.modelled(
        denoiser, model, calls, sampler=sampler, seed=seed, noise_std=noise_std, device=device
    )
    readings = plan.takes_readings(denoiser, model, pairs)
    names = plan.metrics_of(denoiser, parsing.words(metrics), readings=readings)
    rivals = plan.Rivals(parsing.words(against), against_command or (), against_folder or ())
    others = rivals.methods(denoiser, pairs, readings=readings)
    groups_of(pairs, names)
    methods = [*plan.untouched(denoiser), *ours, *others]
    if html is not None:
        _require_report(html, output, methods, force=force or resume)
    make_folder(output, force=force, resume=resume)
    task = Task(pairs, methods, names, output, jobs, quiet, html, denoiser.domain)
    with libraries_silent(), interruptible("what is scored is kept; --resume does the rest"):
        failed = _run(task, model, ours[0].name, command=command, seed=seed)
    if failed:
        raise typer.Exit(1)


def _draw(
    denoiser: NetworkDenoiser, pairs: Sequence[Pair], how: plan.Drawing, *, force: bool
) -> None:
    from signal_diffusion.cli.evaluate_generators import evaluate_generator

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
    from signal_diffusion.evaluation.outputs import failed_lines, model_told, write_evaluation
    from signal_diffusion.evaluation.run import evaluate as score

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
    from signal_diffusion.report.page import require_report

    require_report(path, folder, methods, force=force)


def _write_report(path: Path, task: Task, rows: Sequence[Row]) -> None:
    from signal_diffusion.report.page import write_report

    with bar("writing the page", quiet=task.quiet) as tell:
        write_report(
            path, task.output, rows, task.pairs, task.methods, domain=task.domain, progress=tell
        )


def _require_whole(*, seed: int, jobs: int) -> None:
    if seed < 0:
        raise InputError(f"seed is {seed}; it must be 0 or more")
    if jobs < 1:
        raise InputError(f"jobs is {jobs}; it must be 1 or more")


DATA, RIVALS = "What to evaluate on", "What to compare with"


Model = Annotated[str, typer.Argument(help="Shipped model, or a model file.", show_default=False)]


Data = Annotated[
    Path | None,
    typer.Argument(
        help="Folder with clean/ and noisy/, of the same names; for others, of recordings.",
        show_default=False,
    ),
]


Output = Annotated[
    Path,
    typer.Option("-o", "--output", help="Folder of the results.", rich_help_panel=opt.IO),
]


Html = Annotated[
    Path | None,
    typer.Option(help="One page to read, see and hear the results.", rich_help_panel=opt.IO),
]


Clean = Annotated[
    Path | None,
    typer.Option(help="Instead of DATA: folder of clean recordings.", rich_help_panel=DATA),
]


Noisy = Annotated[Path | None, typer.Option(help="And of noisy ones.", rich_help_panel=DATA)]


Noise = Annotated[
    list[Path] | None,
    typer.Option(
        help="Or of noise, to be mixed with; repeated.", show_default=False, rich_help_panel=DATA
    ),
]


Snr = Annotated[
    str | None,
    typer.Option(help="Of mixes, in dB, e.g. 0,5,10.", metavar="DB,...", rich_help_panel=DATA),
]


Groups = Annotated[
    Path | None,
    typer.Option(help="CSV with a column file and others, to score by each.", rich_help_panel=DATA),
]


Metrics = Annotated[
    str | None,
    typer.Option(
        help="pesq, estoi, si_sdr, snr, lsd, stft, dnsmos, prd, cosine, ssd, mad, kurtosis, "
        "envelope (default: by the model).",
        metavar="NAME,...", show_default=False, rich_help_panel=DATA,
    ),
]  # fmt: skip


Steps = Annotated[
    str | None,
    typer.Option(
        help="Network calls; each has a row (default: 1, of generators 16).", metavar="N,...",
        show_default=False, rich_help_panel=opt.SAMPLING,
    ),
]  # fmt: skip


Count = Annotated[
    int | None,
    typer.Option(
        help="Of generators: signals that are drawn (default: half as many as recordings).",
        show_default=False, rich_help_panel=opt.SAMPLING,
    ),
]  # fmt: skip


Seed = Annotated[
    int,
    typer.Option(
        help="Of mixes, fresh noise, halves and the bootstrap.", rich_help_panel=opt.SAMPLING
    ),
]


Against = Annotated[
    str | None,
    typer.Option(
        help="noisereduce, wavelet, wiener, rnnoise, deepfilternet; bandpass for ecg; "
        "griffin_lim for vocoders.", metavar="NAME,...", rich_help_panel=RIVALS,
    ),
]  # fmt: skip


AgainstCommand = Annotated[
    list[str] | None,
    typer.Option(
        help="A command that reads {in} and writes {out}: WAV, or tables as they came; repeated.",
        metavar="NAME='COMMAND {in} {out}'", show_default=False, rich_help_panel=RIVALS,
    ),
]  # fmt: skip


AgainstFolder = Annotated[
    list[str] | None,
    typer.Option(
        help="What another method made, named as the recordings; repeated.",
        metavar="NAME=FOLDER", show_default=False, rich_help_panel=RIVALS,
    ),
]  # fmt: skip


Rate = Annotated[
    float | None,
    typer.Option(help="Of tables without time stamps.", metavar="HZ", rich_help_panel=opt.TABLES),
]


Resume = Annotated[
    bool,
    typer.Option("--resume", help="Go on: keep what is scored.", rich_help_panel=opt.MANY),
]
