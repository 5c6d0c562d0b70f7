"""The header of a WAV stream that can't be sought in: read, and written."""

from __future__ import annotations

import struct
from collections.abc import Callable

from signal_diffusion.audio.forms import Form
from signal_diffusion.errors import InputError

#: A header's format tag and bytes per sample, by libsndfile's name of the sample format.
ENCODINGS = {
    "PCM_U8": (1, 1),
    "PCM_16": (1, 2),
    "PCM_24": (1, 3),
    "PCM_32": (1, 4),
    "FLOAT": (3, 4),
    "DOUBLE": (3, 8),
    "ALAW": (6, 1),
    "ULAW": (7, 1),
}
SUBTYPES = {encoding: subtype for subtype, encoding in ENCODINGS.items()}
MAX_RATE = 10_000_000
MAX_CHANNELS = 1024

CONTAINERS = {b"RIFF": "WAV", b"RF64": "RF64", b"BW64": "RF64"}
EXTENSIBLE = 0xFFFE
#: What follows the format tag in the GUID of an extensible header.
GUID_REST = bytes.fromhex("000000001000800000aa00389b71")
SPEAKERS = {1: 0b100, 2: 0b11}
UNKNOWN = 0xFFFFFFFF
#: What stands for an unknown size: 0 in GStreamer, 0xFFFFFFFF in FFmpeg, 2^64 - 1 in RF64, and
#: about 2 GB in arecord and SoX, which rounds down to whole frames.
UNKNOWN_SIZES = ({0, UNKNOWN, (1 << 64) - 1}, range(0x7FFFE000, 0x80000001))
#: No header that is written here is longer.
HEADER_BYTES = 100
FORMAT_BYTES = range(16, 1025)
PIECE = 1 << 16


def require_sane(form: Form) -> None:
    """Raise InputError where the rate, channels or sample format of a stream can't be meant."""
    if not 1 <= form.sample_rate <= MAX_RATE:
        raise InputError(
            f"the stream's sample rate is {form.sample_rate} Hz; it must be 1 to {MAX_RATE} Hz"
        )
    if not 1 <= form.channels <= MAX_CHANNELS:
        raise InputError(
            f"the stream's channels are {form.channels}; there must be 1 to {MAX_CHANNELS}"
        )
    if form.subtype not in ENCODINGS:
        encodings = ", ".join(ENCODINGS)
        raise InputError(
            f"the stream's sample format is {form.subtype}; it must be one of {encodings}"
        )


def read_header(read: Callable[[int], bytes]) -> tuple[Form, int | None]:
    """The form and the data's bytes, None if unknown, of a WAV stream up to its first sample.

    Args:
        read: the next so many bytes, all of them, or an InputError.

    Raises:
        InputError: it is no WAV, or of a sample format that is not known here.
    """
    container = _container(read)
    form, long_size = None, UNKNOWN
    while True:
        name, size = struct.unpack("<4sI", read(8))
        if name == b"data":
            break
        if name == b"fmt " and size in FORMAT_BYTES:
            form = _form(container, _chunk(read, size))
        elif name == b"ds64" and size in FORMAT_BYTES:
            long_size = int.from_bytes(_chunk(read, size)[8:16], "little")
        else:
            for start in range(0, size + size % 2, PIECE):
                read(min(size + size % 2 - start, PIECE))
    if form is None:
        raise InputError("standard input is a damaged WAV: its samples come before their format")
    if container == "RF64" and size == UNKNOWN:
        size = long_size
    return form, None if any(size in sizes for sizes in UNKNOWN_SIZES) else size


def header(form: Form, frames: int | None) -> bytes:
    """A WAV header; its sizes are 0xFFFFFFFF where the frames are not known or pass 4 GB."""
    layout = _layout(form)
    if not form.subtype.startswith("PCM"):
        # All but PCM must give the count of frames.
        count = UNKNOWN if frames is None else min(frames, UNKNOWN)
        layout += struct.pack("<4sII", b"fact", 4, count)
    data = data_bytes(form, frames)
    whole = UNKNOWN if data is None else 4 + len(layout) + 8 + data + data % 2
    start = struct.pack("<4sI4s", b"RIFF", whole, b"WAVE")
    return start + layout + struct.pack("<4sI", b"data", UNKNOWN if data is None else data)


def data_bytes(form: Form, frames: int | None) -> int | None:
    """Bytes of the samples, None where the frames are not known or pass 4 GB with a header."""
    data = UNKNOWN if frames is None else frames * frame_bytes(form)
    return data if data < UNKNOWN - HEADER_BYTES else None


def frame_bytes(form: Form) -> int:
    """Bytes of one sample of every channel."""
    return form.channels * ENCODINGS[form.subtype][1]


def _layout(form: Form) -> bytes:
    """The `fmt ` chunk: extensible for what a plain one describes ambiguously."""
    tag, width = ENCODINGS[form.subtype]
    frame = frame_bytes(form)
    numbers = (form.channels, form.sample_rate, min(form.sample_rate * frame, UNKNOWN), frame)
    extensible = form.channels > 2 or (tag == 1 and width > 2)
    plain = struct.pack("<HHIIHH", EXTENSIBLE if extensible else tag, *numbers, 8 * width)
    if extensible:
        speakers = SPEAKERS.get(form.channels, 0)
        plain += struct.pack("<HHIH", 22, 8 * width, speakers, tag) + GUID_REST
    elif tag != 1:
        plain += struct.pack("<H", 0)
    return struct.pack("<4sI", b"fmt ", len(plain)) + plain


def _container(read: Callable[[int], bytes]) -> str:
    container = CONTAINERS.get(read(4))
    if container is None or read(8)[4:] != b"WAVE":
        raise InputError(
            "standard input is no WAV: a pipe takes WAV, or raw PCM with --rate, --channels and "
            "--format"
        )
    return container


def _form(container: str, layout: bytes) -> Form:
    tag, channels, rate, _, frame, bits = struct.unpack("<HHIIHH", layout[:16])
    if tag == EXTENSIBLE and layout[26:40] == GUID_REST:
        tag = int.from_bytes(layout[24:26], "little")
        container = "WAVEX" if container == "WAV" else container
    width = -(-bits // 8)
    subtype = SUBTYPES.get((tag, width))
    if subtype is None or frame != channels * width:
        raise InputError(
            f"standard input is a WAV of a sample format that is not known here (tag {tag}, "
            f"{bits} bits, {channels} channels, {frame} bytes a frame): convert it to PCM first"
        )
    form = Form(rate, channels, container, subtype)
    require_sane(form)
    return form


def _chunk(read: Callable[[int], bytes], size: int) -> bytes:
    return read(size + size % 2)[:size]
