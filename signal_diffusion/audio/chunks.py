"""What a WAV, RF64 or AIFF file holds beside its sound: start time, markers, notes."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import takewhile
from pathlib import Path
from typing import BinaryIO

from signal_diffusion.errors import InputError

#: The byte order of a file by its first four bytes.
ORDERS = {b"RIFF": "<", b"RF64": "<", b"RIFX": ">", b"FORM": ">"}
#: The sound, what libsndfile writes of it, padding, and envelopes that would be of other sound.
OWN = {
    *(b"fmt ", b"data", b"fact", b"ds64", b"PEAK", b"JUNK", b"junk", b"PAD ", b"FLLR", b"levl"),
    *(b"COMM", b"SSND", b"FVER"),
}
IN_DS64 = 0xFFFFFFFF
#: Sizes about those that are written where the true one is not known.
UNKNOWN = (range(0x7FFFE000, 0x80000001), range(0xFFFFE000, 0x100000000))
#: Bytes in the chunks of sound before it.
BEFORE_SOUND = {b"data": 0, b"SSND": 8}
#: What follows the samples of a file only if there are more.
SOUNDS = {*BEFORE_SOUND, *ORDERS}
COPIED = 1 << 20
#: Broadcast extension (EBU Tech 3285): bytes before the time reference, and in all.
BEFORE_TIME, BEXT = 338, 602


@dataclass(frozen=True)
class Chunk:
    """A named part of a file, by where its content is, in bytes."""

    name: bytes
    start: int
    size: int


def chunks(file: BinaryIO) -> Iterator[Chunk]:
    """The chunks of a file, up to the first that is malformed; none if it is of another kind.

    >>> import io
    >>> list(chunks(io.BytesIO(b"RIFF" + bytes(4) + b"WAVEcue " + bytes([2, 0, 0, 0]) + b"ab")))
    [Chunk(name=b'cue ', start=20, size=2)]
    """
    end = file.seek(0, os.SEEK_END)
    return takewhile(lambda chunk: chunk.start + chunk.size <= end, _promised(file, end))


def sound_start(path: Path) -> int | None:
    """Where samples begin whose count was never written into the header, as after a crash.

    None for a file whose header is finished, or that ends there.
    """
    with path.open("rb") as file:
        end, head = path.stat().st_size, file.read(12)
        if head[:4] == b"RIFX" or head[8:] == b"AIFC":
            return None  # The order of the bytes is not that of the container.
        for chunk in _promised(file, end):
            if chunk.name in BEFORE_SOUND:
                before = BEFORE_SOUND[chunk.name]
                start = chunk.start + before
                whole = _header(file, 0, _order(file) or "<")[1]
                finished = start < whole + 8 <= IN_DS64 or not _is_unknown(chunk)
                return None if finished or start >= end else start
    return None


def require_one_sound(path: Path) -> None:
    """Raise an InputError for a file that holds its samples in several chunks.

    libsndfile would refuse it without a reason, or read the first.
    """
    with path.open("rb") as file:
        names = [chunk.name for chunk in _promised(file, path.stat().st_size)]
    first = next((n for n, name in enumerate(names) if name in BEFORE_SOUND), len(names))
    if any(name in SOUNDS for name in names[first + 1 :]):
        raise several_sounds(path)


def several_sounds(where: Path | str) -> InputError:
    """The error of a file or stream of which a part only would be read."""
    return InputError(
        f"{where} holds samples in several chunks, or several recordings, of which only the first "
        "would be read: cut it into files of one each"
    )


def share_held(path: Path) -> Fraction:
    """How much of the bytes of sound that a file's header promises are there, 1 at most.

    Recorders that could not go back to their header promise 2 or 4 GB: that counts as all.
    """
    end = path.stat().st_size
    with path.open("rb") as file:
        for chunk in _promised(file, end):
            if chunk.name in BEFORE_SOUND and not _is_unknown(chunk):
                before = BEFORE_SOUND[chunk.name]
                held = min(chunk.size, end - chunk.start) - before
                return Fraction(max(held, 0), max(chunk.size - before, 1))
    return Fraction(1)


def _is_unknown(sound: Chunk) -> bool:
    """Whether the size of a chunk of sound is what is written where it is not known."""
    odd = sound.size <= BEFORE_SOUND[sound.name] or sound.size >= 1 << 63
    return odd or any(sound.size in about for about in UNKNOWN)


def _promised(file: BinaryIO, end: int) -> Iterator[Chunk]:
    """The chunks that headers tell of, which may reach beyond the end."""
    order, position, sound = _order(file), 12, 0
    while order and position + 8 <= end:
        name, size = _header(file, position, order)
        if name == b"ds64" and size >= 16:
            sound = int.from_bytes(file.read(16)[8:], "little")
        size = sound if name == b"data" and size == IN_DS64 and sound else size
        if not all(32 <= byte < 127 for byte in name):
            return
        yield Chunk(name, position + 8, size)
        position += 8 + size + size % 2


def content(path: Path, *names: bytes) -> bytes | None:
    """The first chunk of one of some names; None if there is none."""
    with path.open("rb") as file:
        for chunk in chunks(file):
            if chunk.name in names:
                file.seek(chunk.start)
                return file.read(chunk.size)
    return None


def copy_chunks(source: Path, target: Path) -> None:
    """Append to a file the chunks of another, of the same byte order, which are not its sound."""
    with source.open("rb") as given, target.open("r+b") as taken:
        if _order(given) == _order(taken):
            for chunk in list(chunks(given)):
                if chunk.name not in OWN:
                    _append(taken, chunk.name, chunk.size, _parts(given, chunk))


def append_chunk(target: Path, name: bytes, content: bytes) -> None:
    """Append a chunk to a file, and correct the sizes in its header."""
    with target.open("r+b") as file:
        _append(file, name, len(content), iter([content]))


def time_reference(bext: bytes) -> int | None:
    """The start of a recording in samples since midnight, from its broadcast extension.

    >>> time_reference(broadcast_extension(7 << 32))
    30064771072
    """
    start = bext[BEFORE_TIME : BEFORE_TIME + 8]
    return int.from_bytes(start, "little") if len(start) == 8 else None


def broadcast_extension(start: int) -> bytes:
    """A broadcast extension which tells the start only, in samples since midnight."""
    version = (1).to_bytes(2, "little")
    return (bytes(BEFORE_TIME) + start.to_bytes(8, "little") + version).ljust(BEXT, b"\0")


def _order(file: BinaryIO) -> str | None:
    file.seek(0)
    return ORDERS.get(file.read(4))


def _header(file: BinaryIO, position: int, order: str) -> tuple[bytes, int]:
    file.seek(position)
    name, size = struct.unpack(f"{order}4sI", file.read(8))
    return name, size


def _parts(file: BinaryIO, chunk: Chunk) -> Iterator[bytes]:
    """The content of a chunk in blocks."""
    file.seek(chunk.start)
    left = chunk.size
    while left and (part := file.read(min(left, COPIED))):
        yield part
        left -= len(part)


def _append(file: BinaryIO, name: bytes, size: int, parts: Iterator[bytes]) -> None:
    order, end = _order(file), file.seek(0, os.SEEK_END)
    total = end + end % 2 + size + size % 2
    if order is None or (total >= IN_DS64 and _header(file, 0, order)[0] != b"RF64"):
        return
    try:
        file.seek(end)
        file.write(bytes(end % 2) + struct.pack(f"{order}4sI", name, size))
        file.writelines(parts)
        file.write(bytes(size % 2))
        _set_size(file, order, total)
    except BaseException:
        file.truncate(end)
        raise


def _set_size(file: BinaryIO, order: str, total: int) -> None:
    """Store the bytes of the whole, less 8, where the file keeps them."""
    kind, size = _header(file, 0, order)
    if kind != b"RF64" or size != IN_DS64:
        file.seek(4)
        file.write(struct.pack(f"{order}I", total))
        return
    for chunk in chunks(file):
        if chunk.name == b"ds64":
            file.seek(chunk.start)
            file.write(struct.pack("<Q", total))
            return
