"""Frame transforms: what one step of the state is (a sample, a patch of samples, an STFT frame).

A transform maps signals (B, C, L) to states (B, K, N) of N steps and back. It stands outside the
network, as the codec of the state that the diffusion runs in, or inside it (`DilatedStack.frames`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from signal_diffusion.dsp import Array
from signal_diffusion.files.atomic import require_finite_result


class FrameTransform(nn.Module, ABC):
    """An invertible map between signals (B, C, L) and states (B, K, N).

    Attributes:
        hop: samples between steps.
        window: samples that one step sees, and that one step is heard in.
        complex_pairs: whether the K channels are K/2 real parts, then their K/2 imaginary parts.
    """

    hop: int = 1
    window: int = 1
    complex_pairs: bool = False

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Signal (B, C, L) to state (B, K, N)."""

    @abstractmethod
    def decode(self, state: Tensor, length: int) -> Tensor:
        """State (B, K, N) to signal (B, C, length), the inverse of `encode`."""

    @abstractmethod
    def state_channels(self, channels: int) -> int:
        """K for a signal of C channels."""


class Identity(FrameTransform):
    """One step is one sample."""

    def encode(self, x: Tensor) -> Tensor:
        return x

    def decode(self, state: Tensor, length: int) -> Tensor:
        return state[..., :length]

    def state_channels(self, channels: int) -> int:
        return channels


class Patch(FrameTransform):
    """Folds `size` neighbouring samples into channels; the last patch is filled with zeros.

    >>> import torch
    >>> patch, x = Patch(4), torch.randn(2, 1, 10)
    >>> patch.encode(x).shape, torch.equal(patch.decode(patch.encode(x), 10), x)
    (torch.Size([2, 4, 3]), True)
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = self.hop = self.window = size

    def encode(self, x: Tensor) -> Tensor:
        batch, channels, length = x.shape
        steps = -(-length // self.size)
        x = F.pad(x, (0, steps * self.size - length))
        x = x.reshape(batch, channels, steps, self.size).transpose(2, 3)
        return x.reshape(batch, channels * self.size, steps)

    def decode(self, state: Tensor, length: int) -> Tensor:
        batch, folded, steps = state.shape
        x = state.reshape(batch, folded // self.size, self.size, steps).transpose(2, 3)
        return x.reshape(batch, folded // self.size, steps * self.size)[..., :length]

    def state_channels(self, channels: int) -> int:
        return channels * self.size


class CompressedSTFT(FrameTransform):
    """The STFT with compressed magnitude and untouched phase.

    With u = |X|^2 each bin becomes `scale * X * sqrt(((u + floor)^power - floor^power) / u)`, which
    is |X|^power for loud bins, linear for those under `floor`, smooth everywhere, and has an exact
    inverse (a bare power has an infinite slope at silence). The Hann window is scaled to unit
    energy, so white noise of variance 1 has E|X|^2 = 1 in every bin.

    Args:
        window: samples of the Hann window and of the transform (512: 32 ms at 16 kHz).
        hop: samples between frames.
        power: exponent of the magnitude; 1 is the plain STFT.
        scale: factor on the compressed spectrum.
        floor: squared magnitude under which the map is linear.

    Source: Braun and Tashev 2020 (arXiv:2009.12286) for compressed spectra as a training domain.

    >>> import torch
    >>> codec, x = CompressedSTFT(), torch.randn(1, 1, 5000)
    >>> codec.encode(x).shape
    torch.Size([1, 514, 21])
    >>> bool((codec.decode(codec.encode(x), 5000) - x).abs().max() < 1e-4)
    True
    """

    complex_pairs = True
    taper: Tensor

    def __init__(
        self,
        *,
        window: int = 512,
        hop: int = 256,
        power: float = 0.5,
        scale: float = 1.0,
        floor: float = 1e-7,
    ) -> None:
        super().__init__()
        self.window, self.hop = window, hop
        self.power, self.scale, self.floor = power, scale, floor
        self.register_buffer("taper", _unit_hann(window), persistent=False)

    def encode(self, x: Tensor) -> Tensor:
        batch, channels, length = x.shape
        x = F.pad(x.reshape(batch * channels, length), (0, -length % self.hop))
        spectrum = torch.stft(
            x, self.window, self.hop, window=self.taper, pad_mode="constant", return_complex=True
        )
        parts = torch.stack([spectrum.real, spectrum.imag], dim=1)
        parts = parts * self._compression(_energy(parts))
        return parts.reshape(batch, -1, parts.shape[-1])

    def decode(self, state: Tensor, length: int) -> Tensor:
        batch, _, frames = state.shape
        parts = state.reshape(-1, 2, self.window // 2 + 1, frames)
        parts = parts * self._expansion(_energy(parts))
        spectrum = torch.complex(parts[:, 0], parts[:, 1])
        x = torch.istft(spectrum, self.window, self.hop, window=self.taper, length=length)
        return x.reshape(batch, -1, length)

    def state_channels(self, channels: int) -> int:
        return channels * 2 * (self.window // 2 + 1)

    def _compression(self, energy: Tensor) -> Tensor:
        gain = self.floor ** (self.power - 1) * _power_ratio(energy / self.floor, self.power)
        return self.scale * gain.sqrt()

    def _expansion(self, energy: Tensor) -> Tensor:
        compressed_floor = self.scale**2 * self.floor**self.power
        gain = self.floor ** (1 - self.power) * _power_ratio(
            energy / compressed_floor, 1 / self.power
        )
        return gain.sqrt() / self.scale


def signals_of(codec: FrameTransform, state: Tensor, length: int, **options: int) -> Array:
    """The signals (B, L) of a sampler's last state (B, K, N), as float32 on the CPU.

    Args:
        codec: of the denoiser.
        state: the estimate x_hat.
        length: L.
        options: of the codec's `decode`.

    Raises:
        InputError: they hold NaN or infinite samples, as those of a model that has diverged do.
    """
    signals: Array = codec.decode(state, length, **options)[:, 0].float().cpu().numpy()
    require_finite_result(signals, of="the model's estimate")
    return signals


def _unit_hann(window: int) -> Tensor:
    """A periodic Hann window of unit energy."""
    if torch.empty(0).is_meta:
        # An outline without numbers; reckoning there would import torch's compiler.
        return torch.empty(window)
    hann = torch.hann_window(window, dtype=torch.float64)
    return (hann / hann.square().sum().sqrt()).float()


def _energy(parts: Tensor) -> Tensor:
    """Squared magnitudes (B, 1, F, N) of real and imaginary parts (B, 2, F, N)."""
    return parts.square().sum(dim=1, keepdim=True)


def _power_ratio(w: Tensor, power: float) -> Tensor:
    """((1 + w)^power - 1) / w for w >= 0, accurate and with a finite slope down to w = 0."""
    if power == 0.5:
        return 1 / (1 + (1 + w).sqrt())
    if power == 2.0:
        return 2 + w
    w = w.clamp_min(1e-6)
    return torch.expm1(power * torch.log1p(w)) / w


def moving_mean(x: Tensor, width: int) -> Tensor:
    """Means of (..., L) over `width` samples, a power of 2, half of them before each.

    At the ends of the signal, they are those of what is there of these samples. Sums are of pairs
    of pairs, so that cutting a signal changes no bit of them.

    >>> moving_mean(torch.tensor([[1.0, 3.0, 5.0, 7.0]]), 2)
    tensor([[2., 4., 6., 7.]])
    """
    padded = F.pad(torch.stack([x, torch.ones_like(x)]), (0, width // 2))
    step = 1
    while step < width:
        padded = padded + F.pad(padded, (step, 0))[..., :-step]
        step *= 2
    total, count = padded[..., width // 2 :]
    return total / count
