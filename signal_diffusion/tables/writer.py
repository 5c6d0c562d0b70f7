"""Tables of readings written again, with new readings and all else as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError
from signal_diffusion.files.atomic import failures, publish, require_writable
from signal_diffusion.tables.base import Piece, Sink
from signal_diffusion.tables.columns import CONTAINERS, container_of
from signal_diffusion.tables.reader import TableReader


class TableWriter:
    """A table that is being written; `writing_table` makes one.

    Attributes:
        path: where it will appear.
        frames: how many have been written, missing rows and all.
    """

    def __init__(self, path: Path, reader: TableReader, mask: bool, files: ExitStack) -> None:
        self.path, self.frames = path, 0
        self._reader, self._mask, self._files = reader, mask, files
        self._sink: Sink | None = None
        self._waiting: list[Array] = []
        self._count = 0

    @property
    def note(self) -> str | None:
        """What could not be given back as it came, known at the end."""
        return None if self._sink is None else self._sink.note

    def write(self, samples: Array) -> None:
        """Append readings (C, n) of the next frames; those of missing rows are left out.

        Raises:
            InputError: the disk is full, or the container can't hold them.
        """
        if self._sink is None:
            self._begin()
        kept = self._reader.scan().kept(self.frames, samples.shape[1])
        self.frames += samples.shape[1]
        self._waiting.append(np.asarray(samples, np.float64)[:, kept])
        self._count += int(kept.sum())
        while self._next is not None and self._count >= self._next.values.shape[1]:
            self._put(self._next)

    def finish(self) -> None:
        """Complete the table and give it its name; `writing_table` does so at its end."""
        if self._sink is None or self._next is not None or self._count:
            raise ValueError(f"{self.frames} frames were written, not those of the whole table")
        with failures(self.path):
            finished = self._sink.finish()
        for partial, final in finished:
            publish(partial, final)

    def _begin(self) -> None:
        # Only now, since by now a first pass may have shown which channels lack readings.
        holed = self._reader.scan().holed if self._mask else ()
        filled = tuple(channel for channel, lacks in enumerate(holed) if lacks)
        self._sink = self._files.enter_context(_rewriting(self.path, self._reader, filled))
        self._pieces = self._reader.source.pieces(whole=True)
        self._next: Piece | None = next(self._pieces, None)

    def _put(self, piece: Piece) -> None:
        size = piece.values.shape[1]
        values = np.concatenate(self._waiting, axis=1)
        self._waiting, self._count = [values[:, size:]], self._count - size
        assert self._sink is not None
        with failures(self.path):
            self._sink.put(piece, values[:, :size])
        self._next = next(self._pieces, None)


@contextmanager
def writing_table(
    path: str | Path, reader: TableReader, *, force: bool = False, mask: bool = True
) -> Iterator[TableWriter]:
    """Write a table again, with new readings; it appears once the block ends without an error.

    Columns that are no channels, readings that stay the same, names, units, time stamps and the
    count of rows stay as they are. A suffix of another container converts it.

    Args:
        path: output file.
        reader: the table as it came.
        force: replace a file that exists.
        mask: add a column NAME_filled, 1 where a reading was missing and 0 elsewhere, for each
            channel that lacked some.

    Raises:
        InputError: the file exists, or the folder or disk can't take it.
    """
    path = Path(path)
    _require_container(path, reader)
    require_writable(path, force=force)
    with ExitStack() as files:
        writer = TableWriter(path, reader, mask, files)
        yield writer
        writer.finish()


def _rewriting(
    path: Path, reader: TableReader, filled: tuple[int, ...]
) -> AbstractContextManager[Sink]:
    container = _target_container(path, reader)
    if container == reader.form.container:
        return reader.source.rewriting(path, filled)
    from signal_diffusion.tables.converting import converting

    return converting(path, container, reader, filled)


def _require_container(path: Path, reader: TableReader) -> None:
    if _target_container(path, reader) is None:
        known = ", ".join(CONTAINERS)
        raise InputError(f"{path} can't be a table: its suffix must be one of {known}")


def _target_container(path: Path, reader: TableReader) -> Any:
    found = container_of(path)
    # A record is named without a suffix.
    bare = found is None and not path.suffix and reader.form.container == "WFDB"
    return "WFDB" if bare else found
