"""The backbone: a DiffWave-like stack of gated dilated 1-D convolutions over frames."""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from signal_diffusion.nn.blocks import (
    Dilated,
    GatedBlock,
    inferring,
    infers,
    learning,
    normalised,
)
from signal_diffusion.nn.frames import FrameTransform, Identity


class DilatedStack(Dilated):
    """Gated dilated blocks over frames with residual and skip paths and a gain-and-residual head.

    The estimate is `gain * reference + residual`, where the reference is the observation y if there
    is one and the state otherwise; the gain starts at 1 and the residual at 0. With
    `complex_pairs` the gain is complex and the log-magnitudes are given to the network too.
    No statistic crosses time: frames are normalised over channels, each on its own, so the
    receptive field is finite.

    Args:
        state_channels: K of the state (before `frames`).
        channels, hidden: width of the residual path and of the bottleneck.
        layers, dilation_cycle: block i has dilation 2^(i mod dilation_cycle).
        paired: whether an observation y comes with the state.
        cond_channels: channels of the per-frame conditioner (B, cond_channels, N), 0 for none. It
            enters with weights that start at 0, and frames of zeros are as good as none.
        complex_pairs: whether the frames' channels are real parts, then imaginary parts.
        causal: look at past frames only.
        frames: transform between the state and what the stack convolves over.
        time_channels: width of the time embedding.

    Source: Kong and others 2021 (arXiv:2009.09761) for the gated stack on samples; Zhang and others
    2020 (Deep Xi-ResNet) for bottleneck blocks over STFT frames.
    """

    def __init__(
        self,
        state_channels: int,
        *,
        channels: int = 256,
        hidden: int = 96,
        layers: int = 16,
        dilation_cycle: int = 5,
        paired: bool = False,
        cond_channels: int = 0,
        complex_pairs: bool = False,
        causal: bool = False,
        frames: FrameTransform | None = None,
        time_channels: int = 64,
    ) -> None:
        super().__init__()
        self.state_channels, self.channels, self.hidden = state_channels, channels, hidden
        self.layers, self.dilation_cycle, self.paired = layers, dilation_cycle, paired
        self.cond_channels, self.causal = cond_channels, causal
        self.time_channels = time_channels
        self.frames = frames if frames is not None else Identity()
        self.complex_pairs = complex_pairs
        width = self.frames.state_channels(state_channels)
        self.paths = width // 2 if self._complex else width
        inputs = (width + self.paths * self._complex) * (1 + paired)
        self.embedding = TimeEmbedding(time_channels)
        self.inward = nn.Linear(inputs, channels)
        self.conditioner = (
            nn.Linear(cond_channels, layers * hidden, bias=False) if cond_channels else None
        )
        self.blocks = nn.ModuleList(
            GatedBlock(channels, hidden, time_channels, shifts=shifts) for shifts in self.shifts
        )
        self.skip = nn.Linear(layers * hidden, channels)
        self.norm = nn.Parameter(torch.ones(channels))
        self.head = nn.Linear(channels, 2 * width)
        self._start()

    @property
    def _complex(self) -> bool:
        return self.complex_pairs or self.frames.complex_pairs

    def _start(self) -> None:
        if self.head.weight.is_meta:
            # An outline without numbers; drawing them there would import torch's compiler.
            return
        for block in self.blocks:
            assert isinstance(block, GatedBlock)
            nn.init.normal_(block.outward.weight, std=1 / math.sqrt(2 * self.layers * self.hidden))
            nn.init.zeros_(block.outward.bias)
        if self.conditioner is not None:
            nn.init.zeros_(self.conditioner.weight)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(
        self, x: Tensor, t: Tensor, y: Tensor | None = None, cond: Tensor | None = None
    ) -> Tensor:
        """State (B, K, N) at times t (B,) to an estimate (B, K, N)."""
        length = x.shape[-1]
        framed = [self.frames.encode(v).transpose(1, 2) for v in (x, y) if v is not None]
        h = self.inward(torch.cat([part for v in framed for part in self._features(v)], dim=-1))
        time = self.embedding(t)[:, None]
        cond = None if cond is None else cond.transpose(1, 2)
        run = inferring if infers(h) else learning
        blocks = cast("list[GatedBlock]", list(self.blocks))
        h = run(blocks, self.skip, self.conditioner, x=h, time=time, cond=cond)
        h = self.head(F.silu(normalised(h, self.norm)))
        return self.frames.decode(self._estimate(h, framed[-1]).transpose(1, 2), length)

    def _features(self, v: Tensor) -> list[Tensor]:
        if not self._complex:
            return [v]
        real, imag = v.chunk(2, dim=-1)
        return [v, 0.5 * torch.log(real.square() + imag.square() + 1e-4)]

    def _estimate(self, h: Tensor, reference: Tensor) -> Tensor:
        gain, residual = h.float().chunk(2, dim=-1)
        if not self._complex:
            return (1 + gain) * reference + residual
        real, imag = reference.chunk(2, dim=-1)
        gain_real, gain_imag = gain.chunk(2, dim=-1)
        turned = torch.cat([-imag, real], dim=-1)
        kept = reference * (1 + gain_real).repeat(1, 1, 2)
        return kept + turned * gain_imag.repeat(1, 1, 2) + residual


class TimeEmbedding(nn.Module):
    """Sines and cosines of t at octave-spaced frequencies, then a two-layer perceptron.

    Args:
        channels: width of the embedding.
        octaves: number of frequencies; the highest resolves steps of about 2^-octaves in t.
    """

    frequencies: Tensor

    def __init__(self, channels: int, *, octaves: int = 8) -> None:
        super().__init__()
        self.channels, self.octaves = channels, octaves
        # Not by torch's power, which on the meta device imports its compiler: a second.
        frequencies = torch.tensor([math.pi / 2 * 2.0**k for k in range(octaves)])
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.layers = nn.Sequential(
            nn.Linear(2 * octaves, channels), nn.SiLU(), nn.Linear(channels, channels), nn.SiLU()
        )

    def forward(self, t: Tensor) -> Tensor:
        """Times (B,) in [0, 1] to embeddings (B, channels)."""
        angles = t.to(self.frequencies)[:, None] * self.frequencies
        return self.layers(torch.cat([angles.sin(), angles.cos()], dim=-1))
