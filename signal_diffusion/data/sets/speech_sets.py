"""Public corpora as torchaudio lists them, read by soundfile: LJSpeech and Speech Commands."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from signal_diffusion.conditions import Condition, Names
from signal_diffusion.data.batches import Batch, Recordings, Source, recordings_of
from signal_diffusion.data.corpus import Clip, Corpus
from signal_diffusion.data.labels import LabelledClips
from signal_diffusion.errors import InputError, install
from signal_diffusion.nn.mel import UnitMel

#: Names of torchaudio's subsets, by ours.
SUBSETS = {"train": "training", "valid": "validation", "test": "testing"}


def lj_speech(root: str, *, download: bool = False) -> list[Clip]:
    """The clips of LJSpeech-1.1 in the folder that holds it; the "speaker" is the book's chapter.

    Args:
        root: holds LJSpeech-1.1/metadata.csv and LJSpeech-1.1/wavs.
        download: whether torchaudio may download it to there (2.6 GB).

    Raises:
        InputError: it is not there.
    """
    listed = _listed("LJSPEECH", root, download=download)
    # torchaudio gives paths away only together with samples, which it needs another package for.
    folder, rows = Path(listed._path), listed._flist
    return [Clip(folder / f"{row[0]}.wav", speaker=row[0].partition("-")[0]) for row in rows if row]


def speech_commands(
    root: str, split: str, words: Sequence[str], *, download: bool = False
) -> list[Clip]:
    """The clips of some words of Speech Commands v0.02, by its own lists; the group is the word.

    Args:
        root: holds SpeechCommands/speech_commands_v0.02 with its validation and testing lists.
        split: "train", "valid" or "test".
        words: which to take.
        download: whether torchaudio may download it to there (2.3 GB).

    Raises:
        InputError: it is not there, or has none of the words.
    """
    listed = _listed("SPEECHCOMMANDS", root, download=download, subset=SUBSETS[split])
    rows = [listed.get_metadata(n) for n in range(len(listed))]
    clips = [
        Clip(Path(root, "SpeechCommands", path), speaker=speaker, group=word)
        for path, _, word, speaker, _ in rows
        if word in words
    ]
    if not clips:
        raise InputError(f"no {split} clip of {', '.join(words)} in {root}: check its lists")
    return clips


def _listed(name: str, root: str, **options: object) -> Any:
    """A data set of torchaudio."""
    if not Path(root).is_dir():
        raise InputError(f"no folder {root}: give the folder that holds the corpus")
    try:
        return getattr(torchaudio().datasets, name)(root, **options)
    except (RuntimeError, OSError) as error:
        line = str(error).split(". Please")[0]
        raise InputError(f"{line}: give data.sources.root, or data.sources.download=true") from None


@dataclass(frozen=True)
class FrameCrops:
    """Draws batches of pieces of whole mel frames, all clips as often, with the frames as `cond`.

    Frames at a piece's ends see the recording beyond it.

    Args:
        corpus: the recordings; those that are too short are left out.
        mel: settings of the frames.
        frames: of a piece.
    """

    corpus: Corpus
    mel: UnitMel
    frames: int = 62

    def __post_init__(self) -> None:
        if not len(self._long):
            raise InputError(f"no recording of {self.frames} mel frames: lower data.sources.frames")

    def __call__(self, rng: np.random.Generator, size: int) -> Batch:
        """A batch of `size` pieces (B, 1, hop frames); the observation is the piece itself."""
        picks = rng.choice(self._long, size)
        wide = torch.from_numpy(np.stack([self._piece(rng, int(i)) for i in picks]))
        edge = self.mel.window // 2
        clean = wide[:, None, edge : edge + self._length]
        names = [self.corpus.clips[i].name for i in picks]
        return Batch(clean, clean, names, self.mel.within(wide))

    @property
    def _length(self) -> int:
        return self.mel.hop * self.frames

    @property
    def _long(self) -> np.ndarray:
        return np.flatnonzero(self.corpus.ends - self.corpus.starts >= self._length)

    def _piece(self, rng: np.random.Generator, index: int) -> np.ndarray:
        """All that the frames of a piece see, from a whole number of hops on."""
        x = self.corpus.clip(index)
        start = self.mel.hop * int(rng.integers((len(x) - self._length) // self.mel.hop + 1))
        seen = self.mel.window + self.mel.hop * (self.frames - 1)
        return np.pad(x, self.mel.window // 2, mode="reflect")[start : start + seen]


@dataclass(frozen=True)
class LjSpeechSources:
    """LJSpeech for DiffWave, with two chapters held out, as in its paper.

    Args:
        root, download: see `lj_speech`.
        sample_rate: Hz.
        bands: number of mel bands.
        frames: of a piece.
        held_out: chapters to validate on; the paper's are 523 clips.
        recordings: held-out pieces that the score is measured on.
        cache: folder for the decoded recordings (3.8 GB), or None to keep them in memory.
    """

    root: str
    sample_rate: int = 22050
    bands: int = 80
    frames: int = 62
    held_out: Sequence[str] = ("LJ001", "LJ002")
    download: bool = False
    recordings: int = 16
    cache: str | None = None

    def __call__(self) -> tuple[Source, Source, Recordings]:
        clips = lj_speech(self.root, download=self.download)
        train, valid = (
            self._crops([clip for clip in clips if (clip.speaker in self.held_out) == held])
            for held in (False, True)
        )
        return train, valid, recordings_of(valid, self.recordings)

    def _crops(self, clips: Sequence[Clip]) -> FrameCrops:
        if not clips:
            held_out = ", ".join(self.held_out) or "none"
            raise InputError(f"nothing to train on, or to validate on: held out are {held_out}")
        corpus = Corpus(clips, sample_rate=self.sample_rate, cache=self.cache)
        return FrameCrops(corpus, UnitMel(self.sample_rate, self.bands), self.frames)


@dataclass(frozen=True)
class SpeechCommandsSources:
    """Words of Speech Commands, by class.

    Args:
        root, download: see `speech_commands`.
        conditions: of the model: one `Names`, of the words.
        sample_rate: Hz.
        clips: options of `LabelledClips`.
        recordings: held-out clips that the score is measured on.
        cache: folder for the decoded recordings (1.2 GB), or None to keep them in memory.
    """

    root: str
    conditions: Sequence[Condition]
    sample_rate: int = 16000
    clips: Mapping[str, object] = field(default_factory=dict)
    download: bool = False
    recordings: int = 64
    cache: str | None = None

    def __call__(self) -> tuple[Source, Source, Recordings]:
        train, valid = self.split("train"), self.split("valid")
        return train, valid, recordings_of(valid, self.recordings)

    def split(self, split: str) -> LabelledClips:
        """The clips of "train", "valid" or "test"."""
        words = self._words
        clips = speech_commands(self.root, split, words.names, download=self.download)
        corpus = Corpus(clips, sample_rate=self.sample_rate, cache=self.cache)
        values = [{words.name: clip.group} for clip in clips]
        return LabelledClips(corpus, self.conditions, values, **self.clips)  # type: ignore[arg-type]

    @property
    def _words(self) -> Names:
        (words,) = self.conditions
        if not isinstance(words, Names):
            raise InputError("the model's condition must be one Names, of the words")
        return words


def torchaudio() -> ModuleType:
    """The torchaudio module, without its compiled extension where that can't be loaded.

    The wheel of torchaudio may be linked against CUDA while torch is not, and then its import fails
    on a missing libc10_cuda.so. Its parts in Python (resampling, filters, spectrograms, mel filter
    banks) need no extension and work without.

    Raises:
        InputError: torchaudio is not installed.

    >>> torchaudio().functional.create_dct(13, 40, norm=None).shape
    torch.Size([40, 13])
    """
    try:
        return importlib.import_module("torchaudio")
    except ModuleNotFoundError as error:
        raise InputError(f"this corpus needs the package torchaudio: {install('train')}") from error
    except (OSError, RuntimeError):
        extension = ModuleType("torchaudio._extension")
        missing = {"_IS_TORCHAUDIO_EXT_AVAILABLE": False, "fail_if_no_align": lambda call: call}
        vars(extension).update(missing)
        sys.modules[extension.__name__] = extension
        return importlib.import_module("torchaudio")
