"""DiffWave as published: gated dilated convolutions on samples, conditioned on mel frames."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from signal_diffusion.nn.blocks import Dilated


class StepEmbedding(nn.Module):
    """The published embedding of the diffusion step, of times t = (step + 1) / steps in (0, 1].

    64 sines and cosines of `step * 10^(4 k / 63)`, those of fractional steps linear between their
    neighbours', then two layers of 512 units.
    """

    frequencies: Tensor

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        # In float32, as the published table: the angles reach 1e5 and keep its rounding.
        frequencies = 10.0 ** (torch.arange(64) * 4.0 / 63.0)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.first, self.second = nn.Linear(128, 512), nn.Linear(512, 512)

    def forward(self, t: Tensor) -> Tensor:
        """Times (B,) to embeddings (B, 512)."""
        step = (t.to(self.frequencies) * self.steps - 1)[:, None]
        low, high = self._waves(step.floor()), self._waves(step.ceil())
        waves = low + (high - low) * (step - step.floor())
        return F.silu(self.second(F.silu(self.first(waves))))

    def _waves(self, step: Tensor) -> Tensor:
        """Whole steps (B, 1) to sines and cosines (B, 128)."""
        angles = step * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class MelUpsampler(nn.Module):
    """Two transposed convolutions that stretch mel frames (B, M, N) to samples (B, M, 256 N)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (
            nn.ConvTranspose2d(1, 1, (3, 32), stride=(1, 16), padding=(1, 8)) for _ in range(2)
        )

    def forward(self, mel: Tensor) -> Tensor:
        x = F.leaky_relu(self.first(mel[:, None]), 0.4)
        return F.leaky_relu(self.second(x), 0.4)[:, 0]


class ResidualBlock(nn.Module):
    """One dilated gate with a residual and a skip output."""

    def __init__(self, channels: int, dilation: int, mels: int) -> None:
        super().__init__()
        self.step = nn.Linear(512, channels)
        self.dilated = nn.Conv1d(channels, 2 * channels, 3, padding=dilation, dilation=dilation)
        self.mel = nn.Conv1d(mels, 2 * channels, 1) if mels else None
        self.outward = nn.Conv1d(channels, 2 * channels, 1)

    def forward(self, x: Tensor, step: Tensor, mel: Tensor | None) -> tuple[Tensor, Tensor]:
        h = self.dilated(x + self.step(step)[..., None])
        if self.mel is not None and mel is not None:
            h = h + self.mel(mel)
        gate, value = h.chunk(2, dim=1)
        residual, skip = self.outward(torch.sigmoid(gate) * torch.tanh(value)).chunk(2, dim=1)
        return (x + residual) / math.sqrt(2), skip


class DiffWave(Dilated):
    """DiffWave: residuals divided by sqrt(2), skips summed and divided by sqrt(layers).

    Args:
        channels: residual channels (64 in the base model, 128 in the large one).
        layers, dilation_cycle: block i has dilation 2^(i mod dilation_cycle).
        mels: channels of the mel conditioner (B, mels, N) for signals of 256 N samples, 0 for none.
        steps: T of the discrete schedule that the step embedding counts in.

    Source: Kong and others 2021 (arXiv:2009.09761).

    >>> DiffWave().receptive_field
    6139
    """

    def __init__(
        self,
        *,
        channels: int = 64,
        layers: int = 30,
        dilation_cycle: int = 10,
        mels: int = 80,
        steps: int = 50,
    ) -> None:
        super().__init__()
        self.channels, self.layers, self.dilation_cycle = channels, layers, dilation_cycle
        self.mels, self.steps = mels, steps
        self.inward = nn.Conv1d(1, channels, 1)
        self.embedding = StepEmbedding(steps)
        self.upsampler = MelUpsampler() if mels else None
        self.blocks = nn.ModuleList(ResidualBlock(channels, d, mels) for _, d in self.shifts)
        self.skip = nn.Conv1d(channels, channels, 1)
        self.outward = nn.Conv1d(channels, 1, 1)
        self._start()

    def _start(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv1d):
                nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(self.outward.weight)

    def forward(
        self, x: Tensor, t: Tensor, y: Tensor | None = None, cond: Tensor | None = None
    ) -> Tensor:
        """State (B, 1, L) at times t (B,), with a mel spectrogram as `cond`, to an estimate."""
        mel = self.upsampler(cond) if self.upsampler is not None and cond is not None else None
        h, step = F.relu(self.inward(x)), self.embedding(t)
        total = torch.zeros_like(h)
        for block in self.blocks:
            h, skip = block(h, step, mel)
            total = total + skip
        h = F.relu(self.skip(total / math.sqrt(self.layers)))
        return self.outward(h)
