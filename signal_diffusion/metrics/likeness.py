"""How alike short signals sound or look, whatever their level and where they begin.

An imprint is a signal's log-mel frames above a floor that lies `RANGE_DB` under its own loudest
band, from 0 (at or under the floor) to 1, so that a gain changes nothing and silence around a
signal is zeros. The distance of two imprints a and b is

    d = min over shifts s of sqrt(|a - b_s|^2 / (|a|^2 + |b|^2)),

0 for the same signal and 1 for signals that share no place in time and frequency; it is relative,
so that short signals, which have much silence in common, are no nearer than long ones. Zeros on
both sides make |b_s| = |b|, and the distances of all pairs are matrix products.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from signal_diffusion.errors import InputError
from signal_diffusion.metrics.closeness import Signal
from signal_diffusion.nn.mel import LEAST, Mel

#: Under a signal's loudest band, in dB.
RANGE_DB = 50.0
#: Seconds of a window, of which frames are a quarter apart, and the most bands.
WINDOW, BANDS = 0.064, 32
#: Share of the frames that signals are shifted by, at most, in either direction.
SHIFT = 0.25
#: Signals whose spectra, and rows and columns of pairs whose products, are held at once.
SIGNALS, ROWS, COLUMNS = 256, 512, 4096


def imprint_mel(sample_rate: int) -> Mel:
    """The frames that imprints at a rate in Hz are made of.

    >>> imprint_mel(8000).window, imprint_mel(8000).hop
    (512, 128)
    """
    window = max(64, 2 ** round(math.log2(WINDOW * sample_rate)))
    return Mel(sample_rate, window, window // 4, min(BANDS, window // 8))


def imprints(signals: Signal, *, sample_rate: int) -> Tensor:
    """Signals (n, L) at a rate in Hz to imprints (n, N, bands) in [0, 1], float32.

    >>> imprints(torch.zeros(2, 8000), sample_rate=8000).shape
    torch.Size([2, 63, 32])
    """
    x = torch.as_tensor(signals)
    if x.ndim != 2 or not x.numel():
        raise InputError(f"signals have the shape {tuple(x.shape)}: pass (n, L), neither 0")
    mel = imprint_mel(sample_rate)
    return torch.cat([_imprint(mel(part.float())) for part in x.split(SIGNALS)])


def _imprint(log_mel: Tensor) -> Tensor:
    """Log-mel frames (n, bands, N) to imprints (n, N, bands)."""
    span = RANGE_DB / 10 * math.log(10)
    top = log_mel.amax(dim=(1, 2), keepdim=True)
    # What is silent throughout has no loudest band, and no imprint.
    top = torch.where(top > math.log(LEAST), top, top + span)
    return (1 + (log_mel - top) / span).clamp_min(0).transpose(1, 2).contiguous()


def distances(a: Tensor, b: Tensor, *, shift: float = SHIFT) -> Tensor:
    """Distances (n, m), from 0 to 1, of imprints (n, N, bands) and (m, N, bands).

    Args:
        a, b: see `imprints`, of signals of one length and rate.
        shift: share of the frames that one is shifted against the other, at most.

    Raises:
        InputError: the frames or bands differ.

    >>> one = torch.zeros(1, 8, 2)
    >>> one[0, 3:5] = 1
    >>> later = one.roll(1, dims=1)
    >>> distances(one, torch.cat([one, later, 1 - one])).round(decimals=3)
    tensor([[0.0000, 0.0000, 0.7070]])
    """
    if a.shape[1:] != b.shape[1:]:
        raise InputError(f"imprints are {tuple(a.shape)} and {tuple(b.shape)}: use one length")
    frames, bands = a.shape[1:]
    most = round(shift * frames)
    flat_a, flat_b, size = a.flatten(1), b.flatten(1), frames * bands
    alike = a.new_zeros(len(a), len(b))
    for cut in range(0, (most + 1) * bands, bands):
        torch.maximum(alike, flat_a[:, cut:] @ flat_b[:, : size - cut].T, out=alike)
        torch.maximum(alike, flat_a[:, : size - cut] @ flat_b[:, cut:].T, out=alike)
    energy = flat_a.square().sum(1)[:, None] + flat_b.square().sum(1)
    return (1 - 2 * alike / energy.clamp_min(1e-9)).clamp_min(0).sqrt()


def nearest(
    a: Tensor,
    b: Tensor,
    *,
    itself: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Of each imprint of a (n, N, bands), the least distance to one of b, and its place: (n,) each.

    Args:
        itself: a and b are the same, and each is compared with the others only.
        progress: called as progress(done pairs, all pairs).

    Raises:
        InputError: the frames or bands differ, or there is nothing to compare with.
    """
    if len(b) < 1 + itself:
        raise InputError(f"there are {len(b)} signals to compare with: give more")
    least = torch.full((len(a),), math.inf)
    place = torch.zeros(len(a), dtype=torch.long)
    done = 0
    for row in range(0, len(a), ROWS):
        rows = slice(row, row + ROWS)
        for column in range(0, len(b), COLUMNS):
            found = distances(a[rows], b[column : column + COLUMNS])
            if itself:
                found.diagonal(row - column).fill_(math.inf)
            value, index = found.min(1)
            nearer = value < least[rows]
            least[rows] = torch.where(nearer, value, least[rows])
            place[rows] = torch.where(nearer, index + column, place[rows])
            done += found.numel()
            if progress is not None:
                progress(done, len(a) * len(b))
    return least, place
