"""`signal-diffusion vocode`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from signal_diffusion.cli import options as opt
from signal_diffusion.cli.messages import say, span
from signal_diffusion.cli.terminal import bar, interruptible, libraries_silent

if TYPE_CHECKING:
    from signal_diffusion.tasks.vocode import VocodedReport

Source = Annotated[
    Path,
    opt.argument("Mel spectrogram (.npy, .npz), or speech to compute one of.", "SOURCE"),
]
Output = Annotated[
    Path,
    opt.option("Audio file, or .npz for the spectrogram.", "-o", "--output", panel=opt.IO),
]
Model = Annotated[str, opt.option("Shipped vocoder, or a model file.", panel=opt.SAMPLING)]
Steps = Annotated[int, opt.option("Number of network calls.", panel=opt.SAMPLING)]


def vocode(
    source: Source,
    output: Output,
    model: Model = "vocoder",
    steps: Steps = 1,
    sampler: opt.Sampler = "ddim",
    seed: opt.Seed = 0,
    force: opt.Force = False,
    quiet: opt.Quiet = False,
    device: opt.Device = "auto",
) -> None:
    """Turn a mel spectrogram into speech, or speech into one and back."""
    from signal_diffusion.denoiser import Denoiser
    from signal_diffusion.samplers import sampler_named
    from signal_diffusion.streaming.settings import device_named
    from signal_diffusion.tasks.vocode import vocode_file

    denoiser = Denoiser.from_pretrained(model).to(device_named(device))
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
        say(_line(report))


def _line(report: VocodedReport) -> str:
    factor = report.taken / report.seconds if report.seconds else 0.0
    return (
        f"{report.path} -> {report.output}: {span(report.seconds)} in {span(report.taken)} "
        f"(real-time factor {factor:.4f})"
    )
