"""Every voice is denoised at its own level: beside, after and between louder ones."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from builders import SPEECH, Scaled

from signal_diffusion import Denoiser, DenoiseStream, denoise
from signal_diffusion.audio import read
from signal_diffusion.dsp.levels import FRAME
from signal_diffusion.metrics import si_sdr
from signal_diffusion.streaming.gain import Following
from signal_diffusion.tasks.denoise import measured_level

RATE = 16000
Way = Callable[[np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def speech() -> Denoiser:
    return Denoiser.from_pretrained("speech")


@pytest.fixture(scope="module")
def voices(samples: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A noisy voice, the clean one under it, and another voice."""
    noisy, clean = (samples / "pairs" / kind / "p287_006.flac" for kind in ("noisy", "clean"))
    return read(noisy).samples[0], read(clean).samples[0], read(SPEECH).samples[0]


def power(x: np.ndarray) -> float:
    return float(np.square(x).mean())


def below(x: np.ndarray, loud: np.ndarray, decibels: float) -> np.float32:
    """The factor that brings x so many dB below another recording."""
    return np.float32(np.sqrt(power(loud) / power(x)) * 10 ** (-decibels / 20))


def streamed(denoiser: Denoiser, x: np.ndarray, **options: float) -> np.ndarray:
    stream = DenoiseStream(denoiser, sample_rate=RATE, channels=len(np.atleast_2d(x)), **options)
    parts = [stream.push(part) for part in np.array_split(x, 7, axis=-1)]
    return np.concatenate([*parts, stream.flush()], axis=-1)


@pytest.mark.parametrize("decibels", [10, 20, 30])
def test_a_quiet_channel_is_cleaned_as_if_it_were_alone(speech, voices, decibels) -> None:
    second, _, first = voices
    length = min(first.size, second.size)
    loud, quiet = first[:length], second[:length] * below(second, first, decibels)
    both = denoise(speech, np.stack([loud, quiet]), sample_rate=RATE)
    for row, alone in zip(both, (loud, quiet), strict=True):
        wanted = denoise(speech, alone, sample_rate=RATE)
        np.testing.assert_allclose(row, wanted, atol=1e-4 * np.abs(wanted).max())
    streams = streamed(speech, np.stack([loud, quiet]))
    np.testing.assert_allclose(streams[1], streamed(speech, quiet), atol=1e-4 * np.abs(quiet).max())


@pytest.mark.parametrize(("decibels", "lost"), [(20, 1.0), (30, 2.0)])
def test_a_voice_after_a_louder_one_loses_little(speech, voices, decibels, lost) -> None:
    """A jingle before it, and two talkers that take turns."""
    noisy, clean, other = voices
    quiet = below(noisy, other, decibels)
    alone = si_sdr(denoise(speech, quiet * noisy, sample_rate=RATE), clean)
    tone = np.sin(2 * np.pi * 440 * np.arange(3 * RATE) / RATE).astype(np.float32)
    jingle = tone * np.sqrt(power(other) / power(tone)).astype(np.float32)
    for before, after in ((jingle, noisy[:0]), (other, other)):
        x = np.concatenate([before, quiet * noisy, after])
        part = slice(before.size, before.size + noisy.size)
        assert alone - si_sdr(denoise(speech, x, sample_rate=RATE)[part], clean) < lost
        assert alone - si_sdr(streamed(speech, x)[part], clean) < lost + 1.5


def test_pauses_and_clicks_change_no_gain() -> None:
    rng = np.random.default_rng(0)
    x = 0.1 * rng.standard_normal((1, 10 * RATE))
    x[:, 4 * RATE : 5 * RATE] *= 0.01
    x[:, 7 * RATE : 7 * RATE + 2 * FRAME] *= 5
    following = Following(-25.0, 1, reference_db=np.full((1, 1), -20.0))
    following.push(x, x, last=True)
    gains = following.take(x.shape[1])
    np.testing.assert_allclose(gains, 10 ** (-5 / 20))


def test_the_gain_follows_a_fainter_voice_from_its_beginning() -> None:
    rng = np.random.default_rng(0)
    x = 0.1 * rng.standard_normal((1, 12 * RATE))
    x[:, 5 * RATE :] *= 0.1
    whole = Following(-25.0, 1, reference_db=np.full((1, 1), -20.0))
    whole.push(x, x, last=True)
    gains = 20 * np.log10(whole.take(x.shape[1])[0])
    assert gains[: 5 * RATE - 2 * FRAME] == pytest.approx(-5)
    assert gains[5 * RATE + 2 * FRAME :] == pytest.approx(9, abs=1)


def test_any_cut_has_the_same_gains() -> None:
    rng = np.random.default_rng(1)
    loud = np.repeat(10 ** rng.uniform(-2, 0, 40), 8000)
    x = (loud * rng.standard_normal((2, loud.size))).astype(np.float32)
    for reference in (None, np.array([[-3.0], [-5.0]])):
        whole, cut = (Following(-25.0, 2, reference_db=reference, first=9000) for _ in range(2))
        wanted = whole.push(x, x, last=True)
        parts = [cut.push(part, part) for part in np.array_split(x, 50, axis=1)]
        parts.append(cut.push(x[:, :0], x[:, :0], last=True))
        np.testing.assert_allclose(np.concatenate(parts, axis=1), wanted, rtol=1e-6)
        np.testing.assert_allclose(cut.take(loud.size), whole.take(loud.size), rtol=1e-12)


def test_levels_of_channels_may_be_given() -> None:
    rng = np.random.default_rng(2)
    x = (rng.standard_normal((2, 30_000)) * [[0.1], [0.001]]).astype(np.float32)
    seen = []
    denoiser = Scaled(lambda y: seen.append(y.numpy()) or 0.5)
    levels = measured_level(denoiser, [x], RATE)
    assert len(levels) == 2 and levels[0] - levels[1] == pytest.approx(40, abs=1)
    denoise(denoiser, x, sample_rate=RATE, level=levels)
    assert seen[0].std() == pytest.approx(
        seen[1].std() if len(seen) > 1 else seen[0].std(), rel=0.1
    )
    with pytest.raises(ValueError, match="level has 3 values, but the recording 2 channels"):
        denoise(denoiser, x, sample_rate=RATE, level=(-20, -20, -20))
