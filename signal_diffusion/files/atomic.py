"""Files that appear under their names once they are whole."""

from __future__ import annotations

import errno
import os
import re
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from signal_diffusion.errors import InputError

#: Who writes a partial file, so that a later run can tell which ones a killed process left.
HOST = re.sub(r"[^A-Za-z0-9]", "_", socket.gethostname())[:32] or "host"
NAME = re.compile(r"\.partial-(\w+)-(\d+)-[0-9a-f]{16}_*")
EXISTS = "{} exists: pass force=True (--force) to replace it"
_mine: set[str] = set()
#: Folders whose leftovers this process has removed.
_tidied: set[Path] = set()


def require_finite_result(samples: NDArray[Any], *, of: str = "the result") -> None:
    """Raise an InputError for a result with NaN or infinite samples, which no file may get."""
    bad = samples.size - int(np.count_nonzero(np.isfinite(samples)))
    if bad:
        raise InputError(
            f"{of} holds {bad} NaN or infinite samples of {samples.size}: the model is damaged or "
            "has diverged, or the recording is out of its range; nothing is written"
        )


def require_writable(path: Path, *, force: bool) -> None:
    """Raise an InputError unless a file may be written under that name."""
    if not os.path.isdir(path.parent):
        raise InputError(f"{path} can't be written: there is no folder {path.parent}")
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder: name the file to write")
    if os.path.exists(path) and not force:
        raise InputError(EXISTS.format(path))


@contextmanager
def failures(path: Path) -> Iterator[None]:
    """What the system or libsndfile refuses to do for an output, as an InputError."""
    try:
        yield
    except (OSError, soundfile.SoundFileError, AssertionError) as error:
        # soundfile asserts that all has been written.
        refused = isinstance(error, OSError) and error.errno != errno.ENOENT
        if not refused and not os.path.isdir(path.parent):
            raise InputError(
                f"{path} can't be written: the folder {path.parent} is gone"
            ) from error
        if isinstance(error, OSError):
            raise InputError(f"{path} can't be written: {error.strerror or error}") from error
        why = " ".join(str(error).rpartition(": ")[2].split()).rstrip(".")
        if why in ("", "System error"):
            why = "System error (is the disk full?)"
        raise InputError(f"{path} can't be written: {why}") from error


@contextmanager
def writing(path: Path, *, force: bool = True) -> Iterator[Path]:
    """Write a file that appears under its name when the block ends without an error.

    Args:
        path: output file.
        force: replace a file that exists; otherwise there must be none, at the start and at the
            end, even where two processes write the same file at once.

    Yields:
        The path of an empty file in the same folder, which the block writes.

    Raises:
        InputError: the file exists or can't be written.
    """
    require_writable(path, force=force)
    with beside(path) as partial:
        with failures(path):
            yield partial
        publish(partial, path, force=force)


def write(path: Path, content: str | bytes, *, force: bool = True) -> None:
    """Write text or bytes to a file; arguments and errors are those of `writing`."""
    with writing(path, force=force) as partial:
        # Of file names that are no Unicode, odd bytes are spelt out.
        partial.write_bytes(
            content if isinstance(content, bytes) else content.encode(errors="backslashreplace")
        )


def publish(partial: Path, path: Path, *, force: bool = True) -> None:
    """Give a complete file its name; arguments and errors are those of `writing`."""
    with failures(path):
        if force:
            os.replace(partial, path)
            return
        try:
            os.link(partial, path)
        except FileExistsError as error:
            raise InputError(EXISTS.format(path)) from error
        except OSError:
            # The file system has no hard links: the name is taken first, then the content follows.
            path.open("xb").close()
            os.replace(partial, path)


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A new empty file in the path's folder, gone at the end unless it was published.

    Raises:
        InputError: the file can't be made.
    """
    if path.parent not in _tidied:
        _tidied.add(path.parent)
        remove_leftovers(path.parent)
    name = f".partial-{HOST}-{os.getpid()}-{secrets.token_hex(8)}"
    # As long as the name that it stands for, so that a name too long fails here.
    partial = path.with_name(name.ljust(len(os.fsencode(path.name)), "_"))
    _mine.add(partial.name)
    try:
        with failures(path):
            partial.open("xb").close()
        yield partial
    finally:
        with suppress(OSError):
            partial.unlink()
        _mine.discard(partial.name)


def remove_leftovers(folder: Path) -> None:
    """Delete the partial files in a folder that killed processes of this host left there."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _abandoned(entry.name):
                with suppress(OSError):
                    os.unlink(entry.path)


def _abandoned(name: str) -> bool:
    found = NAME.fullmatch(name)
    if not found or found[1] != HOST:
        return False
    # In containers, each process may have the same number.
    return name not in _mine if int(found[2]) == os.getpid() else not _runs(int(found[2]))


def _runs(process: int) -> bool:
    if os.name == "nt":
        # There, a signal would end the process; but what it holds open can't be deleted anyway.
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
