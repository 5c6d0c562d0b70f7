"""`signal-diffusion denoise`."""

from __future__ import annotations

from signal_diffusion.cli import options as opt
from signal_diffusion.cli.parsing import names
from signal_diffusion.cli.request import (
    PIPE,
    How,
    Where,
    require_fitting,
    sound_asked,
    strength_asked,
)
from signal_diffusion.cli.terminal import interruptible, libraries_silent


def denoise(
    inputs: opt.Inputs,
    output: opt.Output,
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
    from signal_diffusion.tables.columns import Columns

    raw = format is not None or "-" in inputs
    table = Columns(
        None if raw else rate, names(columns) or None, time, delimiter, names(skip)
    )  # fmt: skip
    how = How(
        model, device, steps, sampler, seed, noise_std, shots, band,
        strength_asked(strength, max_attenuation), level, piece,
    )  # fmt: skip
    where = Where(
        tuple(inputs), output, sound_asked(channels or (), rate if raw else None, format), table,
        keep_noise, plot, None if window is None else window_of(window), uncertainty,
        report, jobs, force, resume, dry_run, quiet,
    )  # fmt: skip
    require_fitting(where, how)
    with libraries_silent(), interruptible(_kept(where)):
        if where.piped:
            from signal_diffusion.cli.denoise_pipe import denoise_piped

            denoise_piped(where, how)
        else:
            from signal_diffusion.cli.denoise_folder import denoise_files

            denoise_files(where, how)


def _kept(where: Where) -> str:
    """What a run leaves that is told to end."""
    from signal_diffusion.tasks.jobs import single

    if where.output == PIPE:
        return "standard output holds a part of the recording"
    if where.piped or single(where.inputs):
        return "nothing was written"
    return "what was finished is kept; --resume does the rest"
