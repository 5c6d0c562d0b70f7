"""Libraries that only some containers need."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from signal_diffusion.errors import InputError


def library(name: str, path: Path) -> Any:
    """A library of the extra `sensors`.

    Raises:
        InputError: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise InputError(
            f"{path} needs the package {package}: pip install 'signal-diffusion[sensors]'"
        ) from error
