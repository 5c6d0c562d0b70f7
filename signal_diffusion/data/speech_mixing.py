"""Speech mixed on the fly with noise, and noise made on the fly from little: batches as tensors.

Every batch is a function of the generator that it is given, so (seed, step) names it. Filtering,
change of speed and rooms are one multiplication in the frequency domain for a whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from signal_diffusion.data.batches import Batch
from signal_diffusion.data.corpus import Corpus, clip_weights
from signal_diffusion.data.degradations import (
    clipped,
    coded,
    equalisers,
    level_steps,
    made_rooms,
    narrow_bands,
    real_rooms,
    slow_gains,
    whispered,
)
from signal_diffusion.dsp.levels import level_db
from signal_diffusion.errors import InputError

#: Lengths of the input piece for an output of 65536 samples: the speeds 0.89 to 1.10, and 1.25 for
#: voices as high as a child's, chosen for quick Fourier transforms.
OUTPUT = 65536
ECHO = 16384
SPEEDS = (58320, 61440, 62500, 64000, 65536, 67500, 69120, 72000, 82944)


@dataclass(frozen=True)
class Mixer:
    """Draws batches of (clean, noisy) pairs.

    Args:
        speech: what is wanted.
        noise: recordings of noise.
        music: further recordings that serve as noise, or None.
        rooms: impulse responses of rooms, or None.
        length: samples of a clip, at most `OUTPUT - ECHO`.
        snr_db: range of the signal-to-noise ratio over the active parts of the speech.
        usual_snr_db, usual: range that it has in a share of the clips.
        least_snr_db: least ratio to kinds of noise that could be taken for what is wanted.
        shares: how often the noise is one recording, two at once, two with their phases scattered
            (a stationary noise of the same spectrum), babble of one to eight speakers of `speech`,
            music, music with a recording of noise, a tune made of the music's notes, or made from
            random numbers.
        speech_eq_db, noise_eq_db: standard deviation of the equalisers.
        room, real_room: share of the clips with a made room and with one of `rooms`, which is part
            of what is wanted: a voice keeps the whole of its reverberation.
        noise_room: share of the noises with a room, of either kind.
        band_limited: share of the clips in a narrow band, as by a telephone; of those, nine in ten
            have the noise in it, too.
        whispered: share of the voices that whisper.
        clipped, coded: share of the mixtures that are clipped, or coded by mu-law, MP3, Vorbis or
            Opus, as what is wanted is not.
        noise_only, speech_only: share of the clips without any speech, or without any noise.
        level_jitter_db: standard deviation of the level around the normalised one.
        quiet, quiet_db: share of the clips that are quieter, as of a talker beside a louder one,
            and by how many dB at most.
        uneven: share of the clips whose level changes in steps.
        groups, noise_groups, music_groups: share of each group of the speech, noise and music;
            groups not named share the rest by their size.
        balance: a recording is drawn as often as its source's length to this power says: 1 draws
            every second alike, 0 every source.
    """

    speech: Corpus
    noise: Corpus
    music: Corpus | None = None
    rooms: Corpus | None = None
    length: int = 32768
    snr_db: tuple[float, float] = (-5.0, 20.0)
    usual_snr_db: tuple[float, float] = (0.0, 15.0)
    usual: float = 0.0
    least_snr_db: dict[str, float] = field(default_factory=dict)
    shares: dict[str, float] = field(
        default_factory=lambda: {
            "one": 0.35,
            "two": 0.2,
            "scattered": 0.1,
            "babble": 0.17,
            "music": 0.06,
            "accompanied": 0.0,
            "tune": 0.0,
            "made": 0.12,
        }
    )
    speech_eq_db: float = 2.5
    noise_eq_db: float = 7.0
    room: float = 0.2
    real_room: float = 0.0
    noise_room: float = 0.0
    band_limited: float = 0.05
    whispered: float = 0.0
    clipped: float = 0.0
    coded: float = 0.0
    noise_only: float = 0.03
    speech_only: float = 0.02
    level_db: float = 0.0
    level_jitter_db: float = 2.0
    quiet: float = 0.0
    quiet_db: float = 35.0
    uneven: float = 0.0
    groups: dict[str, float] = field(default_factory=dict)
    noise_groups: dict[str, float] = field(default_factory=dict)
    music_groups: dict[str, float] = field(default_factory=dict)
    balance: float = 1.0

    def __post_init__(self) -> None:
        if not 512 <= self.length <= OUTPUT - ECHO:
            raise InputError(f"length is {self.length} samples; choose 512 to {OUTPUT - ECHO}")

    def __call__(self, rng: np.random.Generator, size: int) -> Batch:
        """A batch of `size` clips."""
        speech, voices = self._speech(rng, size)
        noise, noises, kinds = self._noise(rng, size)
        response = equalisers(rng, size, bins=OUTPUT // 2 + 1, spread_db=self.speech_eq_db)
        response = self._in_rooms(rng, response, self.room, self.real_room)
        noise_response = equalisers(rng, size, bins=OUTPUT // 2 + 1, spread_db=self.noise_eq_db)
        noise_response = self._in_rooms(
            rng, noise_response, self.noise_room / 2, self.noise_room / 2
        )
        response, noise_response = self._limit_bands(rng, response, noise_response)
        clean = _filtered(speech, response)[:, -self.length :]
        noise = _filtered(noise, noise_response)[:, -self.length :]
        noise = noise * slow_gains(rng, size, length=self.length)
        names = [f"{v} + {n}" for v, n in zip(voices, noises, strict=True)]
        clean, noisy = self._at_snr(rng, clean, noise, kinds=kinds)
        return Batch(clean[:, None], noisy[:, None], names)

    def _speech(self, rng: np.random.Generator, size: int) -> tuple[Tensor, list[str]]:
        taken = int(rng.choice(SPEEDS))
        drawn = [self._voice(rng, taken) for _ in range(size)]
        return _stack([piece for piece, _ in drawn]), [name for _, name in drawn]

    def _voice(self, rng: np.random.Generator, length: int) -> tuple[np.ndarray, str]:
        index = _drawn(rng, self._odds["speech"])
        piece, name = self.speech.crop(rng, index, length), self.speech.clips[index].name
        if rng.random() >= self.whispered:
            return piece, name
        return whispered(rng, piece), f"whispered {name}"

    @cached_property
    def _odds(self) -> dict[str, np.ndarray]:
        """Sums of the probabilities of the clips of each corpus, up to each of them."""
        drawn = {
            "speech": (self.speech, self.groups, 1.0),
            "noise": (self.noise, self.noise_groups, self.balance),
            "music": (self.music, self.music_groups, self.balance),
        }
        return {
            name: clip_weights(corpus, dict(groups), balance=balance).cumsum()
            for name, (corpus, groups, balance) in drawn.items()
            if corpus is not None
        }

    def _noise(self, rng: np.random.Generator, size: int) -> tuple[Tensor, list[str], list[str]]:
        taken = int(rng.choice(SPEEDS[:-1]))
        tuned = "music", "accompanied", "tune"
        kinds = [k for k in self.shares if k not in tuned or self.music is not None]
        shares = np.array([self.shares[k] for k in kinds])
        drawn = [str(kind) for kind in rng.choice(kinds, size, p=shares / shares.sum())]
        made = [getattr(self, f"_{kind}")(rng, taken) for kind in drawn]
        return _stack([piece for piece, _ in made]), [name for _, name in made], drawn

    def _one(self, rng: np.random.Generator, length: int) -> tuple[np.ndarray, str]:
        return _piece(rng, self.noise, length, odds=self._odds["noise"])

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
        piece, name = _piece(rng, self.music, length, odds=self._odds["music"])
        if rng.random() < 0.6:
            return piece, name
        other, beside = _piece(rng, self.music, length, odds=self._odds["music"])
        return piece + 10 ** (rng.uniform(-10, 0) / 20) * other, f"{name} + {beside}"

    def _accompanied(self, rng: np.random.Generator, length: int) -> tuple[np.ndarray, str]:
        (tune, a), (noise, b) = self._music(rng, length), self._one(rng, length)
        return tune + 10 ** (rng.uniform(-10, 10) / 20) * noise, f"{a} + {b}"

    def _tune(self, rng: np.random.Generator, length: int) -> tuple[np.ndarray, str]:
        """Notes and hits of the music's recordings to a beat, since long pieces are few."""
        assert self.music is not None
        tune = np.zeros(length, np.float32)
        beat = int(self.music.sample_rate * rng.uniform(0.12, 0.4))
        played = rng.integers(len(self.music), size=int(rng.integers(3, 9)))
        for start in range(-int(rng.integers(beat)), length, beat):
            for index in rng.choice(played, int(rng.integers(0, 4))):
                first = int(self.music.starts[index])
                last = min(int(self.music.ends[index]), first + 2 * self.music.sample_rate)
                note = self.music.samples[first:last][max(0, -start) : length - start]
                end = max(0, start) + len(note)
                tune[max(0, start) : end] += note * np.float32(rng.uniform(0.2, 1) / 32768)
        return tune / (np.sqrt(np.mean(tune**2)) + 1e-5), f"tune of {len(played)}"

    def _babble(self, rng: np.random.Generator, length: int) -> tuple[np.ndarray, str]:
        voices = int(rng.integers(1, 9))
        odds = self._odds["speech"]
        pieces = [_piece(rng, self.speech, length, odds=odds)[0] for _ in range(voices)]
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

    def _in_rooms(
        self, rng: np.random.Generator, response: Tensor, made: float, real: float
    ) -> Tensor:
        """Responses (B, bins), some of them with that of a room, at which `OUTPUT` is circular."""
        size, kind = len(response), rng.random(len(response))
        rows = np.flatnonzero(kind < made)
        rooms = [made_rooms(rng, len(rows), length=ECHO, rate=self.speech.sample_rate)]
        if self.rooms is not None:
            measured = np.flatnonzero(kind > 1 - real)
            rooms.append(real_rooms(rng, self.rooms, len(measured), length=ECHO))
            rows = np.concatenate([rows, measured])
        if not len(rows):
            return response
        spectra = torch.ones(size, response.shape[-1], dtype=torch.complex64)
        spectra[torch.from_numpy(rows)] = torch.fft.rfft(torch.cat(rooms), OUTPUT)
        return response * spectra

    def _limit_bands(
        self, rng: np.random.Generator, response: Tensor, noise_response: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Responses to speech and noise (B, bins), some of them in a narrow band."""
        size, bins = len(response), response.shape[-1]
        kind = torch.from_numpy(rng.random((size, 1)))
        if not bool((kind < self.band_limited).any()):
            return response, noise_response
        bands = narrow_bands(rng, size, bins=bins, rate=self.speech.sample_rate)
        return (
            torch.where(kind < self.band_limited, response * bands, response),
            torch.where(kind < 0.9 * self.band_limited, noise_response * bands, noise_response),
        )

    def _at_snr(
        self, rng: np.random.Generator, clean: Tensor, noise: Tensor, *, kinds: Sequence[str]
    ) -> tuple[Tensor, Tensor]:
        size = len(clean)
        snr = torch.from_numpy(self._snr(rng, kinds).astype(np.float32))
        gain = _active_rms(clean) / (_active_rms(noise) * 10 ** (snr[:, None] / 20) + 1e-9)
        kind = torch.from_numpy(rng.random((size, 1)))
        clean = torch.where(kind < self.noise_only, 0.0, clean)
        noise = torch.where(kind > 1 - self.speech_only, 0.0, noise * gain.clamp_max(1e4))
        noisy = clean + noise
        steps = level_steps(rng, size, length=clean.shape[-1], share=self.uneven)
        clean, noisy = clean * steps, noisy * steps
        damage = rng.random(size)
        mixed = ((clean.abs().amax(dim=-1) > 0) & (noise.abs().amax(dim=-1) > 0)).numpy()
        rows = np.flatnonzero(mixed & (damage < self.clipped))
        noisy[rows] = clipped(rng, noisy[rows])
        rows = np.flatnonzero(mixed & (damage > 1 - self.coded))
        noisy[rows] = coded(rng, noisy[rows], rate=self.speech.sample_rate)
        jitter = rng.standard_normal(size) * self.level_jitter_db
        jitter -= rng.uniform(0, self.quiet_db, size) * (rng.random(size) < self.quiet)
        wanted = self.level_db + torch.from_numpy(jitter.astype(np.float32))[:, None]
        level = 10 ** ((wanted - level_db(noisy)) / 20)
        return clean * level, noisy * level

    def _snr(self, rng: np.random.Generator, kinds: Sequence[str]) -> np.ndarray:
        size = len(kinds)
        usual = rng.random(size) < self.usual
        drawn = np.where(
            usual, rng.uniform(*self.usual_snr_db, size), rng.uniform(*self.snr_db, size)
        )
        least = np.array([self.least_snr_db.get(kind, -np.inf) for kind in kinds])
        again = rng.uniform(0, 15, size) + np.where(np.isfinite(least), least, 0)
        return np.where(drawn < least, again, drawn)


def _drawn(rng: np.random.Generator, odds: np.ndarray) -> int:
    """An index drawn by the sums of probabilities."""
    return min(int(np.searchsorted(odds, rng.random() * odds[-1], side="right")), len(odds) - 1)


def _piece(
    rng: np.random.Generator, corpus: Corpus, length: int, *, odds: np.ndarray
) -> tuple[np.ndarray, str]:
    index = _drawn(rng, odds)
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
