"""Damaged and absurd files: one clear line or a sound result, never anything else."""

import io
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from builders import damaged

from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.errors import InputError
from signal_diffusion.nn.frames import CompressedSTFT
from signal_diffusion.nn.stack import DilatedStack
from signal_diffusion.schedules import BrownianBridge
from signal_diffusion.tasks.denoise_files import denoise_file

FORMS = [
    (".wav", "WAV", "PCM_16", 16000, 1),
    (".wav", "WAV", "FLOAT", 48000, 2),
    (".wav", "WAVEX", "PCM_24", 44100, 2),
    (".wav", "RF64", "PCM_32", 8000, 1),
    (".wav", "WAV", "IMA_ADPCM", 16000, 1),
    (".flac", "FLAC", "PCM_16", 16000, 1),
    (".flac", "FLAC", "PCM_24", 48000, 2),
    (".ogg", "OGG", "VORBIS", 22050, 1),
    (".opus", "OGG", "OPUS", 48000, 2),
    (".mp3", "MP3", "MPEG_LAYER_III", 44100, 2),
    (".aiff", "AIFF", "PCM_24", 11025, 1),
    (".au", "AU", "DOUBLE", 16000, 1),
    (".caf", "CAF", "PCM_16", 16000, 2),
    (".w64", "W64", "FLOAT", 16000, 1),
]
CASES_EACH = 150


@pytest.fixture(scope="module")
def denoiser() -> NetworkDenoiser:
    codec = CompressedSTFT(window=64, hop=32)
    stack = DilatedStack(66, channels=8, hidden=4, layers=2, paired=True, complex_pairs=True)
    return NetworkDenoiser(stack, BrownianBridge(), codec=codec, sample_rate=16000, level_db=-25.0)


def encoded(container: str, subtype: str, rate: int, channels: int) -> bytes:
    file = io.BytesIO()
    samples = 0.3 * np.random.default_rng(1).standard_normal((1500, channels))
    soundfile.write(file, samples.clip(-1, 1), rate, subtype, format=container)
    return file.getvalue()


def require_sound(path: Path) -> None:
    samples, _ = soundfile.read(path)
    assert np.isfinite(samples).all(), path


@pytest.mark.parametrize(
    ("suffix", "container", "subtype", "rate", "channels"), FORMS, ids=lambda v: str(v)
)
def test_damaged_files(tmp_path, denoiser, suffix, container, subtype, rate, channels) -> None:
    if not soundfile.check_format(container, subtype):
        pytest.skip(f"libsndfile is without {container} {subtype}")
    whole, rng = encoded(container, subtype, rate, channels), np.random.default_rng(rate + channels)
    came = 0
    for index in range(CASES_EACH):
        source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
        source.write_bytes(damaged(whole, rng))
        began = time.process_time()
        try:
            report = denoise_file(denoiser, source, target, force=True)
        except InputError as error:
            assert "\n" not in str(error)
        else:
            came += 1
            require_sound(Path(report.output))
            Path(report.output).unlink()
        assert time.process_time() - began < 60, f"case {index} took too long"
        assert [path.name for path in tmp_path.iterdir()] == [source.name], f"case {index}"
    # The pages of OGG have checksums: nothing damaged gets through.
    assert came < CASES_EACH and (came > 0 or container == "OGG")


SAMPLES = {
    "silence": np.zeros(2000),
    "direct current": np.full(2000, 0.9),
    "full scale": np.sign(np.sin(np.arange(2000) / 9)),
    "one impulse": np.eye(1, 2000)[0],
    "denormal": np.full(2000, 1e-41),
    "tiny": np.sin(np.arange(2000)) * 1e-30,
    "huge": np.sin(np.arange(2000)) * 1e30,
    "one sample": np.array([0.5]),
    "beyond reason": np.sin(np.arange(2000)) * 1e38,
    "not a number": np.where(np.arange(2000) == 7, np.nan, 0.1),
    "infinite": np.where(np.arange(2000) == 7, np.inf, 0.1),
}


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_extreme_samples(tmp_path, denoiser, name, rate) -> None:
    source, target = tmp_path / "in.wav", tmp_path / "out.wav"
    soundfile.write(source, SAMPLES[name], rate, "FLOAT")
    if name in ("beyond reason", "not a number", "infinite"):
        with pytest.raises(InputError, match=r"in\.wav holds"):
            denoise_file(denoiser, source, target)
        assert not target.exists()
        return
    denoise_file(denoiser, source, target)
    samples, _ = soundfile.read(target, dtype="float32")
    assert np.isfinite(samples).all() and samples.shape == SAMPLES[name].shape
    if name == "silence":
        assert not samples.any()
    np.testing.assert_allclose(samples, SAMPLES[name], atol=2e-3 * np.abs(SAMPLES[name]).max())


@pytest.mark.parametrize("rate", [1, 30, 5_000_000, 2**31 - 1])
def test_absurd_rates(tmp_path, denoiser, rate) -> None:
    source = tmp_path / "in.wav"
    soundfile.write(source, np.full(100, 0.1), rate, "PCM_16")
    with pytest.raises(InputError, match=rf"sample_rate is {rate} Hz.*it takes 1000 to 4.096e\+06"):
        denoise_file(denoiser, source, tmp_path / "out.wav")
    assert not (tmp_path / "out.wav").exists()


def test_more_channels_than_memory_is_for(tmp_path, denoiser) -> None:
    source = tmp_path / "in.wav"
    soundfile.write(source, np.full((100, 1000), 0.1), 16000, "PCM_16")
    with pytest.raises(InputError, match="1000 channels; 1 to 256 are taken"):
        denoise_file(denoiser, source, tmp_path / "out.wav")


def test_damaged_files_as_whole_processes(tmp_path, denoiser, processes) -> None:
    """Thirty files, each by its own process: exit code 0 or 2, never a traceback."""
    model = tmp_path / "model.safetensors"
    denoiser.save_pretrained(model)
    rng = np.random.default_rng(0)
    for start in range(0, 30, 5):
        running = []
        for index in range(start, start + 5):
            suffix, container, subtype, rate, channels = FORMS[index % len(FORMS)]
            source, errors = tmp_path / f"in{index}{suffix}", tmp_path / f"errors{index}"
            source.write_bytes(damaged(encoded(container, subtype, rate, channels), rng))
            line = [source, "-o", tmp_path / f"out{index}{suffix}", "--model", model]
            process = processes("denoise", *line, "--device", "cpu", errors=errors)
            running.append((process, errors))
        for process, errors in running:
            process.join(120)
            err = errors.read_text()
            assert process.exitcode in (0, 2), err
            assert "Traceback" not in err
