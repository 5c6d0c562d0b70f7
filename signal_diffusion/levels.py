"""The level of a recording, as it is normalised before a network sees it."""

from __future__ import annotations

import torch
from torch import Tensor

SILENCE_DB = -80.0


def level_db(x: Tensor, *, frame: int = 512) -> Tensor:
    """Level of the loud frames of signals (..., L), in dB of full scale, shaped (..., 1).

    The 95th percentile of the frames' mean squares: a mean over a mostly silent recording would
    make its noise loud. Silent recordings give `SILENCE_DB`.

    >>> import torch
    >>> level_db(torch.full((1, 4096), 0.1)).round()
    tensor([[-20.]])
    """
    frame = min(frame, x.shape[-1])
    energies = x.unfold(-1, frame, frame).square().mean(dim=-1)
    loud = torch.quantile(energies, 0.95, dim=-1, keepdim=True)
    return 10 * torch.log10(loud.clamp_min(10 ** (SILENCE_DB / 10)))
