"""What goes through a pipe is what soundfile reads from a file of the same bytes, or one line."""

import io
import os
import struct
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import soundfile

from signal_diffusion.audio.forms import Form
from signal_diffusion.audio.pipes import RAW_FORMATS, PipeReader, PipeWriter
from signal_diffusion.errors import InputError

EXACT = {"PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}


def noise(channels: int, length: int, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(5).uniform(-0.99, 0.99, (channels, length)).astype(dtype)


def stored(
    samples: np.ndarray, subtype: str, *, rate: int = 16000, container: str = "WAV"
) -> bytes:
    """The bytes of a file that soundfile writes."""
    file = io.BytesIO()
    endian = "LITTLE" if container == "RAW" else "FILE"
    soundfile.write(file, samples.T, rate, subtype=subtype, format=container, endian=endian)
    return file.getvalue()


@contextmanager
def piped(content: bytes, sizes: tuple[int, ...] = (1 << 16,)) -> Iterator[BinaryIO]:
    """The reading end of a pipe that another thread fills in pieces of these sizes, in turn."""
    reading, writing = os.pipe()

    def fill() -> None:
        with os.fdopen(writing, "wb", buffering=0) as file:
            start = turn = 0
            while start < len(content):
                size = sizes[turn % len(sizes)]
                start += file.write(content[start : start + size])
                turn += 1

    thread = threading.Thread(target=fill)
    thread.start()
    with os.fdopen(reading, "rb") as file:
        yield file
        while file.read(1 << 16):
            pass
        thread.join()


def joined(reader: PipeReader) -> np.ndarray:
    return np.concatenate(list(reader.blocks()), axis=1)


def through(form: Form, samples: np.ndarray, *, frames: int | None = None) -> bytes:
    file = io.BytesIO()
    writer = PipeWriter(file, form, frames)
    for start in range(0, samples.shape[1], 100):
        writer.write(samples[:, start : start + 100])
    writer.close()
    return file.getvalue()


def read_back(content: bytes, form: Form) -> np.ndarray:
    samples, rate = soundfile.read(io.BytesIO(content), dtype=form.dtype, always_2d=True)
    assert rate == form.sample_rate
    return samples.T


def edited(content: bytes, name: bytes, size: int) -> bytes:
    """A WAV whose chunk of this name claims another size."""
    start = content.index(name) + 4
    return content[:start] + struct.pack("<I", size) + content[start + 4 :]


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("sizes", [(1, 7, 2, 3), (331,), (1 << 16,)])
@pytest.mark.parametrize("subtype", RAW_FORMATS.values())
def test_a_wav_is_read_as_soundfile_reads_it(
    subtype: str, sizes: tuple[int, ...], channels: int
) -> None:
    content = stored(noise(channels, 151, "float64"), subtype)
    with piped(content, sizes) as file:
        reader = PipeReader(file)
        samples = joined(reader)
    assert reader.form == Form(16000, channels, "WAV", subtype)
    assert reader.frames == 151
    assert samples.dtype == reader.form.dtype
    np.testing.assert_array_equal(samples, read_back(content, reader.form))


@pytest.mark.parametrize("name", RAW_FORMATS)
def test_raw_samples_are_read_as_in_a_wav(name: str) -> None:
    form = Form(8000, 3, "RAW", RAW_FORMATS[name])
    content = stored(noise(3, 200, "float64"), form.subtype, container="RAW")
    with piped(content, (5, 64)) as file:
        reader = PipeReader(file, form)
        samples = joined(reader)
    assert reader.frames is None
    whole = stored(noise(3, 200, "float64"), form.subtype, rate=8000)
    np.testing.assert_array_equal(samples, read_back(whole, form))


@pytest.mark.parametrize("frames", [None, 251])
@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("subtype", RAW_FORMATS.values())
def test_what_is_written_is_read_back(subtype: str, channels: int, frames: int | None) -> None:
    form = Form(22050, channels, "WAV", subtype)
    once = read_back(stored(noise(channels, 251, "float64"), subtype, rate=22050), form)
    content = through(form, once, frames=frames)
    reader = PipeReader(io.BytesIO(content))
    assert (reader.frames, reader.form.subtype) == (frames, subtype)
    np.testing.assert_array_equal(joined(reader), once)
    if frames is not None:
        np.testing.assert_array_equal(read_back(content, form), once)
        assert struct.unpack("<I", content[4:8])[0] == len(content) - 8


@pytest.mark.parametrize("subtype", RAW_FORMATS.values())
def test_soundfile_reads_a_stream_of_unknown_length(subtype: str) -> None:
    form = Form(16000, 2, "WAV", subtype)
    once = read_back(stored(noise(2, 250, "float64"), subtype), form)
    np.testing.assert_array_equal(read_back(through(form, once), form), once)


@pytest.mark.parametrize("subtype", RAW_FORMATS.values())
def test_raw_samples_are_written_without_header(subtype: str) -> None:
    form = Form(16000, 2, "RAW", subtype)
    content = stored(noise(2, 250, "float64"), subtype, container="RAW")
    once = joined(PipeReader(io.BytesIO(content), form))
    assert through(form, once, frames=250) == content


@pytest.mark.parametrize("subtype", EXACT)
def test_integers_are_rounded_and_clipped(subtype: str) -> None:
    samples = np.concatenate([noise(1, 5000, "float64"), [[1.5, -1.5]]], axis=1)
    back = joined(PipeReader(io.BytesIO(through(Form(8000, 1, "WAV", subtype), samples))))
    step = 2.0 ** (1 - EXACT[subtype])
    assert np.abs(back - samples)[:, :-2].max() <= step / 2 * 1.001
    np.testing.assert_allclose(back[:, -2:], [[1 - step, -1]], atol=step / 100)


def test_other_sample_formats_are_written_as_16_bit() -> None:
    content = through(Form(8000, 1, "OGG", "VORBIS"), noise(1, 100), frames=100)
    assert soundfile.info(io.BytesIO(content)).subtype == "PCM_16"


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
@pytest.mark.parametrize("container", ["WAV", "WAVEX", "RF64"])
def test_containers_are_told_apart(container: str, subtype: str) -> None:
    content = stored(noise(2, 99), subtype, container=container)
    reader = PipeReader(io.BytesIO(content))
    assert reader.form.container == container
    assert reader.frames == 99
    np.testing.assert_array_equal(joined(reader), read_back(content, reader.form))


@pytest.mark.parametrize("known", [True, False])
def test_chunks_around_the_samples_are_left_out(known: bool) -> None:
    """Notes lie before or after the samples; a note of odd size is padded."""
    whole = stored(noise(1, 501), "PCM_U8")
    start = whole.index(b"data")
    note = struct.pack("<4sI", b"LIST", 8 + 5) + b"INFOISFT\x05note\0"[:13] + b"\0"
    content = whole[:start] + note + (whole[start:] if known else b"")
    content += note if known else edited(whole[start:], b"data", 0xFFFFFFFF)[: 8 + 501]
    reader = PipeReader(io.BytesIO(content))
    assert reader.frames == (501 if known else None)
    np.testing.assert_array_equal(joined(reader), read_back(whole, reader.form))


def test_a_title_written_by_soundfile_is_left_out(tmp_path: Path) -> None:
    with soundfile.SoundFile(tmp_path / "a.wav", "w", 8000, 1, "PCM_16") as file:
        file.title = "a title"
        file.write(noise(1, 1000)[0])
        file.comment = "written after the samples"
    content = (tmp_path / "a.wav").read_bytes()
    assert b"LIST" in content
    reader = PipeReader(io.BytesIO(content))
    np.testing.assert_array_equal(joined(reader), read_back(content, reader.form))


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF000, 0x7FFFEFFC, 0x80000000])
def test_the_length_of_a_stream_may_be_unknown(size: int) -> None:
    whole = stored(noise(2, 77), "PCM_16")
    content = edited(edited(whole, b"RIFF", size), b"data", size)
    reader = PipeReader(io.BytesIO(content))
    assert reader.frames is None
    np.testing.assert_array_equal(joined(reader), read_back(whole, reader.form))


@pytest.mark.parametrize("long_size", [0, (1 << 64) - 1])
def test_the_length_of_a_long_stream_may_be_unknown(long_size: int) -> None:
    whole = stored(noise(2, 77), "PCM_16", container="RF64")
    start = whole.index(b"ds64") + 16
    content = whole[:start] + long_size.to_bytes(8, "little") + whole[start + 8 :]
    reader = PipeReader(io.BytesIO(edited(content, b"data", 0xFFFFFFFF)))
    assert reader.frames is None
    np.testing.assert_array_equal(joined(reader), read_back(whole, reader.form))


def test_a_recording_past_4_gb_is_announced_as_endless() -> None:
    file = io.BytesIO()
    PipeWriter(file, Form(8000, 2, "WAV", "PCM_24"), frames=1 << 30)
    assert file.getvalue()[4:8] == file.getvalue()[-4:] == b"\xff" * 4
    below, form = io.BytesIO(), Form(8000, 1, "WAV", "PCM_U8")
    PipeWriter(below, form, frames=(1 << 32) - 200)
    assert PipeReader(io.BytesIO(below.getvalue())).frames == (1 << 32) - 200


def test_samples_come_as_soon_as_they_arrive() -> None:
    reading, writing = os.pipe()
    content = stored(noise(1, 1000), "PCM_16")
    with os.fdopen(reading, "rb") as file, os.fdopen(writing, "wb", buffering=0) as producer:
        producer.write(content[: 44 + 2 * 100 + 1])
        blocks = PipeReader(file).blocks()
        assert next(blocks).shape == (1, 100)
        producer.write(content[44 + 2 * 100 + 1 : 44 + 2 * 250])
        assert next(blocks).shape == (1, 150)


def test_blocks_are_bounded() -> None:
    content = stored(noise(1, 200_000), "PCM_16")
    sizes = [block.shape[1] for block in PipeReader(io.BytesIO(content)).blocks()]
    assert max(sizes) <= 1 << 16
    assert sum(sizes) == 200_000


def test_blocks_are_sent_at_once_and_whole() -> None:
    """An unbuffered pipe takes less than it is given where it is full."""
    reading, writing = os.pipe()
    samples = noise(1, 100_000, "float64")
    received: list[np.ndarray] = []

    def receive() -> None:
        with os.fdopen(reading, "rb") as file:
            received.extend(PipeReader(file).blocks())

    thread = threading.Thread(target=receive)
    thread.start()
    with os.fdopen(writing, "wb", buffering=0) as file:
        PipeWriter(file, Form(8000, 1, "WAV", "DOUBLE")).write(samples)
    thread.join()
    np.testing.assert_array_equal(np.concatenate(received, axis=1), samples)


def test_a_reader_that_went_away_is_told() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb", buffering=0) as file:
        writer = PipeWriter(file, Form(8000, 1))
        os.close(reading)
        with pytest.raises(BrokenPipeError):
            writer.write(noise(1, 10))


def test_a_full_disk_is_one_line() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with (
        full.open("wb", buffering=0) as file,
        pytest.raises(InputError, match="standard output can't be written: No space left"),
    ):
        PipeWriter(file, Form(8000, 1))


@pytest.mark.parametrize("kept", [0.3, 0.999])
def test_a_wav_cut_short_is_refused(kept: float) -> None:
    content = stored(noise(2, 5000), "PCM_16")
    with piped(content[: int(kept * len(content))]) as file:
        reader = PipeReader(file)
        with pytest.raises(InputError, match=r"cut short: its header promises 5000 frames, it hol"):
            joined(reader)


def test_raw_samples_cut_within_a_frame_are_refused() -> None:
    reader = PipeReader(io.BytesIO(bytes(4001)), Form(8000, 2, "RAW", "PCM_16"))
    with pytest.raises(InputError, match="ends 1 bytes into a frame of 4"):
        joined(reader)


@pytest.mark.parametrize("length", [0, 3, 11, 30, 43])
def test_a_header_cut_short_is_refused(length: int) -> None:
    with pytest.raises(InputError, match="cut short"):
        PipeReader(io.BytesIO(stored(noise(1, 10), "PCM_16")[:length]))


@pytest.mark.parametrize("form", [None, Form(8000, 1, "RAW", "PCM_16")])
def test_no_samples_are_refused(form: Form | None) -> None:
    content = b"" if form else stored(noise(1, 0), "PCM_16")
    with pytest.raises(InputError, match="holds no samples"):
        joined(PipeReader(io.BytesIO(content), form))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_samples_that_are_no_numbers_are_refused(subtype: str, value: float) -> None:
    samples = noise(1, 100)
    samples[0, 50] = value
    with pytest.raises(InputError, match="NaN or infinite"):
        joined(PipeReader(io.BytesIO(stored(samples, subtype))))


@pytest.mark.parametrize("container", ["FLAC", "OGG", "MP3", "AIFF", "AU", "W64"])
def test_other_containers_are_refused(container: str) -> None:
    subtype = soundfile.default_subtype(container)
    with pytest.raises(InputError, match="a pipe takes WAV, or raw PCM with --rate"):
        PipeReader(io.BytesIO(stored(noise(1, 5000), subtype, container=container)))


@pytest.mark.parametrize("content", [b"hello, world", b"\0" * 100, b"RIFF\0\0\0\0AVI LIST"])
def test_what_is_no_audio_is_refused(content: bytes) -> None:
    with pytest.raises(InputError, match="no WAV"):
        PipeReader(io.BytesIO(content))


def test_block_codecs_are_refused() -> None:
    content = stored(noise(1, 5000), "IMA_ADPCM")
    with pytest.raises(InputError, match="sample format that is not known here"):
        PipeReader(io.BytesIO(content))


@pytest.mark.parametrize(
    "form",
    [
        Form(0, 1, "RAW"),
        Form(-8000, 1, "RAW"),
        Form(1 << 31, 1, "RAW"),
        Form(8000, 0, "RAW"),
        Form(8000, 5000, "RAW"),
        Form(8000, 1, "RAW", "VORBIS"),
    ],
)
def test_absurd_forms_are_refused(form: Form) -> None:
    with pytest.raises(InputError, match="must be"):
        PipeReader(io.BytesIO(bytes(100)), form)


def test_damaged_streams_are_read_or_refused() -> None:
    """Bit flips in headers of every kind: samples, or one line, in little memory."""
    generator = np.random.default_rng(11)
    headers = [
        stored(noise(2, 300), subtype, container=container)
        for container in ("WAV", "WAVEX", "RF64")
        for subtype in ("PCM_16", "PCM_24", "FLOAT", "ULAW")
    ]
    headers = [b"RIFF\xff\xff\xff\xffWAVE" + bytes(range(256)), *headers]
    refused = 0
    tracemalloc.start()
    for turn in range(600):
        content = bytearray(headers[turn % len(headers)])
        for place in generator.integers(0, 120, generator.integers(1, 6)):
            content[place] ^= 1 << generator.integers(0, 8)
        if turn % 3 == 0:
            content[12:60] = generator.bytes(48)
        try:
            samples = joined(PipeReader(io.BytesIO(content)))
            assert np.isfinite(samples).all()
        except InputError as error:
            assert "\n" not in str(error)
            refused += 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 100 < refused < 600
    assert peak < 100e6
