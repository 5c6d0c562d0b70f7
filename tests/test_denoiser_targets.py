"""Every target is another way to say the same x_hat, and rescheduling says nothing new."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from torch import nn

from signal_diffusion import denoise
from signal_diffusion.calibration import Bands
from signal_diffusion.denoiser import TRAITS, Denoiser, NetworkDenoiser, RecordingTraits
from signal_diffusion.errors import InputError
from signal_diffusion.gaussian import GaussianDenoiser
from signal_diffusion.guidance import ClassifierFree, Rescheduled
from signal_diffusion.nn.frames import Identity, Patch
from signal_diffusion.nn.mel import Mel
from signal_diffusion.nn.stack import DilatedStack
from signal_diffusion.samplers import ddim, dpmpp_2m, heun
from signal_diffusion.schedules import (
    EDM,
    BrownianBridge,
    Cosine,
    DiscreteVariancePreserving,
    RectifiedFlow,
    VarianceExploding,
    VariancePreserving,
    log_snr_grid,
)
from signal_diffusion.targets import TARGETS

UNPAIRED = [
    VariancePreserving(),
    DiscreteVariancePreserving(),
    Cosine(),
    VarianceExploding(),
    EDM(),
    RectifiedFlow(),
]
SIGMA_DATA = 0.6
TIMES = torch.linspace(0.05, 0.95, 24, dtype=torch.float64).reshape(-1, 1, 1)


class Answers(nn.Module):
    """A network that knows the answer, and checks what it is asked."""

    context = (0, 0)

    @classmethod
    def to(cls, answer, question):
        network = cls()
        network.answer, network.question = answer, question
        return network

    def forward(self, x, t, y, cond):
        torch.testing.assert_close(x, self.question)
        assert t.shape == (len(x),)
        return self.answer


def velocity(schedule, t, x_0, z):
    """The derivative of x_t by central differences, which know nothing of the code's own."""
    step = 1e-6
    (high, _, loud), (low, _, quiet) = schedule(t + step), schedule(t - step)
    return ((high - low) * x_0 + (loud - quiet) * z) / (2 * step)


def answer(target, schedule, t, x_0, z):
    alpha, _, sigma = schedule(t)
    total = alpha**2 * SIGMA_DATA**2 + sigma**2
    return {
        "clean": lambda: x_0,
        "noise": lambda: z,
        "v": lambda: alpha * z - sigma * x_0,
        "score": lambda: -z / sigma,
        "flow": lambda: velocity(schedule, t, x_0, z),
        "edm": lambda: (sigma * x_0 / SIGMA_DATA - alpha * SIGMA_DATA * z) / total.sqrt(),
    }[target]()


@pytest.mark.parametrize("schedule", UNPAIRED, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("target", TARGETS)
def test_every_target_gives_the_same_estimate(schedule, target):
    generator = torch.Generator().manual_seed(0)
    x_0, z = torch.randn(2, len(TIMES), 1, 32, generator=generator, dtype=torch.float64)
    x_0 = 0.4 + SIGMA_DATA * x_0
    # away from the knots of the discrete table, where the flow has two one-sided slopes
    t = TIMES + 0.0013
    alpha, _, sigma = schedule(t)
    x_t = alpha * x_0 + sigma * z
    question = x_t / (alpha**2 * SIGMA_DATA**2 + sigma**2).sqrt()
    network = Answers.to(answer(target, schedule, t, x_0, z), question)
    denoiser = NetworkDenoiser(network, schedule, target=target, sigma_data=SIGMA_DATA)
    torch.testing.assert_close(denoiser(x_t, t), x_0, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("schedule", UNPAIRED, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("target", TARGETS)
def test_loss_weight_makes_the_error_the_networks_own(schedule, target):
    """weight (x_hat - x_0)^2 = (F - target)^2 for a network that errs by 1."""
    x_0, z = torch.tensor([0.3, -0.8]).double()[:, None, None, None].expand(2, len(TIMES), 1, 4)
    t = TIMES + 0.0013
    alpha, _, sigma = schedule(t)
    x_t = alpha * x_0 + sigma * z
    question = x_t / (alpha**2 * SIGMA_DATA**2 + sigma**2).sqrt()
    network = Answers.to(answer(target, schedule, t, x_0, z) + 1, question)
    denoiser = NetworkDenoiser(network, schedule, target=target, sigma_data=SIGMA_DATA)
    error = denoiser.loss_weight(t) * (denoiser(x_t, t) - x_0) ** 2
    torch.testing.assert_close(error, torch.ones_like(error), rtol=1e-4, atol=0)


def test_edm_on_unit_data_is_v_with_its_sign_turned():
    t = TIMES
    edm, v = (TARGETS[name](VariancePreserving(), t, 1.0) for name in ("edm", "v"))
    torch.testing.assert_close(edm[0], v[0])
    torch.testing.assert_close(edm[1], -v[1])


def test_unknown_targets_and_unclean_bridges_are_refused():
    with pytest.raises(InputError, match="choose one of clean, noise"):
        NetworkDenoiser(nn.Identity(), EDM(), target="epsilon")
    with pytest.raises(InputError, match="target='clean' only"):
        NetworkDenoiser(nn.Identity(), BrownianBridge(), target="noise")


def spectrum():
    return 0.2 + 3 * torch.exp(-torch.arange(17, dtype=torch.float64) / 4)


@pytest.mark.parametrize("grid", UNPAIRED, ids=lambda s: type(s).__name__)
def test_rescheduling_changes_nothing_for_the_oracle(grid):
    """Trained on VP, driven on another grid: the exact denoiser of that grid."""
    trained = GaussianDenoiser(VariancePreserving(), variance=spectrum(), mean=0.6)
    native = GaussianDenoiser(grid, variance=spectrum(), mean=0.6)
    driven = Rescheduled(trained, grid)
    x_t = torch.randn(len(TIMES), 1, 32, generator=torch.Generator().manual_seed(1)).double()
    torch.testing.assert_close(driven(x_t, TIMES), native(x_t, TIMES), rtol=1e-8, atol=1e-8)
    alone = driven(x_t[:1], TIMES[0, 0, 0])
    torch.testing.assert_close(alone, native(x_t[:1], TIMES[0, 0, 0]), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("sampler", [ddim, heun, dpmpp_2m])
def test_rescheduled_samplers_arrive_where_the_native_ones_do(sampler):
    native = GaussianDenoiser(EDM(), variance=spectrum())
    driven = Rescheduled(GaussianDenoiser(VariancePreserving(), variance=spectrum()), EDM())
    x = 80 * torch.randn(2, 1, 32, generator=torch.Generator().manual_seed(2)).double()
    times = log_snr_grid(EDM(), 12)
    torch.testing.assert_close(
        sampler(driven, x, times), sampler(native, x, times), rtol=1e-7, atol=1e-7
    )


def test_paired_schedules_cannot_be_exchanged():
    oracle = GaussianDenoiser(EDM(), variance=spectrum())
    with pytest.raises(InputError, match="only unpaired schedules"):
        Rescheduled(oracle, BrownianBridge())


def traits() -> RecordingTraits:
    """None of them is the default."""
    return RecordingTraits(
        sample_rate=8000,
        domain="ecg",
        level_db=-20.0,
        offset="kept",
        noise_std=0.1,
        masked=True,
        bands=Bands(width=2.0),
        codec=Patch(4),
    )


def constant(**changes: object) -> NetworkDenoiser:
    backbone = DilatedStack(4, channels=8, hidden=4, layers=1, cond_channels=4)
    given = {name: getattr(traits(), name) for name in TRAITS} | changes
    return NetworkDenoiser(backbone, RectifiedFlow(), **given)


def test_the_recording_traits_are_the_attributes_of_the_same_names() -> None:
    assert inspect.signature(NetworkDenoiser).parameters.keys() >= set(TRAITS)
    denoiser = constant()
    assert all(getattr(denoiser, n) is getattr(denoiser.recording, n) for n in TRAITS)
    assert GaussianDenoiser(EDM(), variance=spectrum()).recording.sample_rate is None
    assert isinstance(GaussianDenoiser(EDM(), variance=spectrum()).recording.codec, Identity)


@pytest.mark.parametrize(
    "wrap", [lambda d: ClassifierFree(d, 2.0), lambda d: Rescheduled(d, EDM())]
)
def test_wrappers_pass_on_all_that_a_recording_needs(wrap) -> None:
    inner = constant()
    for wrapped in (wrap(inner), wrap(wrap(inner))):
        for name in TRAITS:
            assert getattr(wrapped, name) is getattr(inner, name), name
            assert getattr(wrapped.recording, name) is getattr(inner.recording, name), name
        assert (wrapped.hop, wrapped.context(2)) == (inner.hop, inner.context(2))
        assert wrapped.kind == "denoiser"


def test_a_wrapped_denoiser_cleans_a_recording_as_the_wrapped_one() -> None:
    """Through its codec, at its rate and level, and marked where samples are missing."""
    torch.manual_seed(0)
    inner = constant(bands=None).eval()
    for parameter in inner.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    x = np.random.default_rng(0).normal(size=4000).astype(np.float32)
    missing = np.zeros(4000, bool)
    missing[100:200] = True
    options = {"sample_rate": 16000, "steps": 2, "missing": missing}
    expected = denoise(inner, x, **options)
    assert not np.allclose(expected, x)
    np.testing.assert_allclose(denoise(ClassifierFree(inner, 1.0), x, **options), expected)
    driven = denoise(Rescheduled(inner, RectifiedFlow()), x, **options)
    np.testing.assert_allclose(driven, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["denoiser", "vocoder", "generator"])
def test_the_kind_of_a_denoiser(kind: str) -> None:
    backbone = DilatedStack(1, channels=8, hidden=4, layers=1)
    options = {"vocoder": {"mel": Mel()}, "generator": {"length": 100}}.get(kind, {})
    denoiser: Denoiser = NetworkDenoiser(backbone, RectifiedFlow(), **options)
    assert denoiser.kind == ClassifierFree(denoiser, 2.0).kind == kind
