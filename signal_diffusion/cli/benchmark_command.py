"""`signal-diffusion benchmark`."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from signal_diffusion.cli import options as opt
from signal_diffusion.cli.messages import say
from signal_diffusion.cli.parsing import words
from signal_diffusion.cli.terminal import bar, interruptible, libraries_silent
from signal_diffusion.errors import InputError

if TYPE_CHECKING:
    from signal_diffusion.evaluation.benchmark import Plan

WHAT, TRAINING = "What is measured", "Training"
#: Threads that may be asked for.
MOST_THREADS = 1024
#: Calls that may be, and seconds.
MOST_CALLS, LONGEST = 1000, 1e6

Model = Annotated[str, typer.Argument(help="Shipped model, or a model file.", show_default=False)]
Data = Annotated[
    Path | None,
    typer.Argument(
        help="To score on: folder with clean/ and noisy/; of a vocoder, of speech.",
        show_default=False,
    ),
]
Output = Annotated[
    Path, typer.Option("-o", "--output", help="Folder of the report.", rich_help_panel=opt.IO)
]
Calls = Annotated[
    str | None,
    typer.Option(
        help="Of the network, at most (default: 1,2,4,8).", metavar="N,...", show_default=False,
        rich_help_panel=WHAT,
    ),
]  # fmt: skip
Samplers = Annotated[
    str,
    typer.Option(
        "--samplers", help=f"all, or of {opt.SAMPLER_NAMES}; import paths, too.",
        metavar="NAME,...", rich_help_panel=WHAT,
    ),
]  # fmt: skip
Pieces = Annotated[
    str | None,
    typer.Option(
        "--piece", help="Denoised at once (default: what memory is meant for).",
        metavar="SECONDS,...", show_default=False, rich_help_panel=WHAT,
    ),
]  # fmt: skip
Threads = Annotated[
    str | None,
    typer.Option(
        help="Of torch (default: 1, and one for each core).", metavar="N,...", show_default=False,
        rich_help_panel=WHAT,
    ),
]  # fmt: skip
Seconds = Annotated[
    float | None,
    typer.Option(
        help="Of the signal that is timed (default: 480000 samples; of generators, theirs).",
        show_default=False, rich_help_panel=WHAT,
    ),
]  # fmt: skip
Repeats = Annotated[
    int | None,
    typer.Option(
        help="Runs of which the quickest counts (default: 3).", show_default=False,
        rich_help_panel=WHAT,
    ),
]  # fmt: skip
Metrics = Annotated[
    str | None,
    typer.Option(
        help="As of `evaluate`: si_sdr, pesq, ... (default: what suits the model).",
        metavar="NAME,...", show_default=False, rich_help_panel=WHAT,
    ),
]  # fmt: skip
Files = Annotated[
    int | None,
    typer.Option(
        help="Recordings to score on, at most; 30 s of each count (default: 24).",
        show_default=False, rich_help_panel=WHAT,
    ),
]  # fmt: skip
Guidance = Annotated[
    float, typer.Option(help="Pull of a generator's conditions.", rich_help_panel=WHAT)
]
Quick = Annotated[
    bool,
    typer.Option("--quick", help="1 and 2 calls, one run, 4 files.", rich_help_panel=WHAT),
]
Train = Annotated[
    str | None,
    typer.Option(
        help="Time training steps, too: overrides as for `train`, in quotes.",
        metavar="'experiment=NAME ...'", show_default=False, rich_help_panel=TRAINING,
    ),
]  # fmt: skip
TrainSteps = Annotated[
    int, typer.Option(help="Training steps that are timed.", rich_help_panel=TRAINING)
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Go on: keep what was measured.", rich_help_panel=opt.IO),
]


def benchmark(
    model: Model,
    output: Output,
    data: Data = None,
    calls: Calls = None,
    samplers: Samplers = "all",
    piece: Pieces = None,
    threads: Threads = None,
    seconds: Seconds = None,
    repeats: Repeats = None,
    metrics: Metrics = None,
    files: Files = None,
    guidance: Guidance = 1.5,
    noise_std: opt.NoiseStd = None,
    quick: Quick = False,
    train: Train = None,
    train_steps: TrainSteps = 10,
    resume: Resume = False,
    force: opt.Force = False,
    quiet: opt.Quiet = False,
    device: opt.Device = "auto",
) -> None:
    """Measure quality, calls and time of each sampler on this machine: benchmark speech -o OUT."""
    given = {
        "calls": calls, "samplers": None if samplers == "all" else samplers, "piece": piece,
        "threads": threads, "seconds": seconds, "repeats": repeats, "metrics": metrics,
        "files": files, "guidance": None if guidance == 1.5 else guidance, "noise-std": noise_std,
        "train": train, "train-steps": train_steps if train is not None else None,
    }  # fmt: skip
    plan = _plan(
        calls or ("1,2" if quick else "1,2,4,8"), samplers, piece, threads or _cores(),
        repeats if repeats is not None else 1 if quick else 3, seconds, guidance, noise_std,
    )  # fmt: skip
    most = at_least_one("files", files if files is not None else 4 if quick else 24)
    at_least_one("train-steps", train_steps)
    from signal_diffusion.denoiser import Denoiser
    from signal_diffusion.evaluation.benchmark_report import begin, benchmark_model
    from signal_diffusion.streaming.settings import device_named

    denoiser = Denoiser.from_pretrained(model).to(device_named(device))
    kept = f"what was measured is kept in {output}; --resume does the rest"
    with libraries_silent(), interruptible(kept), bar("measuring", quiet=quiet) as tell:
        report = benchmark_model(
            denoiser, model, plan, data=data, files=most, metrics=words(metrics) or None,
            training=train, training_steps=train_steps,
            begin=lambda: begin(output, force=force, resume=resume),
            tell=tell,
        )  # fmt: skip
        text = report.write(output, _command(model, data, output, given, quick=quick))
    if not quiet:
        for line in [*text.splitlines(), *report.notes, f"report: {output}"]:
            say(line)


def _plan(
    calls: str, samplers: str, piece: str | None, threads: str, repeats: int,
    seconds: float | None, guidance: float, noise_std: float | None,
) -> Plan:  # fmt: skip
    """What is to be measured, once it is known to make sense."""
    counts = whole_numbers("calls", calls, most=MOST_CALLS)
    many = whole_numbers("threads", threads, most=MOST_THREADS)
    pieces = [None] if piece is None else lengths("piece", piece)
    at_least_one("repeats", repeats)
    if seconds is not None:
        lengths("seconds", str(seconds))
    from signal_diffusion.evaluation.benchmark import Plan
    from signal_diffusion.samplers import SAMPLERS, sampler_named

    names = list(SAMPLERS) if samplers == "all" else words(samplers)

    chosen = [sampler_named(name) for name in dict.fromkeys(names)]
    return Plan(counts, chosen, pieces, many, repeats, seconds, guidance, noise_std)


def whole_numbers(name: str, given: str, *, most: int) -> list[int]:
    """Whole numbers from 1 on with commas between them, in order.

    >>> whole_numbers("calls", "4,1", most=8)
    [1, 4]
    """
    found = [int(word) if word.isdecimal() else 0 for word in words(given)]
    if not found or not all(1 <= number <= most for number in found):
        raise InputError(f"{name} is '{given}'; give whole numbers from 1 to {most}, e.g. 1,2")
    return sorted(set(found))


def lengths(name: str, given: str) -> list[float]:
    """Seconds above 0 with commas between them.

    >>> lengths("piece", "0.5,10")
    [0.5, 10.0]
    """
    try:
        found = [float(word) for word in words(given)]
    except ValueError:
        found = []
    if not found or not all(0 < number <= LONGEST for number in found):
        raise InputError(f"{name} is '{given}'; give seconds above 0, up to {LONGEST:g}, e.g. 10")
    return list(dict.fromkeys(found))


def at_least_one(name: str, number: int) -> int:
    """A number, once it is known to be 1 or more."""
    if number < 1:
        raise InputError(f"{name} is {number}; give 1 or more")
    return number


def _cores() -> str:
    """One thread, and one for each core."""
    return f"1,{os.cpu_count() or 1}"


def _command(
    model: str, data: Path | None, output: Path, given: dict[str, Any], *, quick: bool
) -> str:
    """The command that measures the same."""
    line = ["signal-diffusion", "benchmark", model, *([] if data is None else [str(data)])]
    for name, value in given.items():
        line += [] if value is None else [f"--{name}", str(value)]
    return shlex.join([*line, *(["--quick"] if quick else []), "-o", str(output)])
