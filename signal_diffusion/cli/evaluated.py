"""What `signal-diffusion evaluate` is asked for: methods, metrics, and how signals are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signal_diffusion.cli.models import device_named, require_process, sampler_named
from signal_diffusion.errors import InputError

if TYPE_CHECKING:
    from signal_diffusion.denoiser import NetworkDenoiser
    from signal_diffusion.tasks.pairs import Pair
    from signal_diffusion.tasks.rivals import Method


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
    from signal_diffusion.tasks.rivals import Modelled
    from signal_diffusion.tasks.settings import Settings

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
        from signal_diffusion.tasks.outside import Command, Made

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
    from signal_diffusion.tasks.filters import FILTERS
    from signal_diffusion.tasks.rivals import Filter, GriffinLim

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
    from signal_diffusion.tasks.measures import OF_VOCODERS, metrics_named

    if denoiser.mel is not None:
        given = given or OF_VOCODERS
    return metrics_named(given, domain=denoiser.domain, readings=readings)


def untouched(denoiser: NetworkDenoiser) -> list[Method]:
    """The noisy recording itself; none for vocoders, whose input is no sound."""
    from signal_diffusion.tasks.rivals import Untouched

    return [Untouched()] if denoiser.mel is None else []


def _named(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not (name and equals and value):
        raise InputError(
            f"'{word}' has no name: give NAME=..., e.g. rnnoise='rnnoise {{in}} {{out}}'"
        )
    return name, value
