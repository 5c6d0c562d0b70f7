"""Stretches of recordings that a report shows and plays: made again, cut out, encoded."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import soundfile

from signal_diffusion.errors import InputError
from signal_diffusion.recordings import resample
from signal_diffusion.tasks.buffers import Array
from signal_diffusion.tasks.evaluation import Work, scored
from signal_diffusion.tasks.pairs import Pair, Sound
from signal_diffusion.tasks.rivals import Estimate, Method
from signal_diffusion.tasks.timing import threads
from signal_diffusion.windows import Busiest

#: What is shown of a file, in the order of `Stretch.lines`.
TITLES = ("Input", "Result", "Removed", "Reference")
#: Below, and of other domains, signals are drawn as waveforms and not played.
LEAST_RATE, SOUND = 3000, (None, "speech", "music", "audio")
#: Seconds of a clip, and samples of a stretch that is not played.
LONGEST, SAMPLES = 10.0, 2000
#: Bytes of all sounds of a page.
BYTES = 12e6
#: Seconds that a lossless clip must have: otherwise it is compressed.
SHORTEST = 4.0
#: Bytes a sample of FLAC, and a second of MP3, for each channel; a third more as text.
FLAC_BYTES, MP3_BYTES, AS_TEXT = 1.5, 11e3, 4 / 3
#: Hz that MP3 can have; above, sounds are resampled to the highest.
MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
#: Of libsndfile's compression from 0, the best, to 1.
MP3_LEVEL = 0.3
#: Peak of the loudest of the clips of a file, and by how much they are turned up at most.
PEAK, MOST_GAIN = 0.9, 10.0
#: Relative difference of a score that is reckoned again: rounding, on another machine.
EQUAL = 1e-6


@dataclass(frozen=True)
class Form:
    """How clips are encoded: what browsers play, FLAC or, where that is too much, MP3."""

    container: str
    seconds: float


@dataclass(frozen=True)
class Stretch:
    """A part of a recording.

    Attributes:
        lines: (4, C, n): input, result, what was removed, and the reference.
        sample_rate: Hz.
        begin: where it begins in the recording, s.
        seconds: of the whole recording.
        score: of the result, by the metric that was asked for; None where there is none.
        form: how its sounds are encoded; None where it is drawn as waveforms.
    """

    lines: Array
    sample_rate: float
    begin: float
    seconds: float
    score: float | None
    form: Form | None

    @property
    def end(self) -> float:
        return self.begin + self.lines.shape[2] / self.sample_rate


def is_sound(domain: str | None, sample_rate: float, *, table: bool = False) -> bool:
    """Whether signals are played and drawn as spectrograms; others are drawn as waveforms.

    >>> is_sound("speech", 16000), is_sound(None, 360), is_sound("vibration", 12000)
    (True, False, False)
    """
    return sample_rate >= LEAST_RATE and domain in SOUND and not table


def form_of(sound: Sound, files: int) -> Form:
    """FLAC, if so many files fit into `BYTES` with clips that are long enough, or else MP3.

    Both are played by Chromium, Firefox and Safari, which OGG is not.
    """
    clips = max(1, files) * len(TITLES) * min(2, len(sound.clean)) * AS_TEXT
    lossless = BYTES / (clips * FLAC_BYTES * sound.sample_rate)
    if lossless >= SHORTEST:
        return Form("FLAC", min(LONGEST, lossless))
    return Form("MP3", min(LONGEST, BYTES / (clips * MP3_BYTES)))


@dataclass
class Kept:
    """A method whose last estimate is kept, with what it was made of."""

    method: Method
    sound: Sound | None = None
    made: Array | None = None

    @property
    def name(self) -> str:
        return self.method.name

    @property
    def key(self) -> object:
        return self.method.key

    def __call__(self, pair: Pair, sound: Sound) -> Estimate:
        found = self.method(pair, sound)
        self.sound, self.made = sound, found.samples
        return found


def stretch_of(
    pair: Pair, method: Method, metric: str, *, domain: str | None, files: int
) -> Stretch:
    """The stretch of a pair in which a method removes most, as long as a page of files allows.

    The method is called and scored anew, in the way and in one thread as before.

    Raises:
        InputError: the pair can't be read, or the method fails.
    """
    kept = Kept(method)
    with threads(1):
        row = scored(Work(pair, (kept,), ("",), (metric,)))[0]
    if row["error"] is not None or kept.sound is None or kept.made is None:
        raise InputError(row["error"])
    sound, made = kept.sound, kept.made
    heard = is_sound(domain, sound.sample_rate, table=pair.table)
    form = form_of(sound, files) if heard else None
    lines = np.stack([sound.noisy, made, sound.noisy - made, sound.clean])
    length = SAMPLES if form is None else round(form.seconds * sound.sample_rate)
    busiest = Busiest(length)
    busiest.push(np.nan_to_num(lines))
    first, _ = busiest.finish()
    begin, part = first / sound.sample_rate, lines[..., first : first + length]
    return Stretch(part, sound.sample_rate, begin, sound.seconds, row[metric], form)


def is_again(score: float | None, found: float | None) -> bool:
    """Whether a score is the one that was found before."""
    if score is None or found is None:
        return score is found
    return abs(score - found) <= EQUAL * max(1.0, abs(found))


def players(stretch: Stretch) -> tuple[list[str], float]:
    """The four sounds of a stretch as data URIs, and the gain that they have in common.

    Of more than two channels, the first two are heard.
    """
    assert stretch.form is not None
    lines, form = np.nan_to_num(stretch.lines[:, :2]), stretch.form
    gain = min(MOST_GAIN, PEAK / max(float(np.abs(lines).max(initial=0)), 1e-9))
    rate = _playable(stretch.sample_rate, form.container)
    return [_sound(resample(gain * x, stretch.sample_rate, rate), rate, form) for x in lines], gain


def _playable(sample_rate: float, container: str) -> int:
    """The rate itself if browsers play it, or the next higher one that they do."""
    if container == "FLAC" and sample_rate <= MP3_RATES[-1]:
        return round(sample_rate)
    return next((rate for rate in MP3_RATES if rate >= sample_rate), MP3_RATES[-1])


def _sound(samples: Array, rate: int, form: Form) -> str:
    file = io.BytesIO()
    samples = np.clip(samples, -1, 1).T
    if form.container == "MP3":
        soundfile.write(
            file, samples, rate, format="MP3", subtype="MPEG_LAYER_III",
            compression_level=MP3_LEVEL, bitrate_mode="VARIABLE",
        )  # fmt: skip
        return data_uri("audio/mpeg", file.getvalue())
    soundfile.write(file, samples, rate, format="FLAC", subtype="PCM_16")
    return data_uri("audio/flac", file.getvalue())


def data_uri(kind: str, content: bytes) -> str:
    """Content as an address that holds it.

    >>> data_uri("text/plain", b"one")
    'data:text/plain;base64,b25l'
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def busiest_channel(lines: Sequence[Array]) -> int:
    """The channel of (4, C, n) from which most was removed, beside what it holds."""
    heard, _, removed, _ = (np.nan_to_num(line) for line in lines)
    return int(np.argmax(removed.var(axis=1) / np.maximum(heard.var(axis=1), 1e-30)))
