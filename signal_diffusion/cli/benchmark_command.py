"""`signal-diffusion benchmark`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from signal_diffusion.cli import options as opt
from signal_diffusion.cli.messages import say
from signal_diffusion.cli.options import argument
from signal_diffusion.cli.terminal import bar, interruptible, libraries_silent
from signal_diffusion.errors import InputError, install

MEASURED, TRAINING = "What is measured", "Training"
#: Most threads and network calls, and longest time in seconds.
MOST_THREADS, MOST_CALLS, LONGEST = 1024, 1000, 1e6


def benchmark(
    context: typer.Context,
    model: opt.ModelArgument,
    output: Path = opt.setting(..., "Folder of the report.", "-o", "--output"),
    data: Annotated[
        Path | None,
        argument(
            "Recordings to score: a folder with clean/ and noisy/, or, for a vocoder, of speech.",
            "DATA",
        ),
    ] = None,
    calls: str | None = opt.setting(
        None, "Most network calls (default: 1,2,4,8).", panel=MEASURED, metavar="N,..."
    ),
    samplers: str = opt.setting(
        "all",
        f"Samplers: all, or names among {opt.SAMPLER_NAMES}, or import paths.",
        panel=MEASURED,
        metavar="NAME,...",
    ),
    piece: str | None = opt.setting(
        None,
        "Length of the pieces that are denoised at once (default: by memory).",
        "--piece",
        panel=MEASURED,
        metavar="SECONDS,...",
    ),
    threads: str | None = opt.setting(
        None,
        "Number of torch threads (default: 1, and the number of cores).",
        panel=MEASURED,
        metavar="N,...",
    ),
    seconds: float | None = opt.setting(
        None,
        "Length of the timed signal (default: 480000 samples; for generators their own length).",
        panel=MEASURED,
    ),
    repeats: int | None = opt.setting(
        None, "Number of runs, of which the quickest counts (default: 3).", panel=MEASURED
    ),
    metrics: str | None = opt.setting(
        None,
        "Metrics of `evaluate`: si_sdr, pesq, ... (default: by the model).",
        panel=MEASURED,
        metavar="NAME,...",
    ),
    files: int | None = opt.setting(
        None,
        "Most recordings that are scored; of each the first 30 s count (default: 24).",
        panel=MEASURED,
    ),
    guidance: float = opt.setting(1.5, "Strength of a generator's conditions.", panel=MEASURED),
    noise_std: opt.NoiseStd = None,
    quick: bool = opt.setting(
        False, "Measure 1 and 2 calls, in one run, on 4 files.", "--quick", panel=MEASURED
    ),
    train: str | None = opt.setting(
        None,
        "Time training steps, too: overrides as for `train`, in quotes.",
        panel=TRAINING,
        metavar="'experiment=NAME ...'",
    ),
    train_steps: int = opt.setting(10, "Number of training steps that are timed.", panel=TRAINING),
    resume: bool = opt.setting(False, "Keep what was measured, do the rest.", "--resume"),
    force: opt.Force = False,
    quiet: opt.Quiet = False,
    device: opt.Device = "auto",
) -> None:
    """Measure quality, calls and time of each sampler on this machine: benchmark speech -o OUT."""
    counts = whole_numbers("calls", calls or ("1,2" if quick else "1,2,4,8"), most=MOST_CALLS)
    cores = whole_numbers("threads", threads or f"1,{os.cpu_count() or 1}", most=MOST_THREADS)
    pieces = [None] if piece is None else lengths("piece", piece)
    runs = repeats if repeats is not None else 1 if quick else 3
    most = files if files is not None else 4 if quick else 24
    opt.require_least(1, repeats=runs, files=most, train_steps=train_steps)
    if seconds is not None:
        lengths("seconds", str(seconds))
    if data is None and metrics is not None:
        raise InputError("metrics are for data with the truth: name a folder, or leave them")
    from signal_diffusion.evaluation import benchmark as measure
    from signal_diffusion.evaluation import benchmark_report as report
    from signal_diffusion.evaluation.outputs import make_folder
    from signal_diffusion.samplers import SAMPLERS, sampler_named
    from signal_diffusion.training.experiments import overrides_of, own_experiment

    names = list(SAMPLERS) if samplers == "all" else dict.fromkeys(opt.words(samplers))
    plan = measure.Plan(
        calls=counts,
        samplers=[sampler_named(name) for name in names],
        pieces=pieces,
        threads=cores,
        repeats=runs,
        seconds=seconds,
        guidance=guidance,
        noise_std=noise_std,
    )
    denoiser = opt.loaded(model, device)
    kept = f"what was measured is kept in {output}; --resume does the rest"
    with libraries_silent(), interruptible(kept), bar("measuring", quiet=quiet) as progress:
        chosen = None
        if data is not None:
            wanted = opt.words(metrics) or None
            chosen = measure.data_of(denoiser, data, files=most, metrics=wanted)
        found = measure.benchmark_model(
            denoiser,
            model,
            plan,
            output,
            data=chosen,
            training=overrides_of(train, denoiser.card),
            training_steps=train_steps,
            begin=lambda: make_folder(
                output,
                report.OUTPUTS,
                journals=measure.JOURNALS,
                force=force,
                resume=resume,
            ),
            progress=progress,
        )
        command = opt.command_line(context)
        text = report.write_benchmark(output, found, command=command)
    if quiet:
        return
    for line in text.splitlines():
        say(line)
    experiment = own_experiment(denoiser.card)
    if train is None and experiment is not None:
        words = f"--train 'own data.sources.root=DATA' (experiment={experiment})"
        say(f"note: training was not timed; {words} does")
    if not report.drawable():
        say(f"note: no picture without matplotlib: {install('plot')}")
    say(f"report: {output}")


def whole_numbers(name: str, given: str, *, most: int) -> list[int]:
    """Whole numbers from 1 on with commas between them, in order.

    >>> whole_numbers("calls", "4,1", most=8)
    [1, 4]
    """
    found = [int(word) if word.isdecimal() else 0 for word in opt.words(given)]
    if not found or not all(1 <= number <= most for number in found):
        raise InputError(f"{name} is '{given}'; give whole numbers from 1 to {most}, e.g. 1,2")
    return sorted(set(found))


def lengths(name: str, given: str) -> list[float]:
    """Seconds above 0 with commas between them.

    >>> lengths("piece", "0.5,10")
    [0.5, 10.0]
    """
    try:
        found = [float(word) for word in opt.words(given)]
    except ValueError:
        found = []
    if not found or not all(0 < number <= LONGEST for number in found):
        raise InputError(f"{name} is '{given}'; give seconds above 0, up to {LONGEST:g}, e.g. 10")
    return list(dict.fromkeys(found))
