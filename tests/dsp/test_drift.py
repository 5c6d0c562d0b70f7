"""Offset and drift never reach a denoiser of sound, and nothing else is taken off."""

from pathlib import Path

import numpy as np
import pytest

from signal_diffusion import Denoiser, DenoiseStream, denoise
from signal_diffusion.audio import read
from signal_diffusion.dsp.drift import FRAME, DriftFilter


def filtered(x: np.ndarray, cuts: list[int]) -> np.ndarray:
    drift = DriftFilter(len(x))
    parts = [drift.push(part) for part in np.split(x, cuts, axis=1)]
    return np.concatenate([*parts, drift.flush()], axis=1)


def test_blocks_of_any_size_give_the_whole() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 50_000)).astype(np.float32)
    whole = filtered(x, [])
    assert whole.shape == x.shape
    np.testing.assert_array_equal(filtered(x, sorted(rng.integers(0, 50_000, 30).tolist())), whole)


@pytest.mark.parametrize("length", [1, 5, FRAME - 1, FRAME, FRAME + 1, 20_000])
def test_a_constant_is_taken_off(length: int) -> None:
    x = np.full((1, length), 0.25, np.float32)
    np.testing.assert_allclose(filtered(x, [length // 2]), 0, atol=1e-6)


@pytest.mark.parametrize(("hertz", "least"), [(8, 35), (50, 60), (80, 60), (200, 60)])
def test_what_is_heard_stays(hertz: float, least: float) -> None:
    tone = np.sin(2 * np.pi * hertz * np.arange(64_000) / 16_000)[None]
    taken = (tone - filtered(tone, []))[:, 8000:-8000]
    assert -20 * np.log10(np.sqrt(2) * taken.std()) > least


@pytest.mark.parametrize("kind", ["constant", "drifting"])
def test_an_offset_changes_no_voice(samples: Path, kind: str) -> None:
    recording = read(next((samples / "pairs" / "noisy").iterdir()))
    quiet = 0.02 * recording.samples
    offset = 0.05 * np.ones_like(quiet)
    if kind == "drifting":
        offset *= np.cos(2 * np.pi * 0.1 * np.arange(quiet.shape[1]) / 16_000).astype(np.float32)
    speech = Denoiser.from_pretrained("speech")
    wanted, made = denoise(speech, quiet), denoise(speech, quiet + offset) - offset
    error = np.square(made - wanted).sum() / np.square(wanted).sum()
    assert -10 * np.log10(error) > 30
    stream = DenoiseStream(speech, level=-60.0)
    streamed = np.concatenate(
        [*(stream.push(part) for part in np.array_split(quiet[0] + offset[0], 9)), stream.flush()]
    )
    at_once = denoise(speech, quiet + offset, level=-60.0)[0]
    np.testing.assert_allclose(streamed, at_once, atol=1e-5)
