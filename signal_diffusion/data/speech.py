"""Where the batches of a speech denoiser come from: a manifest, folders, or pairs of folders.

Each is a factory for `data.module.DiffusionData`: called, it decodes what it needs and returns the
source of the training batches, that of the held-out batches, and recordings to validate on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from signal_diffusion.data.batches import Batch, Recordings, Source
from signal_diffusion.data.corpus import (
    Clip,
    Corpus,
    clip_weights,
    clips_of,
    list_folder,
    manifest_rows,
    split_by_speaker,
)
from signal_diffusion.data.speech_mixing import Mixer
from signal_diffusion.dsp.levels import level_db
from signal_diffusion.errors import InputError

Sources = tuple[Source, Source, Recordings]


@dataclass(frozen=True)
class CorpusSources:
    """What sources of recordings share.

    Args:
        sample_rate: Hz.
        cache: folder for the decoded recordings, or None to keep them in memory.
    """

    sample_rate: int = field(default=16000, kw_only=True)
    cache: str | None = field(default=None, kw_only=True)

    def corpus(self, clips: Sequence[Clip]) -> Corpus:
        """The recordings, decoded."""
        return Corpus(clips, sample_rate=self.sample_rate, cache=self.cache)


@dataclass(frozen=True)
class ManifestSources(CorpusSources):
    """Speech, noise, music, rooms and pairs of one manifest with columns domain, split, subset.

    Args:
        root: folder of the recordings and of `manifest`.
        voices: domains of the manifest that are speech.
        held_out: subsets that are left out of training and used in validation alone.
        quiet_floor_db: least `floor_db` of the speech: dB between its loud and its quiet frames.
        mixer: options of `Mixer`.
        mixes: held-out mixes to validate on, besides the manifest's pairs.
    """

    root: str
    manifest: str = "manifest.csv"
    voices: Sequence[str] = ("speech",)
    held_out: Sequence[str] = ()
    quiet_floor_db: float = 35.0
    mixer: Mapping[str, Any] = field(default_factory=dict)
    mixes: int = 18

    def __call__(self) -> Sources:
        train, valid = self._mixer("train"), self._mixer("valid")
        pairs = [*self._pairs(), *_mixes(valid, self.mixes)]
        return train, valid, Recordings(pairs)

    def _mixer(self, split: str) -> Mixer:
        speech = [c for domain in self.voices for c in self._clips(domain, split, required=False)]
        noise = self._noise(split)
        music, rooms = (
            self.corpus(clips) if clips else None
            for clips in (
                self._clips("music", split, required=False),
                self._clips("rooms", "train", required=False),
            )
        )
        if not speech:
            raise InputError(f"{self.manifest} has no speech of the split {split}")
        return Mixer(self.corpus(speech), self.corpus(noise), music, rooms, **self.mixer)

    def _noise(self, split: str) -> list[Clip]:
        """What is not held out, or, to validate on, what is, beside the split's own."""
        train = self._clips("noise", "train")
        if split == "train":
            return [c for c in train if c.group not in self.held_out]
        return self._clips("noise", split) + [c for c in train if c.group in self.held_out]

    def _clips(
        self, domain: str, split: str, *, label: str | None = None, required: bool = True
    ) -> list[Clip]:
        where = {"domain": [domain], "split": [split]} | ({"label": [label]} if label else {})
        floor = {"floor_db": self.quiet_floor_db} if domain == "speech" else None
        rows = manifest_rows(
            self.root, self.manifest, where=where, at_least=floor, required=required
        )
        return clips_of(self.root, rows)

    def _pairs(self) -> list[tuple[Tensor, Tensor, str]]:
        clean, noisy = (
            sorted(self._clips("pairs", "valid", label=label, required=False), key=lambda c: c.path)
            for label in ("clean", "noisy")
        )
        return _whole_pairs(clean, noisy, self.sample_rate) if clean else []


@dataclass(frozen=True)
class FolderSources(CorpusSources):
    """Speech mixed with noise, each from a folder; the speakers are the folders of the speech.

    Args:
        speech, noise, music: folders of recordings; music may be None.
        valid_share: share of the speakers (and of the noises) that is held out.
    """

    speech: str
    noise: str
    music: str | None = None
    valid_share: float = 0.1
    mixer: Mapping[str, Any] = field(default_factory=dict)
    mixes: int = 18

    def __call__(self) -> Sources:
        speech = _split("speech", list_folder(self.speech), self.valid_share)
        by_file = [Clip(c.path, speaker=c.path.stem) for c in list_folder(self.noise)]
        noise = _split("noise", by_file, self.valid_share)
        music = list_folder(self.music) if self.music else []
        train, valid = (
            Mixer(
                self.corpus(s),
                self.corpus(n),
                self.corpus(music) if music else None,
                **self.mixer,
            )
            for s, n in zip(speech, noise, strict=True)
        )
        return train, valid, Recordings(_mixes(valid, self.mixes))


@dataclass(frozen=True)
class PairSources(CorpusSources):
    """Recordings in two folders, noisy and clean, under the same names (as VoiceBank-DEMAND).

    The speaker is the folder, or what the file name has before its first "_" (p226_001.wav).

    Args:
        noisy, clean: the folders.
        length: samples of a training clip.
        valid_share: share of the speakers that is held out.
        recordings: how many held-out recordings to validate on.
    """

    noisy: str
    clean: str
    length: int = 32768
    valid_share: float = 0.1
    recordings: int = 24
    level_db: float = 0.0

    def __call__(self) -> Sources:
        noisy, clean = _matched(Path(self.noisy), Path(self.clean))
        train, valid = _split("speech", clean, self.valid_share)
        partner = {c: n for c, n in zip(clean, noisy, strict=True)}
        sources = [self._crops(part, [partner[c] for c in part]) for part in (train, valid)]
        held_out = valid[: self.recordings]
        pairs = _whole_pairs(held_out, [partner[c] for c in held_out], self.sample_rate)
        return sources[0], sources[1], Recordings(pairs)

    def _crops(self, clean: Sequence[Clip], noisy: Sequence[Clip]) -> PairCrops:
        pair = _as_long(self.corpus(clean), self.corpus(noisy))
        return PairCrops(*pair, length=self.length, level_db=self.level_db)


@dataclass(frozen=True)
class PairCrops:
    """Draws batches of clips at the same place of the two recordings of a pair."""

    clean: Corpus
    noisy: Corpus
    length: int = 32768
    level_db: float = 0.0

    def __call__(self, rng: np.random.Generator, size: int) -> Batch:
        picks = rng.choice(len(self.clean), size, p=clip_weights(self.clean, {}))
        seeds = rng.integers(2**63, size=size)
        places = [(int(i), seed) for i, seed in zip(picks, seeds, strict=True)]
        crops = [
            [x.crop(np.random.default_rng(seed), i, self.length) for i, seed in places]
            for x in (self.clean, self.noisy)
        ]
        clean, noisy = torch.from_numpy(np.array(crops))[:, :, None]
        gain = 10 ** ((self.level_db - level_db(noisy)) / 20)
        return Batch(clean * gain, noisy * gain, [self.clean.clips[i].name for i in picks])


def _split(what: str, clips: Sequence[Clip], share: float) -> tuple[list[Clip], list[Clip]]:
    train, valid = split_by_speaker(clips, valid_share=share)
    if not train or not valid:  # a few speakers only: hold out the last of them
        last = max(clip.speaker for clip in clips)
        train = [c for c in clips if c.speaker != last]
        valid = [c for c in clips if c.speaker == last]
    if not train:
        raise InputError(
            f"the {what} has only one speaker or source, {clips[0].speaker}: two are needed, one "
            "to train on and one to validate on (one sub-folder each)"
        )
    return train, valid


def _mixes(mixer: Mixer, count: int) -> list[tuple[Tensor, Tensor, str]]:
    audible = replace(mixer, noise_only=0.0, speech_only=0.0)  # a score needs both
    batch = audible(np.random.default_rng(0), count)
    return list(zip(batch.clean, batch.noisy, batch.names, strict=True))


def _matched(noisy_root: Path, clean_root: Path) -> tuple[list[Clip], list[Clip]]:
    """The recordings of two folders in the same order, by their paths but for the suffix."""
    noisy, clean = (
        {clip.path.relative_to(root).with_suffix(""): clip for clip in list_folder(root)}
        for root in (noisy_root, clean_root)
    )
    missing = [clip.path for name, clip in noisy.items() if name not in clean]
    if missing:
        raise InputError(
            f"{clean_root} has no {missing[0].relative_to(noisy_root)}: "
            "a noisy file needs a clean one of its name"
        )
    partners = [clean[name] for name in noisy]
    return list(noisy.values()), [Clip(c.path, _speaker(c), c.group) for c in partners]


def _speaker(clip: Clip) -> str:
    return clip.speaker if clip.speaker != "." else clip.path.stem.split("_")[0]


def _whole_pairs(
    clean: Sequence[Clip], noisy: Sequence[Clip], sample_rate: int
) -> list[tuple[Tensor, Tensor, str]]:
    first, second = _as_long(*(Corpus(x, sample_rate=sample_rate) for x in (clean, noisy)))
    return [
        (torch.from_numpy(first.clip(n))[None], torch.from_numpy(second.clip(n))[None], clip.name)
        for n, clip in enumerate(first.clips)
    ]


def _as_long(clean: Corpus, noisy: Corpus) -> tuple[Corpus, Corpus]:
    """Two corpora whose clips are pairs of one length."""
    for clip, one, other in zip(clean.clips, clean.ends, noisy.ends, strict=True):
        if one != other:
            raise InputError(f"{clip.path} is not as long as its noisy partner: trim the pair")
    return clean, noisy
