"""Records of WFDB, as PhysioNet keeps them: a header, and files of whole numbers."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError
from signal_diffusion.files.atomic import beside, failures
from signal_diffusion.tables.base import Piece, Sink, changed, library
from signal_diffusion.tables.columns import Choice, distinct, pick
from signal_diffusion.tables.time import Clock

#: Even, since a common format packs two numbers at a time.
ROWS = 1 << 16


class WfdbSource:
    """A WFDB record; see `Source`. Readings are in physical units.

    Args:
        path: the header, a file of samples beside it, or both without their suffix.
        choice: what the user says of it.
    """

    clock: Clock | None = None

    def __init__(self, path: Path, choice: Choice) -> None:
        self.path = path
        self._wfdb = library("wfdb", path)
        self.record = path.with_suffix("") if path.suffix.lower() in (".hea", ".dat") else path
        self.header = self._header()
        every = distinct(self.header.sig_name)
        self.every = tuple(every)
        self.picked = tuple(sorted(pick(path, every, [True] * len(every), choice, None)))
        self.names = tuple(every[at] for at in self.picked)
        self.units = tuple(self.header.units[at] or "" for at in self.picked)
        self.rate: float | None = choice.rate or float(self.header.fs)
        self._rows = self._length()
        self.length: int | None = self._rows

    def pieces(self, *, stamps: bool = False, whole: bool = False) -> Iterator[Piece]:
        """All rows from the beginning on; see `Source`."""
        for start in range(0, self._rows, ROWS):
            held, physical = self._read(start, min(start + ROWS, self._rows))
            yield Piece(np.ascontiguousarray(physical[:, list(self.picked)].T), None, held)

    def columns(self, piece: Piece) -> dict[str, Any]:
        """All signals of a piece, by name."""
        return dict(zip(self.every, self._physical(piece.rows).T, strict=True))

    def rewriting(self, path: Path, filled: tuple[int, ...]) -> AbstractContextManager[Sink]:
        """Write the record again; see `Sink`."""
        return writing_wfdb(path, self.record, self.header, self.picked, filled)

    def _physical(self, record: Any) -> Array:
        return np.asarray(record.dac(return_res=64), np.float64)

    def _header(self) -> Any:
        try:
            header = self._wfdb.rdheader(str(self.record.absolute()))
        except FileNotFoundError as error:
            raise InputError(
                f"{self.path} is no WFDB record: there is no header {self.record}.hea"
            ) from error
        except Exception as error:
            raise self._damaged(error) from error
        if isinstance(header, self._wfdb.MultiRecord) or not header.n_sig:
            raise InputError(f"{self.path} is a record without signals of its own, or of segments")
        if len(header.sig_name or ()) != header.n_sig or not header.fs:
            raise self._damaged(ValueError("its header is not whole"))
        if any(count != 1 for count in header.samps_per_frame):
            raise InputError(
                f"{self.path} holds signals of several rates; bring them to one rate first"
            )
        return header

    def _length(self) -> int:
        if self.header.sig_len:
            return int(self.header.sig_len)
        return len(self._read(0, None)[1])

    def _read(self, start: int, stop: int | None) -> tuple[Any, Array]:
        """Some rows as whole numbers, and in physical units."""
        try:
            record = self._wfdb.rdrecord(
                str(self.record.absolute()), start, stop, physical=False, ignore_skew=True
            )
            physical = self._physical(record)
        # The library lets through whatever goes wrong in it.
        except Exception as error:
            raise self._damaged(error) from error
        if physical.ndim != 2 or physical.shape[1] != len(self.every):
            raise self._damaged(ValueError("it has other signals than its header tells"))
        return record, physical

    def _damaged(self, error: Exception) -> InputError:
        why = " ".join(str(error).split()) or type(error).__name__
        return InputError(f"{self.path} is no WFDB record, or is cut short or damaged ({why})")


#: Largest number by format, of those that are written; one less than the smallest is no reading.
FORMATS = {"80": 127, "212": 2047, "16": 32767, "24": (1 << 23) - 1, "32": (1 << 31) - 1}


#: Suffixes of annotations, which belong to a record.
ANNOTATIONS = (
    *("atr", "ann", "ari", "apn", "aha", "man", "ecg", "qrs", "qrsc", "wqrs", "gqrs", "sqrs"),
    *("xws", "pu", "pu0", "pu1", "q1c", "q2c", "qt1", "qt2", "st", "st-", "sta", "stb", "stc"),
    *("hyp", "abp", "wabp", "cmp", "epi", "event", "win", "marks", "al", "alM", "blM", "flash"),
)


INITIAL, CHECKSUM = 5, 6


@contextmanager
def writing_wfdb(
    path: Path, record: Path, header: Any, picked: Sequence[int], filled: Sequence[int]
) -> Iterator[WfdbSink]:
    """Write a record again, its files of samples and annotations beside it.

    Args:
        path: the header to write, or its name without the suffix.
        record: the record as it came, without a suffix.
        header: of it.
        picked: the signals that are channels.
        filled: which of the channels get a mask.
    """
    with ExitStack() as files, failures(path):
        yield WfdbSink(record_of(path), record, header, picked, filled, files)


def record_of(path: Path) -> Path:
    """The path of a record to write, without a suffix.

    Raises:
        InputError: its name is none for a record.
    """
    target = path.with_suffix("") if path.suffix.lower() in (".hea", ".dat") else path
    if not re.fullmatch(r"[\w-]+", target.name, re.ASCII):
        raise InputError(f"{path} can't be a WFDB record: its name takes letters, digits, - and _")
    return target


class WfdbSink:
    """A WFDB record that is being written; see `Sink`."""

    def __init__(
        self,
        target: Path,
        record: Path,
        header: Any,
        picked: Sequence[int],
        filled: Sequence[int],
        files: ExitStack,
    ) -> None:
        self.note: str | None = None
        self._target, self._record, self._header, self._files = target, record, header, files
        self._picked, self._filled = list(picked), list(filled)
        names = list(dict.fromkeys(header.file_name))
        groups = [[at for at, name in enumerate(header.file_name) if name == own] for own in names]
        self._data = [
            SampleFile(files, target.with_name(self._renamed(name)), self._format(header, group))
            for name, group in zip(names, groups, strict=True)
        ]
        self._groups = groups
        if filled:
            flags = target.with_name(f"{target.name}_filled.dat")
            self._data.append(SampleFile(files, flags, "16"))
        self._first: Array | None = None
        self._sums = np.zeros(header.n_sig + len(filled), np.int64)

    def put(self, piece: Piece, values: Array) -> None:
        """Append the rows of a piece, with new readings (C, n) of its channels."""
        held = np.array(piece.rows.d_signal, np.int64)
        for channel, at in enumerate(self._picked):
            here = changed(values[channel], piece.values[channel])
            gain, base = piece.rows.adc_gain[at], piece.rows.baseline[at]
            most = FORMATS[self._file_of(at).kind]
            fresh = np.clip(np.rint(values[channel, here] * gain + base), -most, most)
            held[here, at] = fresh.astype(np.int64)
        flags = np.isnan(piece.values[self._filled]).astype(np.int64).T
        parts = [held[:, group] for group in self._groups]
        for data, part in zip(self._data, [*parts, flags], strict=False):
            data.append(part)
        every = np.concatenate([held, flags], axis=1)
        self._first = every[0] if self._first is None else self._first
        self._sums += every.sum(axis=0)

    def finish(self) -> list[tuple[Path, Path]]:
        """Complete the header and copy the annotations."""
        header = self._target.with_name(self._target.name + ".hea")
        partial = self._files.enter_context(beside(header))
        lines = Path(f"{self._record}.hea").read_bytes().decode("latin-1")
        partial.write_bytes(self._lines(lines).encode("latin-1"))
        notes = [pair for suffix in ANNOTATIONS for pair in self._annotation(suffix)]
        # The header comes last: with it, the record is there.
        return [*((data.partial, data.path) for data in self._data), *notes, (partial, header)]

    def _file_of(self, signal: int) -> SampleFile:
        return next(self._data[at] for at, group in enumerate(self._groups) if signal in group)

    def _annotation(self, suffix: str) -> list[tuple[Path, Path]]:
        source = Path(f"{self._record}.{suffix}")
        if not source.is_file():
            return []
        target = self._target.with_name(f"{self._target.name}.{suffix}")
        partial = self._files.enter_context(beside(target))
        shutil.copyfile(source, partial)
        return [(partial, target)]

    def _format(self, header: Any, group: list[int]) -> str:
        kind = header.fmt[group[0]]
        if kind in FORMATS:
            return str(kind)
        wide = max((header.adc_res or [16])[at] or 16 for at in group) > 16
        self.note = f"{self._target}: format {kind} can't be written: {32 if wide else 16} is"
        return "32" if wide else "16"

    def _renamed(self, name: str) -> str:
        own = Path(name).name
        if own.startswith(self._record.name):
            return self._target.name + Path(own.removeprefix(self._record.name)).name
        return f"{self._target.name}_{own}"

    def _lines(self, text: str) -> str:
        """The header with what is new in it."""
        lines = text.splitlines(keepends=True)
        told = [at for at, line in enumerate(lines) if line.strip() and line[0] != "#"]
        lines[told[0]] = self._record_line(lines[told[0]])
        signals = told[1 : 1 + self._header.n_sig]
        for signal, at in enumerate(signals):
            lines[at] = self._signal_line(lines[at], signal)
        if self._filled and not lines[signals[-1]].endswith("\n"):
            lines[signals[-1]] += "\n"
        lines[signals[-1] + 1 : signals[-1] + 1] = self._flag_lines()
        return "".join(lines)

    def _record_line(self, line: str) -> str:
        parts = re.split(r"(\s+)", line.lstrip())
        parts[0] = self._target.name
        parts[2] = str(self._header.n_sig + len(self._filled))
        return "".join(parts)

    def _signal_line(self, line: str, signal: int) -> str:
        """A line: file, format, gain, resolution, zero, first number, check sum, and so on."""
        parts = re.split(r"(\s+)", line)
        data = self._file_of(signal)
        parts[0] = data.path.name
        skew = re.search(r":\d+", parts[2])
        parts[2] = data.kind + (skew[0] if skew else "")
        first, total = 2 * INITIAL, 2 * CHECKSUM
        if len(parts) > first and re.fullmatch(r"-?\d+", parts[first]) and self._first is not None:
            parts[first] = str(self._first[signal])
        if len(parts) > total and re.fullmatch(r"-?\d+", parts[total]):
            parts[total] = checksum(int(self._sums[signal]), int(parts[total]))
        return "".join(parts)

    def _flag_lines(self) -> list[str]:
        names = [self._header.sig_name[self._picked[at]] for at in self._filled]
        return [
            f"{self._target.name}_filled.dat 16 1(0)/NU 16 0 {int(self._first_flag(at))} "
            f"{checksum(int(self._sums[self._header.n_sig + at]), 0)} 0 {name}_filled\n"
            for at, name in enumerate(names)
        ]

    def _first_flag(self, at: int) -> int:
        return 0 if self._first is None else int(self._first[self._header.n_sig + at])


class SampleFile:
    """A file of samples that grows.

    Attributes:
        path, partial: where it will appear, and where it is.
        kind: its format.
    """

    def __init__(self, files: ExitStack, path: Path, kind: str) -> None:
        self.path, self.kind = path, kind
        self.partial = files.enter_context(beside(path))
        self._file = files.enter_context(self.partial.open("wb"))
        self._folder = Path(files.enter_context(tempfile.TemporaryDirectory()))
        self._wfdb = library("wfdb", path)

    def append(self, numbers: Array) -> None:
        """Write whole numbers (n, signals); n must be even but for the last."""
        count = numbers.shape[1]
        self._wfdb.wrsamp(
            "part", 1, ["NU"] * count, [f"s{at}" for at in range(count)], d_signal=numbers,
            fmt=[self.kind] * count, adc_gain=[1] * count, baseline=[0] * count,
            write_dir=str(self._folder),
        )  # fmt: skip
        with (self._folder / "part.dat").open("rb") as part:
            shutil.copyfileobj(part, self._file)
        self._file.flush()


def checksum(total: int, told: int) -> str:
    """A sum in 16 bits, signed, or as the header tells it where that is the same.

    >>> checksum(40000, 0), checksum(40000, 40000)
    ('-25536', '40000')
    """
    if (total - told) % (1 << 16) == 0:
        return str(told)
    return str((total + (1 << 15)) % (1 << 16) - (1 << 15))
