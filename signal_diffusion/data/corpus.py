"""Collections of recordings, decoded once, resampled, and kept in memory or memory-mapped."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from signal_diffusion.dsp.resampling import resample
from signal_diffusion.errors import InputError, one_line
from signal_diffusion.files import atomic

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif", ".opus")


@dataclass(frozen=True)
class Clip:
    """One recording, or a part of one: samples `start` to `start + length` of a file."""

    path: Path
    speaker: str
    group: str = ""
    start: int = 0
    length: int | None = None

    @property
    def name(self) -> str:
        return f"{self.path.name}[{self.start}]" if self.start else self.path.name


def list_folder(root: str | Path) -> list[Clip]:
    """All audio files below a folder; the speaker is the folder that a file lies in."""
    root = _folder(root)
    paths = sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not paths:
        raise InputError(f"no audio in {root}: it needs {', '.join(SUFFIXES)} files")
    return [Clip(p, speaker=str(p.parent.relative_to(root))) for p in paths]


def clips_of(root: str | Path, rows: Sequence[Mapping[str, str]]) -> list[Clip]:
    """The recordings that rows of a manifest are about."""
    return [_clip(Path(root), row) for row in rows]


def manifest_rows(
    root: str | Path,
    manifest: str = "manifest.csv",
    *,
    where: Mapping[str, Sequence[str]] | None = None,
    at_least: Mapping[str, float] | None = None,
    required: bool = True,
) -> list[dict[str, str]]:
    """Rows of a CSV with a column `path`, relative to the folder `root`.

    Optional columns: `id` or `speaker` (the unit of a split), `subset`, `start` and `length`
    (samples).

    Args:
        where: column to allowed values, e.g. `{"split": ["train"], "domain": ["speech"]}`.
        at_least: column to the least value; rows without a value are kept.
        required: whether it is an error that no row fits.

    Raises:
        InputError: there is no such folder, table, column or row.
    """
    path = _folder(root) / manifest
    if not path.is_file():
        raise InputError(f"no manifest {path}: give a CSV with a column 'path'")
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if _selected(row, where or {}, at_least or {})]
    if not rows and not required:
        return []
    if not rows:
        raise InputError(f"no row of {path} fits {dict(where or {})} {dict(at_least or {})}")
    if "path" not in rows[0]:
        raise InputError(f"{path} has no column 'path'; it has {', '.join(rows[0])}")
    return rows


def manifest_arrays(
    root: str | Path, manifest: str = "manifest.csv", *, where: Mapping[str, Sequence[str]]
) -> list[tuple[dict[str, str], Mapping[str, Any]]]:
    """The rows of a manifest that fit, and the arrays of the NPZ file that each names.

    Raises:
        InputError: there is no such file, or it holds something else.
    """
    rows = manifest_rows(root, manifest, where=where)
    files = {}
    for name in {row["path"] for row in rows}:
        try:
            files[name] = np.load(Path(root, name), allow_pickle=False)
        except (OSError, ValueError) as error:
            raise InputError(f"{name} can't be read as NPZ: {one_line(error)}") from error
    return [(row, files[row["path"]]) for row in rows]


def _selected(
    row: Mapping[str, str], where: Mapping[str, Sequence[str]], at_least: Mapping[str, float]
) -> bool:
    fits = all(row.get(column) in values for column, values in where.items())
    return fits and all(float(row.get(c) or "inf") >= least for c, least in at_least.items())


def _clip(root: Path, row: Mapping[str, str]) -> Clip:
    return Clip(
        root / row["path"],
        speaker=row.get("id") or row.get("speaker") or row["path"],
        group=row.get("subset", ""),
        start=int(row.get("start") or 0),
        length=int(row["length"]) if row.get("length") else None,
    )


def _folder(root: str | Path) -> Path:
    if not Path(root).is_dir():
        raise InputError(f"no folder {root}: give the folder of the recordings")
    return Path(root)


def split_by_speaker(
    clips: Sequence[Clip], *, valid_share: float = 0.1
) -> tuple[list[Clip], list[Clip]]:
    """Clips to train on and to validate on, by a hash of the speaker: no speaker is in both."""
    names = {c.speaker for c in clips}
    hashes = {name: int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) for name in names}
    held_out = {name for name, number in hashes.items() if number / 2**32 < valid_share}
    train = [c for c in clips if c.speaker not in held_out]
    return train, [c for c in clips if c.speaker in held_out]


class Corpus:
    """Clips decoded to one 16-bit array at one rate.

    Args:
        clips: what to hold; only the first channel is kept.
        sample_rate: rate in Hz that all are resampled to.
        cache: folder for a memory-mapped copy that later runs reuse, or None to stay in memory.
    """

    def __init__(
        self, clips: Sequence[Clip], *, sample_rate: int, cache: str | Path | None = None
    ) -> None:
        self.clips, self.sample_rate = list(clips), sample_rate
        if cache is None:
            self.samples, lengths = _decode_all(self.clips, sample_rate)
        else:
            self.samples, lengths = _cached(self.clips, sample_rate, Path(cache))
        self.ends = np.cumsum(lengths)
        self.starts = self.ends - lengths

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def seconds(self) -> float:
        return float(len(self.samples) / self.sample_rate)

    def clip(self, index: int) -> np.ndarray:
        """The whole of one clip, float32 in [-1, 1], shaped (L,)."""
        return self._float(slice(self.starts[index], self.ends[index]))

    def crop(self, rng: np.random.Generator, index: int, length: int) -> np.ndarray:
        """A random piece (length,) of one clip; a short clip lies in silence, or is repeated.

        A clip shorter than half the piece is repeated, another shorter one is put at random.
        """
        start, end = int(self.starts[index]), int(self.ends[index])
        spare = end - start - length
        if spare >= 0:
            at = start + int(rng.integers(spare + 1))
            return self._float(slice(at, at + length))
        piece = self._float(slice(start, end))
        if 2 * len(piece) < length:
            return np.resize(np.roll(piece, int(rng.integers(len(piece)))), length)
        out = np.zeros(length, np.float32)
        at = int(rng.integers(-spare + 1))
        out[at : at + len(piece)] = piece
        return out

    def _float(self, where: slice) -> np.ndarray:
        return self.samples[where].astype(np.float32) / 32768


def clip_weights(
    corpus: Corpus, groups: Mapping[str, float], *, balance: float = 1.0
) -> np.ndarray:
    """Probability of each clip: by its length, with the shares of some groups given.

    With a balance below 1, a source's probability is its length to that power.
    """
    lengths = (corpus.ends - corpus.starts).astype(np.float64)
    names = np.array([clip.group for clip in corpus.clips])
    if balance < 1:
        _, source = np.unique([c.speaker for c in corpus.clips], return_inverse=True)
        lengths *= np.bincount(source, lengths)[source] ** (balance - 1)
    rest = 1.0 - sum(share for name, share in groups.items() if (names == name).any())
    weights = np.where(np.isin(names, list(groups)), 0.0, lengths)
    weights *= rest / max(weights.sum(), 1e-9)
    for name, share in groups.items():
        rows = names == name
        weights[rows] = share * lengths[rows] / max(lengths[rows].sum(), 1e-9)
    return weights / weights.sum()


def _decode_all(clips: Sequence[Clip], sample_rate: int) -> tuple[np.ndarray, np.ndarray]:
    pieces = [_decode(clip, sample_rate) for clip in clips]
    return np.concatenate(pieces), np.array([len(piece) for piece in pieces])


def _decode(clip: Clip, sample_rate: int) -> np.ndarray:
    stop = None if clip.length is None else clip.start + clip.length
    try:
        samples, rate = soundfile.read(
            clip.path, start=clip.start, stop=stop, dtype="float32", always_2d=True
        )
    except (RuntimeError, OSError) as error:
        raise InputError(f"{clip.path} can't be read as audio: {error}") from error
    mono = samples[:, 0]
    if rate != sample_rate:
        mono = resample(mono[None], rate, sample_rate)[0]
    if len(mono) == 0 or not np.isfinite(mono).all():
        raise InputError(f"{clip.path} is empty or holds values that are no numbers")
    return np.clip(np.round(mono * 32768), -32768, 32767).astype(np.int16)


def _cached(clips: Sequence[Clip], sample_rate: int, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    files = [(str(c.path), c.path.stat()) for c in clips]
    stats = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in files]
    parts = [(c.start, c.length) for c in clips]
    digest = hashlib.sha256(json.dumps([sample_rate, stats, parts]).encode()).hexdigest()[:16]
    data, index = folder / f"{digest}.npy", folder / f"{digest}.lengths.npy"
    if not (data.is_file() and index.is_file()):
        folder.mkdir(parents=True, exist_ok=True)
        for path, array in zip((data, index), _decode_all(clips, sample_rate), strict=True):
            with atomic.writing(path) as partial, partial.open("wb") as file:
                np.save(file, array)
    return np.load(data, mmap_mode="r"), np.load(index)
