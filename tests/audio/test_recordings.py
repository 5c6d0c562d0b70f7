"""What is written is what was read; what can't be read or written ends in one line and no file."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from signal_diffusion.audio import (
    CONTAINERS,
    Form,
    Recording,
    check_output,
    opened,
    read,
    write,
    writing,
)
from signal_diffusion.data.sets.speech_sets import torchaudio
from signal_diffusion.dsp.resampling import resample
from signal_diffusion.errors import InputError
from signal_diffusion.files.atomic import failures

LOSSLESS = [
    (".wav", "PCM_U8"),
    (".wav", "PCM_16"),
    (".wav", "PCM_24"),
    (".wav", "PCM_32"),
    (".wav", "FLOAT"),
    (".flac", "PCM_S8"),
    (".flac", "PCM_16"),
    (".flac", "PCM_24"),
    (".aiff", "PCM_16"),
    (".caf", "PCM_24"),
    (".w64", "FLOAT"),
    (".rf64", "PCM_16"),
]
BITS = {"PCM_U8": 8, "PCM_S8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}


def uniform(channels: int, length: int, scale: float = 0.9) -> np.ndarray:
    generator = np.random.default_rng(7)
    return generator.uniform(-scale, scale, (channels, length)).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize(("suffix", "subtype"), LOSSLESS)
def test_round_trip_is_exact(tmp_path: Path, suffix: str, subtype: str, channels: int) -> None:
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    write(first, Recording(uniform(channels, 1237), 22050, subtype=subtype))
    once = read(first)
    write(second, once)
    twice = read(second)
    assert (once.subtype, once.sample_rate, once.samples.shape) == (
        subtype,
        22050,
        (channels, 1237),
    )
    assert (twice.container, twice.subtype) == (once.container, once.subtype)
    np.testing.assert_array_equal(twice.samples, once.samples)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24"])
def test_integers_are_rounded_not_truncated(tmp_path: Path, subtype: str) -> None:
    samples = uniform(1, 20000, scale=0.5)
    write(tmp_path / "a.wav", Recording(samples, 8000, subtype=subtype))
    errors = (read(tmp_path / "a.wav").samples - samples) * 2 ** (BITS[subtype] - 1)
    assert np.abs(errors).max() <= 0.5 + 1e-6
    assert abs(errors.mean()) < 0.02


def test_integers_are_clipped_and_floats_are_not(tmp_path: Path) -> None:
    samples = np.array([[1.5, -1.5, 1.0, -1.0]], np.float32)
    for suffix, subtype in ((".wav", "PCM_16"), (".flac", "PCM_24"), (".wav", "PCM_32")):
        write(tmp_path / f"clip{suffix}", Recording(samples, 8000, subtype=subtype), force=True)
        clipped = read(tmp_path / f"clip{suffix}").samples
        np.testing.assert_allclose(clipped, [[1, -1, 1, -1]], atol=4e-5)
    write(tmp_path / "float.wav", Recording(samples, 8000, subtype="FLOAT"))
    np.testing.assert_array_equal(read(tmp_path / "float.wav").samples, samples)


@pytest.mark.parametrize(
    ("subtype", "suffix", "kept"),
    [
        ("FLOAT", ".flac", "PCM_24"),
        ("PCM_32", ".flac", "PCM_24"),
        ("PCM_U8", ".flac", "PCM_16"),
        ("MPEG_LAYER_III", ".wav", "PCM_16"),
        ("IMA_ADPCM", ".wav", "PCM_16"),
        ("PCM_24", ".ogg", "VORBIS"),
        ("PCM_16", ".opus", "OPUS"),
        ("VORBIS", ".mp3", "MPEG_LAYER_III"),
    ],
)
def test_a_format_that_the_container_lacks_becomes_the_nearest(
    tmp_path: Path, subtype: str, suffix: str, kept: str
) -> None:
    write(tmp_path / f"a{suffix}", Recording(uniform(1, 4801), 48000, subtype=subtype))
    stored = read(tmp_path / f"a{suffix}")
    assert (stored.subtype, stored.samples.shape) == (kept, (1, 4801))


def test_variants_of_wav_are_kept(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", uniform(2, 100).T, 8000, format="WAVEX", subtype="PCM_24")
    write(tmp_path / "b.wav", read(tmp_path / "a.wav"))
    assert soundfile.info(tmp_path / "b.wav").format == "WAVEX"


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.99])
def test_a_truncated_flac_is_refused(tmp_path: Path, share: float) -> None:
    write(tmp_path / "whole.flac", Recording(uniform(1, 50000), 16000))
    content = (tmp_path / "whole.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"cut\.flac is cut short"):
        read(tmp_path / "cut.flac")


def test_a_flac_that_ends_between_frames_is_refused(tmp_path: Path) -> None:
    """The decoder sees nothing wrong there; only the header's count tells."""
    write(tmp_path / "a.flac", Recording(uniform(1, 8192), 16000))
    content = (tmp_path / "a.flac").read_bytes()
    total = int.from_bytes(content[21:26], "big") + 4096
    (tmp_path / "a.flac").write_bytes(content[:21] + total.to_bytes(5, "big") + content[26:])
    with pytest.raises(InputError, match="cut short"):
        read(tmp_path / "a.flac")


def test_a_count_that_the_decoder_does_not_reach_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older libsndfile gives what it could decode, without an error."""
    write(tmp_path / "a.wav", Recording(uniform(1, 8192), 16000))
    monkeypatch.setattr(soundfile.SoundFile, "frames", property(lambda file: 9000))
    with pytest.raises(InputError, match="promises 9000 frames, it holds 8192"):
        read(tmp_path / "a.wav")


def unreadable(folder: Path) -> dict[str, tuple[Path, str]]:
    (folder / "text.wav").write_text("this is no sound\n" * 50)
    (folder / "empty.wav").touch()
    (folder / "raw.raw").write_bytes(bytes(1000))
    write(folder / "nothing.wav", Recording(np.zeros((1, 0), np.float32), 8000))
    for name, value in (("nan", np.nan), ("inf", np.inf)):
        soundfile.write(folder / f"{name}.wav", np.array([0.0, value, 0.0]), 8000, "FLOAT")
    return {
        "missing": (folder / "missing.wav", "no such file"),
        "folder": (folder, "is a folder"),
        "text": (folder / "text.wav", "no audio file"),
        "empty": (folder / "empty.wav", r"empty \(0 bytes\)"),
        "headerless": (folder / "raw.raw", "no audio file"),
        "zero length": (folder / "nothing.wav", "no samples"),
        "nan": (folder / "nan.wav", "NaN or infinite"),
        "inf": (folder / "inf.wav", "NaN or infinite"),
    }


def test_what_is_no_recording_is_refused_in_one_line(tmp_path: Path) -> None:
    for path, message in unreadable(tmp_path).values():
        with pytest.raises(InputError, match=message) as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_pipe_with_a_name_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(InputError, match=r"is a pipe .*: use cat .*pipe.wav \| signal-diffusion"):
        read(tmp_path / "pipe.wav")


@pytest.mark.skipif(sys.platform != "linux", reason="names are Unicode there")
@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
def test_names_are_any_bytes(tmp_path: Path, suffix: str) -> None:
    source, target = (tmp_path / os.fsdecode(b"caf\xe9" + end) for end in (b"", b"2"))
    source, target = source.with_suffix(suffix), target.with_suffix(suffix)
    write(source, Recording(uniform(1, 5000), 16000))
    with opened(source) as reader, writing(target, reader.form, like=source) as writer:
        writer.write(read(source).samples)
    assert read(target).samples.shape == (1, 5000)


def test_a_file_named_as_a_pipe_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.wav", Recording(uniform(1, 100), 8000))
    (tmp_path / "a.wav").rename(tmp_path / "-")
    monkeypatch.chdir(tmp_path)
    assert read("-").samples.shape == (1, 100)


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    for error in (soundfile.SoundFileError("System error."), AssertionError()):
        full = pytest.raises(InputError, match=r"a.wav can't be written: .*disk full")
        with full, failures(tmp_path / "a.wav"):
            raise error


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("there.wav", "exists"),
        ("none/a.wav", "no folder"),
        ("a.xyz", r"use one of \.wav"),
        ("a", r"use one of \.wav"),
        ("folder.wav", "is a folder"),
        ("x" * 300 + ".wav", "can't be written"),
        ("many.flac", "FLAC can't hold PCM_16 of 9 channels"),
    ],
)
def test_what_cannot_be_written_is_refused_and_leaves_nothing(
    tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "there.wav").write_bytes(b"mine")
    (tmp_path / "folder.wav").mkdir()
    before = sorted(tmp_path.rglob("*"))
    recording = Recording(uniform(9, 100), 8000)
    for attempt, given in ((check_output, recording.form), (write, recording)):
        with pytest.raises(InputError, match=message):
            attempt(tmp_path / name, given)
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "there.wav").read_bytes() == b"mine"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="can't be written: Permission denied"):
        check_output(tmp_path / "a.wav", Form(8000, 1))


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that nobody can fill")
def test_a_folder_that_takes_no_files_is_refused() -> None:
    with pytest.raises(InputError, match="can't be written"):
        check_output("/proc/a.wav", Form(8000, 1))


def test_force_replaces_and_a_failure_midway_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, quiet = tmp_path / "a.wav", Recording(np.zeros((1, 50), np.float32), 8000)
    write(path, quiet)
    write(path, Recording(uniform(1, 60), 8000), force=True)
    assert read(path).samples.shape == (1, 60)

    def interrupted(source: object, target: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(path, quiet, force=True)
    assert read(path).samples.shape == (1, 60)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("source", [360, 8000, 11025, 16000, 44100, 48000])
@pytest.mark.parametrize("target", [8000, 16000, 22050, 48000])
@pytest.mark.parametrize("length", [1, 2, 3, 999, 4410])
def test_resampling_gives_the_exact_length(source: int, target: int, length: int) -> None:
    there = resample(uniform(2, length), source, target)
    back = resample(there, target, source)
    assert there.shape == (2, -(-length * target // source))
    assert back.shape[1] >= length
    assert there.dtype == back.dtype == np.float32


@pytest.mark.parametrize(("source", "target"), [(48000, 16000), (44100, 16000), (8000, 16000)])
def test_resampling_is_the_signal_at_other_instants(source: int, target: int) -> None:
    def bump(rate: int) -> np.ndarray:
        """A 1 kHz tone under a smooth envelope, well inside every band: no edges."""
        time = np.arange(rate) / rate
        shape = np.exp(-(((time - 0.5) / 0.05) ** 2)) * np.sin(2 * np.pi * 1000 * time + 0.3)
        return shape[None].astype(np.float32)

    np.testing.assert_allclose(resample(bump(source), source, target), bump(target), atol=2e-6)


def test_resampling_at_equal_rates_changes_nothing() -> None:
    samples = uniform(1, 100)
    assert resample(samples, 16000, 16000) is samples


def test_every_suffix_round_trips_its_length(tmp_path: Path) -> None:
    for suffix in CONTAINERS:
        write(tmp_path / f"a{suffix}", Recording(uniform(2, 4803), 48000))
        assert read(tmp_path / f"a{suffix}").samples.shape == (2, 4803), suffix


def test_torchaudio_works_beside_a_torch_without_cuda() -> None:
    import torch

    module = torchaudio()
    assert module is torchaudio()
    tone = torch.sin(2 * torch.pi * 440 * torch.arange(8000) / 16000)[None]
    halved = module.functional.resample(tone, 16000, 8000)
    expected = torch.sin(2 * torch.pi * 440 * torch.arange(4000) / 8000)[None]
    assert torch.allclose(halved[:, 50:-50], expected[:, 50:-50], atol=1e-2)
    bank = module.functional.melscale_fbanks(257, 0.0, 8000.0, 40, 16000)
    assert bank.shape == (257, 40)
    assert bool((bank.sum(dim=0) > 0).all())
