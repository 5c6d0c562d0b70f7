"""The model, device and sampler that the command line names."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from signal_diffusion.cli.asked import How
from signal_diffusion.cli.options import SAMPLERS
from signal_diffusion.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from signal_diffusion.denoiser import NetworkDenoiser
    from signal_diffusion.tasks.settings import Settings

AUDIO_DOMAINS = ("speech", "music", "audio")
#: What every sampler takes first.
FIRST = ("denoiser", "x", "times")


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

    settings, device = _settings(how), device_named(how.device)
    denoiser = Denoiser.from_pretrained(how.model).to(device)
    _require_domain(denoiser, how.model, heard, table)
    require_process(denoiser, settings)
    return denoiser, settings


def _settings(how: How) -> Settings:
    from signal_diffusion.tasks.settings import Settings

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


def device_named(name: str) -> str:
    """The device of a name, of which "auto" is the best there is."""
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


def sampler_named(name: str) -> Callable[..., Tensor]:
    """The sampler of a name, or of the path of a function."""
    from importlib import import_module

    module, _, function = name.rpartition(".")
    if not module and name not in SAMPLERS:
        allowed = f"{', '.join(SAMPLERS)}, or the path of your own: package.module.function"
        raise InputError(f"sampler is '{name}'; choose one of {allowed}")
    try:
        home = import_module(module or "signal_diffusion.samplers")
        found: Callable[..., Tensor] = getattr(home, function)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise InputError(f"sampler is '{name}', which can't be imported: {error}") from error
    if not callable(found) or _first_parameters(found) != FIRST:
        raise InputError(
            f"sampler is '{name}', which is no sampler: it must be a function whose first "
            f"parameters are {', '.join(FIRST)}"
        )
    return found


def _first_parameters(function: Callable[..., Tensor]) -> tuple[str, ...]:
    # Not every function that is written in C tells its parameters.
    with suppress(TypeError, ValueError):
        return tuple(inspect.signature(function).parameters)[: len(FIRST)]
    return ()


def _require_domain(denoiser: NetworkDenoiser, model: str, heard: str, table: bool) -> None:
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


def require_process(denoiser: NetworkDenoiser, settings: Settings) -> None:
    """Raise an InputError for settings that the model's process can't be run with."""
    from signal_diffusion.tasks.engine import grid

    # Of an unpaired process the times depend on the recording's level, too.
    if denoiser.schedule.paired or settings.noise_std is None:
        grid(denoiser, settings, None)
