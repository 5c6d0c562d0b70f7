"""Short labelled sounds and signals: batches to train a generator on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from signal_diffusion.conditions import Condition, Value, encoded
from signal_diffusion.data.corpus import Corpus, clips_of, manifest_rows
from signal_diffusion.data.mixing import Batch
from signal_diffusion.data.module import Recordings, Source, recordings_of
from signal_diffusion.errors import InputError


@dataclass(frozen=True)
class LabelledClips:
    """Draws batches of clips of one length with what they are, as a conditioner.

    Clips are brought to a peak of 1; shorter ones begin within the first `offset` samples and are
    followed by silence, longer ones fade out over the last sixteenth.

    Args:
        corpus: the clips.
        conditions: of the model.
        asked: what each clip is, by the conditions' names.
        length: samples of a clip.
        offset: most samples of silence at the beginning.
        speeds: range of the factor that a clip is sped up by, with its pitch.
        level_jitter_db: range below the peak of 1.
        free: share of the clips that are shown without conditions, for guidance.
    """

    corpus: Corpus
    conditions: Sequence[Condition]
    asked: Sequence[Mapping[str, Value]]
    length: int
    offset: int = 0
    speeds: tuple[float, float] = (1.0, 1.0)
    level_jitter_db: float = 3.0
    free: float = 0.15

    def __call__(self, rng: np.random.Generator, size: int) -> Batch:
        """A batch of `size` clips; the observation is the clip itself."""
        picks = [int(i) for i in rng.integers(len(self.corpus), size=size)]
        clean = torch.from_numpy(np.stack([self._clip(rng, i) for i in picks]))[:, None]
        shown: list[Mapping[str, Value]] = [
            {} if rng.random() < self.free else self.asked[i] for i in picks
        ]
        names = [self.corpus.clips[i].name for i in picks]
        return Batch(clean, clean, names, encoded(self.conditions, shown))

    def _clip(self, rng: np.random.Generator, index: int) -> np.ndarray:
        x = _sped(self.corpus.clip(index), rng.uniform(*self.speeds))
        gain = 10 ** (-rng.uniform(0, self.level_jitter_db) / 20)
        return gain * fitted(x, self.length, at=int(rng.integers(self.offset + 1)))


def fitted(x: np.ndarray, length: int, *, at: int = 0) -> np.ndarray:
    """A clip (L,) at a peak of 1, from `at` on in `length` samples, faded out if it is longer."""
    out = np.zeros(length, np.float32)
    x = x[: length - at] / (np.abs(x).max() + 1e-9)
    out[at : at + len(x)] = x
    if at + len(x) == length:
        fade = length // 16
        out[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
    return out


def _sped(x: np.ndarray, factor: float) -> np.ndarray:
    """A clip played faster by a factor near 1, by linear interpolation at the places between."""
    if factor == 1:
        return x
    places = np.arange(int((len(x) - 1) / factor)) * factor
    return np.interp(places, np.arange(len(x)), x).astype(np.float32)


@dataclass(frozen=True)
class LabelledSources:
    """Labelled clips of a manifest, for training and for validation.

    Args:
        root, manifest: the folder and its table, see `corpus.list_manifest`.
        where: column to allowed values, besides the split.
        columns: the column that tells a condition, by its name; others are looked for under their
            own name. Values that the condition doesn't have ask for nothing.
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
        asked = [self._asked(row) for row in rows]
        return LabelledClips(corpus, self.conditions, asked, **self.clips)  # type: ignore[arg-type]

    def _asked(self, row: Mapping[str, str]) -> dict[str, Value]:
        column = {c.name: self.columns.get(c.name, c.name) for c in self.conditions}
        return {c.name: _known(c, row.get(column[c.name])) for c in self.conditions}


def _known(condition: Condition, value: str | None) -> Value:
    try:
        return None if not value else condition.values(value)[0]
    except InputError:
        return None
