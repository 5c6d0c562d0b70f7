"""The request of `signal-diffusion evaluate`: recordings, methods, and whether they fit a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.errors import InputError
from signal_diffusion.evaluation.baselines import FILTERS
from signal_diffusion.evaluation.measures import OF_VOCODERS, metrics_named
from signal_diffusion.evaluation.methods import (
    Command,
    Filter,
    GriffinLim,
    Made,
    Method,
    Modelled,
    Untouched,
)
from signal_diffusion.evaluation.outputs import groups_of, model_description, write_evaluation
from signal_diffusion.evaluation.pairs import Pair, folder_pairs, mixes, originals, with_groups
from signal_diffusion.evaluation.run import evaluate
from signal_diffusion.files.journal import Row
from signal_diffusion.model_facts import AUDIO_DOMAINS
from signal_diffusion.samplers import sampler_named
from signal_diffusion.streaming.engine import require_process
from signal_diffusion.streaming.pieces import Progress
from signal_diffusion.streaming.settings import Settings, device_named
from signal_diffusion.tables.columns import Columns
from signal_diffusion.tasks.vocode import require_vocoder


@dataclass(frozen=True)
class Sources:
    """Where the recordings are: one folder, two of pairs, or clean ones and noise to mix.

    Attributes:
        data: folder with clean/ and noisy/, or of recordings alone.
        clean, noisy: folders of pairs, instead.
        noise: files or folders of noise, to mix with clean recordings.
        snr: of mixes, in dB.
        groups: CSV with a column `file` and others, by which scores are told apart.
        seed: of mixes.
        columns: how tables are read.
        alone: Hz of a vocoder or generator, for recordings without noisy ones; None for denoisers.
    """

    data: Path | None = None
    clean: Path | None = None
    noisy: Path | None = None
    noise: Sequence[Path] = ()
    snr: Sequence[float] = ()
    groups: Path | None = None
    seed: int = 0
    columns: Columns = Columns()
    alone: int | None = None

    def pairs(self) -> list[Pair]:
        """The pairs, with their groups; raises an InputError where they can't be had."""
        pairs = self._found()
        return pairs if self.groups is None else with_groups(pairs, self.groups)

    def _found(self) -> list[Pair]:
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
                f"{self.data} has no folders clean/ and noisy/ with files of the same names "
                "(`evaluate` takes others by --clean and --noisy)"
            )


def rate_of_originals(denoiser: NetworkDenoiser) -> int | None:
    """The rate in Hz of recordings that stand alone, of vocoders and generators; None of denoisers.

    Raises:
        InputError: the model is of neither of these kinds.
    """
    if denoiser.kind == "vocoder":
        return require_vocoder(denoiser)[0].sample_rate
    if denoiser.kind == "denoiser":
        return None
    if denoiser.sample_rate is None:
        raise InputError("this model has no sample rate, which recordings are brought to")
    return denoiser.sample_rate


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


def modelled(
    denoiser: NetworkDenoiser,
    model: str,
    steps: Sequence[int],
    *,
    sampler: str,
    seed: int,
    noise_std: float | None,
    device: str,
) -> list[Modelled]:
    """The model, once for each number of steps.

    Raises:
        InputError: it can't be run so.
    """
    function, place = sampler_named(sampler), device_named(device)
    every = [Settings(steps=n, sampler=function, seed=seed, noise_std=noise_std) for n in steps]
    for settings in every if denoiser.kind == "denoiser" else ():
        require_process(denoiser, settings)
    return [Modelled(model, settings, place) for settings in every]


@dataclass(frozen=True)
class Rivals:
    """What a model is compared with, by what names it on the command line."""

    against: Sequence[str] = ()
    commands: Sequence[str] = ()
    folders: Sequence[str] = ()

    def methods(
        self, denoiser: NetworkDenoiser, pairs: Sequence[Pair], *, readings: bool
    ) -> list[Method]:
        """Filters, commands and folders, for a model and its pairs.

        Raises:
            InputError: one can't be used; of folders, one lacks an estimate.
        """
        made = [Made(name, Path(value)) for name, value in map(_named, self.folders)]
        for folder in made:
            folder.require(pairs)
        return [
            *(_built_in(name, denoiser, readings=readings) for name in self.against),
            *(Command(name, value) for name, value in map(_named, self.commands)),
            *made,
        ]


def _built_in(name: str, denoiser: NetworkDenoiser, *, readings: bool) -> Method:
    """The method of a name; raises an InputError where it does not take the model's signals."""
    if denoiser.kind == "vocoder":
        if name != "griffin_lim":
            raise InputError(f"against is '{name}', but vocoders are compared with griffin_lim")
        return GriffinLim(require_vocoder(denoiser)[0])
    found, fitting = Filter(name), ("any", denoiser.domain if readings else "sound")
    signals = FILTERS[name].signals
    if signals in fitting:
        return found
    fit = ", ".join(other for other, built in FILTERS.items() if built.signals in fitting)
    raise InputError(
        f"against is '{name}', which is for {signals}; for these signals there is {fit}"
    )


def _named(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not (name and equals and value):
        raise InputError(
            f"'{word}' has no name: give NAME=..., e.g. rnnoise='rnnoise {{in}} {{out}}'"
        )
    return name, value


def require_unused(options: Mapping[str, Any]) -> None:
    """Raise an InputError for options that are of no use for generators."""
    for name, value in options.items():
        if value:
            raise InputError(
                f"{name} is for denoisers and vocoders: a generator is compared with real "
                "recordings alone, leave it"
            )


@dataclass(frozen=True)
class Evaluation:
    """A model beside other methods on pairs of recordings.

    Attributes:
        model: its name or file.
        domain: of the model.
        pairs: recordings.
        methods: all that is compared.
        metrics: their names.
        compared_with: name of the method that others are compared with.
    """

    model: str
    domain: str | None
    pairs: Sequence[Pair]
    methods: Sequence[Method]
    metrics: Sequence[str]
    compared_with: str

    @classmethod
    def of(
        cls,
        denoiser: NetworkDenoiser,
        ours: Sequence[Modelled],
        pairs: Sequence[Pair],
        rivals: Rivals,
        *,
        metrics: Sequence[str] = (),
    ) -> Evaluation:
        """A denoiser or vocoder at some settings, its input if that can be scored, and rivals.

        Raises:
            InputError: a metric, a rival or a recording does not fit the model.
        """
        readings = takes_readings(denoiser, ours[0].model, pairs)
        if denoiser.kind == "vocoder":
            metrics = metrics or OF_VOCODERS
        names = metrics_named(metrics, domain=denoiser.domain, readings=readings)
        others = rivals.methods(denoiser, pairs, readings=readings)
        groups_of(pairs, names)
        # A vocoder's input, frames, is no sound.
        untouched: list[Method] = [] if denoiser.kind == "vocoder" else [Untouched()]
        methods = [*untouched, *ours, *others]
        return cls(
            ours[0].model,
            denoiser.domain,
            pairs,
            methods,
            metrics=names,
            compared_with=ours[0].name,
        )

    def run(
        self,
        folder: Path,
        *,
        jobs: int = 1,
        seed: int = 0,
        command: str = "",
        progress: Progress | None = None,
    ) -> tuple[list[Row], str]:
        """Score, and write the results into a folder; gives the rows and the summary.

        Args:
            folder: see `outputs.make_folder`.
            jobs: number of processes.
            seed: of the bootstrap.
            command: command line that the summary names.
            progress: called as progress(done pairs, all pairs).

        Raises:
            InputError: something can't be written.
        """
        rows = evaluate(
            self.pairs, self.methods, self.metrics, folder, jobs=jobs, progress=progress
        )
        text = write_evaluation(
            folder,
            rows,
            self.pairs,
            model=self.compared_with,
            metrics=self.metrics,
            command=command,
            seed=seed,
            evaluated=model_description(self.model),
            jobs=jobs,
        )
        return rows, text
