"""Records of WFDB, as PhysioNet keeps them: a header, and files of whole numbers."""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError, library
from signal_diffusion.files.atomic import beside
from signal_diffusion.files.npz import nameless
from signal_diffusion.tables.columns import ROWS, Block, Source, distinct, main_file
from signal_diffusion.tables.writer import Contents

#: Largest number by format, of those that are written; one less than the smallest is no reading.
FORMATS = {"80": 127, "212": 2047, "16": 32767, "24": (1 << 23) - 1, "32": (1 << 31) - 1}
#: Suffixes of annotations, which belong to a record.
ANNOTATIONS = (
    *("atr", "ann", "ari", "apn", "aha", "man", "ecg", "qrs", "qrsc", "wqrs", "gqrs", "sqrs"),
    *("xws", "pu", "pu0", "pu1", "q1c", "q2c", "qt1", "qt2", "st", "st-", "sta", "stb", "stc"),
    *("hyp", "abp", "wabp", "cmp", "epi", "event", "win", "marks", "al", "alM", "blM", "flash"),
)
#: Places of format, gain, first number and check sum in a signal's line of the header.
FORMAT, GAIN, INITIAL, CHECKSUM = 2, 4, 10, 12


class WfdbSource(Source):
    """A WFDB record; see `Source`. Readings are in physical units.

    Args:
        path: the header, a file of samples beside it, or both without their suffix.

    Attributes:
        record, header: the path without a suffix, and the header as the library reads it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._wfdb = library("wfdb", "sensors", of=path)
        self.record = main_file(path, "WFDB").with_suffix("")
        self.header = self._header()
        self.names = tuple(distinct(self.header.sig_name))
        self.units = tuple(unit or "" for unit in self.header.units)
        self.numeric = (True,) * len(self.names)
        self.rate = float(self.header.fs)
        self.length = self._rows = int(self.header.sig_len or len(self._physical(0, None)))

    def blocks(self, places: Collection[int] | None = None) -> Iterator[Block]:
        """All rows from the beginning on; see `Source`."""
        for start in range(0, self._rows, ROWS):
            physical = self._physical(start, min(start + ROWS, self._rows))
            kept = range(len(self.names)) if places is None else places
            yield Block(start, {at: np.ascontiguousarray(physical[:, at]) for at in kept})

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
        if any(not abs(base) < 1 << 53 for base in header.baseline):
            raise self._damaged(ValueError("a baseline is out of range"))
        if any(count != 1 for count in header.samps_per_frame):
            raise InputError(
                f"{self.path} holds signals of several rates; bring them to one rate first"
            )
        return header

    def _physical(self, start: int, stop: int | None) -> Array:
        """Some rows of all signals (n, signals), in physical units."""
        try:
            record = self._wfdb.rdrecord(
                str(self.record.absolute()), start, stop, ignore_skew=True, return_res=64
            )
            physical = np.asarray(record.p_signal, np.float64)
        # The library lets through whatever goes wrong in it.
        except Exception as error:
            raise self._damaged(error) from error
        if physical.ndim != 2 or physical.shape[1] != len(self.names):
            raise self._damaged(ValueError("it has other signals than its header tells"))
        return physical

    def _damaged(self, error: Exception) -> InputError:
        why = " ".join(str(error).split()) or type(error).__name__
        return InputError(f"{self.path} is no WFDB record, or is cut short or damaged ({why})")


@dataclass
class Signal:
    """A signal that is being written: whole numbers of physical values times gain, plus base.

    Attributes:
        file: name of the file that holds its samples.
        kind: format of that file.
        gain, base: those of the source; a gain of None is to be found.
        low, high: the lowest and highest number so far, which may leave the format's range.
    """

    file: str
    kind: str
    gain: float | None
    base: int = 0
    low: float = np.inf
    high: float = -np.inf

    def numbers(self, values: Array) -> Array:
        """Values (n,) by the gain and base, neither rounded nor cut off."""
        numbers = values * (1.0 if self.gain is None else self.gain) + self.base
        here = numbers[np.isfinite(numbers)]
        self.low = float(here.min(initial=self.low))
        self.high = float(here.max(initial=self.high))
        return numbers

    def fit(self) -> tuple[float, float, int]:
        """The gain and base that fit the format, after the ratio of the gains.

        Both stay where they can, and the gain where another base is enough.
        """
        most = FORMATS[self.kind]
        if self.gain is None:
            peak = max(-self.low, self.high)
            gain = float(f"{(most - 1) / peak:.6g}") * (1 - 1e-5) if peak > 0 else 1.0
            return gain, gain, 0
        if (-most - 0.5 < self.low and self.high < most + 0.5) or self.low > self.high:
            return 1.0, self.gain, self.base
        middle, half = round((self.low + self.high) / 2), (self.high - self.low) / 2 + 1
        if half <= most:
            return 1.0, self.gain, self.base - middle
        gain = float(f"{self.gain * most / half:.6g}") * (1 - 1e-5)
        return gain / self.gain, gain, round((self.base - middle) * gain / self.gain)


class WfdbSink:
    """A WFDB record that is being written; see `Sink`.

    Of a record, all signals are written, the header with all that stays, and the annotations
    beside it; of another table the channels, in 32 bits. The numbers wait in a temporary file
    until their range is known: where they leave that of the format, base and gain change.
    """

    def __init__(self, path: Path, contents: Contents, files: ExitStack) -> None:
        self.note: str | None = None
        if not re.fullmatch(r"[\w-]+", path.stem, re.ASCII):
            raise InputError(
                f"{path} can't be a WFDB record: its name takes letters, digits, - and _"
            )
        self._contents = contents
        self._target = path.with_suffix("")
        source = contents.source
        self._record = source if isinstance(source, WfdbSource) else None
        if self._record is None:
            self.note = f"{self._target}.hea holds the channels alone, in steps of 32 bits"
            data = f"{self._target.name}.dat"
            self._signals = [Signal(data, "32", None) for _ in contents.places]
        else:
            self._signals = self._kept_signals(self._record)
        marks = f"{self._target.name}_filled.dat"
        self._signals += [Signal(marks, "16", 1.0) for _ in contents.marked]
        self._waiting = files.enter_context(nameless(path))
        self._rows = 0
        names = dict.fromkeys(signal.file for signal in self._signals)
        partials = {name: files.enter_context(beside(path.with_name(name))) for name in names}
        self._data = {name: files.enter_context(p.open("wb")) for name, p in partials.items()}
        self.files = [(partial, path.with_name(name)) for name, partial in partials.items()]
        if self._record is not None:
            self.files += self._annotations(files, self._record.record)
        # The header comes last: with it, the record is there.
        self.files.append((files.enter_context(beside(path)), path))

    def put(self, block: Block, before: Array, after: Array) -> None:
        """Append the rows of a block; see `Sink`."""
        columns = dict(enumerate(after))
        if self._record is not None:
            columns = {**block.columns, **dict(zip(self._contents.places, after, strict=True))}
        every = [*columns.values(), *self._contents.marks(before)]
        numbers = [
            signal.numbers(values) for signal, values in zip(self._signals, every, strict=True)
        ]
        self._waiting.write(np.stack(numbers, axis=1).tobytes())
        self._rows += len(block)

    def finish(self) -> None:
        """Write the numbers and the header; see `Sink`."""
        self._waiting.seek(0)
        first, sums = self._written_numbers()
        text = self._new_header() if self._record is None else self._kept_header(self._record)
        lines = text.splitlines(keepends=True)
        places = [at for at, line in enumerate(lines) if line.strip() and line[0] != "#"][1:]
        for at, signal, begin, total in zip(places, self._signals, first, sums, strict=False):
            lines[at] = _signal_line(lines[at], signal, begin, total)
        self.files[-1][0].write_bytes("".join(lines).encode("latin-1"))

    def _kept_signals(self, source: WfdbSource) -> list[Signal]:
        header, names = source.header, source.header.file_name
        kinds = {name: self._format(header, str(header.fmt[names.index(name)])) for name in names}
        return [
            Signal(self._renamed(name, source.record), kinds[name], float(gain), int(base))
            for name, gain, base in zip(names, header.adc_gain, header.baseline, strict=True)
        ]

    def _format(self, header: Any, kind: str) -> str:
        if kind in FORMATS:
            return kind
        wide = "32" if max(bits or 16 for bits in header.adc_res) > 16 else "16"
        self.note = f"{self._target}: format {kind} can't be written: {wide} is"
        return wide

    def _renamed(self, file: str, record: Path) -> str:
        own = Path(file).name
        if own.startswith(record.name):
            return self._target.name + Path(own.removeprefix(record.name)).name
        return f"{self._target.name}_{own}"

    def _written_numbers(self) -> tuple[list[int], list[int]]:
        """Write the files of samples; returns each signal's first number and sum."""
        count, fits = len(self._signals), [signal.fit() for signal in self._signals]
        factors, _, bases = (np.array(x) for x in zip(*fits, strict=True))
        came = np.array([signal.base for signal in self._signals])
        none = np.array([-FORMATS[signal.kind] - 1 for signal in self._signals])
        first, sums = None, np.zeros(count, np.int64)
        while held := self._waiting.read(8 * count * ROWS):
            numbers = np.rint((np.frombuffer(held).reshape(-1, count) - came) * factors + bases)
            whole = np.where(np.isnan(numbers), none, numbers).astype(np.int64)
            for name, file in self._data.items():
                own = [at for at, signal in enumerate(self._signals) if signal.file == name]
                file.write(packed(whole[:, own], self._signals[own[0]].kind))
            first = whole[0] if first is None else first
            sums += whole.sum(axis=0)
        for file in self._data.values():
            file.close()
        assert first is not None
        return first.tolist(), sums.tolist()

    def _new_header(self) -> str:
        form, name = self._contents.form, self._target.name
        units = [re.sub(r"\s", "_", unit) or "NU" for unit in form.units]
        lines = [
            f"{name} {len(self._signals)} {form.sample_rate:.10g} {self._rows}\n",
            *(f"- 32 1(0)/{u} 32 0 0 0 0 {n}\n" for n, u in zip(form.names, units, strict=True)),
            *self._mark_lines(),
        ]
        return "".join(lines).encode().decode("latin-1")

    def _kept_header(self, source: WfdbSource) -> str:
        """The header as it came, with the name of the record and lines for the marks."""
        text = Path(f"{source.record}.hea").read_bytes().decode("latin-1")
        lines = text.splitlines(keepends=True)
        places = [at for at, line in enumerate(lines) if line.strip() and line[0] != "#"]
        parts = re.split(r"(\s+)", lines[places[0]].lstrip())
        parts[0], parts[2] = self._target.name, str(len(self._signals))
        lines[places[0]] = "".join(parts)
        last = places[source.header.n_sig]
        marks = self._mark_lines()
        if marks and not lines[last].endswith("\n"):
            lines[last] += "\n"
        return "".join([*lines[: last + 1], *marks, *lines[last + 1 :]])

    def _mark_lines(self) -> list[str]:
        return [f"- 16 1(0)/NU 16 0 0 0 0 {name}\n" for name in self._contents.mark_names]

    def _annotations(self, files: ExitStack, record: Path) -> list[tuple[Path, Path]]:
        """Copies of the files of annotations, and their names."""
        found = []
        for suffix in ANNOTATIONS:
            source = Path(f"{record}.{suffix}")
            if source.is_file():
                target = self._target.with_name(f"{self._target.name}.{suffix}")
                partial = files.enter_context(beside(target))
                shutil.copyfile(source, partial)
                found.append((partial, target))
        return found


def _signal_line(line: str, signal: Signal, begin: int, total: int) -> str:
    """A signal's line in the header, with what is new in it."""
    parts = re.split(r"(\s+)", line)
    parts[0] = signal.file
    skew = re.search(r":\d+", parts[FORMAT])
    parts[FORMAT] = signal.kind + (skew[0] if skew else "")
    _, gain, base = signal.fit()
    if (gain, base) != (signal.gain, signal.base):
        unit = parts[GAIN].partition("/")[2] if len(parts) > GAIN else ""
        parts[GAIN : GAIN + 1] = [f"{gain!r}({base})" + f"/{unit}" * bool(unit)]
    if len(parts) > INITIAL and re.fullmatch(r"-?\d+", parts[INITIAL]):
        parts[INITIAL] = str(begin)
    if len(parts) > CHECKSUM and re.fullmatch(r"-?\d+", parts[CHECKSUM]):
        parts[CHECKSUM] = checksum(total, int(parts[CHECKSUM]))
    return "".join(parts)


def packed(numbers: Array, kind: str) -> bytes:
    """Whole numbers (n, signals) in a format of WFDB; n must be even but for the last ones.

    >>> packed(np.array([[-1], [2]]), "212").hex(" "), packed(np.array([[-1], [2]]), "24").hex(" ")
    ('ff 0f 02', 'ff ff ff 02 00 00')
    """
    flat = numbers.ravel()
    if kind == "212":
        first, second = np.pad(flat, (0, len(flat) % 2)).reshape(-1, 2).T & 0xFFF
        triples = [first & 0xFF, first >> 8 | second >> 8 << 4, second & 0xFF]
        return np.stack(triples, axis=1).astype("u1").tobytes()[: (3 * len(flat) + 1) // 2]
    if kind == "80":
        return (flat + 128).astype("u1").tobytes()
    return flat.astype("<i4").view("u1").reshape(-1, 4)[:, : int(kind) // 8].tobytes()


def checksum(total: int, former: int) -> str:
    """A sum in 16 bits, signed, or the former one where that is the same.

    >>> checksum(40000, 0), checksum(40000, 40000)
    ('-25536', '40000')
    """
    if (total - former) % (1 << 16) == 0:
        return str(former)
    return str((total + (1 << 15)) % (1 << 16) - (1 << 15))
