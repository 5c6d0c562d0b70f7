"""Clean recordings and noise, mixed at a signal-to-noise ratio."""

from __future__ import annotations

import hashlib

import numpy as np

from signal_diffusion.errors import InputError
from signal_diffusion.recordings import resample
from signal_diffusion.tasks.buffers import Array
from signal_diffusion.tasks.readings import Readings

#: Of a mix of sound, so that it fits into any sample format.
PEAK = 0.98


def rng_of(seed: int, name: str) -> np.random.Generator:
    """What follows from a seed and a name alone."""
    return np.random.default_rng([seed, int(hashlib.sha256(name.encode()).hexdigest()[:16], 16)])


def mixed(
    clean: Readings, noise: Readings, snr: float, rng: np.random.Generator
) -> tuple[Array, Array]:
    """The noisy and the clean recording, (C, L) each, at an SNR in dB over the whole recording.

    A stretch of the noise is drawn, which begins anew where it ends. Sound has one noise, the mean
    of its channels, in all channels, and both are turned down together where they exceed `PEAK`.
    Of readings each channel, in units of its own, has that SNR, with the noise's channels in turn;
    powers are those about the mean.

    Raises:
        InputError: the recording, a channel of it, or the noise is silent.
    """
    x, table = clean.samples, clean.table
    added = _stretch(clean, noise, rng)
    middle = x.mean(axis=1, keepdims=True) if table else 0
    powers = _power(x - middle, each=table), _power(added, each=table)
    for held, power in zip((clean, noise), powers, strict=True):
        if power.min() == 0:
            raise InputError(f"{held.path} is silent: it can't be mixed at {snr:g} dB")
    noisy = x + added * np.sqrt(powers[0] / powers[1] / 10 ** (snr / 10))
    if table:
        return noisy, x
    gain = min(1.0, PEAK / float(np.abs(noisy).max()))
    return (gain * noisy).astype(np.float32), (gain * x).astype(np.float32)


def _power(x: Array, *, each: bool) -> Array:
    """Mean square (C, 1) of each channel, or () of all."""
    squares = np.square(x, dtype=np.float64)
    return np.asarray(squares.mean(axis=1, keepdims=True) if each else squares.mean())


def _stretch(clean: Readings, noise: Readings, rng: np.random.Generator) -> Array:
    """As much noise as the recording is long, (1, L) for sound and (C, L) for readings."""
    held, length = noise.samples, clean.samples.shape[1]
    if not clean.table:
        held = held.mean(axis=0, keepdims=True)
    held = resample(held, noise.sample_rate, clean.sample_rate)
    start = int(rng.integers(max(1, held.shape[1] - length + 1)))
    cut = np.stack([np.resize(channel[start:], length) for channel in held])
    if not clean.table:
        return cut
    return (cut - cut.mean(axis=1, keepdims=True))[np.arange(len(clean.samples)) % len(cut)]
