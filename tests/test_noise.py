"""Noise is a function of position, whatever the cut and the batch."""

from __future__ import annotations

import math

import pytest
import torch

from signal_diffusion.noise import BLOCK, Noise

ROWS = [(0, 0), (1, 0), (0, 1)]


@pytest.mark.parametrize("channels", [1, 514])
def test_cutting_changes_nothing(channels):
    noise = Noise(3, rows=ROWS[:2], channels=channels)
    block = BLOCK // channels
    whole = noise(2, 0, 2 * block + 17)
    for start, stop in [(0, 5), (block - 3, block + 3), (block, 2 * block), (7, 2 * block + 17)]:
        assert torch.equal(noise(2, start, stop - start), whole[..., start:stop])


def test_batching_changes_nothing():
    together = Noise(3, rows=ROWS, channels=2)(1, 10, 100)
    alone = [Noise(3, rows=[row], channels=2)(1, 10, 100) for row in ROWS]
    assert torch.equal(together, torch.cat(alone))


def test_order_of_calls_changes_nothing():
    noise = Noise(0, rows=ROWS, channels=1)
    later = noise(5, 0, 10)
    noise(4, 0, 10)
    assert torch.equal(noise(5, 0, 10), later)


@pytest.mark.parametrize(
    "other",
    [
        Noise(1, rows=[(0, 0)], channels=1)(0, 0, 4096),
        Noise(0, rows=[(1, 0)], channels=1)(0, 0, 4096),
        Noise(0, rows=[(0, 1)], channels=1)(0, 0, 4096),
        Noise(0, rows=[(0, 0)], channels=1)(1, 0, 4096),
        Noise(0, rows=[(0, 0)], channels=1)(0, BLOCK, 4096),
    ],
    ids=["seed", "channel", "shot", "call", "block"],
)
def test_every_index_gives_independent_noise(other):
    first = Noise(0, rows=[(0, 0)], channels=1)(0, 0, 4096)
    correlation = float((first * other).mean())
    assert abs(correlation) < 4.5 / math.sqrt(4096)


def test_it_is_standard_and_white():
    z = Noise(11, rows=[(0, 0)], channels=2)(0, 0, 100_000).double()
    n = z.numel()
    assert z.dtype == torch.float64 and abs(z.mean()) < 4.5 / math.sqrt(n)
    assert abs(z.var() - 1) < 4.5 * math.sqrt(2 / n)
    assert abs((z**4).mean() - 3) < 4.5 * math.sqrt(96 / n)
    for neighbour in ((z[:, :1] * z[:, 1:]), z[..., 1:] * z[..., :-1]):
        assert abs(neighbour.mean()) < 4.5 / math.sqrt(neighbour.numel())
