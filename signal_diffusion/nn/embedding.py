"""Embeddings of the diffusion time."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


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
