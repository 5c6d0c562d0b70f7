"""What the command line asks for, once its options are known to go together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from signal_diffusion.cli.options import RAW_FORMATS
from signal_diffusion.errors import InputError

if TYPE_CHECKING:
    from signal_diffusion.audio.forms import Form
    from signal_diffusion.denoiser import NetworkDenoiser
    from signal_diffusion.plots.window import Window
    from signal_diffusion.streaming.settings import Settings
    from signal_diffusion.tables.columns import Columns


PIPE = "-"


@dataclass(frozen=True)
class How:
    """How to denoise: the fields of `Settings`, with names where those hold objects."""

    model: str
    device: str
    steps: int | None
    sampler: str
    seed: int
    noise_std: float | None
    shots: int
    band: str
    strength: float
    level: float | None
    piece: float | None


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
        """The form of raw PCM; None where a header tells it."""
        if not self.raw:
            return None
        from signal_diffusion.audio.forms import Form
        from signal_diffusion.audio.pipes import RAW_FORMATS as SUBTYPES

        assert self.rate is not None and self.format is not None
        return Form(int(self.rate), self.channels or 1, "RAW", SUBTYPES[self.format])


@dataclass(frozen=True)
class Where:
    """Which files are read and written, and what happens to those that exist."""

    inputs: tuple[str, ...]
    output: str
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


def sound_asked(channels: Sequence[str], rate: float | None, format: str | None) -> Sound:
    """The options about channels and raw PCM as one.

    Raises:
        InputError: they contradict each other or can't be read.

    >>> sound_asked(["mix", "2"], 8000, "s16le")
    Sound(mix=True, channels=2, rate=8000, format='s16le')
    """
    ways = {word for word in channels if word in ("each", "mix")}
    numbers = {_number(word) for word in channels if word not in ways}
    if len(ways) > 1 or len(numbers) > 1:
        raise InputError(f"channels is {' and '.join(channels)}: choose one")
    sound = Sound("mix" in ways, next(iter(numbers), None), rate, format)
    _require_raw(sound)
    return sound


def strength_asked(strength: float | None, max_attenuation: float | None) -> float:
    """The strength that is meant: 1 - 10^(-dB / 20) where an attenuation in dB is given.

    >>> strength_asked(None, None), round(strength_asked(None, 20), 6)
    (1.0, 0.9)
    """
    if max_attenuation is None:
        return 1.0 if strength is None else strength
    if strength is not None:
        raise InputError("strength and max-attenuation say the same in two ways: give one of them")
    if not max_attenuation >= 0:
        raise InputError(f"max-attenuation is {max_attenuation} dB; it must be 0 or more")
    return float(1 - 10 ** (-max_attenuation / 20))


def require_fitting(where: Where, how: How) -> None:
    """Raise an `InputError` for options that don't go together."""
    if where.force and where.resume:
        raise InputError("force replaces outputs and resume keeps them: give one of the two")
    if where.jobs < 1:
        raise InputError(f"jobs is {where.jobs}; it must be 1 or more")
    if where.uncertainty is not None and how.shots == 1:
        raise InputError("uncertainty needs several draws: add --shots, e.g. --shots 8")
    if where.window is not None and where.plot is None:
        raise InputError("window is what a picture shows: add --plot, e.g. --plot look.png")
    if where.sound.raw and where.inputs != (PIPE,):
        raise InputError("format is for raw PCM in a pipe: give - as the only input")
    if where.sound.channels is not None and not where.sound.raw:
        raise InputError(
            f"channels is {where.sound.channels}, a number, which is for raw PCM in a pipe "
            "(--rate, --format): choose each or mix"
        )
    if where.piped:
        _require_pipe(where)


def _require_pipe(where: Where) -> None:
    if len(where.inputs) > 1:
        raise InputError("a pipe (-) takes one input: run the command once for each")
    options = {
        "keep-noise": where.keep_noise,
        "plot": where.plot,
        "uncertainty": where.uncertainty,
        "report": where.report,
        "resume": where.resume,
        "dry-run": where.dry_run,
        "jobs": where.jobs > 1,
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


def _number(word: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise InputError(f"channels is '{word}': give each, mix or, for raw PCM, their number")
    return int(word)


if TYPE_CHECKING:
    from signal_diffusion.denoiser import NetworkDenoiser
    from signal_diffusion.streaming.settings import Settings


def loaded(how: How, heard: str, *, table: bool = False) -> tuple[NetworkDenoiser, Settings]:
    """The model on its device and the settings, which fit it.

    Args:
        how: what the command line asks for.
        heard: the recording, for the message if the model is for other signals.
        table: whether it is a table of readings, not sound.

    Raises:
        InputError: there is no such model, device or sampler, or a value can't be used.
    """
    from signal_diffusion.denoiser import Denoiser
    from signal_diffusion.streaming.engine import require_process
    from signal_diffusion.streaming.settings import device_named

    settings, device = _settings(how), device_named(how.device)
    denoiser = Denoiser.from_pretrained(how.model).to(device)
    _require_domain(denoiser, how.model, heard, table)
    require_process(denoiser, settings)
    return denoiser, settings


def _settings(how: How) -> Settings:
    from signal_diffusion.samplers import sampler_named
    from signal_diffusion.streaming.settings import Settings

    return Settings(
        steps=how.steps,
        sampler=sampler_named(how.sampler),
        seed=how.seed,
        noise_std=how.noise_std,
        shots=how.shots,
        band=how.band,
        strength=how.strength,
        level=how.level,
        piece=how.piece,
    )


def _require_domain(denoiser: NetworkDenoiser, model: str, heard: str, table: bool) -> None:
    from signal_diffusion.model_facts import AUDIO_DOMAINS

    if table and denoiser.domain in AUDIO_DOMAINS:
        raise InputError(
            f"model '{model}' is for {denoiser.domain}, but {heard} is a table of readings: use a "
            "model of such signals, e.g. --model ecg, or train one (experiment=noisy_only)"
        )
    if not table and denoiser.domain not in (None, *AUDIO_DOMAINS):
        raise InputError(
            f"model '{model}' is for {denoiser.domain} signals at {denoiser.sample_rate} Hz, but "
            f"{heard} is audio: use a model of {', '.join(AUDIO_DOMAINS)}, e.g. --model speech"
        )
