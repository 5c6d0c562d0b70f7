"""A recording goes out in the form it came in, sample by sample, or a line says why not."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from signal_diffusion.audio import CONTAINERS, Form, forms, opened, read, stored_form, writing
from signal_diffusion.errors import InputError
from signal_diffusion.files import atomic
from signal_diffusion.files.atomic import remove_leftovers

RATES = (8000, 11025, 16000, 22050, 44100, 48000, 96000)
LENGTHS = (1, 2, 255, 1000, 12345)
LOSSY_RATES = {
    "VORBIS": RATES,
    "OPUS": (8000, 12000, 16000, 24000, 48000),
    "MPEG_LAYER_III": (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
}
PCM = ("PCM_16", "PCM_24", "PCM_32")
LOSSLESS = {
    ".wav": ("PCM_U8", *PCM, "FLOAT", "DOUBLE", "ULAW", "ALAW"),
    ".rf64": ("PCM_U8", *PCM, "FLOAT", "DOUBLE", "ULAW", "ALAW"),
    ".w64": ("PCM_U8", *PCM, "FLOAT", "DOUBLE", "ULAW", "ALAW"),
    ".flac": ("PCM_S8", "PCM_16", "PCM_24"),
    ".aiff": (*PCM, "FLOAT", "DOUBLE"),
    ".au": ("PCM_S8", *PCM, "FLOAT", "DOUBLE", "ULAW", "ALAW"),
    ".caf": ("PCM_S8", *PCM, "FLOAT", "DOUBLE", "ULAW", "ALAW", "ALAC_16"),
}
CASES = [(suffix, subtype) for suffix, subtypes in LOSSLESS.items() for subtype in subtypes]


def random(channels: int, length: int) -> np.ndarray:
    """Rounded by no format but DOUBLE, and reaching full scale."""
    samples = np.random.default_rng(length).uniform(-1.01, 1.01, (channels, length))
    return samples.clip(-1, 1)


def smooth(channels: int, length: int) -> np.ndarray:
    """Noise below a quarter of the rate, which encoders keep in shape, the same in all channels."""
    noise = np.random.default_rng(length).normal(0, 0.2, length + 200)
    return np.tile(np.convolve(noise, np.hanning(17) / 8, "same")[:length], (channels, 1))


def put(path: Path, form: Form, samples: np.ndarray, **options: Path) -> Path:
    with writing(path, form, force=True, **options) as writer:
        for start in range(0, samples.shape[1], 5000):
            writer.write(samples[:, start : start + 5000])
    return path


def copied(source: Path, target: Path) -> Path:
    """The second, which is what comes of reading the first and writing it."""
    with opened(source) as reader:
        path, form, line = stored_form(target, reader.form, frames=reader.frames)
        assert (path, form, line) == (target, reader.form, None)
        with writing(target, form, like=source, force=True) as writer:
            for block in reader.blocks(1 << 12):
                writer.write(block)
    return target


def stored(path: Path) -> np.ndarray:
    return soundfile.read(path, dtype="float64", always_2d=True)[0].T


@pytest.mark.parametrize(("suffix", "subtype"), CASES)
def test_lossless_forms_come_back_bit_by_bit(tmp_path: Path, suffix: str, subtype: str) -> None:
    container = CONTAINERS[suffix][0]
    for rate, channels in [(rate, 1) for rate in RATES] + [(16000, 2), (44100, 6)]:
        for length in LENGTHS if rate in (16000, 44100) else LENGTHS[1:3]:
            form = Form(rate, channels, container, subtype)
            first = put(tmp_path / f"a{suffix}", form, random(channels, length))
            second = copied(first, tmp_path / f"b{suffix}")
            assert stored(first).shape == (channels, length)
            np.testing.assert_array_equal(stored(second), stored(first))


@pytest.mark.parametrize("subtype", ["PCM_U8", *PCM, "FLOAT", "DOUBLE"])
def test_what_is_written_is_within_half_a_step(tmp_path: Path, subtype: str) -> None:
    """With the round trip from file to file, this is the whole claim."""
    step = 2.0 ** (1 - forms.BITS[subtype])
    samples = random(2, 9000).clip(-1, 1 - step)
    path = put(tmp_path / "a.wav", Form(8000, 2, "WAV", subtype), samples)
    assert np.abs(stored(path) - samples).max() <= step / 2


@pytest.mark.parametrize(
    ("suffix", "subtype", "rate"),
    [
        (suffix, subtype, rate)
        for suffix, subtype in ((".ogg", "VORBIS"), (".opus", "OPUS"), (".mp3", "MPEG_LAYER_III"))
        for rate in LOSSY_RATES[subtype]
    ],
)
def test_lossy_forms_keep_length_and_place(
    tmp_path: Path, suffix: str, subtype: str, rate: int
) -> None:
    for channels in (1, 2) if suffix == ".mp3" else (1, 2, 6):
        for length in LENGTHS[:: 4 if channels == 6 else 1]:
            form = Form(rate, channels, CONTAINERS[suffix][0], subtype)
            samples = smooth(channels, length)
            first = put(tmp_path / f"a{suffix}", form, samples)
            second = copied(first, tmp_path / f"b{suffix}")
            assert soundfile.info(second).frames == length
            assert stored(second).shape == (channels, length)
            if length > 100:
                shared = np.correlate(stored(second)[0], samples[0], "full")
                assert np.argmax(shared) == length - 1, (channels, length)


@pytest.mark.parametrize("level", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("suffix", [".mp3", ".ogg", ".opus"])
def test_the_bit_rate_of_the_source_is_kept(tmp_path: Path, suffix: str, level: float) -> None:
    """For noise; of simpler sounds, MP3 and Vorbis of one quality are smaller."""
    source, noise = tmp_path / f"a{suffix}", np.random.default_rng(1).normal(0, 0.1, (100_000, 2))
    container, subtype = CONTAINERS[suffix][0], {".mp3": None, ".ogg": "VORBIS", ".opus": "OPUS"}
    soundfile.write(
        source, noise, 48000, subtype[suffix], format=container, compression_level=level
    )
    target = copied(source, tmp_path / f"b{suffix}")
    assert target.stat().st_size == pytest.approx(source.stat().st_size, rel=0.15)


def test_mp3_keeps_the_level(tmp_path: Path) -> None:
    """At a constant bit rate, Lame would lower it by 0.4 dB each time."""
    samples = smooth(1, 20000)
    path = put(tmp_path / "a.mp3", Form(16000, 1, "MP3", "MPEG_LAYER_III"), samples)
    again = copied(path, tmp_path / "b.mp3")
    gain = float(np.vdot(stored(again), samples) / np.vdot(samples, samples))
    assert 20 * np.log10(gain) == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize(
    ("name", "form", "frames", "written", "said"),
    [
        ("a.wav", Form(8000, 1, "WAVEX", "PCM_24"), 9, ("a.wav", "WAVEX", "PCM_24"), None),
        ("a.ogg", Form(16000, 1, "OGG", "OPUS"), 9, ("a.ogg", "OGG", "OPUS"), None),
        ("a.opus", Form(16000, 1, "OGG", "VORBIS"), 9, ("a.opus", "OGG", "OPUS"), None),
        ("a.mp3", Form(16000, 1), 9, ("a.mp3", "MP3", "MPEG_LAYER_III"), None),
        ("a.wav", Form(16000, 1, "MP3", "MPEG_LAYER_III"), 9, ("a.wav", "WAV", "PCM_16"), None),
        (
            *("a.mp3", Form(48000, 6), 9, ("a.flac", "FLAC", "PCM_16")),
            "a.mp3: MP3 can't hold 6 channels at 48000 Hz: a.flac is written instead",
        ),
        ("a.opus", Form(44100, 2), 9, ("a.flac", "FLAC", "PCM_16"), "Opus can't hold 2 channels"),
        ("a.mp3", Form(96000, 1, "WAV", "FLOAT"), 9, ("a.wav", "WAV", "FLOAT"), "at 96000 Hz"),
        ("a.mp3", Form(96000, 1, "WAV", "PCM_32"), 9, ("a.wav", "WAV", "PCM_32"), "at 96000 Hz"),
        ("a.flac", Form(8000, 10), 9, ("a.wav", "WAV", "PCM_16"), "FLAC can't hold 10 channels"),
        ("a.ogg", Form(250_000, 1), 9, ("a.flac", "FLAC", "PCM_16"), "at 250000 Hz"),
        (
            *("a.flac", Form(8000, 1, "WAV", "FLOAT"), 9, ("a.flac", "FLAC", "PCM_24")),
            "a.flac: FLAC can't hold FLOAT: PCM_24 is written instead",
        ),
        ("a.wav", Form(8000, 1, "WAV", "IMA_ADPCM"), 9, ("a.wav", "WAV", "PCM_16"), "IMA_ADPCM"),
        ("a.aiff", Form(8000, 1, "AIFF", "PCM_U8"), 9, ("a.aiff", "AIFF", "PCM_16"), "PCM_U8"),
        ("a.aiff", Form(8000, 1, "WAV", "PCM_32"), 9, ("a.aiff", "AIFF", "PCM_32"), None),
        ("a.caf", Form(8000, 2, "CAF", "ALAC_24"), 9, ("a.caf", "CAF", "PCM_24"), "ALAC_24"),
        ("a.opus", Form(44100, 1), 9, ("a.flac", "FLAC", "PCM_16"), "hold 1 channel at 44100 Hz"),
        ("a.wav", Form(8000, 1), 1 << 31, ("a.wav", "RF64", "PCM_16"), "4 GB of samples"),
        ("a.aiff", Form(8000, 1), 1 << 31, ("a.flac", "FLAC", "PCM_16"), "4 GB"),
        ("a.au", Form(8000, 1, "AU", "FLOAT"), 1 << 30, ("a.wav", "RF64", "FLOAT"), "a.wav"),
    ],
)
def test_what_a_container_lacks_is_written_elsewhere_and_said(
    tmp_path: Path,
    name: str,
    form: Form,
    frames: int,
    written: tuple[str, str, str],
    said: str | None,
) -> None:
    path, kept, line = stored_form(Path(name), form, frames=frames)
    assert (str(path), kept.container, kept.subtype) == written
    assert line is None if said is None else said in str(line)
    samples = smooth(form.channels, 20)
    assert stored(put(tmp_path / path, kept, samples)).shape == samples.shape


def test_a_suffix_of_no_format_is_refused() -> None:
    with pytest.raises(InputError, match=r"use one of \.wav"):
        stored_form(Path("a.xyz"), Form(8000, 1))


def test_long_wav_files_become_rf64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "LARGEST", 4000)
    samples = random(2, 1001)
    for length, container in ((1000, "WAV"), (1001, "RF64")):
        path, form, _ = stored_form(tmp_path / "a.wav", Form(8000, 2), frames=length)
        put(path, form, samples[:, :length])
        assert soundfile.info(path).format == container
        assert read(path).samples.shape == (2, length)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".caf"])
def test_reading_is_the_same_in_any_blocks_and_again(tmp_path: Path, suffix: str) -> None:
    path, form, _ = stored_form(tmp_path / f"a{suffix}", Form(48000, 2))
    put(path, form, smooth(2, 9999))
    whole = read(path).samples
    with opened(path) as reader:
        assert (reader.form, reader.frames) == (form, 9999)
        next(reader.blocks(77))
        for size in (1000, 4096, 1 << 20):
            np.testing.assert_array_equal(np.concatenate([*reader.blocks(size)], axis=1), whole)


@pytest.mark.parametrize("size", [1000, 4096, 1 << 14])
def test_mp3_of_simple_sounds_is_the_same_in_any_blocks(tmp_path: Path, size: int) -> None:
    """Its frames keep bits for later ones, which are lost when soundfile seeks after a block."""
    time = np.arange(40000) / 16000
    tones = 0.3 * np.sin(2 * np.pi * 500 * time) + 0.2 * np.sin(2 * np.pi * 1300 * time)
    form = Form(16000, 1, "MP3", "MPEG_LAYER_III")
    path = put(tmp_path / "a.mp3", form, tones[None])
    with opened(path) as reader:
        blocks = np.concatenate([*reader.blocks(size)], axis=1)
    with soundfile.SoundFile(path) as file:
        np.testing.assert_array_equal(blocks[0], file.read(dtype="float32"))
    assert np.abs(blocks - tones).max() < 0.05


@pytest.mark.parametrize("suffix", [".wav", ".rf64", ".aiff"])
@pytest.mark.parametrize("missing", [1, 2, 3, 4, 1000, 3999])
def test_uncompressed_files_cut_short_are_refused(
    tmp_path: Path, suffix: str, missing: int
) -> None:
    form = Form(8000, 2, CONTAINERS[suffix][0], "PCM_16")
    path = put(tmp_path / f"a{suffix}", form, random(2, 1000))
    path.write_bytes(path.read_bytes()[:-missing])
    held = (4000 - missing) // 4
    with pytest.raises(InputError, match=f"promises 1000 frames, it holds {held}|no samples"):
        read(path)


@pytest.mark.parametrize("size", [0, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7FFFF000])
def test_a_recorder_that_did_not_know_the_length_is_read(tmp_path: Path, size: int) -> None:
    path = put(tmp_path / "a.wav", Form(8000, 1), random(1, 1000))
    content = path.read_bytes()
    place = content.index(b"data") + 4
    path.write_bytes(content[:place] + size.to_bytes(4, "little") + content[place + 4 :])
    if size:
        assert read(path).samples.shape == (1, 1000)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".caf"])
def test_damaged_files_are_read_or_refused_in_one_line(tmp_path: Path, suffix: str) -> None:
    path, form, _ = stored_form(tmp_path / f"a{suffix}", Form(16000, 2))
    content = put(path, form, smooth(2, 3000)).read_bytes()
    generator = np.random.default_rng(3)
    for trial in range(60):
        damaged = bytearray(content)
        if trial % 2:
            for place in generator.integers(0, min(len(damaged), 4000 >> (trial % 7)), 3):
                damaged[place] ^= 1 << int(generator.integers(8))
        else:
            del damaged[int(generator.integers(1, len(damaged))) :]
        path.write_bytes(damaged)
        try:
            recording = read(path)
            assert np.isfinite(recording.samples).all()
            put(tmp_path / "b.wav", Form(8000, 1), random(1, 10), like=path)
        except InputError as error:
            assert "\n" not in str(error)


def test_an_error_while_writing_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="mine"),
        writing(tmp_path / "a.wav", Form(8000, 1)) as writer,
    ):
        writer.write(random(1, 100))
        raise OSError("mine")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="needs a limit on the size of files")
@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3", ".caf"])
def test_a_full_disk_is_refused_and_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    import resource

    path, form, _ = stored_form(tmp_path / f"a{suffix}", Form(16000, 1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20000, hard))
    try:
        with pytest.raises(InputError, match="can't be written"):
            put(path, form, random(1, 300_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    ours = f".partial-{atomic.HOST}-{os.getpid()}-{'0' * 16}"
    gone = [f".partial-{atomic.HOST}-{dead.pid}-{'a' * 16}___", ours]
    kept = [
        f".partial-elsewhere_-{dead.pid}-{'a' * 16}",
        f".partial-{atomic.HOST}-{os.getppid()}-{'a' * 16}",
        f".partial-{atomic.HOST}-{dead.pid}-short",
        "a.wav",
    ]
    for name in gone + kept:
        (tmp_path / name).touch()
    with writing(tmp_path / "b.wav", Form(8000, 1)) as writer:
        remove_leftovers(tmp_path)
        writer.write(random(1, 100))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "b.wav"])
    remove_leftovers(tmp_path / "none")


def test_of_two_writers_of_a_new_file_the_second_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("linked", "without_links"):
        path = tmp_path / name
        with pytest.raises(InputError, match="exists"), atomic.writing(path, force=False) as late:
            late.write_text("late")
            atomic.write(path, "early", force=False)
        assert path.read_text() == "early"
        monkeypatch.setattr("os.link", refused)
    atomic.write(path, b"replaced")
    assert path.read_text() == "replaced"
    assert sorted(found.name for found in tmp_path.iterdir()) == ["linked", "without_links"]


def refused(*_: object) -> None:
    raise PermissionError("no hard links")


def test_a_writer_tidies_a_folder_up_once(tmp_path: Path) -> None:
    left = tmp_path / f".partial-{atomic.HOST}-{os.getpid()}-{'0' * 16}"
    left.touch()
    atomic.write(tmp_path / "a", "text")
    assert [found.name for found in tmp_path.iterdir()] == ["a"]
