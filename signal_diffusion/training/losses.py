"""Training losses on the clean estimate: `loss(prediction) -> {name: term}`.

A training run minimises the sum of the terms.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.tasks.vocode import require_vocoder


@dataclass(frozen=True)
class Prediction:
    """What a denoiser makes of noisy states, and what it should have made.

    Attributes:
        x_hat: the estimates, (B, K, N).
        x_0: the clean states, (B, K, N).
        signal: the clean signals, (B, C, L).
        t: times of the noisy states, (B, 1, 1).
        denoiser: what made the estimates.
        noisy: the noisy signals, (B, C, L), where the batch has them.
    """

    x_hat: Tensor
    x_0: Tensor
    signal: Tensor
    t: Tensor
    denoiser: NetworkDenoiser
    noisy: Tensor | None = None

    @property
    def error(self) -> Tensor:
        """x_hat - x_0, (B, K, N)."""
        return self.x_hat - self.x_0

    @property
    def weight(self) -> Tensor:
        """1 / c_out(t)^2, (B, 1, 1): from squared errors to those in the network's own units."""
        return self.denoiser.loss_weight(self.t)

    @property
    def waveform(self) -> Tensor:
        """The estimated signals, (B, C, L)."""
        return self.denoiser.codec.decode(self.x_hat, self.signal.shape[-1])


class SquaredError(nn.Module):
    """The squared error in the network's own units: `mean((x_hat - x_0)^2 / c_out(t)^2)`.

    That is L_simple for target "noise", flow matching for "flow", the EDM loss for "edm".
    """

    def forward(self, prediction: Prediction) -> dict[str, Tensor]:
        return {"squared_error": (prediction.weight * prediction.error**2).mean()}


class AbsoluteError(nn.Module):
    """The absolute error in the network's own units: `mean(|x_hat - x_0| / |c_out(t)|)`.

    With target "noise", what DiffWave is trained by in the package of that name.
    """

    def forward(self, prediction: Prediction) -> dict[str, Tensor]:
        return {"absolute_error": (prediction.weight.sqrt() * prediction.error.abs()).mean()}


class MagnitudeError(nn.Module):
    """The absolute error of spectral magnitudes, and that of their mel bands, for `nn.Magnitudes`.

        mean |x_hat - x_0| + mel mean |ln M(x_hat) - ln M(x_0)|

    with M the power in mel bands. Absolute errors leave a peak where squared ones spread it.

    Args:
        mel: weight of the second term.
        least: power in a band under which it does not count.
    """

    def __init__(self, *, mel: float = 0.02, least: float = 1e-4) -> None:
        super().__init__()
        self.mel, self.least = mel, least

    def forward(self, prediction: Prediction) -> dict[str, Tensor]:
        mel, codec = require_vocoder(prediction.denoiser)
        states = (prediction.x_hat, prediction.x_0)
        bands = [(mel.bands_of(codec.magnitudes(x)) + self.least).log() for x in states]
        return {
            "magnitude": prediction.error.abs().mean(),
            "mel": self.mel * (bands[0] - bands[1]).abs().mean(),
        }


class RelativeError(nn.Module):
    """The error of the waveform relative to the signal, in decibels / 10, a mean over clips.

        log10((|x_hat - x_0|^2 + floor) / (|x_0|^2 + floor))

    which weighs a clip's last decibel as much whatever its noise. Squares are means over samples.

    Args:
        floor: mean square under which neither error nor signal counts.
    """

    def __init__(self, *, floor: float = 1e-4) -> None:
        super().__init__()
        self.floor = floor

    def forward(self, prediction: Prediction) -> dict[str, Tensor]:
        signal = prediction.signal
        error, power = (
            v.square().mean(dim=(1, 2)) + self.floor for v in (prediction.waveform - signal, signal)
        )
        return {"relative_error": torch.log10(error / power).mean()}
