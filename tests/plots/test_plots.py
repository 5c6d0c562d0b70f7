"""Spectrograms show the right power at the right place, of recordings of any length."""

import importlib.util
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from signal_diffusion.errors import InputError
from signal_diffusion.plots import spectrograms
from signal_diffusion.plots.spectrograms import Spectrograms, _drawn, _Spectrogram


def noise(channels: int, length: int) -> np.ndarray:
    return np.random.default_rng(9).normal(0, 0.1, (channels, length)).astype(np.float32)


def tone(frequency: float, rate: int, length: int) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(length) / rate)[None]


def powers(
    samples: np.ndarray, *, block: int = 1 << 16, hop: int = 16, pool: int = 1
) -> np.ndarray:
    """The power (columns, rows) of samples that come in blocks, by windows of 64."""
    spectrogram = _Spectrogram(64, hop, pool)
    for start in range(0, samples.shape[1], block):
        spectrogram.push(samples[:, start : start + block])
    return spectrogram.finish()


def picture(path: Path, *signals: np.ndarray, rate: int = 8000, known: bool = True) -> np.ndarray:
    """The brightness of the picture that is drawn of signals, block by block."""
    length = signals[0].shape[1]
    spectrograms = Spectrograms(
        ["before", "after"][: len(signals)], rate, length if known else None
    )
    for start in range(0, length, 1000):
        spectrograms.push(*(signal[:, start : start + 1000] for signal in signals))
    spectrograms.save(path, force=True)
    return np.asarray(Image.open(path).convert("L")).astype(int)


def test_power_is_that_of_windowed_transforms() -> None:
    samples = noise(2, 1000)
    padded = np.pad(samples.astype(np.float64), ((0, 0), (32, 64)))
    taper = np.hanning(65)[:-1]
    frames = np.stack([padded[:, start : start + 64] for start in range(0, 1000, 16)])
    spectra = np.fft.rfft(frames * taper)[..., :32] * 2 / taper.sum()
    expected = (np.abs(spectra) ** 2).mean(axis=1)
    np.testing.assert_allclose(powers(samples), expected, rtol=1e-3, atol=1e-9)
    pooled = np.stack(
        [part.mean(axis=0) for part in np.array_split(expected, [10, 20, 30, 40, 50, 60])]
    )
    np.testing.assert_allclose(powers(samples, pool=10), pooled, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("block", [1, 13, 64, 1000])
def test_power_does_not_depend_on_the_blocks(block: int) -> None:
    samples = noise(2, 1501)
    np.testing.assert_allclose(powers(samples, block=block), powers(samples), rtol=1e-4)


def test_columns_are_merged_in_pairs_where_they_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    samples = noise(1, 16 * 700)
    every = powers(samples)
    monkeypatch.setattr(spectrograms, "COLUMNS", 50)
    merged = powers(samples, block=333)
    assert len(merged) == 700 // 8 + 1
    np.testing.assert_allclose(merged[:-1], every[:696].reshape(87, 8, -1).mean(axis=1), rtol=1e-4)
    np.testing.assert_allclose(merged[-1], every[696:].mean(axis=0), rtol=1e-4)


def test_a_sine_of_full_scale_lies_at_0_db() -> None:
    level = 10 * np.log10(powers(tone(1000, 8000, 8000))[100])
    assert level.argmax() == 8
    assert level.max() == pytest.approx(0, abs=0.01)


def test_high_rates_have_bounded_rows() -> None:
    spectrogram = _Spectrogram(4096, 1024, 1)
    spectrogram.push(tone(12000, 96000, 96000))
    power = spectrogram.finish()
    assert power.shape[1] == spectrograms.ROWS
    assert power[40].argmax() == spectrograms.ROWS // 4


@pytest.mark.parametrize("known", [True, False])
def test_what_sounds_in_the_first_half_is_bright_there(tmp_path: Path, known: bool) -> None:
    length = 8000 * 20
    half = tone(3000, 8000, length) * (np.arange(length) < length // 2)
    image = picture(tmp_path / "a.png", half, 0 * half, known=known)
    assert image.shape[1] == 900
    # The line lies a quarter below the upper edge of the upper panel, which ends near x = 800.
    bright = image[60:100, 60:790].max(axis=0) > 150
    assert bright[:340].all()
    assert not bright[400:].any()
    assert image[260:400, 60:790].max() < 10


def test_blocks_of_any_size_draw_one_picture(tmp_path: Path) -> None:
    samples = noise(1, 30_000)
    images = []
    for block in (777, 30_000):
        spectrograms = Spectrograms(["before"], 16000, 30_000)
        for start in range(0, 30_000, block):
            spectrograms.push(samples[:, start : start + block])
        spectrograms.save(tmp_path / f"{block}.png")
        images.append(np.asarray(Image.open(tmp_path / f"{block}.png").convert("L")).astype(int))
    assert np.abs(images[0] - images[1]).mean() < 0.1


@pytest.mark.parametrize("rate", [1, 100, 8000, 192_000])
@pytest.mark.parametrize("length", [1, 2, 63, 1025])
@pytest.mark.parametrize("known", [True, False])
def test_short_recordings_are_drawn(tmp_path: Path, length: int, rate: int, known: bool) -> None:
    image = picture(tmp_path / "a.png", noise(1, length), rate=rate, known=known)
    assert image.shape == (260, 900)


@pytest.mark.parametrize("scale", [0, 1e-30, 1e6, 1e30, 3e38])
@pytest.mark.filterwarnings("error")
def test_silence_and_noise_of_any_level_are_drawn(tmp_path: Path, scale: float) -> None:
    samples = np.full((2, 5000), scale) * np.sign(noise(2, 5000))
    image = picture(tmp_path / "a.png", samples, samples)
    assert (image[60:180, 100:700].mean() < 5) == (scale < 1e-20)


def test_a_length_that_was_promised_wrongly_is_drawn_as_it_is(tmp_path: Path) -> None:
    for promised in (10, 10_000_000):
        spectrograms = Spectrograms(["before"], 8000, promised)
        spectrograms.push(noise(1, 40_000))
        spectrograms.save(tmp_path / f"{promised}.png")


@pytest.mark.parametrize(
    ("seconds", "rate", "labels"),
    [
        (0.01, 8000, ("time, ms", "frequency, kHz")),
        (5.0, 8000, ("time, s", "frequency, kHz")),
        (600.0, 1999, ("time, min", "frequency, Hz")),
        (10_000.0, 100, ("time, h", "frequency, Hz")),
    ],
)
def test_axes_have_units_that_fit(seconds: float, rate: int, labels: tuple[str, str]) -> None:
    power = np.ones((10, 32))
    figure = _drawn(["before", "costs $5 and \\alpha"], [power, power], rate, seconds, seconds)
    upper, lower, colours = figure.axes
    assert (lower.get_xlabel(), upper.get_ylabel()) == labels
    assert [axes.get_title(loc="left") for axes in (upper, lower)] == [
        "before",
        "costs $5 and \\alpha",
    ]
    assert colours.get_ylabel() == "level, dB of full scale"


def test_memory_does_not_grow_with_the_recording(tmp_path: Path) -> None:
    block = noise(2, 1 << 16)
    spectrograms = Spectrograms(["before", "after"], 48000)
    tracemalloc.start()
    for _ in range(60):
        spectrograms.push(block, block)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6


def test_a_missing_matplotlib_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install .*\[plot\]"):
        Spectrograms(["before"], 8000)


def test_a_picture_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with pytest.raises(InputError, match="no samples to draw"):
        Spectrograms(["before"], 8000).save(path)
    assert not list(tmp_path.iterdir())
    picture(path, noise(1, 100))
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(InputError, match="exists"):
        Spectrograms(["before"], 8000).save(path)


@pytest.mark.parametrize("name", ["a.jpg", "a", "missing/a.png"])
def test_what_cannot_be_written_is_one_line(tmp_path: Path, name: str) -> None:
    spectrograms = Spectrograms(["before"], 8000)
    spectrograms.push(noise(1, 100))
    with pytest.raises(InputError):
        spectrograms.save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_signals_come_together() -> None:
    with pytest.raises(ValueError, match="shorter"):
        Spectrograms(["before", "after"], 8000).push(noise(1, 100))
