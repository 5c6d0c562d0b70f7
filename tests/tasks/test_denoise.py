"""The denoise task changes nothing but what the denoiser changes."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import Pointwise, State
from torch import Tensor

from signal_diffusion import (
    DenoiseStream,
    GaussianDenoiser,
    denoise,
    denoise_blocks,
    metrics,
    posterior,
    samplers,
)
from signal_diffusion.audio import read
from signal_diffusion.denoiser import Denoiser, NetworkDenoiser
from signal_diffusion.errors import InputError
from signal_diffusion.files import artifact
from signal_diffusion.nn.frames import CompressedSTFT, FrameTransform, Patch
from signal_diffusion.nn.stack import DilatedStack
from signal_diffusion.schedules import (
    BrownianBridge,
    OrnsteinUhlenbeck,
    VariancePreserving,
)
from signal_diffusion.streaming.settings import Settings


def bent(y: Tensor) -> Tensor:
    """An odd function that treats levels differently."""
    return y.abs().sqrt() * y


def recording(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


def network(codec: FrameTransform | None = None) -> NetworkDenoiser:
    """Untrained, which is the identity: the head's gain starts at 1 and its residual at 0."""
    channels = 1 if codec is None else codec.state_channels(1)
    pairs = codec is not None and codec.complex_pairs
    backbone = DilatedStack(
        channels, channels=8, hidden=4, layers=2, paired=True, complex_pairs=pairs
    )
    return NetworkDenoiser(
        backbone, BrownianBridge(), codec=codec, sample_rate=16000, level_db=-25.0
    )


def test_one_step_is_the_wiener_filter() -> None:
    length = 400
    frequency = torch.linspace(0, 1, length // 2 + 1)
    variance, noise_variance = 0.3 / (0.1 + frequency**2), 0.2 + frequency
    oracle = GaussianDenoiser(BrownianBridge(), variance=variance, noise_variance=noise_variance)
    y = recording(2, length)
    wiener = (variance / (variance + noise_variance)).numpy()
    expected = np.fft.irfft(wiener * np.fft.rfft(y), n=length)
    np.testing.assert_allclose(denoise(oracle, y), expected, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 0.5, 1e6, 1e30])
def test_the_scale_of_a_recording_passes_through(scale: float) -> None:
    denoiser, signal = Pointwise(bent, level_db=-25.0), recording(2, 4000)
    plain = denoise(denoiser, signal)
    scaled = denoise(denoiser, signal * np.float32(scale))
    np.testing.assert_allclose(scaled / np.float32(scale), plain, rtol=1e-4, atol=1e-7)
    assert not np.allclose(plain, signal, rtol=0.1)


def test_the_denoiser_sees_the_level_that_it_was_trained_at() -> None:
    seen = []
    tone = 0.01 * np.sin(np.arange(4000) / 5).astype(np.float32)
    denoiser = Pointwise(lambda y: seen.append(y) or y, level_db=-25.0)
    denoise(denoiser, np.stack([tone, tone / 10]), piece=8000.0)
    power = seen[0][:, 0].square().mean(dim=-1)
    assert 10 * power[0].log10() == pytest.approx(-25, abs=0.1)
    assert power[1] == pytest.approx(power[0]), "each channel has its own level"


def test_a_few_words_in_long_silence_are_not_blown_up() -> None:
    seen = []
    signal = np.zeros(160000, np.float32)
    signal[80000:81000] = recording(1000) / 10
    denoise(Pointwise(lambda y: seen.append(y) or y, level_db=-25.0), signal)
    assert 1 < seen[0].abs().max() < 10


def test_channels_are_cleaned_each_on_its_own() -> None:
    signal = recording(3, 2000)
    together = denoise(network(CompressedSTFT()), signal)
    for channel, cleaned in zip(signal, together, strict=True):
        alone = denoise(Pointwise(lambda y: y), channel)
        np.testing.assert_allclose(cleaned, alone, atol=1e-3)
    fresh = denoise(State(), signal, steps=4, sampler=samplers.few_step)
    noise = fresh - signal
    assert np.abs(np.corrcoef(noise) - np.eye(3)).max() < 0.1, "own noise in every channel"


@pytest.mark.parametrize("length", [1, 2, 255, 256, 257, 511, 512, 513, 1000])
def test_any_length_works_and_is_kept(length: int) -> None:
    signal = recording(length)
    cleaned = denoise(network(CompressedSTFT()), signal)
    assert cleaned.shape == signal.shape
    np.testing.assert_allclose(cleaned, signal, atol=2e-3)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100, 48000])
@pytest.mark.parametrize("length", [1, 7, 12345])
def test_any_rate_and_length_come_back(rate: int, length: int) -> None:
    signal = recording(2, length) if length > 1 else recording(1, 1)
    cleaned = denoise(Pointwise(sample_rate=16000), signal, sample_rate=rate)
    assert cleaned.shape == signal.shape


@pytest.mark.parametrize("rate", [11025, 16000, 44100, 48000])
def test_there_is_no_delay(rate: int) -> None:
    time = np.arange(rate + 1) / rate
    signal = np.exp(-(((time - 0.5) / 0.05) ** 2)) * np.sin(2 * np.pi * 1000 * time)
    cleaned = denoise(Pointwise(sample_rate=16000), signal, sample_rate=rate)
    np.testing.assert_allclose(cleaned, signal, atol=5e-6)


def test_silence_stays_silent() -> None:
    hissing = Pointwise(lambda y: y + 0.1, level_db=-25.0)
    assert not denoise(hissing, np.zeros(5000, np.float32)).any()
    half = np.stack([recording(5000), np.zeros(5000, np.float32)])
    cleaned = denoise(hissing, half)
    assert cleaned[0].any()
    assert not cleaned[1].any()
    assert not denoise(network(CompressedSTFT()), np.zeros((2, 5000))).any()


@pytest.mark.parametrize(
    "signal",
    [
        recording(300),
        recording(2, 300).astype(np.float64),
        recording(300).astype(np.float16),
        np.asfortranarray(recording(2, 300)),
        recording(2, 600)[:, ::-2],
        torch.from_numpy(recording(300)).requires_grad_(),
        torch.from_numpy(recording(2, 300)).double(),
        torch.from_numpy(recording(300)).bfloat16(),
    ],
    ids=lambda s: f"{type(s).__name__}-{s.dtype}-{s.ndim}",
)
def test_what_comes_back_is_of_the_kind_that_came(signal: np.ndarray | Tensor) -> None:
    before = signal.clone() if isinstance(signal, Tensor) else signal.copy()
    cleaned = denoise(Pointwise(), signal)
    assert type(cleaned) is type(signal)
    assert (cleaned.dtype, cleaned.shape) == (signal.dtype, signal.shape)
    assert (cleaned == signal).all()
    assert (before == signal).all()


def test_a_denoiser_that_works_in_place_leaves_the_signal_alone() -> None:
    signal = recording(100)
    before = signal.copy()
    assert not denoise(Pointwise(lambda y: y.zero_()), signal).any()
    np.testing.assert_array_equal(signal, before)


def test_a_seed_names_the_result() -> None:
    signal = recording(2, 500)
    draws = [
        denoise(State(schedule=OrnsteinUhlenbeck()), signal, steps=3, seed=seed)
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert np.abs(draws[0] - draws[2]).max() > 0.01


def test_samplers_converge_on_the_same_law() -> None:
    """With the exact denoiser the mean over seeds is E[x_0 | y], whatever the steps."""
    flat = torch.ones(33)
    oracle = GaussianDenoiser(BrownianBridge(scale=0.5), variance=flat, noise_variance=flat)
    y = np.ones((64, 64), np.float32)
    for sampler in (samplers.ddim, samplers.ddpm, samplers.few_step, samplers.dpmpp_2m):
        assert denoise(oracle, y, steps=8, sampler=sampler).mean() == pytest.approx(0.5, abs=0.03)


def test_progress_counts_the_calls() -> None:
    for sampler, calls in ((samplers.ddim, 4), (samplers.heun, 6)):
        told: list[tuple[int, int]] = []
        denoise(
            Pointwise(),
            recording(100),
            steps=4,
            sampler=sampler,
            progress=lambda done, total, told=told: told.append((done, total)),
        )
        assert told == [(n, calls) for n in range(1, calls + 1)]


@pytest.mark.parametrize(
    ("signal", "options", "message"),
    [
        (recording(16000, 2), {}, r"\(16000, 2\), like \(frames, channels\): pass signal.T"),
        (recording(2, 3, 4, 5), {}, r"pass \(L,\) or \(C, L\)"),
        (recording(0), {}, "none of them 0"),
        (recording(1, 0), {}, "none of them 0"),
        (np.float32(1), {}, "float32"),
        (np.array([1, 2], np.int16), {}, "int16; pass floats"),
        (torch.ones(9, dtype=torch.int64), {}, "int64; pass floats"),
        (np.ones(9, np.complex64), {}, "complex64; pass floats"),
        ([0.0, 1.0], {}, "is a list"),
        (np.array([0, np.nan, 0]), {}, "NaN"),
        (torch.tensor([0, np.inf, 0]), {}, "NaN, infinite"),
        (recording(9), {"steps": 0}, "steps is 0"),
        (recording(9), {"steps": 1.5}, "steps is 1.5"),
        (recording(9), {"seed": -1}, "seed is -1"),
        (recording(9), {"sample_rate": 0}, "sample_rate is 0 Hz"),
        (recording(9), {"sample_rate": float("nan")}, "sample_rate is nan Hz"),
    ],
)
def test_mistakes_are_told_in_one_line(signal: object, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        denoise(Pointwise(), signal, **options)
    assert "\n" not in str(caught.value)


def test_a_process_without_an_observation_is_refused() -> None:
    with pytest.raises(InputError, match="VariancePreserving"):
        denoise(Pointwise(schedule=VariancePreserving()), recording(9))


@pytest.mark.skipif("speech" not in artifact.shipped(), reason="the speech model is not shipped")
def test_the_shipped_model_cleans_real_speech(samples) -> None:
    """A real noisy recording, and held-out voices in held-out noises at 5 dB."""
    pytest.importorskip("pesq")
    pair = [
        read(samples / "pairs" / kind / "p287_006.flac").samples[0] for kind in ("noisy", "clean")
    ]
    cases = [tuple(pair)]
    for voice in sorted((samples / "clean").rglob("*.flac")):
        clean = read(voice).samples[0]
        for source in sorted((samples / "noise").glob("*.flac")):
            noise = np.resize(read(source).samples[0], len(clean))
            gain = np.sqrt(np.mean(clean**2) / np.mean(noise**2)) * 10 ** (-5 / 20)
            cases.append((clean + gain * noise, clean))
    denoiser, gains = Denoiser.from_pretrained("speech"), []
    for noisy, clean in cases:
        cleaned = denoise(denoiser, noisy.astype(np.float32), sample_rate=16000)
        gains.append(
            [
                float(metric(cleaned, clean) - metric(noisy, clean))
                for metric in (metrics.si_sdr, metrics.pesq_wb)
            ]
        )
    si_sdr_gains, pesq_gains = np.transpose(gains)
    assert min(si_sdr_gains) > 2.5 and np.mean(si_sdr_gains) > 4.5, gains
    assert min(pesq_gains) > 0.1 and np.mean(pesq_gains) > 0.35, gains


@pytest.mark.parametrize("length", [1, 4000, 40_001])
@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("sampler", [samplers.ddim, samplers.ddpm, samplers.heun])
@pytest.mark.parametrize("where", ["outside", "inside", "patches"])
def test_pieces_equal_the_whole(length, steps, sampler, where):
    torch.manual_seed(0)
    frames = {"inside": CompressedSTFT(window=64, hop=32), "patches": Patch(4)}.get(where)
    codec = CompressedSTFT(window=64, hop=32) if where == "outside" else None
    stack = DilatedStack(
        66 if codec else 1,
        channels=16,
        hidden=8,
        layers=3,
        dilation_cycle=3,
        paired=True,
        complex_pairs=codec is not None,
        frames=frames,
    )
    for p in stack.parameters():
        torch.nn.init.normal_(p, std=0.3)
    denoiser = NetworkDenoiser(stack, BrownianBridge(), codec=codec, level_db=0.0)
    y = torch.randn(2, length)
    told = []
    whole = denoise(denoiser, y, steps=steps, sampler=sampler)
    pieces = denoise(
        denoiser,
        y,
        steps=steps,
        sampler=sampler,
        piece=1000.0,
        progress=lambda *done: told.append(done),
    )
    torch.testing.assert_close(pieces, whole, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(whole, y, atol=1e-2)
    assert told[-1][0] == told[-1][1] >= steps
    if length > 40_000:
        assert told[-1][1] >= 2 * steps, "one piece only: nothing was tested"


def test_an_estimate_that_is_not_finite_is_an_error() -> None:
    """Whole, in blocks and in a stream, as of a model whose training diverged."""
    diverged, x = network(), recording(2, 4000)
    next(diverged.parameters()).data[0] = torch.nan
    with pytest.raises(InputError, match="the model's estimate holds 8000 NaN"):
        denoise(diverged, x, sample_rate=16000)
    with pytest.raises(InputError, match="the model's estimate holds"):
        list(denoise_blocks(diverged, [x], sample_rate=16000))
    stream = DenoiseStream(diverged, channels=2, sample_rate=16000)
    with pytest.raises(InputError, match="the model's estimate holds"):
        (stream.push(x), stream.flush())


def test_a_batch_is_each_recording_on_its_own() -> None:
    """With a level of its own: in one with the others, a faint one would be lost."""
    denoiser = Pointwise(bent, level_db=-25.0)
    batch = recording(3, 2, 4000) * np.float32([1.0, 1e-3, 30.0])[:, None, None]
    missing = np.random.default_rng(0).random(batch.shape) < 0.1
    seen: list[tuple[int, int]] = []
    cleaned = denoise(denoiser, batch, missing=missing, progress=lambda *done: seen.append(done))
    alone = [denoise(denoiser, x, missing=gaps) for x, gaps in zip(batch, missing, strict=True)]
    np.testing.assert_array_equal(cleaned, np.stack(alone))
    assert seen[-1][0] == seen[-1][1]
    turned = denoise(denoiser, torch.from_numpy(batch), missing=missing)
    np.testing.assert_array_equal(turned.numpy(), cleaned)
    drawn = posterior(denoiser, batch, shots=2, steps=2)
    np.testing.assert_array_equal(drawn.low[1], posterior(denoiser, batch[1], shots=2, steps=2).low)
    with pytest.raises(InputError, match=r"or a batch of them, \(B, C, L\)"):
        denoise(denoiser, batch[:0])


def test_a_model_and_a_sampler_go_by_their_names(tmp_path: Path) -> None:
    network().save_pretrained(tmp_path / "m")
    x, own = recording(2000), Denoiser.from_pretrained(tmp_path / "m")
    options = {"sample_rate": 16000, "steps": 3}
    expected = denoise(own, x, sampler=samplers.heun, **options)
    np.testing.assert_array_equal(denoise(tmp_path / "m", x, sampler="heun", **options), expected)
    assert Settings(sampler="heun").sampler is samplers.heun
    stream = DenoiseStream(str(tmp_path / "m"), sample_rate=16000)
    assert stream.push(x).size + stream.flush().size == 2000
    for wrong, message in (("speach", "no model 'speach'"), (own.backbone, "is a DilatedStack")):
        with pytest.raises(InputError, match=message):
            denoise(wrong, x, sample_rate=16000)
    with pytest.raises(InputError, match="sampler is 'huen'; choose one of ddim"):
        denoise(own, x, sampler="huen")


def test_a_rate_that_is_not_given_is_said_once_where_the_model_has_one() -> None:
    x, pointwise = recording(2000), Pointwise(bent)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            denoise(network(), x)
    assert [str(w.message) for w in caught] == [
        "sample_rate is not given: the signal is taken to be at the model's 16000 Hz"
    ]
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        denoise(pointwise, x)


@pytest.mark.parametrize("change", ["half", "bfloat16", "double"])
def test_other_precisions_are_refused_where_they_are_asked_for(change: str) -> None:
    denoiser = network()
    with pytest.raises(InputError, match="works in float32, not"):
        getattr(denoiser, change)()
    with pytest.raises(InputError, match=r"use torch\.autocast"):
        torch.nn.ModuleList([denoiser]).half()
    assert {p.dtype for p in denoiser.parameters()} == {torch.float32}
    with torch.autocast("cpu", torch.bfloat16):
        assert np.isfinite(denoise(denoiser, recording(2000), sample_rate=16000)).all()
