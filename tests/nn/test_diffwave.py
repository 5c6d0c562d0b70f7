"""DiffWave as published: its mel frames, fast sampling, training loss, and the package itself."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import load
from torch import nn

from signal_diffusion import NetworkDenoiser, schedules
from signal_diffusion.data.batches import Batch
from signal_diffusion.data.sets.speech_sets import torchaudio
from signal_diffusion.errors import InputError
from signal_diffusion.nn.diffwave import DiffWave
from signal_diffusion.nn.mel import UnitMel
from signal_diffusion.noise import Noise
from signal_diffusion.tasks.diffwave_checkpoint import FAST, diffwave, rate_grid
from signal_diffusion.training.losses import AbsoluteError
from signal_diffusion.training.objectives import Held, Stepwise

SCHEDULE = schedules.DiscreteVariancePreserving()
KEPT = np.cumprod(1 - np.linspace(1e-4, 0.05, 50))


def model(*, layers: int = 3, spread: float | None = 0.1) -> NetworkDenoiser:
    """DiffWave with random weights, those that start at zero included."""
    torch.manual_seed(0)
    backbone = DiffWave(layers=layers)
    if spread is not None:
        nn.init.normal_(backbone.outward.weight, std=spread)
    return NetworkDenoiser(backbone, SCHEDULE, target="noise", sample_rate=22050).eval()


def sound(length: int = 30000) -> torch.Tensor:
    return 0.2 * torch.randn(2, length, generator=torch.Generator().manual_seed(1))


def test_mel_frames_are_those_of_torchaudio() -> None:
    """The transform that the published preprocessing names, with its settings."""
    transform = torchaudio().transforms.MelSpectrogram(
        sample_rate=22050,
        win_length=1024,
        hop_length=256,
        n_fft=1024,
        f_min=20.0,
        f_max=11025.0,
        n_mels=80,
        power=1.0,
        normalized=True,
    )
    for x in (sound(), 1e-3 * sound(), 100 * sound()):
        decibels = 20 * transform(x).clamp_min(1e-5).log10() - 20
        theirs = ((decibels + 100) / 100).clamp(0, 1)
        torch.testing.assert_close(UnitMel()(x), theirs, atol=1e-4, rtol=0)


def test_frames_within_a_piece_are_those_of_the_whole() -> None:
    whole, mel = UnitMel()(sound()), UnitMel()
    piece = sound()[:, 10 * 256 - 512 : 10 * 256 - 512 + 1024 + 20 * 256]
    torch.testing.assert_close(mel.within(piece), whole[..., 10:31], atol=1e-6, rtol=0)


def test_the_fast_grid_is_the_published_alignment() -> None:
    """Step t + u, with u where sqrt of what is kept lies between those of the steps t and t + 1."""
    steps = []
    for kept in np.sqrt(np.cumprod(1 - np.array(FAST))):
        t = int(np.flatnonzero(np.sqrt(KEPT) >= kept - 1e-15)[-1])
        steps.append(
            t + (math.sqrt(KEPT[t]) - kept) / (math.sqrt(KEPT[t]) - math.sqrt(KEPT[t + 1]))
        )
    times = rate_grid(SCHEDULE, FAST)
    np.testing.assert_allclose(times.flip(0) * 50 - 1, steps, atol=1e-9)
    alphas = SCHEDULE(times)[0].flip(0)
    np.testing.assert_allclose(alphas, np.sqrt(np.cumprod(1 - np.array(FAST))), atol=1e-12)


def test_the_training_rates_are_the_whole_grid() -> None:
    times = rate_grid(SCHEDULE, np.linspace(1e-4, 0.05, 50).tolist())
    np.testing.assert_allclose(times, np.arange(50, 0, -1) / 50, atol=1e-9)


@pytest.mark.parametrize(
    ("betas", "said"), [([], "give rates"), ([0.1, 1.0], "give rates"), ([0.9, 0.9], "lower them")]
)
def test_rates_that_cant_be_are_told(betas: list[float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        rate_grid(SCHEDULE, betas)


def test_fractional_steps_are_linear_between_whole_ones() -> None:
    embedding = DiffWave(layers=1).embedding
    seen: list[torch.Tensor] = []
    embedding.first.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    embedding(torch.tensor([8.0, 8.25, 9.0]) / 50)
    low, between, high = seen[0]
    angles = 7 * 10.0 ** (torch.arange(64) * 4 / 63)
    torch.testing.assert_close(low, torch.cat([angles.sin(), angles.cos()]), atol=2e-3, rtol=0)
    torch.testing.assert_close(between, 0.75 * low + 0.25 * high, atol=1e-4, rtol=0)


def test_the_loss_is_that_of_the_noise() -> None:
    """At random steps of the table: the mean of |z - z_hat|."""
    denoiser, generator = model(), torch.Generator().manual_seed(4)
    x = sound(512 * 4)[:, None].clamp(-1, 1)
    cond = UnitMel()(x[:, 0])[..., :8]
    terms = Stepwise(AbsoluteError()).terms(denoiser, Batch(x, x, ["", ""], cond), generator)
    generator.manual_seed(4)
    n = torch.randint(1, 51, (2, 1, 1), generator=generator)
    z = torch.randn(x.shape, generator=generator)
    kept = torch.from_numpy(KEPT).float()[n - 1]
    z_hat = denoiser.backbone(kept.sqrt() * x + (1 - kept).sqrt() * z, n.flatten() / 50, cond=cond)
    torch.testing.assert_close(terms["absolute_error"], (z - z_hat).abs().mean(), rtol=1e-4, atol=0)


def test_an_untrained_model_scores_the_noises_own_size() -> None:
    """Its estimate of the noise is 0, and E|z| = sqrt(2 / pi)."""
    denoiser = model(layers=1, spread=None)
    nn.init.zeros_(denoiser.backbone.outward.bias)  # type: ignore[union-attr, arg-type]
    x = sound(62 * 256)[:1]
    score = float(Stepwise(AbsoluteError()).score(denoiser, Held(x, x)))
    assert score == pytest.approx(-20 * math.log10(math.sqrt(2 / math.pi)), abs=0.05)


def test_sound_has_whole_hops_and_goes_by_the_seed() -> None:
    denoiser, frames, told = model(layers=2), UnitMel()(sound())[0, :, :6], []
    first = diffwave(denoiser, frames, seed=1, progress=lambda done, of: told.append((done, of)))
    assert first.shape == (6 * 256,) and np.abs(first).max() <= 1
    assert told == [(n, 6) for n in range(1, 7)]
    np.testing.assert_array_equal(first, diffwave(denoiser, frames.numpy(), seed=1))
    assert np.abs(first - diffwave(denoiser, frames, seed=2)).max() > 1e-2


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        (torch.zeros(40, 5), "takes \\(bands, frames\\)"),
        (torch.full((80, 5), -9.0), "beyond 0"),
        (torch.full((80, 5), math.nan), "beyond 0"),
    ],
)
def test_frames_of_another_kind_are_refused(frames: torch.Tensor, said: str) -> None:
    with pytest.raises(InputError, match=said):
        diffwave(model(layers=1), frames)


def test_other_models_are_refused() -> None:
    other = NetworkDenoiser(DiffWave(layers=1, mels=0), SCHEDULE, sample_rate=22050)
    with pytest.raises(InputError, match="experiment=diffwave"):
        diffwave(other, torch.zeros(80, 4))
    with pytest.raises(InputError, match="schedule=discrete_vp"):
        Stepwise(AbsoluteError()).score(
            NetworkDenoiser(DiffWave(), schedules.Cosine()), Held(sound(512), sound(512))
        )


def published(ours: DiffWave) -> nn.Module:
    """The package's network with our weights."""
    torchaudio()  # which the package imports, too
    package = pytest.importorskip("diffwave.model", reason="needs the extra 'diffwave'")
    from diffwave.params import AttrDict, params

    theirs = package.DiffWave(AttrDict({**params, "residual_layers": len(ours.blocks)}))
    assert ours.upsampler is not None
    table, frames = theirs.diffusion_embedding, theirs.spectrogram_upsampler
    pairs = [
        (ours.inward, theirs.input_projection),
        (ours.skip, theirs.skip_projection),
        (ours.outward, theirs.output_projection),
        (ours.embedding.first, table.projection1),
        (ours.embedding.second, table.projection2),
        (ours.upsampler.first, frames.conv1),
        (ours.upsampler.second, frames.conv2),
    ]
    for our, their in zip(ours.blocks, theirs.residual_layers, strict=True):
        pairs += [
            (our.dilated, their.dilated_conv),
            (our.step, their.diffusion_projection),
            (our.mel, their.conditioner_projection),
            (our.outward, their.output_projection),
        ]
    for our, their in pairs:
        their.load_state_dict(our.state_dict())
    return theirs.eval()


def test_the_packages_network_gives_the_same() -> None:
    denoiser = model(layers=30)
    theirs, frames = published(denoiser.backbone), UnitMel()(sound())[:1, :, :8]  # type: ignore
    x = torch.randn(1, 8 * 256, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        for step in (0, 23, 49, 0.5, 17.3):
            at = torch.tensor([step])
            ours = denoiser.backbone(x[:, None], (at + 1) / 50, cond=frames)
            assert ours.abs().max() > 0.1
            torch.testing.assert_close(ours, theirs(x, frames, at), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("fast", [True, False], ids=["six steps", "all steps"])
def test_the_package_makes_the_same_sound(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    denoiser, frames = model(layers=10), UnitMel()(sound())[0, :, :2]
    theirs = published(denoiser.backbone)  # type: ignore[arg-type]
    from diffwave import inference

    noise = Noise(3, rows=[(0, 0)], channels=1)
    draws = (noise(call, 0, 2 * 256)[0] for call in range(50))
    monkeypatch.setitem(inference.models, "ours", theirs)
    monkeypatch.setattr(torch, "randn", lambda *_, **__: next(draws))
    monkeypatch.setattr(torch, "randn_like", lambda *_, **__: next(draws))
    made, rate = inference.predict(frames, "ours", device=torch.device("cpu"), fast_sampling=fast)
    betas = FAST if fast else np.linspace(1e-4, 0.05, 50).tolist()
    sounds = diffwave(denoiser, frames, betas=betas, seed=3)
    assert rate == denoiser.sample_rate and 0.1 < np.median(np.abs(sounds)) < 0.9
    np.testing.assert_allclose(sounds, made[0], atol=1e-5)


def test_the_benchmark_counts_calls_and_compares_costs(repository: Path) -> None:
    recipe = load(repository / "benchmarks" / "benchmark_backbones.py")
    denoiser, calls = model(layers=1), []
    denoiser.backbone.register_forward_hook(lambda *_: calls.append(1))
    assert recipe.waved(denoiser, 0.1)() == (2205 // 256 + 1) * 256 and len(calls) == recipe.STEPS
    costs = {"DiffWave, 22.05 kHz": 8.0, "DiffWave, 16 kHz": 6.0, "vocoder, 16 kHz": 0.1}
    rows = [
        {"model": name, "parameters": 10**6, "processor_seconds_a_second": seconds}
        for name, seconds in costs.items()
    ]
    assert recipe.table(rows).splitlines()[-1].endswith("| 0.1 | 80 times | 60 times |")
