"""What `signal-diffusion evaluate` is asked for: pairs, methods, and the command line itself."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from signal_diffusion.cli.models import AUDIO_DOMAINS, device_named, sampler_named
from signal_diffusion.errors import InputError

if TYPE_CHECKING:
    from signal_diffusion.denoiser import NetworkDenoiser
    from signal_diffusion.tasks.pairs import Pair
    from signal_diffusion.tasks.rivals import Method


@dataclass(frozen=True)
class Sources:
    """Where the recordings are: one folder, two of pairs, or clean ones and noise to mix."""

    data: Path | None
    clean: Path | None
    noisy: Path | None
    noise: Sequence[Path]
    snr: Sequence[float]
    groups: Path | None
    seed: int

    def pairs(self) -> list[Pair]:
        """The pairs, with their groups; raises an InputError where they can't be had."""
        from signal_diffusion.tasks.pairs import with_groups

        pairs = self._found()
        return pairs if self.groups is None else with_groups(pairs, self.groups)

    def _found(self) -> list[Pair]:
        from signal_diffusion.tasks.pairs import folder_pairs, mixes

        self._require()
        if self.data is not None:
            return folder_pairs(self.data / "clean", self.data / "noisy")
        assert self.clean is not None
        if self.noisy is not None:
            return folder_pairs(self.clean, self.noisy)
        return mixes(self.clean, self.noise, self.snr, seed=self.seed)

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


def modelled(
    model: str, steps: Sequence[int], *, sampler: str, seed: int, device: str
) -> list[Method]:
    """The model, once for each number of steps."""
    from signal_diffusion.tasks.rivals import Modelled
    from signal_diffusion.tasks.settings import Settings

    how = sampler_named(sampler)
    return [
        Modelled(model, Settings(steps=count, sampler=how, seed=seed), device_named(device))
        for count in steps
    ]


def rivals(
    against: Sequence[str], commands: Sequence[str], folders: Sequence[str], pairs: Sequence[Pair]
) -> list[Method]:
    """Filters, commands and folders by what names them on the command line.

    Raises:
        InputError: one can't be used; of folders, one lacks an estimate.
    """
    from signal_diffusion.tasks.outside import Command, Made
    from signal_diffusion.tasks.rivals import Filter

    made = [Made(name, Path(value)) for name, value in map(_named, folders)]
    for folder in made:
        folder.require(pairs)
    return [
        *map(Filter, against),
        *(Command(name, value) for name, value in map(_named, commands)),
        *made,
    ]


def require_denoiser_of_sound(denoiser: NetworkDenoiser, model: str) -> None:
    """Raise an InputError for models that can't be evaluated yet."""
    if denoiser.length is not None:
        kind = "a generator"
    elif denoiser.mel is not None:
        kind = "a vocoder"
    elif denoiser.domain not in (None, *AUDIO_DOMAINS):
        kind = f"a model of {denoiser.domain} signals"
    else:
        return
    raise InputError(
        f"model '{model}' is {kind}, which evaluate can't score yet: it takes denoisers of sound, "
        "e.g. speech; recipes/ has scripts for the others"
    )


def words(given: str | None) -> list[str]:
    """Words between commas.

    >>> words("pesq, estoi"), words(None)
    (['pesq', 'estoi'], [])
    """
    return [word.strip() for word in (given or "").split(",") if word.strip()]


def levels(given: str | None) -> list[float]:
    """Decibels between commas; raises an InputError for what is no number or given twice.

    >>> levels("-5,0")
    [-5.0, 0.0]
    """
    try:
        found = [float(word) for word in words(given)]
    except ValueError:
        found = [float("nan")]
    if not all(abs(level) <= 100 for level in found) or len(set(found)) < len(found):
        raise InputError(f"snr is '{given}'; give different numbers of dB, e.g. 0,5,10")
    return found


def counts(given: str) -> list[int]:
    """Numbers of steps between commas; raises an InputError for what is none or given twice.

    >>> counts("1,4")
    [1, 4]
    """
    found = [int(word) if word.isdecimal() else 0 for word in words(given)]
    if not found or min(found) < 1 or len(set(found)) < len(found):
        raise InputError(f"steps is '{given}'; give different whole numbers from 1, e.g. 1,2,4")
    return found


def command_line(context: typer.Context) -> str:
    """The command as it was given, its options by their long names."""
    said = ["signal-diffusion", context.info_name or ""]
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is None or source.name != "COMMANDLINE":
            continue
        value = context.params[parameter.name or ""]
        values = value if isinstance(value, (list, tuple)) else [value]
        name = [] if parameter.param_type_name == "argument" else [parameter.opts[-1]]
        said += [w for v in values for w in (name if v is True else [*name, str(v)])]
    return shlex.join(said)


def _named(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not (name and equals and value):
        raise InputError(
            f"'{word}' has no name: give NAME=..., e.g. rnnoise='rnnoise {{in}} {{out}}'"
        )
    return name, value
