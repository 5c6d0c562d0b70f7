"""Single beats in recorded wander: the published protocol on the QT and noise stress databases.

Both as PhysioNet keeps them, folders of WFDB records (qtdb/1.0.0, nstdb/1.0.0). Source: Romero and
others 2021 (DeepFilter, Biomedical Signal Processing and Control 70), Li and others 2022
(DeScoD-ECG, arXiv:2208.00542), and their public code, which settles what the papers leave open.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import scipy.signal
import torch

from signal_diffusion.data.batches import Batch, Recordings, Source, recordings_of
from signal_diffusion.dsp import Array
from signal_diffusion.dsp.levels import level_db
from signal_diffusion.errors import InputError, library
from signal_diffusion.tables import opened_table

#: Every which training record is kept for validation, and which share of the noise, its end.
VALID_EVERY, VALID_NOISE = 8, 0.2
#: Hz of the windows and of the noise, and of the QT records.
RATE, QT_RATE = 360, 250
#: Samples of a window, and the zeros in it before a beat.
LENGTH, LEAD_IN = 512, 16
#: Of the waves' boundaries, found automatically in the second lead.
ANNOTATOR = "pu1"
#: Samples at 250 Hz from a beat's beginning to that of its P wave: 40 ms.
BEFORE_P = 10
#: The records that are held out, two of each database that QT was made from: arrhythmia, ST change,
#: supraventricular, sinus rhythm, European ST-T, sudden death, long term.
TEST_RECORDS = (
    "sel123",
    "sel233",
    "sel302",
    "sel307",
    "sel820",
    "sel853",
    "sel16420",
    "sel16795",
    "sele0106",
    "sele0121",
    "sel32",
    "sel49",
    "sel14046",
    "sel15814",
)
#: Channels of training and of test noise, in the two versions of the noise.
CHANNELS = {1: (0, 1), 2: (1, 0)}
#: 360 over 250 in lowest terms.
_UP, _DOWN = RATE // math.gcd(RATE, QT_RATE), QT_RATE // math.gcd(RATE, QT_RATE)
#: The filter that scipy would design again for every beat.
_TAPS = scipy.signal.firwin(20 * _UP + 1, 1 / _UP, window=("kaiser", 5.0))


@dataclass(frozen=True)
class BeatMixer:
    """Draws batches of beats (clean, noisy) of 512 samples in noise from anywhere in a recording.

    The noisy beat is brought to a median of 0 and to a level, as `denoise` does; the clean one
    keeps its place in the window's zeros.

    Args:
        clean: beats (n, 512) in mV.
        names: of their records (n,).
        noise: recording (L,).
        ratios: range of the noise's span over the beat's.
        level_db: level of the noisy beat.
    """

    clean: Array
    names: Sequence[str]
    noise: Array
    ratios: tuple[float, float] = (0.2, 2.0)
    level_db: float = 0.0

    def __call__(self, rng: np.random.Generator, size: int) -> Batch:
        """A batch of `size` beats."""
        picks = rng.integers(len(self.clean), size=size)
        starts = rng.integers(len(self.noise) - LENGTH + 1, size=size)
        clean = self.clean[picks]
        noise = np.lib.stride_tricks.sliding_window_view(self.noise, LENGTH)[starts]
        noisy = in_noise(clean, noise, rng.uniform(*self.ratios, size))
        noisy -= np.median(noisy, axis=1, keepdims=True)
        both = torch.from_numpy(np.stack([clean, noisy]).astype(np.float32))[:, :, None]
        both *= 10 ** ((self.level_db - level_db(both[1])) / 20)
        pairs = zip(picks, starts, strict=True)
        return Batch(both[0], both[1], [f"{self.names[n]}[{n}] + bw[{at}]" for n, at in pairs])


@dataclass(frozen=True)
class QtSources:
    """Beats of the QT database's training records, and the first half of the noise.

    Every eighth record and the noise's last fifth are kept for validation; the test records and the
    noise's second half are not looked at.

    Args:
        qt, noise: folders of the QT database and the noise stress test database.
        version: of the noise, 1 or 2.
        mixer: options of `BeatMixer`.
        recordings: held-out beats to validate on.
    """

    qt: str
    noise: str
    version: int = 1
    mixer: Mapping[str, Any] = field(default_factory=dict)
    recordings: int = 128

    def __call__(self) -> tuple[Source, Source, Recordings]:
        noise = wander(self.noise, self.version)[0]
        held = max(LENGTH, round(VALID_NOISE * len(noise)))
        found = {name: x for name, x in beats(self.qt) if name not in TEST_RECORDS}
        kept = list(found)[::VALID_EVERY]
        train = self._mixer({k: v for k, v in found.items() if k not in kept}, noise[:-held])
        valid = self._mixer({k: found[k] for k in kept}, noise[-held:])
        return train, valid, recordings_of(valid, self.recordings)

    def _mixer(self, found: Mapping[str, Array], noise: Array) -> BeatMixer:
        """A mixer of all beats that are not flat."""
        lively = {name: x[np.ptp(x, axis=1) > 0].astype(np.float32) for name, x in found.items()}
        names = [name for name, x in lively.items() for _ in x]
        if not names:
            raise InputError(f"{self.qt} has too few training records: it needs two with beats")
        return BeatMixer(np.concatenate(list(lively.values())), names, noise, **self.mixer)


def beats(root: str | Path) -> Iterator[tuple[str, Array]]:
    """The records below a folder in the order of their names, and their beats (n, 512) in mV.

    Raises:
        InputError: there is no such folder, it has no records, or one of them can't be read.
    """
    paths = sorted(_folder(root, "the QT database").glob("*.dat"))
    if not paths:
        raise InputError(f"{root} has no WFDB records (.dat): give the folder qtdb/1.0.0")
    for path in paths:
        yield path.stem, windows(cut(path.with_suffix("")))


def cut(record: Path) -> list[Array]:
    """The beats of a record's first lead at 250 Hz, each from 40 ms before a P wave to the next.

    What holds two QRS complexes or more, since a P wave was missed, is left out.
    """
    lead = _signals(record, QT_RATE)[0]
    marks = _annotations(record)
    starts = _p_onsets(marks) - BEFORE_P
    peaks = marks["N"]
    found = []
    for start, stop in pairwise(starts):
        inside = np.searchsorted(peaks, stop) - np.searchsorted(peaks, start, side="right")
        if 0 <= start < stop and inside < 2:
            found.append(lead[start:stop])
    return found


def windows(cut_beats: Sequence[Array]) -> Array:
    """Beats at 250 Hz as windows (n, 512) at 360 Hz, zero but for the beat from sample 16 on.

    Each is moved so that the mean of its first and its last sample is 0; longer ones are left out.
    """
    resampled = [_resampled(beat) for beat in cut_beats]
    fitting = [beat for beat in resampled if len(beat) <= LENGTH - LEAD_IN]
    out = np.zeros((len(fitting), LENGTH))
    for window, beat in zip(out, fitting, strict=True):
        window[LEAD_IN : LEAD_IN + len(beat)] = beat - (beat[0] + beat[-1]) / 2
    return out


def wander(root: str | Path, version: int) -> tuple[Array, Array]:
    """Training and test noise (L,) in mV, of the record bw, which share neither channel nor time.

    The first half of one channel and the second half of the other: version 1 trains on the first
    channel, version 2 on the second.

    Raises:
        InputError: there is no such record or version.
    """
    if version not in CHANNELS:
        raise InputError(f"version is {version}: the protocol's noise has the versions 1 and 2")
    path = _folder(root, "the noise stress test database") / "bw"
    if not path.with_suffix(".hea").is_file():
        raise InputError(f"{path.parent} has no record bw: give the folder nstdb/1.0.0")
    signals = _signals(path, RATE)
    middle = signals.shape[1] // 2
    if len(signals) < 2 or middle < 2 * LENGTH:
        raise InputError(f"{path} needs two channels of {4 * LENGTH} samples or more")
    train, test = CHANNELS[version]
    # The public code leaves out the last sample.
    return signals[train, :middle], signals[test, middle:-1]


def in_noise(clean: Array, noise: Array, ratios: Array) -> Array:
    """Beats (n, L) in noise (n, L) whose spans are `ratios` (n,) of the beats' own.

    >>> beat, noise = np.array([[0.0, 3.0]]), np.array([[5.0, 6.0]])
    >>> in_noise(beat, noise, np.array([2.0])) - beat
    array([[30., 36.]])
    """
    gains = ratios * np.ptp(clean, axis=1) / np.ptp(noise, axis=1)
    return clean + gains[:, None] * noise


def _folder(root: str | Path, what: str) -> Path:
    if not Path(root).is_dir():
        raise InputError(f"{root}: there is no such folder: give that of {what}")
    return Path(root)


def _signals(record: Path, rate: int) -> Array:
    """All signals of a record (C, L) in mV."""
    with opened_table(record.with_suffix(".hea")) as reader:
        if reader.form.sample_rate != rate:
            raise InputError(f"{record} has {reader.form.sample_rate:g} Hz, not {rate}")
        return np.concatenate(list(reader.blocks()), axis=1)


def _annotations(record: Path) -> dict[str, Array]:
    """Places of the boundaries' beginnings "(", the P waves "p" and the normal QRS "N"."""
    wfdb = library("wfdb", "sensors", of=record)
    try:
        marks = wfdb.rdann(str(record.absolute()), ANNOTATOR)
    # The library lets through whatever goes wrong in it.
    except Exception as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{record}.{ANNOTATOR} can't be read as annotations ({why})") from error
    symbols = np.array(marks.symbol)
    return {symbol: np.sort(marks.sample[symbols == symbol]) for symbol in "(pN"}


def _p_onsets(marks: Mapping[str, Array]) -> Array:
    """Where the P waves begin: the last boundary before each."""
    before = np.searchsorted(marks["("], marks["p"]) - 1
    return np.asarray(marks["("][before[before >= 0]])


def _resampled(beat: Array) -> Array:
    """A beat from 250 to 360 Hz, between mirror images of itself.

    As in the public code, one sample early: its first is the last of the image before it.
    """
    length = math.ceil(len(beat) * RATE / QT_RATE)
    mirrored = np.concatenate([beat[::-1], beat, beat[::-1]])
    long = scipy.signal.resample_poly(mirrored, _UP, _DOWN, window=_TAPS)
    return np.asarray(long[length - 1 : 2 * length - 1])
