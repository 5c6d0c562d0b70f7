"""The loss of speech: nothing for the clean signal, more for what is heard, finite gradients."""

import numpy as np
import pytest
import soundfile
import torch
from builders import SPEECH

from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.metrics import listening
from signal_diffusion.nn.band_stack import BandStack
from signal_diffusion.nn.frames import CompressedSTFT
from signal_diffusion.schedules import BrownianBridge
from signal_diffusion.training.losses import Prediction
from signal_diffusion.training.speech_loss import (
    Disturbance,
    Intelligibility,
    SpeechLoss,
    power_of,
)

LENGTH = 16384


@pytest.fixture(scope="module")
def denoiser():
    backbone = BandStack(514, channels=8, hidden=8, mixed=2, layers=1, paired=True)
    return NetworkDenoiser(backbone, BrownianBridge(), codec=CompressedSTFT(), sample_rate=16000)


def voice(seed=0):
    """Harmonics that come and go, (2, 1, L)."""
    torch.manual_seed(seed)
    time = torch.arange(LENGTH) / 16000
    tones = sum(torch.sin(2 * torch.pi * 140 * n * time + n) / n for n in range(1, 30))
    return (tones * (1 + torch.sin(2 * torch.pi * 4 * time)) + 1e-3 * torch.randn(2, LENGTH))[
        :, None
    ]


def terms(denoiser, estimate, clean):
    codec = denoiser.codec
    states = codec.encode(estimate).requires_grad_(), codec.encode(clean)
    found = SpeechLoss()(Prediction(*states, clean, torch.ones(len(clean), 1, 1), denoiser))
    return states[0], found


def test_power_is_that_of_the_plain_spectrum(denoiser):
    x = voice()
    spectra = (
        codec.encode(x).unflatten(1, (2, -1))
        for codec in (denoiser.codec, CompressedSTFT(power=1.0))
    )
    squeezed, plain = spectra
    torch.testing.assert_close(
        power_of(denoiser.codec, squeezed), plain.square().sum(dim=1), atol=1e-4, rtol=1e-3
    )


def test_noise_costs_in_every_term_and_less_of_it_less(denoiser):
    clean, noise = voice(), torch.randn(2, 1, LENGTH)
    found = [terms(denoiser, clean + level * noise, clean)[1] for level in (0.0, 0.05, 0.5)]
    for name in ("magnitude", "spectrum", "waveform", "disturbance", "intelligibility"):
        none, some, much = (float(f[name].detach()) for f in found)
        assert none < some < much
    assert found[0]["magnitude"] < 1e-5 and found[0]["disturbance"] < 2e-3


@pytest.mark.parametrize("level", [0.0, 1e-6, 1.0])
def test_gradients_are_finite_down_to_silence(denoiser, level):
    for clean, estimate in ((level * voice(), level * voice(1)), (0 * voice(), level * voice())):
        state, found = terms(denoiser, estimate, clean)
        torch.stack(list(found.values())).sum().backward()
        assert bool(state.grad.isfinite().all())


def test_what_is_removed_costs_more_than_what_is_left(denoiser):
    clean = voice()
    quieter, louder = (
        float(terms(denoiser, clean * 10 ** (db / 20), clean)[1]["magnitude"].detach())
        for db in (-2, 1.75)
    )
    assert quieter > 1.2 * louder


def test_disturbance_is_nothing_where_it_is_masked():
    power = 10 ** torch.rand(3, 257, 50)
    heard = Disturbance()
    masked, silent = heard(1.02 * power, power), heard(power, power)
    torch.testing.assert_close(masked, silent)
    assert bool((heard(3 * power, power) > 0.1).all())


def test_intelligibility_follows_extended_stoi(samples):
    """Of one recording at eight qualities: in noise of two kinds, and narrow, late or clipped."""
    pytest.importorskip("pystoi")
    clean, noise = (
        torch.from_numpy(soundfile.read(path, dtype="float32")[0])
        for path in (SPEECH, samples / "noise" / "rain.flac")
    )
    clean = clean[: len(noise)]
    noise = noise[: len(clean)] * clean.std() / noise.std()
    white = torch.randn(len(clean), generator=torch.Generator().manual_seed(0)) * clean.std()
    narrow = torch.fft.rfft(clean)
    narrow[len(narrow) // 6 :] = 0
    estimates = [clean + 10 ** (-db / 20) * noise for db in (-5, 5, 15)]
    estimates += [clean + 10 ** (-db / 20) * white for db in (-5, 5, 15)]
    estimates += [torch.fft.irfft(narrow, len(clean)), clean.clamp(-0.02, 0.02)]
    estoi = [float(listening.estoi(x, clean, sample_rate=16000)) for x in estimates]
    codec = CompressedSTFT(power=1.0)
    powers = codec.encode(torch.stack([clean, *estimates])[:, None]).unflatten(1, (2, -1))
    powers = powers.square().sum(dim=1)
    term = Intelligibility()(powers[1:], powers[:1].expand(len(estimates), -1, -1))
    assert np.corrcoef(1 - term.numpy(), estoi)[0, 1] > 0.95


def test_intelligibility_ignores_gain_and_silence_and_short_clips():
    term, power = Intelligibility(), 10 ** torch.rand(2, 257, 60)
    assert float(term(4 * power, power).max()) < 1e-4
    assert bool((term(power, 0 * power) == 0).all())
    assert bool((term(power[..., :20], power[..., :20]) == 0).all())
    padded = torch.cat([power, 1e-9 * power], dim=-1)
    other = torch.cat([10 ** torch.rand(2, 257, 60), power], dim=-1)
    loud = float(term(other[..., :60], power).mean())
    assert abs(float(term(other, padded).mean()) - loud) < 0.1


def test_quiet_clips_count_as_much_as_loud_ones(denoiser):
    clean = voice()
    estimate = clean + 0.1 * torch.randn(2, 1, LENGTH, generator=torch.Generator().manual_seed(1))
    loss, t, codec = SpeechLoss(), torch.ones(2, 1, 1), denoiser.codec
    loud, quiet = (
        loss(
            Prediction(
                codec.encode(gain * estimate),
                codec.encode(gain * clean),
                gain * clean,
                t,
                denoiser=denoiser,
                noisy=gain * estimate,
            )
        )
        for gain in (1.0, 0.01)
    )
    for name, term in loud.items():
        torch.testing.assert_close(quiet[name], term, rtol=0.01, atol=1e-4)
