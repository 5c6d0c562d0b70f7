"""Parts of recordings that a report shows and plays: computed again, cut out, encoded."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile

from signal_diffusion.dsp import Array
from signal_diffusion.dsp.resampling import resample
from signal_diffusion.errors import InputError, reason
from signal_diffusion.evaluation.measures import measured
from signal_diffusion.evaluation.methods import Method
from signal_diffusion.evaluation.pairs import Pair
from signal_diffusion.evaluation.readings import Sound
from signal_diffusion.evaluation.run import estimated
from signal_diffusion.plots.spectrograms import RANGE_DB, colours, spectrogram, top_level
from signal_diffusion.plots.window import Busiest
from signal_diffusion.report.charts import data_uri
from signal_diffusion.streaming.background import threads

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
#: Media type and libsndfile's options of a container; its level of compression is from 0, the
#: best, to 1.
CONTAINERS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "FLAC": ("audio/flac", {"subtype": "PCM_16"}),
    "MP3": (
        "audio/mpeg",
        {"subtype": "MPEG_LAYER_III", "compression_level": 0.3, "bitrate_mode": "VARIABLE"},
    ),
}
#: Peak of the loudest of the clips of a file, and by how much they are turned up at most.
PEAK, MOST_GAIN = 0.9, 10.0


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


def form_of(sound: Sound, files: int) -> Form:
    """FLAC, if so many files fit into `BYTES` with clips that are long enough, or else MP3.

    Both are played by Chromium, Firefox and Safari, which OGG is not.
    """
    clips = max(1, files) * len(TITLES) * min(2, len(sound.clean)) * AS_TEXT
    lossless = BYTES / (clips * FLAC_BYTES * sound.sample_rate)
    if lossless >= SHORTEST:
        return Form("FLAC", min(LONGEST, lossless))
    return Form("MP3", min(LONGEST, BYTES / (clips * MP3_BYTES)))


def stretch_of(
    pair: Pair, method: Method, metric: str, *, domain: str | None, files: int
) -> Stretch:
    """The stretch of a pair in which a method removes most, as long as a page of files allows.

    The method is called and scored anew, in the way and in one thread as before.

    Raises:
        InputError: the pair can't be read, or the method fails.
    """
    try:
        with threads(1):
            sound = pair.read()
            made = estimated(method, pair, sound).samples
            truth = sound.clean, sound.sample_rate
            scores, _ = measured([metric], made, *truth, unscored=sound.unscored)
    except Exception as error:
        # A rival may fail in any way.
        raise InputError(reason(error)) from error
    audible = sound.sample_rate >= LEAST_RATE and domain in SOUND and not pair.table
    form = form_of(sound, files) if audible else None
    lines = np.stack([sound.noisy, made, sound.noisy - made, sound.clean])
    length = SAMPLES if form is None else round(form.seconds * sound.sample_rate)
    busiest = Busiest(length)
    busiest.push(np.nan_to_num(lines))
    first, _ = busiest.finish()
    begin, part = first / sound.sample_rate, lines[..., first : first + length]
    return Stretch(
        part,
        sound.sample_rate,
        begin=begin,
        seconds=sound.seconds,
        score=scores[metric],
        form=form,
    )


def players(stretch: Stretch) -> tuple[list[str], float]:
    """The four sounds of a stretch as data URIs, and the gain that they have in common.

    Of more than two channels, the first two are heard.
    """
    assert stretch.form is not None
    lines, form = np.nan_to_num(stretch.lines[:, :2]), stretch.form
    gain = min(MOST_GAIN, PEAK / max(float(np.abs(lines).max(initial=0)), 1e-9))
    rate = round(stretch.sample_rate)
    if form.container == "MP3" or rate > MP3_RATES[-1]:
        rate = next((higher for higher in MP3_RATES if higher >= rate), MP3_RATES[-1])
    kind, options = CONTAINERS[form.container]
    sounds = []
    for line in lines:
        file = io.BytesIO()
        samples = np.clip(resample(gain * line, stretch.sample_rate, rate), -1, 1).T
        soundfile.write(file, samples, rate, format=form.container, **options)
        sounds.append(data_uri(kind, file.getvalue()))
    return sounds, gain


#: Pixels of a spectrogram at most.
COLUMNS, ROWS = 480, 160
#: Parts of a waveform, of each of which the least and the greatest are drawn.
PARTS = 500
#: Units in which waveforms are drawn.
WIDE, HIGH = 1000, 200
#: Stops of the bar that tells what colours mean.
STOPS = 9


@dataclass(frozen=True)
class Panel:
    """A picture without its axes, which the page writes beside it.

    Attributes:
        image: data URI of a spectrogram, or "".
        line: path of a waveform in `WIDE` by `HIGH` units, or "".
        top, bottom: what stands at the ends of its upright axis.
        title, alt: of the picture, and what it shows, in words.
        sound: data URI, or "".
    """

    image: str
    line: str
    top: str
    bottom: str
    title: str = ""
    sound: str = ""
    alt: str = ""


@dataclass(frozen=True)
class Scale:
    """What the pictures of a file have in common, in words."""

    label: str
    low: str = ""
    high: str = ""


def colour_bar() -> str:
    """The colours of levels from low to high, as a gradient of a style sheet."""
    from matplotlib.colors import to_hex

    stops = [to_hex(colours()(place)) for place in np.linspace(0, 1, STOPS)]
    return f"linear-gradient(to right, {', '.join(stops)})"


def spectrograms(stretch: Stretch) -> tuple[list[Panel], Scale]:
    """The spectrograms of a stretch, of which the means over channels are drawn."""
    powers = [_power(line, stretch.sample_rate) for line in np.nan_to_num(stretch.lines)]
    top = top_level(powers)
    highest = f"{stretch.sample_rate / 2000:g} kHz"
    panels = [Panel(_image(power, top), "", highest, "0 kHz") for power in powers]
    low, high = (f"{level:g} dB".replace("-", "−") for level in (top - RANGE_DB, top))
    return panels, Scale("Level, dB of full scale", low, high)


def waveforms(stretch: Stretch) -> tuple[list[Panel], Scale]:
    """The waveforms of the channel of a stretch from which most was removed."""
    noisy, _, removed, _ = np.nan_to_num(stretch.lines)
    channel = int(np.argmax(removed.var(axis=1) / np.maximum(noisy.var(axis=1), 1e-30)))
    lines = stretch.lines[:, channel]
    middles = np.array([_middle(line) for line in lines])
    around = lines - middles[:, None]
    half = 1.05 * float(np.nanmax(np.abs(around), initial=0)) or 1.0
    digits = min(9, max(0, 2 - math.floor(math.log10(2 * half))))
    panels = []
    for line, middle in zip(around, middles, strict=True):
        ends = (f"{middle + sign * half:.{digits}f}".replace("-", "−") for sign in (1, -1))
        panels.append(Panel("", _path(line, half), *ends))
    count = stretch.lines.shape[1]
    which = f"Channel {channel + 1} of {count}, from which most was removed. " if count > 1 else ""
    return panels, Scale(f"{which}All four axes span {2 * half:.4g} of the recording's own units.")


def _power(line: Array, sample_rate: float) -> Array:
    """Power (columns, rows) of channels (C, n): means of neighbours, no more than pixels."""
    channels = [spectrogram(channel, sample_rate) for channel in line]
    power: Array = np.mean(channels, axis=0)
    for most in (COLUMNS, ROWS):
        length = len(power)
        count = min(length, most)
        starts = np.arange(count) * length // count
        sums = np.add.reduceat(power, starts, axis=0)
        # Turned, so that the other axis is next, and the first one again in the end.
        power = (sums / np.diff([*starts, length])[:, None]).T
    return power


def _image(power: Array, top: float) -> str:
    """Power (columns, rows) as a small PNG, from `RANGE_DB` below the top to the top."""
    from PIL import Image

    scale = colours()
    levels = (10 * np.log10(power.T[::-1]) - top) / RANGE_DB + 1
    places = np.clip(levels * scale.N, 0, scale.N - 1).astype(np.uint8)
    picture, file = Image.fromarray(places), io.BytesIO()
    picture.putpalette((scale(np.arange(scale.N), bytes=True)[:, :3]).tobytes())
    picture.save(file, "png", optimize=True)
    return data_uri("image/png", file.getvalue())


def _middle(line: Array) -> float:
    """Half-way between the least and the greatest of a line, or 0 where all are missing."""
    finite = line[np.isfinite(line)]
    return float(finite.min() / 2 + finite.max() / 2) if finite.size else 0.0


def _path(line: Array, half: float) -> str:
    """Drawing commands through samples (n,), or, of many, the least and the greatest of parts.

    There is a gap where samples are missing.
    """
    places, values = np.arange(len(line)), line
    if len(line) > 2 * PARTS:
        starts = np.arange(PARTS) * len(line) // PARTS
        ends = [np.minimum.reduceat(line, starts), np.maximum.reduceat(line, starts)]
        places, values = np.repeat(starts, 2), np.stack(ends, axis=1).reshape(-1)
    x, y = WIDE * places / max(1, len(line) - 1), HIGH / 2 * (1 - values / half)
    words, pen = [], "M"
    for across, down in zip(x, y, strict=True):
        seen = math.isfinite(down)
        words += [f"{pen}{across:.0f} {down:.1f}"] * seen
        pen = "L" if seen else "M"
    return "".join(words)
