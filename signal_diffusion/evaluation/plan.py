"""What `signal-diffusion evaluate` is given: recordings, and whether they suit the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signal_diffusion.errors import InputError
from signal_diffusion.model_facts import AUDIO_DOMAINS
from signal_diffusion.samplers import sampler_named
from signal_diffusion.streaming.engine import require_process
from signal_diffusion.streaming.settings import device_named

if TYPE_CHECKING:
    from signal_diffusion.denoiser import NetworkDenoiser
    from signal_diffusion.evaluation.pairs import Pair
    from signal_diffusion.tables.columns import Columns


@dataclass(frozen=True)
class Sources:
    """Where the recordings are: one folder, two of pairs, or clean ones and noise to mix.

    Attributes:
        data, clean, noisy, noise, snr, groups: as they were given.
        seed: of mixes.
        columns: what is said of tables.
        alone: Hz of a vocoder or generator, for recordings without noisy ones; None for denoisers.
    """

    data: Path | None
    clean: Path | None
    noisy: Path | None
    noise: Sequence[Path]
    snr: Sequence[float]
    groups: Path | None
    seed: int
    columns: Columns
    alone: int | None = None

    def pairs(self) -> list[Pair]:
        """The pairs, with their groups; raises an InputError where they can't be had."""
        from signal_diffusion.evaluation.pairs import with_groups

        pairs = self._found()
        return pairs if self.groups is None else with_groups(pairs, self.groups)

    def _found(self) -> list[Pair]:
        from signal_diffusion.evaluation.pairs import folder_pairs, mixes, originals

        if self.alone is not None:
            return originals(self._folder(), sample_rate=self.alone)
        self._require()
        if self.data is not None:
            return folder_pairs(self.data / "clean", self.data / "noisy", columns=self.columns)
        assert self.clean is not None
        if self.noisy is not None:
            return folder_pairs(self.clean, self.noisy, columns=self.columns)
        return mixes(self.clean, self.noise, self.snr, seed=self.seed, columns=self.columns)

    def _folder(self) -> Path:
        if self.data is None or self.clean or self.noisy or self.noise or self.snr:
            raise InputError(
                "vocoders and generators are compared with recordings: give DATA, a folder of "
                "them, alone"
            )
        return self.data

    def _require(self) -> None:
        two = self.noisy is not None, bool(self.noise)
        if (self.data is None) == (self.clean is None) or (self.data is not None and any(two)):
            raise InputError(
                "give DATA, a folder with clean/ and noisy/, or --clean with --noisy, or --clean "
                "with --noise and --snr"
            )
        if self.clean is not None and two[0] == two[1]:
            raise InputError("--clean goes with either --noisy FOLDER or --noise FOLDER: give one")
        if self.snr and not self.noise:
            raise InputError("--snr is for mixes: give it with --clean and --noise")
        if self.data is not None and not all((self.data / n).is_dir() for n in ("clean", "noisy")):
            raise InputError(
                f"{self.data} has no folders clean/ and noisy/: name others by --clean and --noisy"
            )


def rate_of_originals(denoiser: NetworkDenoiser) -> int | None:
    """The rate in Hz of recordings that stand alone, of vocoders and generators; None of denoisers.

    Raises:
        InputError: the model is of neither of these kinds.
    """
    from signal_diffusion.tasks.vocode import require_vocoder

    if denoiser.mel is not None:
        return require_vocoder(denoiser)[0].sample_rate
    if denoiser.length is not None and denoiser.sample_rate is None:
        raise InputError("this model has no sample rate, which recordings are brought to")
    return denoiser.sample_rate if denoiser.length is not None else None


def takes_readings(denoiser: NetworkDenoiser, model: str, pairs: Sequence[Pair]) -> bool:
    """Whether signals are readings of sensors, not sound, by the model and the files.

    Raises:
        InputError: the model is for sound, and the files are tables.
    """
    tables = [pair for pair in pairs if pair.table]
    if tables and denoiser.domain in AUDIO_DOMAINS:
        raise InputError(
            f"model '{model}' is for {denoiser.domain}, but {tables[0].clean} is a table of "
            "readings: use a model of such signals, e.g. ecg, or one of experiment=noisy_only"
        )
    return bool(tables) or denoiser.domain not in (None, *AUDIO_DOMAINS)


if TYPE_CHECKING:
    from signal_diffusion.denoiser import NetworkDenoiser
    from signal_diffusion.evaluation.methods import Method
    from signal_diffusion.evaluation.pairs import Pair


def modelled(
    denoiser: NetworkDenoiser,
    model: str,
    steps: Sequence[int],
    *,
    sampler: str,
    seed: int,
    noise_std: float | None,
    device: str,
) -> list[Method]:
    """The model, once for each number of steps.

    Raises:
        InputError: it can't be run so.
    """
    from signal_diffusion.evaluation.methods import Modelled
    from signal_diffusion.streaming.settings import Settings

    how, place = sampler_named(sampler), device_named(device)
    every = [Settings(steps=n, sampler=how, seed=seed, noise_std=noise_std) for n in steps]
    for settings in every if denoiser.mel is None else ():
        require_process(denoiser, settings)
    return [Modelled(model, settings, place) for settings in every]


@dataclass(frozen=True)
class Rivals:
    """What a model is compared with, by what names it on the command line."""

    against: Sequence[str]
    commands: Sequence[str]
    folders: Sequence[str]

    def methods(
        self, denoiser: NetworkDenoiser, pairs: Sequence[Pair], *, readings: bool
    ) -> list[Method]:
        """Filters, commands and folders, for a model and its pairs.

        Raises:
            InputError: one can't be used; of folders, one lacks an estimate.
        """
        from signal_diffusion.evaluation.external import Command, Made

        made = [Made(name, Path(value)) for name, value in map(_named, self.folders)]
        for folder in made:
            folder.require(pairs)
        return [
            *(_built_in(name, denoiser, readings=readings) for name in self.against),
            *(Command(name, value) for name, value in map(_named, self.commands)),
            *made,
        ]


def _built_in(name: str, denoiser: NetworkDenoiser, *, readings: bool) -> Method:
    """The method of a name, once it is known to take the model's signals."""
    from signal_diffusion.evaluation.baselines import FILTERS
    from signal_diffusion.evaluation.methods import Filter, GriffinLim

    if denoiser.mel is not None:
        if name != "griffin_lim":
            raise InputError(f"against is '{name}', but vocoders are compared with griffin_lim")
        return GriffinLim(denoiser.mel)
    found, fitting = Filter(name), ("any", denoiser.domain if readings else "sound")
    signals = FILTERS[name].signals
    if signals in fitting:
        return found
    fit = ", ".join(other for other, built in FILTERS.items() if built.signals in fitting)
    raise InputError(
        f"against is '{name}', which is for {signals}; for these signals there is {fit}"
    )


@dataclass(frozen=True)
class Drawing:
    """How signals are drawn and where the scores go.

    Attributes:
        model: name or file.
        steps: numbers of calls, each of which has a row.
        sampler, device: by their names.
        seed: of the draws, of the halves of the real ones and of the intervals.
        count: signals; None for as many as there are in half of the recordings.
        output: folder.
        quiet: tell errors alone.
        command: the command line.
    """

    model: str
    steps: Sequence[int]
    sampler: str
    device: str
    seed: int
    count: int | None
    output: Path
    quiet: bool
    command: str


def require_unused(given: Mapping[str, Any]) -> None:
    """Raise an InputError for options that are of no use for generators."""
    for name, value in given.items():
        if value:
            raise InputError(
                f"{name} is for denoisers and vocoders: a generator is compared with real "
                "recordings alone, leave it"
            )


def usual_steps(denoiser: NetworkDenoiser) -> str:
    """The numbers of calls that are measured unless others are given."""
    from signal_diffusion.tasks.generate import STEPS

    return "1" if denoiser.length is None else str(STEPS)


def metrics_of(denoiser: NetworkDenoiser, given: Sequence[str], *, readings: bool) -> list[str]:
    """The names of the metrics; raises an InputError where one can't be used."""
    from signal_diffusion.evaluation.measures import OF_VOCODERS, metrics_named

    if denoiser.mel is not None:
        given = given or OF_VOCODERS
    return metrics_named(given, domain=denoiser.domain, readings=readings)


def untouched(denoiser: NetworkDenoiser) -> list[Method]:
    """The noisy recording itself; none for vocoders, whose input is no sound."""
    from signal_diffusion.evaluation.methods import Untouched

    return [Untouched()] if denoiser.mel is None else []


def _named(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not (name and equals and value):
        raise InputError(
            f"'{word}' has no name: give NAME=..., e.g. rnnoise='rnnoise {{in}} {{out}}'"
        )
    return name, value
