"""Arrays in .npz and .npy files: written block by block, read once their size is known."""

from __future__ import annotations

import io
import math
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from signal_diffusion.errors import InputError
from signal_diffusion.files.atomic import (
    beside,
    failures,
    publish,
    require_finite_result,
    require_writable,
)

COPY_BYTES = 1 << 20
#: Bytes of the header of an array, and of an array that is read whole, at most.
HEADER_BYTES, MOST_BYTES = 1 << 16, 1 << 27
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class ArraysWriter:
    """Arrays (C, L) float32 of an .npz file, which grow by blocks (C, n); made by `writing_npz`."""

    def __init__(self, path: Path, arrays: dict[str, _GrowingArray]) -> None:
        self._path, self._arrays = path, arrays
        self._values: dict[str, NDArray[Any]] = {}

    def write(self, name: str, samples: NDArray[Any]) -> None:
        """Append samples (C, n) to one of the arrays.

        Raises:
            InputError: the disk is full.
        """
        require_finite_result(samples)
        with failures(self._path):
            self._arrays[name].append(samples)

    def put(self, name: str, value: float | str | NDArray[Any]) -> None:
        """Keep one value, such as a sample rate, or one whole array beside the growing ones."""
        array = np.asarray(value)
        if array.dtype.kind == "f":
            require_finite_result(array)
        self._values[name] = array

    def save(self, path: Path) -> None:
        """Put everything together; `writing_npz` does so at its end."""
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for name, array in self._arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    array.save(file)
            for name, value in self._values.items():
                with archive.open(f"{name}.npy", "w") as file:
                    npy.write_array(file, value, allow_pickle=False)


@contextmanager
def writing_npz(
    path: str | Path, names: Sequence[str], channels: int, *, force: bool = False
) -> Iterator[ArraysWriter]:
    """Write arrays (C, L) of any length to an .npz file, in bounded memory, whole or not at all.

    Args:
        path: output file, which appears under its name when the block ends without an error.
        names: of the arrays.
        channels: C.
        force: replace a file that exists.

    Raises:
        InputError: the file exists or can't be written.

    >>> import numpy as np, tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.npz"
    >>> with writing_npz(path, ["mean"], channels=2) as arrays:
    ...     arrays.write("mean", np.zeros((2, 3))), arrays.write("mean", np.ones((2, 1)))
    ...     arrays.put("sample_rate", 16000)
    (None, None)
    >>> np.load(path)["mean"]
    array([[0., 0., 0., 1.], [0., 0., 0., 1.]], dtype=float32)
    """
    path = Path(path)
    if path.suffix.lower() != ".npz":
        raise InputError(f"{path} must have the suffix .npz")
    require_writable(path, force=force)
    with beside(path) as partial, ExitStack() as files:
        arrays = {
            name: _GrowingArray(files.enter_context(nameless(path)), channels) for name in names
        }
        writer = ArraysWriter(path, arrays)
        yield writer
        with failures(path):
            writer.save(partial)
        publish(partial, path, force=force)


def read_arrays(
    path: Path, name: str, more: Sequence[str] = (), *, most: int = MOST_BYTES
) -> dict[str, NDArray[Any]]:
    """An array of an NPZ file and, where they are there, more; or the only one of an NPY file.

    Args:
        path: NPY or NPZ file.
        name: of the array, without the suffix .npy of the archive's member.
        more: names of others.
        most: bytes of an array, at most; a small archive may unpack into more than memory holds.

    Raises:
        InputError: there is no such file or array, the file is damaged, or an array is larger than
            that or holds objects.
    """
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                file.seek(0)
                return {name: _read_array(file, path, most)}
            with zipfile.ZipFile(file) as archive:
                members = {each.removesuffix(".npy"): each for each in archive.namelist()}
                if name not in members:
                    has = ", ".join(members) or "nothing"
                    raise InputError(f"{path} holds {has}: put the array there as {name}")
                found = {}
                for each in (name, *(each for each in more if each in members)):
                    with archive.open(members[each]) as packed:
                        found[each] = _read_array(packed, path, most)
                return found
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except InputError:
        raise
    # NumPy evaluates headers as Python, and zlib meets whatever a damaged member holds.
    except Exception as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path} is no NumPy file of numbers, or is damaged: {why}") from error


def _read_array(file: IO[bytes], path: Path, most: int) -> NDArray[Any]:
    start = io.BytesIO(file.read(HEADER_BYTES))
    shape, fortran, dtype = HEADERS[npy.read_magic(start)](start)
    size = math.prod(shape) * dtype.itemsize
    if dtype.hasobject:
        raise ValueError("its array holds Python objects")
    if not 0 <= size <= most:
        raise InputError(
            f"{path} holds an array of {dtype} {shape}: {most >> 20} MiB at most are read whole, "
            "cut it into several files"
        )
    content = start.read(size)
    content += file.read(size - len(content))
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


@contextmanager
def nameless(path: Path) -> Iterator[IO[bytes]]:
    """A file in the path's folder, without a name where that can be: no kill leaves it."""
    with failures(path):
        file = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115
    try:
        yield file
    finally:
        # On a full disk, closing fails again.
        with suppress(OSError):
            file.close()


class _GrowingArray:
    """An array (C, L) whose blocks (C, n) lie one after the other in a file."""

    def __init__(self, file: IO[bytes], channels: int) -> None:
        self._file, self._channels = file, channels
        self._lengths: list[int] = []

    def append(self, samples: NDArray[Any]) -> None:
        if len(samples) != self._channels:
            raise ValueError(f"samples have {len(samples)} channels, not {self._channels}")
        self._file.write(np.ascontiguousarray(samples, "<f4").tobytes())
        self._lengths.append(samples.shape[1])

    def save(self, target: IO[bytes]) -> None:
        """Write an .npy file, in which each channel lies in one piece."""
        shape = (self._channels, sum(self._lengths))
        layout = {"descr": "<f4", "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(target, layout)
        for channel in range(self._channels):
            self._copy_channel(channel, target)

    def _copy_channel(self, channel: int, target: IO[bytes]) -> None:
        start = 0
        for length in self._lengths:
            self._file.seek(4 * (start + channel * length))
            _copy(self._file, target, 4 * length)
            start += self._channels * length


def _copy(source: IO[bytes], target: IO[bytes], size: int) -> None:
    while size:
        content = source.read(min(size, COPY_BYTES))
        target.write(content)
        size -= len(content)
