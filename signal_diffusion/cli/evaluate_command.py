"""`signal-diffusion evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from signal_diffusion.cli import options as opt
from signal_diffusion.cli.messages import count as count_of
from signal_diffusion.cli.messages import say
from signal_diffusion.cli.options import argument
from signal_diffusion.cli.terminal import bar, interruptible, libraries_silent
from signal_diffusion.errors import InputError

#: Most failures that have a line each; files.csv has them all.
MOST_FAILED = 10

DATA, RIVALS = "What to evaluate on", "What to compare with"


def evaluate(
    context: typer.Context,
    model: opt.ModelArgument,
    output: Path = opt.setting(..., "Folder of the results.", "-o", "--output"),
    data: Annotated[
        Path | None,
        argument(
            "Folder with clean/ and noisy/, whose files have the same names; for vocoders and "
            "generators, of recordings.",
            "DATA",
        ),
    ] = None,
    html: Path | None = opt.setting(None, "Write a page to read, see and hear the results."),
    clean: Path | None = opt.setting(
        None, "Folder of clean recordings, instead of DATA.", panel=DATA
    ),
    noisy: Path | None = opt.setting(None, "Folder of noisy recordings, with --clean.", panel=DATA),
    noise: list[Path] | None = opt.setting(
        None, "Folder of noise that --clean is mixed with; repeated.", panel=DATA
    ),
    snr: str | None = opt.setting(
        None, "SNR of mixes in dB, e.g. 0,5,10.", panel=DATA, metavar="DB,..."
    ),
    groups: Path | None = opt.setting(
        None, "CSV with a column file and others, whose values have scores each.", panel=DATA
    ),
    metrics: str | None = opt.setting(
        None,
        "Metrics: pesq, estoi, si_sdr, voice_lost, snr, lsd, stft, dnsmos, prd, cosine, ssd, mad, "
        "kurtosis, envelope (default: by the model).",
        panel=DATA,
        metavar="NAME,...",
    ),
    against: str | None = opt.setting(
        None,
        "Other methods: noisereduce, wavelet, wiener, rnnoise, gtcrn, deepfilternet; bandpass for "
        "ecg; griffin_lim for vocoders.",
        panel=RIVALS,
        metavar="NAME,...",
    ),
    against_command: list[str] | None = opt.setting(
        None,
        "A command that reads {in} and writes {out}: WAV, or tables as they came; repeated.",
        panel=RIVALS,
        metavar="NAME='COMMAND {in} {out}'",
    ),
    against_folder: list[str] | None = opt.setting(
        None,
        "Folder with the estimates of another method, named as the recordings; repeated.",
        panel=RIVALS,
        metavar="NAME=FOLDER",
    ),
    steps: str | None = opt.setting(
        None,
        "Number of network calls; each has a row (default: 1, for generators 16).",
        panel=opt.SAMPLING,
        metavar="N,...",
    ),
    count: int | None = opt.setting(
        None,
        "Number of signals that a generator draws (default: half as many as recordings).",
        panel=opt.SAMPLING,
    ),
    sampler: opt.Sampler = "ddim",
    seed: int = opt.setting(
        0, "Seed of mixes, fresh noise, halves and the bootstrap.", panel=opt.SAMPLING
    ),
    device: opt.Device = "auto",
    jobs: opt.Jobs = 1,
    resume: bool = opt.setting(
        False, "Keep what is scored, do the rest.", "--resume", panel=opt.MANY
    ),
    force: opt.Force = False,
    quiet: opt.Quiet = False,
    noise_std: opt.NoiseStd = None,
    columns: opt.Columns = None,
    skip: opt.Skip = None,
    time: opt.Time = None,
    rate: float | None = opt.setting(
        None, "Sample rate of tables without time stamps.", panel=opt.TABLES, metavar="HZ"
    ),
    delimiter: opt.Delimiter = None,
) -> None:
    """Score a model beside others: evaluate speech DATA -o FOLDER.

    Denoisers need pairs of sounds or tables; the untouched input is scored beside them. Vocoders
    need clean recordings. Generators need real recordings: one half is compared with what they
    draw, and with the other half for scale.
    """
    if force and resume:
        raise InputError("force replaces results and resume keeps them: give one of the two")
    opt.require_least(0, seed=seed)
    opt.require_least(1, jobs=jobs)
    levels, command = opt.levels(snr), opt.command_line(context)
    from signal_diffusion.denoiser import Denoiser
    from signal_diffusion.evaluation import plan
    from signal_diffusion.evaluation.outputs import failed_lines, make_folder
    from signal_diffusion.evaluation.run import ROWS
    from signal_diffusion.tasks.generate import STEPS

    denoiser = Denoiser.from_pretrained(model)
    usual = STEPS if denoiser.kind == "generator" else 1
    calls = opt.counts(steps or str(usual))
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
    make_folder(output, journals=[ROWS], force=force, resume=resume)
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
