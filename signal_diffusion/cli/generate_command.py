"""`signal-diffusion generate` and `signal-diffusion vocode`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from signal_diffusion.cli import options as opt
from signal_diffusion.cli.messages import count as count_of
from signal_diffusion.cli.messages import say, span
from signal_diffusion.cli.terminal import bar, interruptible, libraries_silent
from signal_diffusion.errors import InputError

if TYPE_CHECKING:
    from signal_diffusion.conditions import Condition, Value
    from signal_diffusion.tasks.generate import DrawnReport
    from signal_diffusion.tasks.vocode import VocodedReport

WHAT = "What to draw"
#: Suffixes of the audio files that generated signals are written to.
FORMATS = ("wav", "flac", "ogg", "opus", "mp3")


def generate(
    context: typer.Context,
    model: Annotated[str, opt.argument("Shipped generator, or a model file.", "MODEL")],
    output: Path = opt.setting(
        ..., "Folder, a file for one signal, or an NPZ for all.", "-o", "--output"
    ),
    count: int = opt.setting(
        1, "Number of signals of each combination.", "-n", "--count", panel=WHAT
    ),
    length: float | None = opt.setting(
        None, "Length of a signal (default: the model's).", panel=WHAT, metavar="SECONDS"
    ),
    seed: opt.Seed = 0,
    steps: int = opt.setting(16, "Number of network calls.", panel=opt.SAMPLING),
    sampler: opt.Sampler = "ddim",
    guidance: float = opt.setting(
        1.5, "Weight of the conditions: 1 is the model's own.", panel=opt.SAMPLING
    ),
    format: str = opt.setting("wav", f"Format of the files: {', '.join(FORMATS)}."),
    plot: Path | None = opt.setting(None, "PNG with the spectrograms of the first signals."),
    force: opt.Force = False,
    resume: bool = opt.setting(False, "Keep files that exist.", "--resume"),
    quiet: opt.Quiet = False,
    device: opt.Device = "auto",
) -> None:
    """Draw signals: generate digits --class seven,eight --speaker all -n 3 -o OUT.

    What a model can be asked for are options of its own, --NAME VALUE, with lists (one,two), ranges
    (60..72) or all; `signal-diffusion info MODEL` names them.
    """
    words = condition_words(context.args)
    _require(format=format, count=count, plot=plot)
    from signal_diffusion.samplers import sampler_named
    from signal_diffusion.tasks.generate import Drawing, draw_files

    denoiser = opt.loaded(model, device)
    drawing = Drawing(
        model,
        listed(denoiser.conditions, words),
        count=count,
        seconds=length,
        seed=seed,
        steps=steps,
        sampler=sampler_named(sampler),
        guidance=guidance,
    )
    kept = "what was finished is kept; --resume does the rest"
    with libraries_silent(), interruptible(kept), bar("drawing", quiet=quiet) as progress:
        report = draw_files(
            denoiser,
            drawing,
            output,
            format=format,
            plot=plot,
            force=force,
            resume=resume,
            progress=progress,
        )
    if not quiet:
        say(_line(report))


def _require(*, format: str, count: int, plot: Path | None) -> None:
    if format not in FORMATS:
        raise InputError(f"format is '{format}'; choose one of {', '.join(FORMATS)}")
    if count < 1:
        raise InputError(f"count is {count}; draw one signal or more (-n 1)")
    if plot is not None and plot.suffix.lower() != ".png":
        raise InputError(f"{plot} can't be written: give a name that ends in .png")


def _line(report: DrawnReport) -> str:
    if not report.drawn:
        return f"{report.output}: all {count_of(report.skipped, 'signal')} exist: nothing to do"
    skipped = f", {report.skipped} existed already" if report.skipped else ""
    what = f"{count_of(report.drawn, 'signal')} of {report.seconds:.2f} s"
    return (
        f"{what} -> {report.output} in {span(report.taken)} "
        f"({report.taken / report.drawn:.2f} s each){skipped}"
    )


def condition_words(arguments: Sequence[str]) -> dict[str, str]:
    """Options of the model's own, as they were given.

    >>> condition_words(["--class", "seven", "--pitch=60..62"])
    {'class': 'seven', 'pitch': '60..62'}
    """
    words: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        name, given, value = rest.pop(0).partition("=")
        if not name.startswith("--"):
            raise InputError(f"'{name}' is no option: conditions are given as --NAME VALUE")
        if not given and not rest:
            raise InputError(f"{name} lacks its value: give {name} VALUE")
        words[name[2:]] = value if given else rest.pop(0)
    return words


def listed(conditions: Sequence[Condition], words: Mapping[str, str]) -> dict[str, list[Value]]:
    """The values that are asked for of each condition."""
    named = {condition.name: condition for condition in conditions}
    for name in words:
        if name not in named:
            has = ", ".join(f"--{own}" for own in named) or "no conditions"
            raise InputError(f"there is no option --{name}; this model has {has}")
    return {name: named[name].values(word) for name, word in words.items()}


def vocode(
    source: Annotated[
        Path, opt.argument("Mel spectrogram (.npy, .npz), or speech to compute one of.", "SOURCE")
    ],
    output: Path = opt.setting(..., "Audio file, or .npz for the spectrogram.", "-o", "--output"),
    model: str = opt.setting("vocoder", "Shipped vocoder, or a model file.", panel=opt.SAMPLING),
    steps: int = opt.setting(1, "Number of network calls.", panel=opt.SAMPLING),
    sampler: opt.Sampler = "ddim",
    seed: opt.Seed = 0,
    force: opt.Force = False,
    quiet: opt.Quiet = False,
    device: opt.Device = "auto",
) -> None:
    """Turn a mel spectrogram into speech, or speech into one and back."""
    from signal_diffusion.samplers import sampler_named
    from signal_diffusion.tasks.vocode import vocode_file

    denoiser = opt.loaded(model, device)
    with (
        libraries_silent(),
        interruptible("nothing was written"),
        bar("vocoding", quiet=quiet) as progress,
    ):
        report = vocode_file(
            denoiser,
            source,
            output,
            model=model,
            steps=steps,
            sampler=sampler_named(sampler),
            seed=seed,
            force=force,
            progress=progress,
        )
    if not quiet:
        say(_vocoded_line(report))


def _vocoded_line(report: VocodedReport) -> str:
    factor = report.taken / report.seconds if report.seconds else 0.0
    return (
        f"{report.path} -> {report.output}: {span(report.seconds)} in {span(report.taken)} "
        f"(real-time factor {factor:.4f})"
    )
