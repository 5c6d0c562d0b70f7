"""What a network must offer, so that a denoiser can run it on recordings and store it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from torch import nn

from signal_diffusion.conditions import Condition
from signal_diffusion.errors import InputError
from signal_diffusion.files import artifact
from signal_diffusion.nn.frames import FrameTransform, Identity


def require_contract(backbone: nn.Module) -> None:
    """Refuse a network that can't be run on recordings, or can't be stored.

    Raises:
        InputError: it lacks `context`, `forward` takes other arguments, or an argument of its
            constructor is no attribute or can't be stored.
    """
    name = type(backbone).__name__
    if not isinstance(backbone, nn.Module):
        raise InputError(f"backbone is a {name}; pass a torch.nn.Module")
    context = getattr(backbone, "context", "missing")
    pair = isinstance(context, (tuple, list)) and len(context) == 2
    if context is not None and not (pair and all(isinstance(n, int) and n >= 0 for n in context)):
        raise InputError(
            f"{name} has no attribute context of two whole numbers: set self.context = (past, "
            "future), the steps of the state that one step of its estimate depends on before and "
            "after itself, or None for all of them"
        )
    try:
        inspect.signature(backbone.forward).bind(None, None, None, None)
    except TypeError as error:
        raise InputError(
            f"the forward of {name} must take (x, t, y, cond): the state (B, K, N), times (B,), "
            f"the observation (B, K, N) or None, and a conditioner or None ({error})"
        ) from error
    artifact.describe(backbone)


def frames_of(backbone: nn.Module) -> FrameTransform:
    """The transform inside a network."""
    frames = getattr(backbone, "frames", None)
    return frames if isinstance(frames, FrameTransform) else Identity()


def require_place_for_mask(backbone: nn.Module, codec: FrameTransform) -> None:
    """Raise an InputError for a network whose conditioner is no mask of samples."""
    frames = frames_of(backbone)
    steps = frames.state_channels(codec.state_channels(1))
    if codec.complex_pairs or frames.complex_pairs:
        raise InputError("masked is true, but spectra have no samples: fold them by a Patch")
    if getattr(backbone, "cond_channels", steps) != steps:
        raise InputError(f"masked is true: give the backbone cond_channels={steps}")


def require_place_for_conditions(backbone: nn.Module, conditions: Sequence[Condition]) -> None:
    """Raise an InputError for a network whose conditioner is not as wide as the conditions."""
    width = sum(condition.width for condition in conditions)
    if getattr(backbone, "cond_channels", width) != width:
        raise InputError(f"conditions are {width} wide: give the backbone cond_channels={width}")
