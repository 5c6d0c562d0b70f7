"""What `signal-diffusion memorisation` compares: drawn signals, and clips of a manifest or folders.

All come at the drawn signals' rate and length; longer clips are cut, as in training.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from signal_diffusion.conditions import Condition, Value
from signal_diffusion.data.corpus import SUFFIXES, Clip, Corpus, list_folder, list_manifest
from signal_diffusion.data.labelled import fitted
from signal_diffusion.denoiser import Denoiser
from signal_diffusion.errors import InputError
from signal_diffusion.provenance import provenance
from signal_diffusion.recordings import read
from signal_diffusion.tasks.generate import generate
from signal_diffusion.tasks.memorisation import Clips
from signal_diffusion.tasks.pieces import Progress


@dataclass(frozen=True)
class Drawn:
    """Drawn signals, their rate in Hz and length in samples, and where they come from."""

    clips: Clips
    sample_rate: int
    length: int
    told: Mapping[str, Any]
    domain: str | None = None


def drawn_signals(
    source: str,
    *,
    count: int,
    seed: int,
    steps: int,
    guidance: float,
    device: str,
    progress: Progress | None = None,
) -> Drawn:
    """The signals of a folder or an NPZ, or `count` that a generator draws.

    Of a generator's conditions, each signal is asked for random values, by the seed.

    Raises:
        InputError: there is no such thing, or it holds or draws no signals.
    """
    path = Path(source)
    if path.suffix.lower() == ".npz":
        return _from_npz(path)
    if path.is_dir() and any(p.suffix.lower() in SUFFIXES for p in path.rglob("*")):
        return _from_folder(path)
    from signal_diffusion.cli.models import device_named

    denoiser = Denoiser.from_pretrained(source).to(device_named(device))
    if denoiser.sample_rate is None:
        raise InputError("this model has no sample rate, which files need")
    asked = random_values(denoiser.conditions, count, seed)
    signals = generate(
        denoiser, asked=asked, steps=steps, guidance=guidance, seed=seed, progress=progress
    )
    told = provenance(source, seed=seed, steps=steps, guidance=guidance)
    names = [" ".join([*map(str, one.values()), f"{n:03d}"]) for n, one in enumerate(asked)]
    rate, length = denoiser.sample_rate, signals.shape[1]
    return Drawn(Clips(names, signals.__getitem__), rate, length, told, denoiser.domain)


def random_values(conditions: Sequence[Condition], count: int, seed: int) -> list[dict[str, Value]]:
    """What is asked for: of every condition, one of its values for each of `count` signals.

    >>> from signal_diffusion.conditions import Names
    >>> random_values([Names("class", ("one",))], 2, 0)
    [{'class': 'one'}, {'class': 'one'}]
    """
    rng = np.random.default_rng(seed)
    lists = {condition.name: condition.values("all") for condition in conditions}
    return [
        {name: values[int(rng.integers(len(values)))] for name, values in lists.items()}
        for _ in range(count)
    ]


def manifest_sets(root: Path, words: Mapping[str, Sequence[str]], drawn: Drawn) -> list[Clips]:
    """Clips of the splits train and valid, with the rows that the words, or the domain, choose."""
    if not words and drawn.domain is None:
        raise InputError("which rows were trained on? Give e.g. --where domain=digits")
    where = words or {"domain": [drawn.domain or ""]}
    return [
        _clips(list_manifest(root, where={**where, "split": [split]}), drawn)
        for split in ("train", "valid")
    ]


def folder_sets(train: Path, held_out: Path, drawn: Drawn) -> list[Clips]:
    """Clips of two folders."""
    return [_clips(list_folder(folder), drawn) for folder in (train, held_out)]


def words_of(where: Sequence[str]) -> dict[str, list[str]]:
    """Columns and their values, as they were given.

    >>> words_of(["domain=music", "subset=notes,drums"])
    {'domain': ['music'], 'subset': ['notes', 'drums']}
    """
    words: dict[str, list[str]] = {}
    for word in where:
        column, given, values = word.partition("=")
        if not (column and given and values):
            raise InputError(f"where is '{word}'; give COLUMN=VALUE, e.g. --where domain=digits")
        words[column] = values.split(",")
    return words


def _clips(clips: Sequence[Clip], drawn: Drawn) -> Clips:
    corpus = Corpus(clips, sample_rate=drawn.sample_rate)
    names = [clip.name for clip in clips]
    return Clips(names, lambda index: fitted(corpus.clip(index), drawn.length))


def _from_folder(folder: Path) -> Drawn:
    clips = list_folder(folder)
    rate = read(clips[0].path).sample_rate
    corpus = Corpus(clips, sample_rate=rate)
    length = int((corpus.ends - corpus.starts).max())
    names = [str(clip.path.relative_to(folder)) for clip in clips]
    found = Clips(names, lambda index: fitted(corpus.clip(index), length))
    return Drawn(found, rate, length, {"folder": folder.name})


def _from_npz(path: Path) -> Drawn:
    try:
        with np.load(path, allow_pickle=False) as held:
            signals = np.asarray(held["signals"], np.float32)
            rate = int(held["sample_rate"])
            told = json.loads(str(held["provenance"])) if "provenance" in held else {}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path} can't be read as what `generate -o {path.name}` writes, "
            f"with signals (n, L) and sample_rate: {' '.join(str(error).split())}"
        ) from error
    if signals.ndim != 2 or not signals.size or rate < 1 or not np.isfinite(signals).all():
        raise InputError(f"{path} holds signals {signals.shape} at {rate} Hz: give finite (n, L)")
    names = [f"{path.stem}[{index}]" for index in range(len(signals))]
    return Drawn(Clips(names, signals.__getitem__), rate, signals.shape[1], told)
