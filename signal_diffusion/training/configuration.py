"""The configuration of a run: what is wrong with it in one line, before anything is made of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from signal_diffusion.errors import InputError, one_line
from signal_diffusion.training.experiments import conf_folder

#: Settings that are whole numbers, and the least that they can be.
LEAST = {
    "seed": 0,
    "data.batch_size": 1,
    "data.valid_batches": 1,
    "data.workers": 0,
    "model.denoiser.backbone.channels": 1,
    "model.denoiser.backbone.hidden": 1,
    "model.denoiser.backbone.layers": 1,
    "trainer.accumulate_grad_batches": 1,
    "trainer.max_steps": -1,
    "trainer.val_check_interval": 1,
}
#: Settings that are numbers, and the least and largest that they can be.
BETWEEN = {
    "module.ema_decay": (0.0, 1.0),
    "module.optimizer.lr": (0, 1e3),
    "module.optimizer.weight_decay": (0.0, 1e3),
    "trainer.gradient_clip_val": (0.0, 1e12),
}
#: Precisions in which weights stay as they are; the first is the default.
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
#: Short names of the same.
SHORT = (32, "32", 16, "16", "bf16")
#: Settings that hold whatever names the data have.
OPEN = re.compile(r"data\.sources\.(mixer\.(\w*groups|least_snr_db)|where|at_least|columns)[.=]")
DURATION = re.compile(r"\d+:\d+:\d+:\d+")


def composed(overrides: Sequence[str]) -> Any:
    """The configuration that `conf/train.yaml` and Hydra overrides describe.

    Raises:
        InputError: there is no such setting, or its value can't be used.
    """
    with configuration_mistakes():
        from hydra import compose, initialize_config_dir

        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            config = compose("train", opened(overrides))
    check(config)
    return config


def opened(overrides: Sequence[str]) -> list[str]:
    """Overrides of which those of open settings may add names.

    >>> opened(["seed=1", "data.sources.mixer.groups={vctk: 0.5}"])
    ['seed=1', '++data.sources.mixer.groups={vctk: 0.5}']
    """
    return [f"++{word}" if OPEN.match(word) else word for word in overrides]


def check(config: Any) -> None:
    """Refuse settings that would fail only once a run has begun.

    Raises:
        InputError: names the setting, its value and what is allowed.
    """
    from omegaconf import OmegaConf

    for key, least in LEAST.items():
        value = OmegaConf.select(config, key, default=least)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InputError(f"{key} is {value}: give a whole number from {least} on")
    for key, (low, high) in BETWEEN.items():
        value = OmegaConf.select(config, key)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if value is not None and not (number and low <= value <= high):
            raise InputError(f"{key} is {value}: give a number from {low:g} to {high:g}")
    trainer = config.trainer
    if trainer.precision not in (*PRECISIONS, *SHORT):
        choices = ", ".join(PRECISIONS)
        raise InputError(f"trainer.precision is {trainer.precision}: choose one of {choices}")
    time = trainer.max_time
    if not (time is None or OmegaConf.is_dict(time) or DURATION.fullmatch(str(time))):
        raise InputError(
            f"trainer.max_time is {time}: give days, hours, minutes and seconds as DD:HH:MM:SS, "
            "e.g. 00:00:10:00 for ten minutes"
        )
    if trainer.val_check_interval % trainer.accumulate_grad_batches:
        raise InputError(
            f"trainer.val_check_interval={trainer.val_check_interval} is no multiple of "
            f"trainer.accumulate_grad_batches={trainer.accumulate_grad_batches}: make it one"
        )


@contextmanager
def configuration_mistakes() -> Iterator[None]:
    """What Hydra says of a configuration or an override, as an `InputError`."""
    # Hydra prints errors and exits by itself unless it is asked for all of them.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    from hydra.errors import (
        ConfigCompositionException,
        InstantiationException,
        OverrideParseException,
    )
    from omegaconf.errors import MissingMandatoryValue

    try:
        yield
    except MissingMandatoryValue as error:
        raise InputError(f"{error.full_key} is missing: add {error.full_key}=...") from error
    except (ConfigCompositionException, OverrideParseException) as error:
        raise InputError(str(error)) from error
    except InstantiationException as error:
        raise InputError(_not_made(error)) from error


def _not_made(error: Exception) -> str:
    """What can't be made of its settings, and why."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, InputError):
        cause = cause.__cause__
    if cause is not None:
        return str(cause)
    text = str(error)
    key, target = (re.search(rule, text) for rule in (r"full_key: (\S+)", r"target '([^']+)'"))
    where, what = key[1] if key else "the configuration", target[1] if target else "its target"
    if text.startswith("Error locating"):
        return f"{where}._target_ is {what}, which can't be imported: give the path of a class"
    return f"{where} can't be made by {what}: {one_line(error.__cause__ or error)}"
