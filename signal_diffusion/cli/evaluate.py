"""`signal-diffusion evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from signal_diffusion.cli import evaluated as asked
from signal_diffusion.cli import options as opt
from signal_diffusion.cli.bars import bar
from signal_diffusion.cli.lines import count, say
from signal_diffusion.cli.quiet import libraries_silent
from signal_diffusion.cli.signals import interruptible
from signal_diffusion.errors import InputError

if TYPE_CHECKING:
    from signal_diffusion.tasks.pairs import Pair
    from signal_diffusion.tasks.rivals import Method

DATA, RIVALS = "What to evaluate on", "What to compare with"
#: Failures that are told one by one; files.csv has them all.
MOST_FAILED = 10

Model = Annotated[str, typer.Argument(help="Shipped model, or a model file.", show_default=False)]
Data = Annotated[
    Path | None,
    typer.Argument(help="Folder with clean/ and noisy/, of the same names.", show_default=False),
]
Output = Annotated[
    Path,
    typer.Option("-o", "--output", help="Folder of the results.", rich_help_panel=opt.IO),
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
        help="pesq, estoi, si_sdr, snr, lsd, stft, prd, cosine, dnsmos (default: by the model).",
        metavar="NAME,...", show_default=False, rich_help_panel=DATA,
    ),
]  # fmt: skip
Steps = Annotated[
    str,
    typer.Option(
        help="Network calls; each has a row.", metavar="N,...", rich_help_panel=opt.SAMPLING
    ),
]
Seed = Annotated[
    int,
    typer.Option(help="Of mixes, fresh noise and the bootstrap.", rich_help_panel=opt.SAMPLING),
]
Against = Annotated[
    str | None,
    typer.Option(help="noisereduce, wavelet, wiener.", metavar="NAME,...", rich_help_panel=RIVALS),
]
AgainstCommand = Annotated[
    list[str] | None,
    typer.Option(
        help="A command that reads {in} and writes {out}, WAV files; repeated.",
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
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Go on: keep what is scored.", rich_help_panel=opt.MANY),
]


def evaluate(
    context: typer.Context,
    model: Model,
    output: Output,
    data: Data = None,
    clean: Clean = None,
    noisy: Noisy = None,
    noise: Noise = None,
    snr: Snr = None,
    groups: Groups = None,
    metrics: Metrics = None,
    against: Against = None,
    against_command: AgainstCommand = None,
    against_folder: AgainstFolder = None,
    steps: Steps = "1",
    sampler: opt.Sampler = "ddim",
    seed: Seed = 0,
    device: opt.Device = "auto",
    jobs: opt.Jobs = 1,
    resume: Resume = False,
    force: opt.Force = False,
    quiet: opt.Quiet = False,
) -> None:
    """Score a denoiser of sound beside others: evaluate speech DATA -o FOLDER."""
    if force and resume:
        raise InputError("force replaces results and resume keeps them: give one of the two")
    _require_whole(seed=seed, jobs=jobs)
    calls, levels = asked.counts(steps), asked.levels(snr)
    from signal_diffusion.denoiser import Denoiser
    from signal_diffusion.tasks.evaluation_files import groups_of, make_folder
    from signal_diffusion.tasks.measures import metrics_named
    from signal_diffusion.tasks.rivals import Untouched

    denoiser = Denoiser.from_pretrained(model)
    asked.require_denoiser_of_sound(denoiser, model)
    names = metrics_named(asked.words(metrics), domain=denoiser.domain)
    ours = asked.modelled(model, calls, sampler=sampler, seed=seed, device=device)
    pairs = asked.Sources(data, clean, noisy, noise or (), levels, groups, seed).pairs()
    others = asked.rivals(asked.words(against), against_command or (), against_folder or (), pairs)
    groups_of(pairs, names)
    make_folder(output, force=force, resume=resume)
    task = Task(pairs, [Untouched(), *ours, *others], names, output, jobs, quiet)
    with libraries_silent(), interruptible("what is scored is kept; --resume does the rest"):
        failed = _run(task, model, ours[0].name, command=asked.command_line(context), seed=seed)
    if failed:
        raise typer.Exit(1)


@dataclass(frozen=True)
class Task:
    """What to score, and where."""

    pairs: Sequence[Pair]
    methods: Sequence[Method]
    metrics: Sequence[str]
    output: Path
    jobs: int
    quiet: bool


def _run(task: Task, model: str, ours: str, *, command: str, seed: int) -> bool:
    """Score, write and tell the results; whether something failed."""
    from signal_diffusion.artifact import digest, fingerprint
    from signal_diffusion.tasks.evaluation import evaluate as score
    from signal_diffusion.tasks.evaluation_files import failed_lines, write_evaluation

    with bar("evaluating", quiet=task.quiet) as tell:
        rows = score(
            task.pairs, task.methods, task.metrics, task.output, jobs=task.jobs, progress=tell
        )
    told = {"name": Path(model).name, "sha256_16": digest(model), "fingerprint": fingerprint(model)}
    text = write_evaluation(
        task.output, rows, task.pairs, model=ours, metrics=task.metrics, command=command,
        seed=seed, evaluated=told, jobs=task.jobs,
    )  # fmt: skip
    failed = failed_lines(rows)
    if not task.quiet:
        for line in [*text.splitlines(), f"{count(len(task.pairs), 'pair')}: {task.output}"]:
            say(line)
    for line in failed[:MOST_FAILED]:
        say(line, err=True)
    if len(failed) > MOST_FAILED:
        say(f"and {count(len(failed) - MOST_FAILED, 'further failure')}: see files.csv", err=True)
    return bool(failed)


def _require_whole(*, seed: int, jobs: int) -> None:
    if seed < 0:
        raise InputError(f"seed is {seed}; it must be 0 or more")
    if jobs < 1:
        raise InputError(f"jobs is {jobs}; it must be 1 or more")
