"""Speech mixed on the fly with noise, and noise made on the fly from little: batches as tensors.

Every batch is a function of the generator that it is given, so (seed, step) names it. Filtering,
change of speed and rooms are one multiplication in the frequency domain for a whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from signal_diffusion.data.batches import Batch
from signal_diffusion.data.corpus import Corpus
from signal_diffusion.dsp.levels import level_db
from signal_diffusion.errors import InputError

#: Lengths of the input piece for an output of 36864 samples: the speeds 0.89 to 1.10, chosen for
#: quick Fourier transforms.
OUTPUT = 36864


ECHO = 2048


SPEEDS = (32768, 34560, 36000, 36864, 37500, 38400, 40500)


@dataclass(frozen=True)
class Mixer:
    """Draws batches of (clean, noisy) pairs.

    Args:
        speech: what is wanted.
        noise: recordings of noise.
        music: further recordings that serve as noise, or None.
        length: samples of a clip, at most `OUTPUT - ECHO`.
        snr_db: range of the signal-to-noise ratio over the active parts of the speech.
        shares: how often the noise is one recording, two at once, two with their phases scattered
            (a stationary noise of the same spectrum), babble of several speakers of `speech`,
            music, or made from random numbers.
        speech_eq_db, noise_eq_db: standard deviation of the equalisers.
        room: share of the clips with a simple room: noise that decays in 0.05 to 0.5 s.
        band_limited: share of the clips without anything above a random cutoff.
        noise_only, speech_only: share of the clips without any speech, or without any noise.
        level_jitter_db: standard deviation of the level around the normalised one.
        groups: share of each group of the speech; groups not named share the rest by their size.
    """

    speech: Corpus
    noise: Corpus
    music: Corpus | None = None
    length: int = 32768
    snr_db: tuple[float, float] = (-5.0, 20.0)
    shares: dict[str, float] = field(
        default_factory=lambda: {
            "one": 0.35,
            "two": 0.2,
            "scattered": 0.1,
            "babble": 0.17,
            "music": 0.06,
            "made": 0.12,
        }
    )
    speech_eq_db: float = 2.5
    noise_eq_db: float = 7.0
    room: float = 0.2
    band_limited: float = 0.05
    noise_only: float = 0.03
    speech_only: float = 0.02
    level_db: float = 0.0
    level_jitter_db: float = 2.0
    groups: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 512 <= self.length <= OUTPUT - ECHO:
            raise InputError(f"length is {self.length} samples; choose 512 to {OUTPUT - ECHO}")

    def __call__(self, rng: np.random.Generator, size: int) -> Batch:
        """A batch of `size` clips."""
        speech, voices = self._speech(rng, size)
        noise, noises = self._noise(rng, size)
        clean = _filtered(speech, self._speech_response(rng, size))[:, -self.length :]
        noise = _filtered(noise, _equaliser(rng, size, self.noise_eq_db))[:, -self.length :]
        noise = noise * _modulation(rng, size, self.length)
        clean, noise = self._limit_bands(rng, clean, noise)
        names = [f"{v} + {n}" for v, n in zip(voices, noises, strict=True)]
        clean, noisy = self._at_snr(rng, clean, noise)
        return Batch(clean[:, None], noisy[:, None], names)

    def _speech(self, rng: np.random.Generator, size: int) -> tuple[Tensor, list[str]]:
        taken = int(rng.choice(SPEEDS))
        picks = rng.choice(len(self.speech), size, p=clip_weights(self.speech, self.groups))
        pieces = [self.speech.crop(rng, int(i), taken) for i in picks]
        return _stack(pieces), [self.speech.clips[i].name for i in picks]

    def _noise(self, rng: np.random.Generator, size: int) -> tuple[Tensor, list[str]]:
        taken = int(rng.choice(SPEEDS))
        kinds = [k for k in self.shares if k != "music" or self.music is not None]
        shares = np.array([self.shares[k] for k in kinds])
        drawn = rng.choice(kinds, size, p=shares / shares.sum())
        made = [getattr(self, f"_{kind}")(rng, taken) for kind in drawn]
        return _stack([piece for piece, _ in made]), [name for _, name in made]

    def _one(self, rng: np.random.Generator, length: int) -> tuple[np.ndarray, str]:
        return _piece(rng, self.noise, length)

    def _two(self, rng: np.random.Generator, length: int) -> tuple[np.ndarray, str]:
        (first, a), (second, b) = self._one(rng, length), self._one(rng, length)
        return first + 10 ** (rng.uniform(-15, 0) / 20) * second, f"{a} + {b}"

    def _scattered(self, rng: np.random.Generator, length: int) -> tuple[np.ndarray, str]:
        piece, name = self._two(rng, length)
        turns = np.exp(2j * np.pi * rng.random(length // 2 + 1))
        noise = np.fft.irfft(np.fft.rfft(piece) * turns, length)
        return noise.astype(np.float32), f"scattered {name}"

    def _music(self, rng: np.random.Generator, length: int) -> tuple[np.ndarray, str]:
        assert self.music is not None
        return _piece(rng, self.music, length)

    def _babble(self, rng: np.random.Generator, length: int) -> tuple[np.ndarray, str]:
        voices = int(rng.integers(3, 9))
        pieces = [_piece(rng, self.speech, length)[0] for _ in range(voices)]
        mixed = sum(10 ** (rng.uniform(-10, 0) / 20) * piece for piece in pieces)
        if rng.random() < 0.5:
            mixed = mixed + 10 ** (rng.uniform(-15, 0) / 20) * self._one(rng, length)[0]
        return np.asarray(mixed, np.float32), f"babble of {voices}"

    def _made(self, rng: np.random.Generator, length: int) -> tuple[np.ndarray, str]:
        noise = rng.standard_normal(length, dtype=np.float32)
        time = np.arange(length, dtype=np.float32) / self.speech.sample_rate
        if rng.random() < 0.3:
            noise = 0.1 * noise + _hum(rng, time)
        if rng.random() < 0.2:
            clicks = (rng.random(length) < rng.uniform(1e-4, 1e-3)).astype(np.float32)
            noise = 0.3 * noise + 10 * clicks * rng.standard_normal(length, dtype=np.float32)
        return noise, "made noise"

    def _speech_response(self, rng: np.random.Generator, size: int) -> Tensor:
        response = _equaliser(rng, size, self.speech_eq_db)
        rooms = torch.from_numpy(rng.random(size) < self.room)
        if not rooms.any():
            return response
        return torch.where(
            rooms[:, None], response * _rooms(rng, size, self.speech.sample_rate), response
        )

    def _limit_bands(
        self, rng: np.random.Generator, clean: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        rows = np.flatnonzero(rng.random(len(clean)) < self.band_limited)
        for row in rows:
            bins = self.length // 2 + 1
            cutoff = int(bins * rng.uniform(0.35, 0.9))
            spectra = torch.fft.rfft(torch.stack([clean[row], noise[row]]))
            spectra[:, cutoff:] = 0
            clean[row], noise[row] = torch.fft.irfft(spectra, self.length)
        return clean, noise

    def _at_snr(
        self, rng: np.random.Generator, clean: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        snr = torch.from_numpy(rng.uniform(*self.snr_db, len(clean)).astype(np.float32))
        gain = _active_rms(clean) / (_active_rms(noise) * 10 ** (snr[:, None] / 20) + 1e-9)
        kind = torch.from_numpy(rng.random((len(clean), 1)))
        clean = torch.where(kind < self.noise_only, 0.0, clean)
        noise = torch.where(kind > 1 - self.speech_only, 0.0, noise * gain.clamp_max(1e4))
        jitter = rng.standard_normal((len(clean), 1)).astype(np.float32) * self.level_jitter_db
        wanted = self.level_db + torch.from_numpy(jitter)
        level = 10 ** ((wanted - level_db(clean + noise)) / 20)
        return clean * level, (clean + noise) * level


def clip_weights(corpus: Corpus, groups: dict[str, float]) -> np.ndarray:
    """Probability of each clip: by its length, with the shares of some groups given."""
    lengths = (corpus.ends - corpus.starts).astype(np.float64)
    names = np.array([clip.group for clip in corpus.clips])
    rest = 1.0 - sum(share for name, share in groups.items() if (names == name).any())
    weights = np.where(np.isin(names, list(groups)), 0.0, lengths)
    weights *= rest / max(weights.sum(), 1e-9)
    for name, share in groups.items():
        rows = names == name
        weights[rows] = share * lengths[rows] / max(lengths[rows].sum(), 1e-9)
    return weights / weights.sum()


def _piece(rng: np.random.Generator, corpus: Corpus, length: int) -> tuple[np.ndarray, str]:
    index = int(rng.integers(len(corpus)))
    piece = corpus.crop(rng, index, length)
    return piece / (np.sqrt(np.mean(piece**2)) + 1e-5), corpus.clips[index].name


def _stack(pieces: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(pieces))


def _filtered(pieces: Tensor, response: Tensor) -> Tensor:
    """Pieces (B, n) resampled to `OUTPUT` samples and filtered by responses (B, OUTPUT // 2 + 1).

    The transform is circular: the end of a room's echo wraps into the first `ECHO` samples.
    """
    spectrum = torch.fft.rfft(pieces)
    bins = min(spectrum.shape[-1], response.shape[-1])
    spectrum = spectrum[:, :bins] * response[:, :bins]
    return torch.fft.irfft(spectrum, OUTPUT) * (OUTPUT / pieces.shape[-1])


def _equaliser(rng: np.random.Generator, size: int, spread_db: float) -> Tensor:
    """Random smooth responses (size, OUTPUT // 2 + 1): walks over ten points, warped to hearing."""
    points = rng.standard_normal((size, 1, 10)).cumsum(axis=-1) * spread_db / 2
    points -= points.mean(axis=-1, keepdims=True)
    smooth = torch.nn.functional.interpolate(
        torch.from_numpy(points.astype(np.float32)), size=256, mode="linear", align_corners=True
    )
    warped = torch.linspace(0, 1, OUTPUT // 2 + 1).mul(20).log1p().div(np.log(21)).mul(255).long()
    return 10 ** (smooth[:, 0, warped] / 20)


def _rooms(rng: np.random.Generator, size: int, rate: int) -> Tensor:
    """Spectra of rooms: a direct path, then noise 3 to 20 dB below it that decays exponentially."""
    seconds = rng.uniform(0.05, 0.5, (size, 1))
    tail = rng.standard_normal((size, ECHO)) * np.exp(-6.9 * np.arange(ECHO) / (rate * seconds))
    tail /= np.linalg.norm(tail, axis=1, keepdims=True)
    tail *= 10 ** (rng.uniform(-20, -3, (size, 1)) / 20)
    tail[:, 0] = 1.0
    return torch.fft.rfft(torch.from_numpy(tail.astype(np.float32)), OUTPUT)


def _modulation(rng: np.random.Generator, size: int, length: int) -> Tensor:
    """Slow random gains (size, length), flat for most clips."""
    points = rng.standard_normal((size, 1, 9)) * 6.0 * (rng.random((size, 1, 1)) < 0.3)
    gain = torch.nn.functional.interpolate(
        torch.from_numpy(10 ** (points / 20)).float(), size=length, mode="linear"
    )
    return gain[:, 0]


def _hum(rng: np.random.Generator, time: np.ndarray) -> np.ndarray:
    mains, orders = rng.choice([50.0, 60.0]) * rng.uniform(0.99, 1.01), np.arange(1, 9)
    gains = rng.standard_normal(8) / orders
    phases = 2 * np.pi * (mains * orders[:, None] * time + rng.random((8, 1)))
    return (gains[:, None] * np.sin(phases)).sum(axis=0).astype(np.float32)


def _active_rms(x: Tensor, frame: int = 512) -> Tensor:
    """Root mean square (B, 1) over the frames within 30 dB of the loudest."""
    energies = x.unfold(-1, frame, frame).square().mean(dim=-1)
    active = energies >= 1e-3 * energies.amax(dim=-1, keepdim=True)
    return ((energies * active).sum(-1, keepdim=True) / active.sum(-1, keepdim=True)).sqrt()
