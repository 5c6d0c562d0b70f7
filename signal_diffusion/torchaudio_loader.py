"""The one door to torchaudio, whose CUDA build can stand beside a CPU build of torch."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import NoReturn


def torchaudio() -> ModuleType:
    """The torchaudio module, without its compiled extension where that can't be loaded.

    The wheel of torchaudio may be linked against CUDA while torch is not, and then its import fails
    on a missing libc10_cuda.so. Its parts in Python (resampling, filters, spectrograms, mel filter
    banks) need no extension and work without.

    Raises:
        ImportError: torchaudio is not installed.

    >>> torchaudio().functional.create_dct(13, 40, norm=None).shape
    torch.Size([40, 13])
    """
    before = set(sys.modules)
    try:
        return importlib.import_module("torchaudio")
    except (OSError, RuntimeError):
        _forget(before)
    sys.modules["torchaudio._extension"] = _no_extension()
    try:
        return importlib.import_module("torchaudio")
    except BaseException:
        _forget(before)
        raise


def _forget(before: set[str]) -> None:
    for name in set(sys.modules) - before:
        if name.partition(".")[0] == "torchaudio":
            del sys.modules[name]


def _no_extension() -> ModuleType:
    module = ModuleType("torchaudio._extension")
    parts = {
        "_IS_TORCHAUDIO_EXT_AVAILABLE": False,
        "_IS_ALIGN_AVAILABLE": False,
        "fail_if_no_align": _unavailable,
        "_check_cuda_version": _no_version,
    }
    vars(module).update(parts)
    return module


def _unavailable(function: object) -> object:
    def fail(*args: object, **kwargs: object) -> NoReturn:
        raise RuntimeError("forced alignment needs a torchaudio that matches this torch")

    return fail


def _no_version() -> None:
    return None
