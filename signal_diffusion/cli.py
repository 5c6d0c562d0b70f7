"""The `signal-diffusion` command. Heavy imports stay inside the commands, so that help is quick."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from signal_diffusion.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from signal_diffusion.denoiser import NetworkDenoiser
    from signal_diffusion.recordings import Recording

SAMPLERS = ("ddim", "ddpm", "heun", "dpmpp_2m", "few_step")
AUDIO_DOMAINS = ("speech", "music", "audio")

app = typer.Typer(
    name="signal-diffusion",
    help="Diffusion models for 1-D signals: clean recordings, train your own models.",
    epilog="--traceback, anywhere on the line, shows where an error came from.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def denoise(
    noisy: Annotated[Path, typer.Argument(help="Recording to clean.", show_default=False)],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="File to write; its suffix is the format."),
    ],
    model: Annotated[str, typer.Option(help="Shipped model's name, or a model file.")] = "speech",
    steps: Annotated[int, typer.Option(help="Network calls: 1 is the mean, more add detail.")] = 1,
    sampler: Annotated[
        str, typer.Option(help=f"{', '.join(SAMPLERS)}, or an import path.")
    ] = "ddim",
    seed: Annotated[int, typer.Option(help="Seed of the fresh noise.")] = 0,
    noise_std: Annotated[
        float | None,
        typer.Option(help="Deviation of the noise, for models of processes without a recording."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace an existing output.")] = False,
) -> None:
    """Clean one noisy recording, keeping its rate, channels, length and sample format."""
    from signal_diffusion import recordings

    recording = recordings.read(noisy)
    _require_other_file(noisy, output)
    recordings.check_output(output, recording, force=force)
    denoiser = _denoiser(model, device)
    _require_audio(denoiser, model, noisy)
    began = time.perf_counter()
    options = {"steps": steps, "sampler": _sampler(sampler), "seed": seed, "noise_std": noise_std}
    cleaned = _cleaned(denoiser, recording, options)
    taken = time.perf_counter() - began
    recordings.write(output, cleaned, force=force)
    typer.echo(_model_line(model, denoiser, recording, steps, sampler))
    typer.echo(
        f"{output}: {recording.duration:.2f} s at {recording.sample_rate} Hz, "
        f"{_count(len(recording.samples), 'channel')}, cleaned in {taken:.2f} s "
        f"(real-time factor {taken / recording.duration:.4f})"
    )


@app.command(context_settings={"ignore_unknown_options": True})
def train(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Hydra overrides, e.g. experiment=speech_denoise trainer.max_time=..."),
    ] = None,
) -> None:
    """Train a model from a configuration and overrides of it."""
    # Hydra prints errors and exits by itself unless it is asked for all of them.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    from hydra.errors import ConfigCompositionException, OverrideParseException
    from omegaconf.errors import MissingMandatoryValue

    from signal_diffusion.runs import run

    try:
        run(overrides or [])
    except MissingMandatoryValue as error:
        raise InputError(f"{error.full_key} is missing: add {error.full_key}=...") from error
    except (ConfigCompositionException, OverrideParseException) as error:
        raise InputError(str(error)) from error


@app.command()
def info(
    model: Annotated[
        str | None, typer.Argument(help="Shipped model's name, or a model file; none: list them.")
    ] = None,
) -> None:
    """Tell what a model file holds, or list the shipped models."""
    from signal_diffusion.facts import model_facts, shipped_models

    rows = shipped_models() if model is None else model_facts(model)
    typer.echo("\n".join(_columns(rows)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; mistakes end in one line and exit code 2, failures in one line and 1."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app([word for word in given if word != "--traceback"], prog_name="signal-diffusion")
    except Exception as error:
        if "--traceback" in given:
            traceback.print_exc()
        _stop(error)


def _stop(error: Exception) -> NoReturn:
    mistake = _mistake(error)
    if mistake is not None:
        typer.echo(f"error: {_line(mistake)}", err=True)
        raise SystemExit(2)
    name = type(error).__name__
    typer.echo(f"error: {name}: {_line(error)} (--traceback shows where)", err=True)
    raise SystemExit(1)


def _mistake(error: BaseException | None) -> InputError | None:
    """The `InputError` behind an error: what builds objects from a configuration wraps it."""
    while error is not None and not isinstance(error, InputError):
        error = error.__cause__
    return error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:500]


def _require_other_file(noisy: Path, output: Path) -> None:
    if output.exists() and output.samefile(noisy):
        raise InputError(f"the output {output} is the input itself: give it another name")


def _require_audio(denoiser: NetworkDenoiser, model: str, noisy: Path) -> None:
    if denoiser.domain not in (None, *AUDIO_DOMAINS):
        raise InputError(
            f"model '{model}' is for {denoiser.domain} signals at {denoiser.sample_rate} Hz, but "
            f"{noisy} is audio: use a model of {', '.join(AUDIO_DOMAINS)}, e.g. --model speech"
        )


def _denoiser(model: str, device: str) -> NetworkDenoiser:
    from signal_diffusion.denoiser import Denoiser

    chosen = _device(device)
    return Denoiser.from_pretrained(model).to(chosen)


def _device(name: str) -> str:
    import torch

    here = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    available = [device for device, there in here.items() if there]
    if name == "auto":
        return available[0]
    if name not in available:
        raise InputError(f"device is '{name}'; this machine has: auto, {', '.join(available)}")
    return name


def _sampler(name: str) -> Callable[..., Tensor]:
    from importlib import import_module

    module, _, function = name.rpartition(".")
    if not module and name not in SAMPLERS:
        allowed = f"{', '.join(SAMPLERS)}, or the path of your own: package.module.function"
        raise InputError(f"sampler is '{name}'; choose one of {allowed}")
    try:
        home = import_module(module or "signal_diffusion.samplers")
        found: Callable[..., Tensor] = getattr(home, function)
    except (ImportError, AttributeError) as error:
        raise InputError(f"sampler is '{name}', which can't be imported: {error}") from error
    return found


def _cleaned(denoiser: NetworkDenoiser, recording: Recording, options: dict[str, Any]) -> Recording:
    from dataclasses import replace

    from signal_diffusion.tasks.denoise import denoise as denoise_samples

    with _progress_bar("denoising") as progress:
        samples = denoise_samples(
            denoiser,
            recording.samples,
            sample_rate=recording.sample_rate,
            progress=progress,
            **options,
        )
    return replace(recording, samples=samples)


@contextmanager
def _progress_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    from rich.console import Console
    from rich.progress import Progress

    hidden = not sys.stderr.isatty()
    with Progress(console=Console(stderr=True), transient=True, disable=hidden) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _model_line(
    model: str, denoiser: NetworkDenoiser, recording: Recording, steps: int, sampler: str
) -> str:
    rate = denoiser.sample_rate
    line = f"model {model}: {rate or 'any'} Hz, {_count(steps, 'step')} of {sampler}"
    if rate is not None and rate < recording.sample_rate:
        line += f"; nothing above its {rate // 2} Hz is kept"
    return line


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = [[cell.ljust(w) for cell, w in zip(row, widths, strict=True)] for row in rows]
    return ["  ".join(row).rstrip() for row in padded]
