"""Tables in NPY and NPZ files."""

from __future__ import annotations

import math
import shutil
import tempfile
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError, one_line
from signal_diffusion.files.atomic import beside
from signal_diffusion.files.npz import nameless
from signal_diffusion.tables.columns import MOST_COLUMNS, ROWS, Block, Source, unit_of
from signal_diffusion.tables.writer import Contents, changed

RATES = ("sample_rate", "samplerate", "sampling_rate", "rate", "fs", "sr", "frequency")
#: Bytes of an unpacked array, and times its packed ones, beyond which it is no recording.
LARGEST, RATIO = 1 << 28, 200


@dataclass(frozen=True)
class StoredArray:
    """An array in a file, as its header describes it.

    Attributes:
        path: the NPY or NPZ file.
        member: its part of an NPZ file.
        dtype, shape, order: of the array; the order is "C" or "F".
        offset: bytes of the header.
    """

    path: Path
    member: zipfile.ZipInfo | None
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    order: str
    offset: int

    @staticmethod
    def of(path: Path, member: zipfile.ZipInfo | None, file: IO[bytes]) -> StoredArray:
        """Read the header of an array at the begin of a file.

        Raises:
            InputError: it is no array, or cut short.
        """
        try:
            version = npy.read_magic(file)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, fortran, dtype = read(file)
            order = "F" if fortran else "C"
            found = StoredArray(path, member, dtype, shape, order=order, offset=file.tell())
            held = path.stat().st_size if member is None else member.file_size
            # Objects of Python are stored in other ways.
            if not dtype.hasobject and held < found.offset + math.prod(shape) * dtype.itemsize:
                raise ValueError("it is cut short")
        # The library evaluates the header as Python, with any of its errors.
        except Exception as error:
            name = "" if member is None else f" in {member.filename}"
            raise InputError(
                f"{path} holds no array of numbers{name} ({one_line(error)})"
            ) from error
        return found

    def mapped(self, file: Path | IO[bytes], mode: Any, offset: int) -> Array:
        """The array in a file from some byte on."""
        if math.prod(self.shape) == 0:
            return np.zeros(self.shape, self.dtype)
        # The library takes an order by its letter.
        order: Any = self.order
        return np.memmap(file, self.dtype, mode, offset=offset, shape=self.shape, order=order)

    def unpacked(self, file: IO[bytes]) -> Array:
        """The array of a member, copied into a file.

        Raises:
            InputError: the member is damaged, or so well packed that it is no recording.
        """
        assert self.member is not None
        size, packed = self.member.file_size, self.member.compress_size
        if size > LARGEST and size > RATIO * packed:
            raise InputError(
                f"{self.path}: {self.member.filename} holds {size >> 20} MiB in {packed} bytes, "
                "which no recording does: leave it out of the file"
            )
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as member:
                member.read(self.offset)
                shutil.copyfileobj(member, file, ROWS)
            file.flush()
        # Of damaged members, whatever their decoder meets.
        except Exception as error:
            raise InputError(f"{self.path} is damaged ({one_line(error)})") from error
        return self.mapped(file, "r+", 0)


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

    def of(self, array: Array) -> Array:
        """The column (L,), as a view."""
        if array.ndim == 1:
            return array
        return array[:, self.at] if self.axis == 0 else array[self.at]


class NumpySource(Source):
    """Arrays of readings, (L,), (L, C) or (C, L) with L >= C; see `Source`.

    Of an NPZ file, all arrays of the length of its largest one make up the table; each is unpacked
    once its readings are needed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stored = _stored(path)
        self._arrays: dict[str, Array] = {}
        rows = _length(path, self.stored)
        self.length = self._rows = rows
        self.columns = [
            column for name, array in self.stored.items() for column in _columns(name, array, rows)
        ]
        kinds = [self.stored[column.array].dtype.kind for column in self.columns]
        self.names = tuple(column.name for column in self.columns)
        self.units = tuple(unit_of(name) for name in self.names)
        self.numeric = tuple(kind in "iuf" for kind in kinds)
        self.temporal = tuple(kind in "mM" for kind in kinds)
        self.rate = self._stored_rate()

    def blocks(self, places: Collection[int] | None = None) -> Iterator[Block]:
        """All rows from the beginning on; see `Source`."""
        for start in range(0, self._rows, ROWS):
            columns = {
                at: np.array(column.of(self._array(column.array))[start : start + ROWS])
                for at, column in enumerate(self.columns)
                if places is None or at in places
            }
            yield Block(start, columns)

    def _array(self, name: str) -> Array:
        if name not in self._arrays:
            stored = self.stored[name]
            if stored.member is None:
                self._arrays[name] = stored.mapped(self.path, "r", stored.offset)
            else:
                # Without a name, so that no kill leaves it.
                with tempfile.TemporaryFile() as file:
                    self._arrays[name] = stored.unpacked(file)
        return self._arrays[name]

    def _stored_rate(self) -> float | None:
        for name, array in self.stored.items():
            if name.lower() in RATES and array.shape in ((), (1,)) and array.dtype.kind in "iuf":
                rate = float(self._array(name).reshape(()))
                return rate if rate > 0 else None
        return None


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
        self._single = path.suffix.lower() == ".npy"
        source = contents.source
        same = source.path.suffix.lower() == path.suffix.lower()
        self._source = source if isinstance(source, NumpySource) and same else None
        if self._source is not None:
            self._arrays, columns = self._copied(self._source, files), self._source.columns
            own = [columns[at] for at in contents.places]
            self._channels = [column.of(self._arrays[column.array]) for column in own]
        elif self._single:
            shape = (contents.rows, contents.form.channels)
            self._arrays = {"": npy.open_memmap(self._partial, "w+", np.float64, shape)}
            self._channels = list(self._arrays[""].T)
        else:
            self._arrays = {
                name: np.memmap(
                    files.enter_context(nameless(path)), np.float64, "w+", shape=(contents.rows,)
                )
                for name in contents.form.names
            }
            self._channels = list(self._arrays.values())
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
        if not self._single:
            self._pack()
            return
        for array in self._arrays.values():
            if isinstance(array, np.memmap):
                array.flush()
        if self._source is None:
            self.note = f"{self._path} holds the channels alone"
        elif len(self._marks):
            self.note = f"{self._path}: an NPY file can't mark the readings that were filled"

    def _copied(self, source: NumpySource, files: ExitStack) -> dict[str, Array]:
        """The arrays of a source that hold channels, as copies."""
        if self._single:
            shutil.copyfile(source.path, self._partial)
            stored = source.stored[""]
            return {"": stored.mapped(self._partial, "r+", stored.offset)}
        return {
            name: source.stored[name].unpacked(files.enter_context(nameless(self._path)))
            for name in {source.columns[at].array for at in self._contents.places}
        }

    def _pack(self) -> None:
        contents, given = self._contents, dict(self._arrays)
        given |= dict(zip(contents.mark_names, self._marks, strict=True))
        with zipfile.ZipFile(self._partial, "w") as archive:
            if self._source is None:
                given["sample_rate"] = np.asarray(contents.form.sample_rate)
            else:
                self._pack_others(self._source, archive, given)
            for name, array in given.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    npy.write_array(member, array)

    def _pack_others(
        self, source: NumpySource, archive: zipfile.ZipFile, given: dict[str, Array]
    ) -> None:
        """All members of a source in their order, and given arrays in the places of theirs."""
        with zipfile.ZipFile(source.path) as old:
            for info in old.infolist():
                array = given.pop(_array_name(info.filename), None)
                with archive.open(copy(info), "w", force_zip64=True) as member:
                    if array is not None:
                        npy.write_array(member, array)
                        continue
                    with old.open(info) as content:
                        shutil.copyfileobj(content, member, ROWS)


def _array_name(member: str) -> str:
    return member.removesuffix(".npy")


def _stored(path: Path) -> dict[str, StoredArray]:
    """The arrays of a file by their names, as far as they hold no objects of Python."""
    if path.suffix.lower() == ".npy":
        with path.open("rb") as file:
            return {"": StoredArray.of(path, None, file)}
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if info.filename.endswith(".npy"):
                    with archive.open(info) as member:
                        found[_array_name(info.filename)] = StoredArray.of(path, info, member)
    except InputError:
        raise
    # Of damaged members, whatever their decoder meets.
    except Exception as error:
        raise InputError(f"{path} is no NPZ file or is damaged ({one_line(error)})") from error
    return {name: array for name, array in found.items() if not array.dtype.hasobject}


def _length(path: Path, arrays: Mapping[str, StoredArray]) -> int:
    """Rows of the table: of the largest array of numbers."""
    fit = [a.shape for a in arrays.values() if len(a.shape) in (1, 2) and a.dtype.kind in "iuf"]
    if not fit:
        shapes = ", ".join(f"{array.dtype} {array.shape}" for array in arrays.values())
        raise InputError(
            f"{path} holds no numbers of shape (L,), (L, C) or (C, L), but {shapes or 'nothing'}"
        )
    return max(max(fit, key=math.prod))


def _columns(name: str, array: StoredArray, length: int) -> list[Column]:
    if len(array.shape) not in (1, 2) or length not in array.shape:
        return []
    if len(array.shape) == 1:
        return [Column(name or "1", name, 0, 0)]
    axis = 0 if array.shape[0] == length else 1
    count = min(array.shape[1 - axis], MOST_COLUMNS + 1)
    return [Column(f"{name}[{at}]" if name else str(at + 1), name, axis, at) for at in range(count)]
