"""`signal-diffusion evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from signal_diffusion.cli import options as opt
from signal_diffusion.cli.messages import count as count_of
from signal_diffusion.cli.messages import say
from signal_diffusion.cli.options import argument, option
from signal_diffusion.cli.terminal import bar, interruptible, libraries_silent
from signal_diffusion.errors import InputError

#: Most failures that have a line each; files.csv has them all.
MOST_FAILED = 10

DATA, RIVALS = "What to evaluate on", "What to compare with"

Model = Annotated[str, argument("Name of a shipped model, or a model file.", "MODEL")]
Data = Annotated[
    Path | None,
    argument(
        "Folder with clean/ and noisy/, whose files have the same names; for vocoders and "
        "generators, of recordings.",
        "DATA",
    ),
]
Output = Annotated[Path, option("Folder of the results.", "-o", "--output", panel=opt.IO)]
Html = Annotated[
    Path | None, option("Write a page to read, see and hear the results.", panel=opt.IO)
]
Clean = Annotated[Path | None, option("Folder of clean recordings, instead of DATA.", panel=DATA)]
Noisy = Annotated[Path | None, option("Folder of noisy recordings, with --clean.", panel=DATA)]
Noise = Annotated[
    list[Path] | None,
    option("Folder of noise that --clean is mixed with; repeated.", panel=DATA),
]
Snr = Annotated[
    str | None, option("SNR of mixes in dB, e.g. 0,5,10.", panel=DATA, metavar="DB,...")
]
Groups = Annotated[
    Path | None,
    option("CSV with a column file and others, whose values have scores each.", panel=DATA),
]
Metrics = Annotated[
    str | None,
    option(
        "Metrics: pesq, estoi, si_sdr, snr, lsd, stft, dnsmos, prd, cosine, ssd, mad, kurtosis, "
        "envelope (default: by the model).",
        panel=DATA,
        metavar="NAME,...",
    ),
]
Steps = Annotated[
    str | None,
    option(
        "Number of network calls; each has a row (default: 1, for generators 16).",
        panel=opt.SAMPLING,
        metavar="N,...",
    ),
]
Count = Annotated[
    int | None,
    option(
        "Number of signals that a generator draws (default: half as many as recordings).",
        panel=opt.SAMPLING,
    ),
]
Seed = Annotated[
    int, option("Seed of mixes, fresh noise, halves and the bootstrap.", panel=opt.SAMPLING)
]
Against = Annotated[
    str | None,
    option(
        "Other methods: noisereduce, wavelet, wiener, rnnoise, deepfilternet; bandpass for ecg; "
        "griffin_lim for vocoders.",
        panel=RIVALS,
        metavar="NAME,...",
    ),
]
AgainstCommand = Annotated[
    list[str] | None,
    option(
        "A command that reads {in} and writes {out}: WAV, or tables as they came; repeated.",
        panel=RIVALS,
        metavar="NAME='COMMAND {in} {out}'",
    ),
]
AgainstFolder = Annotated[
    list[str] | None,
    option(
        "Folder with the estimates of another method, named as the recordings; repeated.",
        panel=RIVALS,
        metavar="NAME=FOLDER",
    ),
]
Rate = Annotated[
    float | None,
    option("Sample rate of tables without time stamps.", panel=opt.TABLES, metavar="HZ"),
]
Resume = Annotated[bool, option("Keep what is scored, do the rest.", "--resume", panel=opt.MANY)]


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
    opt.require_least(0, seed=seed)
    opt.require_least(1, jobs=jobs)
    levels, command = opt.levels(snr), opt.command_line(context)
    from signal_diffusion.denoiser import Denoiser
    from signal_diffusion.evaluation import plan
    from signal_diffusion.evaluation.outputs import failed_lines, make_folder

    denoiser = Denoiser.from_pretrained(model)
    calls = opt.counts(steps or plan.usual_steps(denoiser))
    sources = plan.Sources(
        data=data,
        clean=clean,
        noisy=noisy,
        noise=noise or (),
        snr=levels,
        groups=groups,
        seed=seed,
        columns=opt.table_columns(rate, columns, time, delimiter, skip),
        alone=plan.rate_of_originals(denoiser),
    )
    pairs = sources.pairs()
    ours = plan.modelled(
        denoiser, model, calls, sampler=sampler, seed=seed, noise_std=noise_std, device=device
    )
    if denoiser.kind == "generator":
        plan.require_unused(
            {
                "metrics": metrics,
                "against": against,
                "against-command": against_command,
                "against-folder": against_folder,
                "html": html,
                "resume": resume,
                "noise-std": noise_std,
            }
        )
        from signal_diffusion.evaluation.generators import evaluate_generator

        kept = "nothing was written"
        with libraries_silent(), interruptible(kept), bar("drawing", quiet=quiet) as progress:
            text = evaluate_generator(
                denoiser.to(ours[0].device),
                model,
                pairs,
                ours,
                output,
                count=count,
                seed=seed,
                force=force,
                command=command,
                progress=progress,
            )
        _print(text, f"{count_of(len(pairs), 'recording')}: {output}", quiet=quiet)
        return
    if count is not None:
        raise InputError(f"count is {count}, but only generators draw: leave it")
    rivals = plan.Rivals(opt.words(against), against_command or (), against_folder or ())
    task = plan.Evaluation.of(denoiser, ours, pairs, rivals, metrics=opt.words(metrics))
    if html is not None:
        from signal_diffusion.report.page import require_report, write_report

        require_report(html, output, task.methods, force=force or resume)
    make_folder(output, force=force, resume=resume)
    with libraries_silent(), interruptible("what is scored is kept; --resume does the rest"):
        with bar("evaluating", quiet=quiet) as progress:
            rows, text = task.run(output, jobs=jobs, seed=seed, command=command, progress=progress)
        if html is not None:
            with bar("writing the page", quiet=quiet) as progress:
                write_report(
                    html,
                    output,
                    rows,
                    task.pairs,
                    task.methods,
                    domain=task.domain,
                    progress=progress,
                )
        failed = failed_lines(rows)
        _print(text, f"{count_of(len(pairs), 'pair')}: {output}", quiet=quiet)
        for line in failed[:MOST_FAILED]:
            say(line, err=True)
        if more := len(failed) - min(MOST_FAILED, len(failed)):
            say(f"and {count_of(more, 'further failure')}: see files.csv", err=True)
    if failed:
        raise typer.Exit(1)


def _print(text: str, last: str, *, quiet: bool) -> None:
    for line in [] if quiet else [*text.splitlines(), last]:
        say(line)
