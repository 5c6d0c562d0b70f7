"""Which files are denoised into which."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from signal_diffusion.errors import InputError
from signal_diffusion.recordings import CONTAINERS
from signal_diffusion.recordings.tables import is_table

#: Suffixes of what soundfile reads and nothing is written as: such recordings become WAV.
READ_ONLY = (
    ".avr",
    ".ircam",
    ".mp1",
    ".mp2",
    ".nist",
    ".paf",
    ".pvf",
    ".sf",
    ".sph",
    ".svx",
    ".voc",
)


@dataclass(frozen=True)
class Columns:
    """What a user says of a table, see `recordings.tables.opened_table`."""

    rate: float | None = None
    channels: Sequence[str] | None = None
    time: str | None = None
    delimiter: str | None = None
    skip: Sequence[str] = ()


@dataclass(frozen=True)
class Job:
    """A file to denoise and the files that this writes.

    Attributes:
        source: the noisy file.
        target: the clean one, as asked for: a container that can't hold it changes the suffix.
        keep_noise, plot, uncertainty: further outputs, where they are wanted.
    """

    source: Path
    target: Path
    keep_noise: Path | None = None
    plot: Path | None = None
    uncertainty: Path | None = None

    @property
    def outputs(self) -> list[Path]:
        """All that is written, the target first."""
        sides = (self.keep_noise, self.plot, self.uncertainty)
        return [self.target, *(path for path in sides if path is not None)]


def single(inputs: Sequence[str]) -> bool:
    """Whether the inputs are one file: no folder, no pattern, no list."""
    return len(inputs) == 1 and not os.path.isdir(inputs[0]) and not _is_pattern(inputs[0])


def plan(
    inputs: Sequence[str],
    output: str,
    *,
    keep_noise: str | None = None,
    plot: str | None = None,
    uncertainty: str | None = None,
) -> list[Job]:
    """The jobs that some inputs stand for, in order.

    Args:
        inputs: files, folders (all recordings in them, hidden ones left out) and patterns of paths.
            Below a folder, or the fixed beginning of a pattern, the tree of folders is kept; where
            there are several inputs a folder keeps its own name, too.
        output: a file for one file; a folder for several, for a folder or a pattern, or where it
            exists as one or ends with a slash.
        keep_noise, plot, uncertainty: the same for what else is written.

    Raises:
        InputError: an input is missing or holds nothing, or an output would be written twice or
            over an input.
    """
    places = (output, keep_noise, plot, uncertainty)
    one = single(inputs)
    folders = frozenset() if one else frozenset(Path(p).resolve() for p in places if p is not None)
    found = [pair for given in inputs for pair in _found(given, folders, several=len(inputs) > 1)]
    jobs = [_job(source, name, places, one=one) for source, name in found]
    require_distinct(jobs)
    return jobs


def require_distinct(jobs: Sequence[Job]) -> None:
    """Raise an `InputError` if two outputs are one file, or one is an input."""
    sources = {_identity(job.source): job.source for job in jobs if job.source.exists()}
    writers: dict[Path, Path] = {}
    for job in jobs:
        for path in job.outputs:
            source = sources.get(_identity(path)) if path.exists() else None
            if source is not None:
                itself = "the input itself" if source == job.source else f"another input, {source}"
                raise InputError(f"the output {path} is {itself}: give it another name")
            key = path.parent.resolve() / path.name
            if key in writers:
                both = " and ".join(dict.fromkeys(map(str, (writers[key], job.source))))
                raise InputError(f"two outputs of {both} would be {path}: give them other names")
            writers[key] = job.source


def _found(given: str, folders: frozenset[Path], *, several: bool) -> list[tuple[Path, Path]]:
    """The recordings that an input stands for, and their names below an output folder."""
    path, above = Path(given), Path()
    if path.is_dir():
        root = path
        above = Path(path.resolve().name) if several else above
    elif _is_pattern(given):
        root = _fixed_part(path)
    elif path.exists() or is_table(path):
        return [(path, Path(path.name))]
    else:
        raise InputError(f"{path}: there is no such file")
    if root.resolve() in folders:
        raise InputError(f"the output folder {root} is the input itself: give another one")
    left_out = frozenset(folder for folder in folders if root.resolve() in folder.parents)
    files = _walked(root, left_out) if path.is_dir() else _matched(path, left_out)
    found = _recordings(files)
    if not found:
        known = " ".join(CONTAINERS)
        raise InputError(f"{given} holds no recordings: their names end in {known} or .csv, .hea")
    return [(file, above / file.relative_to(root)) for file in found]


def _walked(root: Path, left_out: frozenset[Path]) -> Iterator[Path]:
    """The files below a folder, without hidden ones."""

    def stop(error: OSError) -> None:
        raise InputError(f"{error.filename} can't be listed: {error.strerror}") from error

    for folder, below, names in os.walk(root, onerror=stop):
        here = Path(folder)
        seen = [name for name in below if not name.startswith(".")]
        below[:] = [name for name in seen if (here / name).resolve() not in left_out]
        yield from (here / name for name in names if not name.startswith("."))


def _matched(pattern: Path, left_out: frozenset[Path]) -> Iterator[Path]:
    """The files that a pattern of paths fits, without hidden ones."""
    for name in glob.iglob(str(pattern), recursive=True):
        if left_out.isdisjoint(Path(name).resolve().parents):
            yield Path(name)


def _recordings(files: Iterator[Path]) -> list[Path]:
    """The sound files, or, where there is none, the tables of readings."""
    there = sorted(file for file in files if file.is_file())
    sound = [file for file in there if file.suffix.lower() in (*CONTAINERS, *READ_ONLY)]
    # A WFDB record is its header and its samples: its header stands for it.
    return sound or [f for f in there if is_table(f) and f.suffix.lower() not in (".dat", ".txt")]


def _is_pattern(given: str) -> bool:
    return any(mark in given for mark in "*?[") and not os.path.exists(given)


def _fixed_part(pattern: Path) -> Path:
    """The folder that a pattern of paths surely lies in."""
    return Path(*takewhile(lambda part: not any(mark in part for mark in "*?["), pattern.parts))


def _job(source: Path, name: Path, places: Sequence[str | None], *, one: bool) -> Job:
    """The job of a recording that has this name below an output folder."""
    kept = name.suffix.lower() in CONTAINERS or is_table(source)
    sound = name if kept else name.with_suffix(".wav")
    names = (sound, sound, name.with_suffix(".png"), name.with_suffix(".npz"))
    target, *sides = (
        None if place is None else _placed(place, inside, one=one)
        for place, inside in zip(places, names, strict=True)
    )
    assert target is not None
    return Job(source, target, *sides)


def _placed(place: str, name: Path, *, one: bool) -> Path:
    return Path(place) / name if is_folder(place, one=one) else Path(place)


def is_folder(place: str, *, one: bool) -> bool:
    """Whether an output is a folder, for the one file that is the input or for many."""
    return not one or place.endswith(("/", os.sep)) or os.path.isdir(place)


def _identity(path: Path) -> tuple[int, int]:
    """What tells a file that exists from all others, whatever its names."""
    status = path.stat()
    return status.st_dev, status.st_ino
