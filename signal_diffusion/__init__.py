"""Diffusion models for 1-D signals: a noisy recording in, the clean one out.

Names load on first use, so that `import signal_diffusion` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from signal_diffusion import metrics, nn, samplers, schedules
    from signal_diffusion.denoiser import Denoiser, NetworkDenoiser
    from signal_diffusion.errors import InputError
    from signal_diffusion.gaussian import GaussianDenoiser
    from signal_diffusion.streaming.settings import Settings
    from signal_diffusion.tasks.denoise import Posterior, denoise, denoise_blocks, posterior
    from signal_diffusion.tasks.sklearn_denoiser import SignalDenoiser as SignalDenoiser
    from signal_diffusion.tasks.stream import DenoiseStream

__version__ = "0.1.0"
__all__ = [
    "DenoiseStream",
    "Denoiser",
    "GaussianDenoiser",
    "InputError",
    "NetworkDenoiser",
    "Posterior",
    "Settings",
    "denoise",
    "denoise_blocks",
    "metrics",
    "nn",
    "posterior",
    "samplers",
    "schedules",
]

_HOMES = {
    "DenoiseStream": "signal_diffusion.tasks.stream",
    "Denoiser": "signal_diffusion.denoiser",
    "GaussianDenoiser": "signal_diffusion.gaussian",
    "InputError": "signal_diffusion.errors",
    "NetworkDenoiser": "signal_diffusion.denoiser",
    "Posterior": "signal_diffusion.tasks.denoise",
    "Settings": "signal_diffusion.streaming.settings",
    # Not in __all__: a star import would load scikit-learn.
    "SignalDenoiser": "signal_diffusion.tasks.sklearn_denoiser",
    "denoise": "signal_diffusion.tasks.denoise",
    "denoise_blocks": "signal_diffusion.tasks.denoise",
    "posterior": "signal_diffusion.tasks.denoise",
}


def __getattr__(name: str) -> Any:
    if name not in {*__all__, *_HOMES}:
        raise AttributeError(f"module 'signal_diffusion' has no attribute '{name}'")
    if name not in _HOMES:
        return import_module(f"signal_diffusion.{name}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_HOMES})
