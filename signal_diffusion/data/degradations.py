"""What happens to voices and noise on their way: narrow bands, rooms, clipping, coding, whispering.

Responses are (size, bins) at frequencies 0 to half the sample rate, drawn for a whole batch.
"""

from __future__ import annotations

import io
import math

import numpy as np
import soundfile
import torch
from torch import Tensor

from signal_diffusion.data.corpus import Corpus

#: Lossy codecs: container and subtype, as libsndfile names them.
CODECS = {
    "MP3": ("MP3", "MPEG_LAYER_III"),
    "Vorbis": ("OGG", "VORBIS"),
    "Opus": ("OGG", "OPUS"),
}


def equalisers(rng: np.random.Generator, size: int, *, bins: int, spread_db: float) -> Tensor:
    """Random smooth responses (size, bins): walks over ten points, warped to hearing."""
    points = rng.standard_normal((size, 1, 10)).cumsum(axis=-1) * spread_db / 2
    points -= points.mean(axis=-1, keepdims=True)
    smooth = torch.nn.functional.interpolate(
        torch.from_numpy(points.astype(np.float32)), size=256, mode="linear", align_corners=True
    )
    warped = torch.linspace(0, 1, bins).mul(20).log1p().div(np.log(21)).mul(255).long()
    return 10 ** (smooth[:, 0, warped] / 20)


def slow_gains(rng: np.random.Generator, size: int, *, length: int) -> Tensor:
    """Slow random gains (size, length), flat for most clips."""
    return _gains(
        rng.standard_normal((size, 1, 9)) * 6.0 * (rng.random((size, 1, 1)) < 0.3), length
    )


def level_steps(rng: np.random.Generator, size: int, *, length: int, share: float) -> Tensor:
    """Gains (size, length) of which a share steps by up to 30 dB once to three times."""
    points = np.zeros((size, 1, 96))
    for row in np.flatnonzero(rng.random(size) < share):
        ends = np.sort(rng.integers(96, size=int(rng.integers(1, 4))))
        levels = rng.uniform(-30, 0, len(ends) + 1)
        levels[rng.integers(len(levels))] = 0.0
        points[row, 0] = np.repeat(levels, np.diff([0, *ends, 96]))
    return _gains(points, length)


def _gains(points: np.ndarray, length: int) -> Tensor:
    """Gains (B, length) between points (B, 1, n) in dB."""
    gains = torch.from_numpy(10 ** (points / 20)).float()
    return torch.nn.functional.interpolate(gains, size=length, mode="linear")[:, 0]


def narrow_bands(rng: np.random.Generator, size: int, *, bins: int, rate: int) -> Tensor:
    """Magnitudes of telephones and the like: a high-pass at 80 to 400 Hz, a low-pass at 2 to 7 kHz.

    Four in five have the one, seven in ten the other, of order 4 to 40 each.
    """
    frequency = np.linspace(0, rate / 2, bins, dtype=np.float32)[None]
    low = np.exp(rng.uniform(math.log(80), math.log(400), (size, 1)))
    low = np.where(rng.random((size, 1)) < 0.8, low, 1e-3).astype(np.float32)
    high = np.exp(rng.uniform(math.log(2000), math.log(7000), (size, 1)))
    high = np.where(rng.random((size, 1)) < 0.7, high, 1e6).astype(np.float32)
    steep = np.exp(rng.uniform(math.log(4), math.log(40), (2, size, 1))).astype(np.float32)
    passed = [
        torch.from_numpy(ratio).clamp(1e-3, 1e3).log().mul(torch.from_numpy(2 * order)).sigmoid()
        for ratio, order in ((frequency / low, steep[0]), (high / (frequency + 1e-3), steep[1]))
    ]
    return (passed[0] * passed[1]).sqrt()


def made_rooms(rng: np.random.Generator, size: int, *, length: int, rate: int) -> Tensor:
    """Responses (size, length) of a direct path, then noise 3 to 20 dB below it that decays."""
    seconds = np.exp(rng.uniform(math.log(0.05), math.log(0.8), (size, 1)))
    tail = rng.standard_normal((size, length)) * np.exp(-6.9 * np.arange(length) / (rate * seconds))
    tail /= np.linalg.norm(tail, axis=1, keepdims=True)
    tail *= 10 ** (rng.uniform(-20, -3, (size, 1)) / 20)
    tail[:, 0] = 1.0
    return torch.from_numpy(tail.astype(np.float32))


def real_rooms(rng: np.random.Generator, rooms: Corpus, size: int, *, length: int) -> Tensor:
    """Responses (size, length) of measured rooms, a third of them made drier by a further decay."""
    found = np.zeros((size, length), np.float32)
    for row, index in zip(found, rng.integers(len(rooms), size=size), strict=True):
        response = rooms.clip(int(index))[:length]
        row[: len(response)] = response
    seconds = np.where(rng.random((size, 1)) < 1 / 3, rng.uniform(0.1, 1.0, (size, 1)), 60.0)
    found *= np.exp(-6.9 * np.arange(length) / (rooms.sample_rate * seconds))
    fade = min(length, 1024)
    found[:, -fade:] *= np.linspace(1, 0, fade)
    found /= np.linalg.norm(found, axis=1, keepdims=True) + 1e-9
    return torch.from_numpy(found.astype(np.float32))


def clipped(rng: np.random.Generator, x: Tensor) -> Tensor:
    """Signals (B, L) without what is above 0.2 to 0.8 of their peak."""
    share = torch.from_numpy(rng.uniform(0.2, 0.8, (len(x), 1)).astype(np.float32))
    most = x.abs().amax(dim=-1, keepdim=True) * share
    return x.clamp(-most, most)


def coded(rng: np.random.Generator, x: Tensor, *, rate: int) -> Tensor:
    """Signals (B, L) coded by mu-law, MP3, Vorbis or Opus, at low bit rates and random levels."""
    share = torch.from_numpy(rng.uniform(0.1, 0.9, (len(x), 1)).astype(np.float32))
    scale = share / (x.abs().amax(dim=-1, keepdim=True) + 1e-9)
    kinds = rng.choice(["mu-law", *CODECS], len(x), p=[0.3, 0.35, 0.15, 0.2])
    rows = [
        _companded(row) if kind == "mu-law" else _compressed(rng, row, str(kind), rate=rate)
        for row, kind in zip(x * scale, kinds, strict=True)
    ]
    return torch.stack(rows) / scale if rows else x


def _companded(x: Tensor) -> Tensor:
    """A signal (L,) within full scale in the eight bits of mu-law."""
    squeezed = x.sign() * (255 * x.abs()).log1p() / math.log(256)
    steps = (squeezed * 127).round() / 127
    return steps.sign() * torch.expm1(steps.abs() * math.log(256)) / 255


def _compressed(rng: np.random.Generator, x: Tensor, codec: str, *, rate: int) -> Tensor:
    """A signal (L,) encoded and decoded, whose delay the decoders remove."""
    container, subtype = CODECS[codec]
    file = io.BytesIO()
    options = {"format": container, "subtype": subtype}
    level = float(rng.uniform(0.7, 1.0))
    with soundfile.SoundFile(file, "w", rate, 1, compression_level=level, **options) as coder:
        coder.write(x.numpy())
    file.seek(0)
    made = soundfile.read(file, dtype="float32")[0][: len(x)]
    return torch.from_numpy(np.pad(made, (0, len(x) - len(made))))


def whispered(rng: np.random.Generator, piece: np.ndarray) -> np.ndarray:
    """A voice (L,) without a pitch: noise with its smoothed spectrum, 2 to 8 dB brighter an octave.

    It stands in for whispering, which the recordings to train on don't hold.
    """
    window = torch.hann_window(400)
    spectrum = torch.stft(torch.from_numpy(piece), 400, 100, window=window, return_complex=True)
    power = torch.nn.functional.avg_pool1d(spectrum.abs().square().t()[None], 9, 1, 4)[0].t()
    tilt = torch.linspace(0.02, 1, len(power)) ** (rng.uniform(2, 8) / 6.02)
    noise = torch.from_numpy(rng.standard_normal(len(piece), dtype=np.float32))
    carrier = torch.stft(noise, 400, 100, window=window, return_complex=True)
    made = torch.istft(
        carrier * (power.sqrt() * tilt[:, None]), 400, 100, window=window, length=len(piece)
    )
    level = np.sqrt(np.mean(piece**2)) / (np.sqrt(np.mean(made.numpy() ** 2)) + 1e-9)
    return np.asarray(made.numpy() * level, np.float32)
