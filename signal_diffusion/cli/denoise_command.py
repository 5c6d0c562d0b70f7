"""`signal-diffusion denoise`: its options, checked against one another, as one request."""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
#: Report of many files, in their folder.
REPORT = "report.jsonl"


@dataclass(frozen=True, kw_only=True)
class Request:
    """The options of the command, as they were given, and what they stand for."""

    inputs: Annotated[
        list[str], opt.argument("Files, folders, quoted patterns, or - for a pipe.", "INPUTS")
    ]
    output: str | None = opt.setting(
        None,
        "File, folder for many inputs, or - for a pipe (default: NAME_clean beside the input).",
        "-o",
        "--output",
    )
    force: opt.Force = False
    channels: list[str] | None = opt.setting(
        None,
        "Clean each channel on its own (default), or mix them into one; for raw PCM also the "
        "number of channels.",
        metavar="each|mix|N",
    )
    rate: opt.Rate = None
    format: str | None = opt.setting(
        None, f"Sample format of raw PCM in a pipe: {' '.join(RAW_FORMATS)}."
    )
    keep_noise: str | None = opt.setting(
        None, "Write what was removed: a file, or a folder for many."
    )
    plot: str | None = opt.setting(
        None, "Draw the signal before, after, and what was removed: a PNG, or a folder."
    )
    window: str | None = opt.setting(
        None,
        "Part of a table that --plot draws, in seconds or rows (default: where most was removed).",
        metavar="START[:END][rows]",
    )
    uncertainty: str | None = opt.setting(None, "Write the spread of --shots: an NPZ, or a folder.")
    quiet: opt.Quiet = False
    strength: float | None = opt.setting(
        None,
        "Strength from 0 (input unchanged) to 1 (all noise removed, default).",
        panel=opt.HOW_MUCH,
    )
    max_attenuation: float | None = opt.setting(
        None, "Highest attenuation of the noise.", panel=opt.HOW_MUCH, metavar="DB"
    )
    band: str = opt.setting(
        "full",
        "full: keep frequencies above the model's band; model: drop them.",
        panel=opt.HOW_MUCH,
        metavar="full|model",
    )
    level: float | None = opt.setting(
        None,
        "Level of the loud passages relative to full scale, instead of measuring it.",
        panel=opt.HOW_MUCH,
        metavar="DB",
    )
    model: opt.Model = "speech"
    steps: int | None = opt.setting(
        None,
        "Network calls: 1 gives the mean (default), more add detail (16 with --shots).",
        panel=opt.SAMPLING,
    )
    sampler: opt.Sampler = "ddim"
    shots: int = opt.setting(
        1, "Number of samples that are drawn and averaged.", panel=opt.SAMPLING
    )
    seed: opt.Seed = 0
    noise_std: opt.NoiseStd = None
    device: opt.Device = "auto"
    piece: float | None = opt.setting(
        None,
        "Length processed at once, which bounds memory.",
        panel=opt.SAMPLING,
        metavar="SECONDS",
    )
    jobs: opt.Jobs = 1
    resume: bool = opt.setting(
        False, "Keep existing outputs, do the rest.", "--resume", panel=opt.MANY
    )
    report: Path | None = opt.setting(
        None,
        "File with one JSON line for each input (default: report.jsonl in the output folder).",
        panel=opt.MANY,
    )
    dry_run: bool = opt.setting(
        False, "Print what would be done, and write nothing.", "--dry-run", panel=opt.MANY
    )
    columns: opt.Columns = None
    skip: opt.Skip = None
    time: opt.Time = None
    delimiter: opt.Delimiter = None

    @cached_property
    def target(self) -> str:
        """Where the result goes."""
        return default_output(self.inputs) if self.output is None else self.output

    @property
    def sides(self) -> tuple[str | None, str | None, str | None]:
        """Where the further outputs of each file go."""
        return self.keep_noise, self.plot, self.uncertainty

    @property
    def report_path(self) -> Path | None:
        """The report's file; None where there is none."""
        from signal_diffusion.tasks.inputs import single

        if self.report is not None or single(self.inputs):
            return self.report
        return Path(self.target) / REPORT

    @property
    def replaces(self) -> bool:
        """Whether outputs may exist: where a run was killed, further ones may, without the file."""
        return self.force or self.resume

    @property
    def piped(self) -> bool:
        return PIPE in (*self.inputs, self.target)

    @property
    def raw(self) -> bool:
        """Whether standard input is raw PCM, without a header."""
        return self.format is not None or (PIPE in self.inputs and self.rate is not None)

    @property
    def mix(self) -> bool:
        """Whether the channels become one."""
        return opt.channels_of(self.channels or ())[0]

    @cached_property
    def settings(self) -> Settings:
        """How to denoise."""
        from signal_diffusion.samplers import sampler_named
        from signal_diffusion.streaming.settings import Settings

        return Settings(
            steps=self.steps,
            sampler=sampler_named(self.sampler),
            seed=self.seed,
            noise_std=self.noise_std,
            shots=self.shots,
            band=self.band,
            strength=opt.strength_of(self.strength, self.max_attenuation),
            level=self.level,
            piece=self.piece,
        )

    @cached_property
    def table(self) -> Columns:
        """Which columns of tables are channels."""
        rate = None if self.raw else self.rate
        return opt.table_columns(rate, self.columns, self.time, self.delimiter, self.skip)

    @cached_property
    def shown(self) -> Window | None:
        """The part of a table that a picture shows."""
        from signal_diffusion.plots.window import window_of

        return None if self.window is None else window_of(self.window)

    def raw_form(self) -> Form | None:
        """The form of raw PCM; None where a header describes it."""
        if not self.raw:
            return None
        from signal_diffusion.audio.forms import Form
        from signal_diffusion.audio.pipes import RAW_FORMATS as SUBTYPES

        assert self.rate is not None and self.format is not None
        count = opt.channels_of(self.channels or ())[1] or 1
        return Form(int(self.rate), count, "RAW", SUBTYPES[self.format])

    def load(self, source: str, *, table: bool = False) -> NetworkDenoiser:
        """The model on its device, once it is known to fit the settings and the recording.

        Args:
            source: the recording, for the message if the model is for other signals.
            table: whether it is a table of readings, not sound.

        Raises:
            InputError: there is no such model or device, or it doesn't fit.
        """
        from signal_diffusion.model_facts import AUDIO_DOMAINS
        from signal_diffusion.streaming.engine import require_process

        denoiser = opt.loaded(self.model, self.device)
        domain, model = denoiser.domain, f"model '{self.model}' is for {denoiser.domain}"
        if table and domain in AUDIO_DOMAINS:
            raise InputError(
                f"{model}, but {source} is a table of readings: use a model of such signals, "
                "e.g. --model ecg, or train one (experiment=noisy_only)"
            )
        if not table and domain not in (None, *AUDIO_DOMAINS):
            raise InputError(
                f"{model} signals at {denoiser.sample_rate} Hz, but {source} is audio: use a model "
                f"of {', '.join(AUDIO_DOMAINS)}, e.g. --model speech"
            )
        require_process(denoiser, self.settings)
        return denoiser

    def require_fitting(self) -> None:
        """Raise an `InputError` for options that can't be read or don't go together."""
        _, count = opt.channels_of(self.channels or ())
        if self.raw:
            _require_raw(self.rate, self.format)
        if self.force and self.resume:
            raise InputError("force replaces outputs and resume keeps them: give one of the two")
        opt.require_least(1, jobs=self.jobs)
        if self.uncertainty is not None and self.settings.shots == 1:
            raise InputError("uncertainty needs several draws: add --shots, e.g. --shots 8")
        if self.shown is not None and self.plot is None:
            raise InputError("window is what a picture shows: add --plot, e.g. --plot look.png")
        if self.raw and self.inputs != [PIPE]:
            raise InputError("format is for raw PCM in a pipe: give - as the only input")
        if count is not None and not self.raw:
            raise InputError(
                f"channels is {count}, a number, which is for raw PCM in a pipe "
                "(--rate, --format): choose each or mix"
            )
        if not self.piped:
            return
        if len(self.inputs) > 1:
            raise InputError("a pipe (-) takes one input: run the command once for each")
        only = ("keep_noise", "plot", "uncertainty", "report", "resume", "dry_run")
        given = [name for name in only if getattr(self, name)] + ["jobs"] * (self.jobs > 1)
        if given:
            name = given[0].replace("_", "-")
            raise InputError(f"{name} is for files: leave it, or name files instead of - (a pipe)")

    def kept(self) -> str:
        """What an interrupted run leaves."""
        from signal_diffusion.tasks.inputs import single

        if self.target == PIPE:
            return "standard output holds a part of the recording"
        if self.piped or single(self.inputs):
            return "nothing was written"
        return "what was finished is kept; --resume does the rest"


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


def _require_raw(rate: float | None, format: str | None) -> None:
    if rate is None or format is None:
        raise InputError(
            "raw PCM needs both --rate and --format (and --channels N for more than 1)"
        )
    if rate < 1 or rate != int(rate):
        raise InputError(f"rate is {rate:g} Hz; raw PCM has a whole number, 1 or more")
    if format not in RAW_FORMATS:
        raise InputError(f"format is '{format}': choose one of {', '.join(RAW_FORMATS)}")


def denoise(**options: Any) -> None:
    """Clean noisy recordings, keeping their rate, channels, length and sample format."""
    request = Request(**options)
    request.require_fitting()
    from signal_diffusion.cli import denoise_run

    with libraries_silent(), interruptible(request.kept()):
        if request.piped:
            denoise_run.denoise_piped(request)
        else:
            denoise_run.denoise_files(request)


# The fields are the options.
denoise.__signature__ = inspect.signature(Request, eval_str=True)  # type: ignore[attr-defined]
