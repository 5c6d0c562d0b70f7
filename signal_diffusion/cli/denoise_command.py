"""`signal-diffusion denoise`: its options, checked against one another, as one request."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from signal_diffusion.cli import options as opt
from signal_diffusion.cli.options import RAW_FORMATS
from signal_diffusion.cli.terminal import interruptible, libraries_silent
from signal_diffusion.errors import InputError

if TYPE_CHECKING:
    from signal_diffusion.audio.forms import Form
    from signal_diffusion.denoiser import NetworkDenoiser
    from signal_diffusion.plots.window import Window
    from signal_diffusion.streaming.settings import Settings
    from signal_diffusion.tables.columns import Columns

PIPE = "-"
#: What follows a recording's name where no output is named.
CLEAN = "_clean"


@dataclass(frozen=True)
class Sound:
    """What is done about channels, and how raw PCM on standard input is stored.

    Attributes:
        mix: the channels become one.
        channels, rate, format: of raw PCM, the rate in Hz; None where they were not given.
    """

    mix: bool = False
    channels: int | None = None
    rate: float | None = None
    format: str | None = None

    @property
    def raw(self) -> bool:
        return self.rate is not None or self.format is not None

    def form(self) -> Form | None:
        """The form of raw PCM; None where a header describes it."""
        if not self.raw:
            return None
        from signal_diffusion.audio.forms import Form
        from signal_diffusion.audio.pipes import RAW_FORMATS as SUBTYPES

        assert self.rate is not None and self.format is not None
        return Form(int(self.rate), self.channels or 1, "RAW", SUBTYPES[self.format])


@dataclass(frozen=True, kw_only=True)
class Request:
    """Which files are denoised into which, by which model and how.

    Attributes:
        inputs, output: as they were given; see `default_output` for none.
        model, device, settings: how to denoise.
        sound, columns: how channels are treated, and which columns of tables are channels.
        keep_noise, plot, window, uncertainty: further outputs.
        report, jobs, force, resume, dry_run, quiet: how many files are processed.
    """

    inputs: tuple[str, ...]
    output: str
    model: str
    device: str
    settings: Settings
    sound: Sound
    columns: Columns
    keep_noise: str | None
    plot: str | None
    window: Window | None
    uncertainty: str | None
    report: Path | None
    jobs: int
    force: bool
    resume: bool
    dry_run: bool
    quiet: bool

    @property
    def piped(self) -> bool:
        return PIPE in (*self.inputs, self.output)

    @property
    def sides(self) -> tuple[str | None, str | None, str | None]:
        """Where the further outputs of each file go."""
        return self.keep_noise, self.plot, self.uncertainty

    def load(self, source: str, *, table: bool = False) -> NetworkDenoiser:
        """The model on its device, once it is known to fit the settings and the recording.

        Args:
            source: the recording, for the message if the model is for other signals.
            table: whether it is a table of readings, not sound.

        Raises:
            InputError: there is no such model or device, or it doesn't fit.
        """
        from signal_diffusion.denoiser import Denoiser
        from signal_diffusion.streaming.engine import require_process
        from signal_diffusion.streaming.settings import device_named

        device = device_named(self.device)
        denoiser = Denoiser.from_pretrained(self.model).to(device)
        _require_domain(denoiser, self.model, source, table)
        require_process(denoiser, self.settings)
        return denoiser


def default_output(inputs: Sequence[str]) -> str:
    """Where the result goes if no output is named: beside the input, under a name of its own.

    Raises:
        InputError: there are several inputs.

    >>> default_output(["a/talk.wav"]), default_output(["-"])
    ('a/talk_clean.wav', '-')
    """
    from signal_diffusion.tasks.inputs import is_pattern

    given = inputs[0]
    if len(inputs) > 1 or is_pattern(given):
        raise InputError("several inputs need a folder for the results: add -o FOLDER")
    if given == PIPE:
        return PIPE
    path = Path(given)
    if os.path.isdir(given):
        path = path if path.name not in ("", "..") else path.resolve()
        return os.path.join(path.with_name(path.name + CLEAN), "")
    return str(path.with_name(path.stem + CLEAN + path.suffix))


def sound_of(channels: Sequence[str], rate: float | None, format: str | None) -> Sound:
    """The options about channels and raw PCM as one.

    Raises:
        InputError: they contradict each other or can't be read.

    >>> sound_of(["mix", "2"], 8000, "s16le")
    Sound(mix=True, channels=2, rate=8000, format='s16le')
    """
    ways = {word for word in channels if word in ("each", "mix")}
    words = [word for word in channels if word not in ways]
    for word in words:
        if not word.isdecimal() or int(word) < 1:
            raise InputError(f"channels is '{word}': give each, mix or, for raw PCM, their number")
    numbers = {int(word) for word in words}
    if len(ways) > 1 or len(numbers) > 1:
        raise InputError(f"channels is {' and '.join(channels)}: choose one")
    sound = Sound("mix" in ways, next(iter(numbers), None), rate, format)
    _require_raw(sound)
    return sound


def strength_of(strength: float | None, max_attenuation: float | None) -> float:
    """The strength: 1 - 10^(-dB / 20) where an attenuation in dB is given.

    >>> strength_of(None, None), round(strength_of(None, 20), 6)
    (1.0, 0.9)
    """
    if max_attenuation is None:
        return 1.0 if strength is None else strength
    if strength is not None:
        raise InputError("strength and max-attenuation say the same in two ways: give one of them")
    if not max_attenuation >= 0:
        raise InputError(f"max-attenuation is {max_attenuation} dB; it must be 0 or more")
    return float(1 - 10 ** (-max_attenuation / 20))


def require_fitting(request: Request) -> None:
    """Raise an `InputError` for options that don't go together."""
    if request.force and request.resume:
        raise InputError("force replaces outputs and resume keeps them: give one of the two")
    if request.jobs < 1:
        raise InputError(f"jobs is {request.jobs}; it must be 1 or more")
    if request.uncertainty is not None and request.settings.shots == 1:
        raise InputError("uncertainty needs several draws: add --shots, e.g. --shots 8")
    if request.window is not None and request.plot is None:
        raise InputError("window is what a picture shows: add --plot, e.g. --plot look.png")
    sound = request.sound
    if sound.raw and request.inputs != (PIPE,):
        raise InputError("format is for raw PCM in a pipe: give - as the only input")
    if sound.channels is not None and not sound.raw:
        raise InputError(
            f"channels is {sound.channels}, a number, which is for raw PCM in a pipe "
            "(--rate, --format): choose each or mix"
        )
    if request.piped:
        _require_pipe(request)


def _require_pipe(request: Request) -> None:
    if len(request.inputs) > 1:
        raise InputError("a pipe (-) takes one input: run the command once for each")
    options = {
        "keep-noise": request.keep_noise,
        "plot": request.plot,
        "uncertainty": request.uncertainty,
        "report": request.report,
        "resume": request.resume,
        "dry-run": request.dry_run,
        "jobs": request.jobs > 1,
    }
    given = [name for name, value in options.items() if value]
    if given:
        raise InputError(f"{given[0]} is for files: leave it, or name files instead of - (a pipe)")


def _require_raw(sound: Sound) -> None:
    if not sound.raw:
        return
    if sound.rate is None or sound.format is None:
        raise InputError(
            "raw PCM needs both --rate and --format (and --channels N for more than 1)"
        )
    if sound.rate < 1 or sound.rate != int(sound.rate):
        raise InputError(f"rate is {sound.rate:g} Hz; raw PCM has a whole number, 1 or more")
    if sound.format not in RAW_FORMATS:
        raise InputError(f"format is '{sound.format}': choose one of {', '.join(RAW_FORMATS)}")


def _require_domain(denoiser: NetworkDenoiser, model: str, source: str, table: bool) -> None:
    from signal_diffusion.model_facts import AUDIO_DOMAINS

    if table and denoiser.domain in AUDIO_DOMAINS:
        raise InputError(
            f"model '{model}' is for {denoiser.domain}, but {source} is a table of readings: use a "
            "model of such signals, e.g. --model ecg, or train one (experiment=noisy_only)"
        )
    if not table and denoiser.domain not in (None, *AUDIO_DOMAINS):
        raise InputError(
            f"model '{model}' is for {denoiser.domain} signals at {denoiser.sample_rate} Hz, but "
            f"{source} is audio: use a model of {', '.join(AUDIO_DOMAINS)}, e.g. --model speech"
        )


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
