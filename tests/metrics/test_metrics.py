"""Metrics against closed forms, invariances and their packages' known ends."""

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from signal_diffusion import metrics
from signal_diffusion.errors import InputError

TORCH_METRICS = (metrics.snr, metrics.si_sdr, metrics.log_spectral_distance)


@pytest.fixture(scope="module")
def signals() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    reference = 0.6 * torch.randn(2, 8000, generator=generator, dtype=torch.float64)
    return reference + 0.2 * torch.randn(2, 8000, generator=generator).double(), reference


@pytest.fixture(scope="module")
def speech(samples: Path) -> tuple[np.ndarray, np.ndarray]:
    noisy, _ = soundfile.read(samples / "pairs" / "noisy" / "p287_006.flac")
    clean, _ = soundfile.read(samples / "pairs" / "clean" / "p287_006.flac")
    return noisy, clean


def test_snr_of_a_wrong_gain_is_the_gain_in_decibels(signals: tuple[Tensor, Tensor]) -> None:
    _, reference = signals
    expected = torch.full((2,), -20 * np.log10(0.25), dtype=torch.float64)
    torch.testing.assert_close(metrics.snr(1.25 * reference, reference), expected)


def test_si_sdr_is_a_function_of_the_correlation(signals: tuple[Tensor, Tensor]) -> None:
    for estimate, reference in zip(*signals, strict=True):
        rho = np.corrcoef(estimate.numpy(), reference.numpy())[0, 1]
        expected = 10 * np.log10(rho**2 / (1 - rho**2))
        assert metrics.si_sdr(estimate, reference).item() == pytest.approx(expected, abs=1e-9)


def test_si_sdr_ignores_gain_sign_and_offset(signals: tuple[Tensor, Tensor]) -> None:
    estimate, reference = signals
    expected = metrics.si_sdr(estimate, reference)
    torch.testing.assert_close(metrics.si_sdr(-3 * estimate + 0.7, reference - 2), expected)


def test_log_spectral_distance_of_a_gain_is_the_gain(signals: tuple[Tensor, Tensor]) -> None:
    _, reference = signals
    distance = metrics.log_spectral_distance(0.5 * reference, reference, floor_db=200)
    torch.testing.assert_close(distance, torch.full((2,), 20 * np.log10(2), dtype=torch.float64))


def test_log_spectral_distance_holds_silence_at_the_floor() -> None:
    impulse = torch.zeros(512, dtype=torch.float64)
    impulse[256] = 1.0
    silence = torch.zeros_like(impulse)
    assert metrics.log_spectral_distance(silence, silence) == 0
    for floor_db in (40.0, 80.0):
        distance = metrics.log_spectral_distance(silence, impulse, floor_db=floor_db)
        assert distance.item() == pytest.approx(floor_db, abs=1e-9)


@pytest.mark.parametrize("metric", TORCH_METRICS)
def test_batch_equals_rows_and_arrays_equal_tensors(metric, signals) -> None:
    estimate, reference = signals
    rows = [metric(e.numpy(), r.numpy()) for e, r in zip(estimate, reference, strict=True)]
    assert rows[0].shape == () and rows[0].dtype == torch.float64
    torch.testing.assert_close(metric(estimate, reference), torch.stack(rows))


@pytest.mark.parametrize("metric", TORCH_METRICS)
@pytest.mark.parametrize(
    ("estimate", "reference"),
    [
        (torch.ones(600), torch.ones(601)),
        (torch.ones(0), torch.ones(0)),
        (torch.ones(1, 1, 600), torch.ones(1, 1, 600)),
    ],
)
def test_shapes_that_do_not_fit_are_told(metric, estimate, reference) -> None:
    with pytest.raises(InputError, match=r"estimate has shape \("):
        metric(estimate, reference)


def test_a_recording_under_one_window_is_told() -> None:
    with pytest.raises(InputError, match="500 samples but window is 512"):
        metrics.log_spectral_distance(torch.ones(500), torch.ones(500))


def test_pesq_and_estoi_know_the_best_and_rank_the_rest(speech) -> None:
    pytest.importorskip("pesq")
    noisy, clean = speech
    worse = clean + 2 * (noisy - clean)
    estimates = np.stack([clean, noisy, worse])
    references = np.stack([clean] * 3)
    pesq = metrics.pesq_wb(estimates, references)
    estoi = metrics.estoi(estimates, references, sample_rate=16000)
    assert pesq[0].item() == pytest.approx(4.644, abs=1e-3)
    assert estoi[0].item() == pytest.approx(1, abs=1e-6)
    for scores in (pesq, estoi):
        assert scores.shape == (3,) and scores[0] > scores[1] > scores[2]
        assert scores.dtype == torch.float64


def test_pesq_and_estoi_tell_what_they_cannot_score(speech) -> None:
    pytest.importorskip("pesq")
    noisy, clean = speech
    with pytest.raises(InputError, match="8000 Hz but wide-band PESQ is defined at 16000 Hz"):
        metrics.pesq_wb(noisy, clean, sample_rate=8000)
    with pytest.raises(InputError, match="PESQ cannot score this recording: "):
        metrics.pesq_wb(np.zeros(8000), np.zeros(8000))
    with pytest.raises(InputError, match=r"needs 0\.4 s of speech or more"):
        metrics.estoi(noisy[:3000], clean[:3000])


@pytest.mark.parametrize(("name", "package"), [("pesq_wb", "pesq"), ("estoi", "pystoi")])
def test_a_missing_package_names_its_extra(name, package, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"{package}: pip install .*\[evaluate\]"):
        getattr(metrics, name)(torch.ones(16000), torch.ones(16000))


def test_voice_lost_is_the_level_of_the_voice_in_the_estimate() -> None:
    rng = np.random.default_rng(0)
    syllables = np.repeat(rng.uniform(0.2, 1, 16), 2000) * (np.arange(32000) % 4000 < 3000)
    voice = syllables * rng.standard_normal(32000)
    noise = np.sqrt(np.mean(voice**2)) * rng.standard_normal(32000)

    def lost(estimate: np.ndarray) -> float:
        return float(metrics.voice_lost(estimate, voice, sample_rate=16000))

    assert lost(0.5 * voice) == pytest.approx(20 * np.log10(2), abs=1e-6)
    assert lost(-voice) == pytest.approx(0, abs=1e-6) and lost(0 * voice) == 30
    # Noise is no voice, and hides none.
    assert lost(voice + noise) == pytest.approx(0, abs=0.2)
    assert lost(0.5 * voice + noise) == pytest.approx(20 * np.log10(2), abs=0.4)
    assert lost(noise) > 15
    # Half of the syllables are gone: 30 dB in half of the blocks.
    assert lost(voice * (np.arange(32000) < 16000)) == pytest.approx(15, abs=1.5)
    # What is silent in the reference is no voice.
    assert lost(voice + noise * (syllables == 0)) == pytest.approx(0, abs=0.3)
    both = metrics.voice_lost(
        np.stack([voice, 2 * voice]), voice[None].repeat(2, 0), sample_rate=16000
    )
    assert both.tolist() == pytest.approx([0, -20 * np.log10(2)], abs=1e-6)
    with pytest.raises(InputError, match="silent"):
        metrics.voice_lost(voice, 0 * voice, sample_rate=16000)
    with pytest.raises(InputError, match=r"shorter than 0\.29 s"):
        metrics.voice_lost(voice[:2000], voice[:2000], sample_rate=16000)


def test_reversed_arrays_are_signals() -> None:
    x = np.arange(1.0, 100.0)
    assert float(metrics.cosine_similarity(x[::-1], x[::-1])) == pytest.approx(1)
