"""Tables in NPY and NPZ files."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError
from signal_diffusion.files.atomic import beside
from signal_diffusion.tables.columns import ROWS, Block, Source, unit_of
from signal_diffusion.tables.writer import Contents, changed

RATES = ("sample_rate", "samplerate", "sampling_rate", "rate", "fs", "sr", "frequency")


@dataclass(frozen=True)
class Column:
    """A column of a table, as a part of an array.

    Attributes:
        name: name of the column.
        array: name of the array, "" for the only one of an NPY file.
        axis: the axis of the rows.
        at: index along the other axis.
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


class NumpySource(Source):
    """Arrays of readings, (L,), (L, C) or (C, L) with L >= C; see `Source`.

    Of an NPZ file, all arrays of the length of its largest one make up the table.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # Unpacked, so that parts can be read; gone with this object.
        self._folder = tempfile.TemporaryDirectory() if path.suffix.lower() == ".npz" else None
        self.files = _unpacked(path, self._folder)
        self._arrays = {name: _array(path, file) for name, file in self.files.items()}
        rows = _length(path, self._arrays)
        self.length = self._rows = rows
        self.columns = [
            column for name, array in self._arrays.items() for column in _columns(name, array, rows)
        ]
        kinds = [column.of(self._arrays).dtype.kind for column in self.columns]
        self.names = tuple(column.name for column in self.columns)
        self.units = tuple(unit_of(name) for name in self.names)
        self.numeric = tuple(kind in "iuf" for kind in kinds)
        self.temporal = tuple(kind in "mM" for kind in kinds)
        self.rate = _stored_rate(self._arrays)

    def blocks(self, places: Collection[int] | None = None) -> Iterator[Block]:
        """All rows from the beginning on; see `Source`."""
        for start in range(0, self._rows, ROWS):
            columns = {
                at: np.array(column.of(self._arrays)[start : start + ROWS])
                for at, column in enumerate(self.columns)
                if places is None or at in places
            }
            yield Block(start, columns)


class NumpySink:
    """Arrays that are being written; see `Sink`.

    Those of NPY and NPZ files are copies that change in place. Of other tables, NPY gets the
    channels as (L, C), NPZ each one by its name, and `sample_rate`.
    """

    def __init__(self, path: Path, contents: Contents, files: ExitStack) -> None:
        self.note: str | None = None
        self._path, self._contents = path, contents
        self._partial = files.enter_context(beside(path))
        self.files = [(self._partial, path)]
        folder = Path(files.enter_context(tempfile.TemporaryDirectory(dir=path.parent)))
        self._single = path.suffix.lower() == ".npy"
        source = contents.source
        same = source.path.suffix.lower() == path.suffix.lower()
        self._source = source if isinstance(source, NumpySource) and same else None
        if self._source is not None:
            self._files = self._copied(self._source, folder)
            arrays = {name: np.load(self._files[name], mmap_mode="r+") for name in self._changing()}
            channels = [self._source.columns[at].of(arrays) for at in contents.places]
        else:
            channels, arrays = self._created(folder)
        self._channels, self._arrays = channels, arrays
        self._marks = np.zeros((len(contents.marked), contents.rows), np.uint8)

    def put(self, block: Block, before: Array, after: Array) -> None:
        """Change or append the readings of a block; see `Sink`."""
        rows = slice(block.start, block.start + len(block))
        for channel, new, old in zip(self._channels, after, before, strict=True):
            view = channel[rows]
            fresh = np.ones(len(block), bool) if self._source is None else changed(new, old)
            if fresh.any() and view.dtype.kind in "iu":
                limits = np.iinfo(view.dtype)
                new = np.clip(np.rint(new), limits.min, limits.max)
                self.note = f"{self._path}: readings were rounded to {view.dtype}, as they came"
            view[fresh] = new[fresh].astype(view.dtype)
        self._marks[:, rows] = self._contents.marks(before)

    def finish(self) -> None:
        """Complete the file; see `Sink`."""
        for array in self._arrays.values():
            array.flush()
        if not self._single:
            self._pack()
        elif self._source is None:
            self.note = f"{self._path} holds the channels alone"
        elif len(self._marks):
            self.note = f"{self._path}: an NPY file can't mark the readings that were filled"

    def _changing(self) -> set[str]:
        """Names of the arrays that hold channels."""
        assert self._source is not None
        return {self._source.columns[at].array for at in self._contents.places}

    def _copied(self, source: NumpySource, folder: Path) -> dict[str, Path]:
        """The files of a source's arrays, as copies."""
        files = {
            name: self._partial if self._single else folder / f"{at}.npy"
            for at, name in enumerate(source.files)
        }
        for name, file in files.items():
            shutil.copyfile(source.files[name], file)
        return files

    def _created(self, folder: Path) -> tuple[list[Array], dict[str, Array]]:
        """New channels (L,), and the arrays that hold them."""
        form, rows = self._contents.form, self._contents.rows
        names = [""] if self._single else list(form.names)
        shape = (rows, form.channels) if self._single else (rows,)
        self._files = {
            name: self._partial if self._single else folder / f"{at}.npy"
            for at, name in enumerate(names)
        }
        arrays: dict[str, Array] = {
            name: np.lib.format.open_memmap(file, "w+", np.float64, shape)
            for name, file in self._files.items()
        }
        return list(arrays[""].T) if self._single else list(arrays.values()), arrays

    def _pack(self) -> None:
        contents = self._contents
        more = dict(zip(contents.mark_names, self._marks, strict=True))
        with ExitStack() as files:
            archive = files.enter_context(zipfile.ZipFile(self._partial, "w"))
            if self._source is not None:
                given = files.enter_context(zipfile.ZipFile(self._source.path))
                for info in given.infolist():
                    file = self._files.get(_array_name(info.filename))
                    if file is None:
                        archive.writestr(info, given.read(info))
                    else:
                        archive.write(file, info.filename, info.compress_type)
            else:
                more["sample_rate"] = np.asarray(contents.form.sample_rate)
                for name, file in self._files.items():
                    with file.open("rb") as array, _member(archive, name) as member:
                        shutil.copyfileobj(array, member)
            for name, values in more.items():
                with _member(archive, name) as member:
                    np.lib.format.write_array(member, values)


def _member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    return archive.open(f"{name}.npy", "w", force_zip64=True)


def _array_name(member: str) -> str:
    return member.removesuffix(".npy")


def _unpacked(path: Path, folder: tempfile.TemporaryDirectory[str] | None) -> dict[str, Path]:
    """The files of the arrays by their names."""
    if folder is None:
        return {"": path}
    files = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = [name for name in archive.namelist() if name.endswith(".npy")]
            for at, name in enumerate(members):
                files[_array_name(name)] = Path(folder.name, f"{at}.npy")
                with archive.open(name) as member, files[_array_name(name)].open("wb") as file:
                    shutil.copyfileobj(member, file)
    # Of damaged members, whatever their decoder meets.
    except Exception as error:
        raise InputError(f"{path} is no NPZ file or is damaged ({_why(error)})") from error
    return files


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


def _stored_rate(arrays: dict[str, Array]) -> float | None:
    for name, array in arrays.items():
        if name.lower() in RATES and array.size == 1 and array.dtype.kind in "iuf":
            return float(array.reshape(())) if float(array.reshape(())) > 0 else None
    return None
