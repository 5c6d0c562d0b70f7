"""`signal-diffusion denoise`."""

from __future__ import annotations

from signal_diffusion.cli import options as opt
from signal_diffusion.cli.request import (
    PIPE,
    Request,
    default_output,
    require_fitting,
    sound_of,
    strength_of,
)
from signal_diffusion.cli.terminal import interruptible, libraries_silent


def denoise(
    inputs: opt.Inputs,
    output: opt.Output = None,
    force: opt.Force = False,
    channels: opt.Channels = None,
    rate: opt.Rate = None,
    format: opt.Format = None,
    keep_noise: opt.KeepNoise = None,
    plot: opt.Plot = None,
    window: opt.Window = None,
    uncertainty: opt.Uncertainty = None,
    quiet: opt.Quiet = False,
    strength: opt.Strength = None,
    max_attenuation: opt.MaxAttenuation = None,
    band: opt.Band = "full",
    level: opt.Level = None,
    model: opt.Model = "speech",
    steps: opt.Steps = None,
    sampler: opt.Sampler = "ddim",
    shots: opt.Shots = 1,
    seed: opt.Seed = 0,
    noise_std: opt.NoiseStd = None,
    device: opt.Device = "auto",
    piece: opt.Piece = None,
    jobs: opt.Jobs = 1,
    resume: opt.Resume = False,
    report: opt.Report = None,
    dry_run: opt.DryRun = False,
    columns: opt.Columns = None,
    skip: opt.Skip = None,
    time: opt.Time = None,
    delimiter: opt.Delimiter = None,
) -> None:
    """Clean noisy recordings, keeping their rate, channels, length and sample format."""
    from signal_diffusion.plots.window import window_of
    from signal_diffusion.samplers import sampler_named
    from signal_diffusion.streaming.settings import Settings
    from signal_diffusion.tables.columns import Columns

    raw = format is not None or PIPE in inputs
    request = Request(
        inputs=tuple(inputs),
        output=default_output(inputs) if output is None else output,
        model=model,
        device=device,
        settings=Settings(
            steps=steps,
            sampler=sampler_named(sampler),
            seed=seed,
            noise_std=noise_std,
            shots=shots,
            band=band,
            strength=strength_of(strength, max_attenuation),
            level=level,
            piece=piece,
        ),
        sound=sound_of(channels or (), rate if raw else None, format),
        columns=Columns(
            rate=None if raw else rate,
            channels=opt.names(columns) or None,
            time=time,
            delimiter=delimiter,
            skip=opt.names(skip),
        ),
        keep_noise=keep_noise,
        plot=plot,
        window=None if window is None else window_of(window),
        uncertainty=uncertainty,
        report=report,
        jobs=jobs,
        force=force,
        resume=resume,
        dry_run=dry_run,
        quiet=quiet,
    )
    require_fitting(request)
    from signal_diffusion.cli import denoise_run

    with libraries_silent(), interruptible(_kept(request)):
        if request.piped:
            denoise_run.denoise_piped(request)
        else:
            denoise_run.denoise_files(request)


def _kept(request: Request) -> str:
    """What an interrupted run leaves."""
    from signal_diffusion.tasks.inputs import single

    if request.output == PIPE:
        return "standard output holds a part of the recording"
    if request.piped or single(request.inputs):
        return "nothing was written"
    return "what was finished is kept; --resume does the rest"
