"""Short labelled sounds and signals: batches to train a generator on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from signal_diffusion.conditions import Condition, Value, encoded
from signal_diffusion.data.batches import Batch, Recordings, Source, recordings_of
from signal_diffusion.data.corpus import Corpus, clips_of, manifest_rows
from signal_diffusion.dsp.resampling import resample
from signal_diffusion.errors import InputError


@dataclass(frozen=True)
class LabelledClips:
    """Draws batches of clips of one length with what they are, as a conditioner.

    Clips are brought to a peak of 1; shorter ones begin within the first `offset` samples and are
    followed by silence, longer ones fade out over the last sixteenth. A clip that is sped up is
    raised, too: the condition `raised`, if there is one, takes so many semitones more.

    Args:
        corpus: the clips.
        conditions: of the model.
        values: of each clip, by the conditions' names.
        length: samples of a clip.
        offset: most samples of silence at the beginning.
        speeds: range of the factor that a clip is sped up by, with its pitch.
        level_jitter_db: range below the peak of 1.
        free: share of the clips that are shown without conditions, for guidance.
        raised: name of the condition that is a pitch in semitones.
        tilt_db: most dB an octave that the spectrum is tilted by, up or down.
        layered: share of the clips that another of the same kind is laid over, at up to its peak.
    """

    corpus: Corpus
    conditions: Sequence[Condition]
    values: Sequence[Mapping[str, Value]]
    length: int
    offset: int = 0
    speeds: tuple[float, float] = (1.0, 1.0)
    level_jitter_db: float = 3.0
    free: float = 0.15
    raised: str | None = None
    tilt_db: float = 0.0
    layered: float = 0.0

    def __post_init__(self) -> None:
        names = [condition.name for condition in self.conditions]
        if self.raised is not None and self.raised not in names:
            raise InputError(f"raised is '{self.raised}'; the conditions are {', '.join(names)}")

    def __call__(self, rng: np.random.Generator, size: int) -> Batch:
        """A batch of `size` clips; the observation is the clip itself."""
        picks = [int(i) for i in rng.integers(len(self.corpus), size=size)]
        drawn = [self._variant(rng, index) for index in picks]
        clean = torch.from_numpy(np.stack([x for x, _ in drawn]))[:, None]
        shown = [{} if rng.random() < self.free else values for _, values in drawn]
        names = [self.corpus.clips[i].name for i in picks]
        return Batch(clean, clean, names, encoded(self.conditions, shown))

    def _variant(
        self, rng: np.random.Generator, index: int
    ) -> tuple[np.ndarray, Mapping[str, Value]]:
        """A clip (length,) as it is shown, and what it is then."""
        speed = rng.uniform(*self.speeds)
        most = math.ceil(speed * self.length)
        x = resample(self._layered(rng, index)[None, :most], speed, 1.0)[0, : self.length]
        if self.tilt_db:
            x = tilted(x, rng.uniform(-self.tilt_db, self.tilt_db))
        gain = 10 ** (-rng.uniform(0, self.level_jitter_db) / 20)
        x = gain * fitted(x, self.length, at=int(rng.integers(self.offset + 1)))
        return x, self._raised(self.values[index], 12 * math.log2(speed))

    def _layered(self, rng: np.random.Generator, index: int) -> np.ndarray:
        x = self.corpus.clip(index)
        if not self.layered or rng.random() >= self.layered:
            return x
        kind = [i for i, one in enumerate(self.values) if one == self.values[index]]
        other = self.corpus.clip(int(rng.choice(kind)))
        out = np.zeros(max(len(x), len(other)), np.float32)
        out[: len(x)] = x / (np.abs(x).max() + 1e-9)
        out[: len(other)] += rng.uniform() * other / (np.abs(other).max() + 1e-9)
        return out

    def _raised(self, values: Mapping[str, Value], semitones: float) -> Mapping[str, Value]:
        """What a clip is once it is raised; without a pitch beyond its condition's range."""
        condition = next((c for c in self.conditions if c.name == self.raised), None)
        pitch = None if condition is None else values.get(condition.name)
        if condition is None or pitch is None:
            return values
        return {**values, condition.name: _value(condition, str(float(pitch) + semitones))}


def fitted(x: np.ndarray, length: int, *, at: int = 0) -> np.ndarray:
    """A clip (L,) at a peak of 1, from `at` on in `length` samples, faded out if it is longer."""
    out = np.zeros(length, np.float32)
    x = x[: length - at] / (np.abs(x).max() + 1e-9)
    out[at : at + len(x)] = x
    if at + len(x) == length:
        fade = length // 16
        out[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
    return out


def tilted(x: np.ndarray, db: float) -> np.ndarray:
    """A clip (L,) with so many dB more an octave, about an eighth of the highest frequency.

    >>> tone = np.cos(np.pi / 8 * np.arange(512))
    >>> bool(np.allclose(tilted(tone, 6.0), tone)), bool(np.allclose(tilted(tone, 0.0), tone))
    (True, True)
    """
    octaves = np.log2(np.maximum(np.fft.rfftfreq(len(x)), 1 / len(x)) * 16)
    return np.fft.irfft(np.fft.rfft(x) * 10 ** (db * octaves / 20), len(x)).astype(np.float32)


@dataclass(frozen=True)
class LabelledSources:
    """Labelled clips of a manifest, for training and for validation.

    Args:
        root, manifest: the folder and its table, see `corpus.manifest_rows`.
        where: column to allowed values, besides the split.
        columns: the column of a condition, by its name; others are looked for under their
            own name. Values that the condition doesn't have count as none.
        conditions: of the model.
        sample_rate: Hz.
        clips: options of `LabelledClips`.
        recordings: held-out clips that the score is measured on.
    """

    root: str
    where: Mapping[str, Sequence[str]]
    conditions: Sequence[Condition]
    sample_rate: int
    manifest: str = "manifest.csv"
    columns: Mapping[str, str] = field(default_factory=dict)
    clips: Mapping[str, object] = field(default_factory=dict)
    recordings: int = 64

    def __call__(self) -> tuple[Source, Source, Recordings]:
        train, valid = self.split("train"), self.split("valid")
        return train, valid, recordings_of(valid, self.recordings)

    def split(self, split: str) -> LabelledClips:
        """The clips of one split of the manifest."""
        rows = manifest_rows(self.root, self.manifest, where={**self.where, "split": [split]})
        corpus = Corpus(clips_of(self.root, rows), sample_rate=self.sample_rate)
        values = [self._values(row) for row in rows]
        return LabelledClips(corpus, self.conditions, values, **self.clips)  # type: ignore[arg-type]

    def _values(self, row: Mapping[str, str]) -> dict[str, Value]:
        column = {c.name: self.columns.get(c.name, c.name) for c in self.conditions}
        return {c.name: _value(c, row.get(column[c.name])) for c in self.conditions}


def _value(condition: Condition, value: str | None) -> Value:
    try:
        return None if not value else condition.values(value)[0]
    except InputError:
        return None
