"""Tables in NPY and NPZ files."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError
from signal_diffusion.files.atomic import beside, failures
from signal_diffusion.tables.base import Piece, Sink, changed
from signal_diffusion.tables.columns import Choice, pick, time_column, unit_of
from signal_diffusion.tables.time import Clock

ROWS = 1 << 16
RATES = ("sample_rate", "samplerate", "sampling_rate", "rate", "fs", "sr", "frequency")


@dataclass(frozen=True)
class Column:
    """A column of a table: of which array, and which of its columns.

    Attributes:
        name: of the column.
        array: name of the array, "" for the only one of an NPY file.
        axis: along which the rows lie.
        at: which one across it.
    """

    name: str
    array: str
    axis: int
    at: int

    def of(self, arrays: dict[str, Array]) -> Array:
        """The column (L,), as a view."""
        array = arrays[self.array]
        if array.ndim == 1:
            return array
        return array[:, self.at] if self.axis == 0 else array[self.at]


class NumpySource:
    """Arrays of readings, (L,), (L, C) or (C, L) with L >= C; see `Source`.

    Of an NPZ file, all arrays of the length of its largest one make up the table.
    """

    def __init__(self, path: Path, choice: Choice) -> None:
        self.path = path
        # Unpacked, so that parts can be read; gone with this object.
        self._folder = tempfile.TemporaryDirectory() if path.suffix.lower() == ".npz" else None
        self.files = _unpacked(path, self._folder)
        self._arrays = {name: _array(path, file) for name, file in self.files.items()}
        rows = _length(path, self._arrays)
        self.length: int | None = rows
        self._rows = rows
        self.every = [
            column for name, array in self._arrays.items() for column in _columns(name, array, rows)
        ]
        names = [column.name for column in self.every]
        kinds = [column.of(self._arrays).dtype.kind for column in self.every]
        time = time_column(path, names, [kind in "mM" for kind in kinds], choice)
        picked = pick(path, names, [kind in "iuf" for kind in kinds], choice, time)
        self.picked = [self.every[at] for at in sorted(picked)]
        self.names = tuple(column.name for column in self.picked)
        self.units = tuple(unit_of(name) for name in self.names)
        self._time = None if time < 0 else self.every[time]
        self.rate = choice.rate
        self.clock: Clock | None = None
        if self._time is not None and self.rate is None and rows > 1:
            self.clock = Clock(path, self._stamps(0), self._time.name, "")
        elif self.rate is None:
            self.rate = _told_rate(self._arrays)

    def pieces(self, *, stamps: bool = False, whole: bool = False) -> Iterator[Piece]:
        """All rows from the beginning on; see `Source`."""
        for start in range(0, self._rows, ROWS):
            rows = slice(start, start + ROWS)
            values = [column.of(self._arrays)[rows].astype(np.float64) for column in self.picked]
            yield Piece(np.stack(values), self._stamps(start) if stamps else None, rows)

    def columns(self, piece: Piece) -> dict[str, Any]:
        """All columns of a piece, by name."""
        return {column.name: np.array(column.of(self._arrays)[piece.rows]) for column in self.every}

    @contextmanager
    def rewriting(self, path: Path, filled: tuple[int, ...]) -> Iterator[Sink]:
        """Write the arrays again; see `Sink`."""
        with beside(path) as partial, tempfile.TemporaryDirectory() as folder, failures(path):
            if self._folder is None:
                shutil.copyfile(self.path, partial)
                files = {"": partial}
            else:
                files = {name: Path(folder, f"{at}.npy") for at, name in enumerate(self.files)}
                for name, file in files.items():
                    shutil.copyfile(self.files[name], file)
            yield NumpySink(self, path, partial, files, filled)

    def _stamps(self, start: int) -> Array:
        assert self._time is not None
        return np.array(self._time.of(self._arrays)[start : start + ROWS])


class NumpySink:
    """Arrays that are being written, as copies that change in place; see `Sink`."""

    def __init__(
        self,
        source: NumpySource,
        path: Path,
        partial: Path,
        files: dict[str, Path],
        filled: tuple[int, ...],
    ) -> None:
        self.note: str | None = None
        self._source, self._path, self._partial, self._files = source, path, partial, files
        self._filled = filled
        changing = {column.array for column in source.picked}
        self._arrays = {name: np.load(files[name], mmap_mode="r+") for name in changing}
        self._masks = np.zeros((len(filled), source.length or 0), np.uint8)

    def put(self, piece: Piece, values: Array) -> None:
        """Change the readings of a piece that are new."""
        for column, new, old in zip(self._source.picked, values, piece.values, strict=True):
            view, fresh = column.of(self._arrays)[piece.rows], changed(new, old)
            if fresh.any() and view.dtype.kind in "iu":
                limits = np.iinfo(view.dtype)
                new = np.clip(np.rint(new), limits.min, limits.max)
                self.note = f"{self._path}: readings were rounded to {view.dtype}, as they came"
            view[fresh] = new[fresh].astype(view.dtype)
        self._masks[:, piece.rows] = np.isnan(piece.values[list(self._filled)])

    def finish(self) -> list[tuple[Path, Path]]:
        """Complete the file."""
        for array in self._arrays.values():
            array.flush()
        if "" not in self._files:
            self._pack()
        elif self._filled:
            self.note = f"{self._path}: an NPY file can't mark the readings that were filled"
        return [(self._partial, self._path)]

    def _pack(self) -> None:
        with (
            zipfile.ZipFile(self._source.path) as given,
            zipfile.ZipFile(self._partial, "w") as archive,
        ):
            for info in given.infolist():
                file = self._files.get(_member(info.filename))
                if file is None:
                    archive.writestr(info, given.read(info))
                else:
                    archive.write(file, info.filename, info.compress_type)
            for channel, mask in zip(self._filled, self._masks, strict=True):
                with archive.open(f"{self._source.names[channel]}_filled.npy", "w") as member:
                    np.lib.format.write_array(member, mask)


def _unpacked(path: Path, folder: tempfile.TemporaryDirectory[str] | None) -> dict[str, Path]:
    """The files of the arrays by their names."""
    if folder is None:
        return {"": path}
    files = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = [name for name in archive.namelist() if name.endswith(".npy")]
            for at, name in enumerate(members):
                files[_member(name)] = Path(folder.name, f"{at}.npy")
                with archive.open(name) as member, files[_member(name)].open("wb") as file:
                    shutil.copyfileobj(member, file)
    # Of damaged members, whatever their decoder meets.
    except Exception as error:
        raise InputError(f"{path} is no NPZ file or is damaged ({_why(error)})") from error
    return files


def _member(name: str) -> str:
    return name.removesuffix(".npy")


def _array(path: Path, file: Path) -> Array:
    try:
        return np.asanyarray(np.load(file, mmap_mode="r", allow_pickle=False))
    # The library evaluates the header as Python, with any of its errors.
    except Exception as error:
        # Objects of Python, and arrays without any number, can't be mapped.
        if path.suffix.lower() == ".npz":
            return np.zeros(())
        raise InputError(f"{path} holds no array of numbers ({_why(error)})") from error


def _why(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _length(path: Path, arrays: dict[str, Array]) -> int:
    """Rows of the table: of the largest array of numbers."""
    fit = [array for array in arrays.values() if array.ndim in (1, 2) and array.dtype.kind in "iuf"]
    if not fit:
        shapes = ", ".join(f"{array.dtype} {array.shape}" for array in arrays.values())
        raise InputError(
            f"{path} holds no numbers of shape (L,), (L, C) or (C, L), but {shapes or 'nothing'}"
        )
    return int(max(max(fit, key=lambda array: array.size).shape))


def _columns(name: str, array: Array, length: int) -> list[Column]:
    if array.ndim not in (1, 2) or length not in array.shape:
        return []
    if array.ndim == 1:
        return [Column(name or "1", name, 0, 0)]
    axis = 0 if array.shape[0] == length else 1
    count = array.shape[1 - axis]
    return [Column(f"{name}[{at}]" if name else str(at + 1), name, axis, at) for at in range(count)]


def _told_rate(arrays: dict[str, Array]) -> float | None:
    for name, array in arrays.items():
        if name.lower() in RATES and array.size == 1 and array.dtype.kind in "iuf":
            return float(array.reshape(())) if float(array.reshape(())) > 0 else None
    return None
