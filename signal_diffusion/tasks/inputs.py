"""The recordings that the inputs of a command stand for: files, folders, patterns of paths."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import takewhile
from pathlib import Path

from signal_diffusion.audio import CONTAINERS
from signal_diffusion.audio.forms import UNREADABLE
from signal_diffusion.errors import InputError
from signal_diffusion.tables import is_table

#: Suffixes of what soundfile reads and nothing is written as: such recordings become WAV.
READ_ONLY = (
    *(".avr", ".ircam", ".mp1", ".mp2", ".nist", ".paf"),
    *(".pvf", ".sf", ".sph", ".svx", ".voc"),
)
SOUND = (*CONTAINERS, *READ_ONLY)
DANGLING = "link that leads nowhere"
#: Called with what a recording is that can't be read: its suffix, or `DANGLING`.
LeftOut = Callable[[str], None]


def found(
    given: str, folders: frozenset[Path], *, several: bool, left_out: LeftOut
) -> list[tuple[Path, Path]]:
    """The recordings that an input stands for, and their names below an output folder.

    Args:
        given: a file, a folder or a pattern of paths.
        folders: of the outputs, in which no input is looked for.
        several: there are other inputs, so that a folder keeps its own name.
        left_out: called for each recording that can't be read.

    Raises:
        InputError: the input is missing, holds nothing, or is where the output goes.
    """
    path, above = Path(given), Path()
    if os.path.isdir(path):
        root = path
        above = Path(path.resolve().name) if several else above
    elif is_pattern(given):
        root = _fixed_part(path)
    elif os.path.exists(path) or is_table(path):
        return [(path, Path(path.name))]
    else:
        raise InputError(f"{path}: there is no such file")
    if root.resolve() in folders:
        raise InputError(f"the output folder {root} is the input itself: give another one")
    outputs = frozenset(folder for folder in folders if root.resolve() in folder.parents)
    files = sorted(_walked(root, outputs) if root == path else _matched(path, outputs))
    recordings = _recordings(files)
    unread = [kind for kind in map(_unreadable, files) if kind is not None]
    for kind in unread:
        left_out(kind)
    if not recordings:
        raise InputError(_nothing(given, unread))
    return [(file, above / file.relative_to(root)) for file in recordings]


def is_pattern(given: str) -> bool:
    """Whether an input stands for all paths that fit it."""
    return any(mark in given for mark in "*?[") and not os.path.exists(given)


def counted(kinds: Iterable[str]) -> str:
    """What was left out, in words.

    >>> counted([".wma", ".m4a", ".wma"])
    '1 .m4a, 2 .wma'
    """
    return ", ".join(
        f"{number} {kind}" + ("s" if number > 1 and kind == DANGLING else "")
        for kind, number in sorted(Counter(kinds).items())
    )


def _nothing(given: str, unread: list[str]) -> str:
    suffixes = " ".join(SOUND)
    line = f"{given} holds no recordings: their names end in {suffixes} or .csv, .hea"
    return f"{line}; left out: {counted(unread)}" if unread else line


def _walked(root: Path, outputs: frozenset[Path]) -> Iterator[Path]:
    """The files below a folder, and below those that it links to, without hidden ones."""

    def stop(error: OSError) -> None:
        raise InputError(f"{error.filename} can't be listed: {error.strerror}") from error

    for folder, below, names in os.walk(root, onerror=stop, followlinks=True):
        here = Path(folder)
        seen = [name for name in below if not name.startswith(".")]
        below[:] = [name for name in seen if not _leads_back(here / name, root, outputs)]
        yield from (here / name for name in names if not name.startswith("."))


def _leads_back(folder: Path, root: Path, outputs: frozenset[Path]) -> bool:
    """Whether a folder is one of the outputs, or a link to where the walk came from."""
    there = folder.resolve()
    if there in outputs or not folder.is_symlink():
        return there in outputs
    above = (part for part in folder.parents if part == root or root in part.parents)
    return there in {part.resolve() for part in above}


def _matched(pattern: Path, outputs: frozenset[Path]) -> Iterator[Path]:
    """The files that a pattern of paths fits, without hidden ones."""
    for name in glob.iglob(str(pattern), recursive=True):
        if outputs.isdisjoint(Path(name).resolve().parents):
            yield Path(name)


def _recordings(files: list[Path]) -> list[Path]:
    """The sound files, or, where there is none, the tables of readings."""
    there = [file for file in files if os.path.isfile(file)]
    sound = [file for file in there if file.suffix.lower() in SOUND]
    # A WFDB record is its header and its samples: its header stands for it.
    return sound or [f for f in there if is_table(f) and f.suffix.lower() not in (".dat", ".txt")]


def _unreadable(file: Path) -> str | None:
    suffix = file.suffix.lower()
    if suffix in UNREADABLE and os.path.isfile(file):
        return suffix
    sound = suffix in UNREADABLE or suffix in SOUND
    return DANGLING if sound and os.path.islink(file) and not os.path.exists(file) else None


def _fixed_part(pattern: Path) -> Path:
    """The folder that a pattern of paths surely lies in."""
    return Path(*takewhile(lambda part: not any(mark in part for mark in "*?["), pattern.parts))


def single(inputs: Sequence[str]) -> bool:
    """Whether the inputs are one file: no folder, no pattern, no list."""
    return len(inputs) == 1 and not os.path.isdir(inputs[0]) and not is_pattern(inputs[0])
