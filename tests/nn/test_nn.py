"""Backbones: exact receptive fields, causality, the published DiffWave. Frame transforms: exact."""

import pytest
import torch

from signal_diffusion.nn import blocks
from signal_diffusion.nn.diffwave import DiffWave
from signal_diffusion.nn.frames import CompressedSTFT, Identity, Patch
from signal_diffusion.nn.stack import DilatedStack


def randomise(module, seed=0):
    """Gives every weight a value, so that no path is cut by a zero start."""
    generator = torch.Generator().manual_seed(seed)
    for p in module.parameters():
        p.data = torch.randn(p.shape, generator=generator, dtype=p.dtype) * 0.2
    return module.double().eval()


def seen_by(network, length, *, at):
    """First and last input step that the estimate at one step depends on."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, network.state_channels, length, generator=generator, dtype=torch.float64)
    x.requires_grad_()
    network(x, torch.tensor([0.3]))[0, :, at].abs().sum().backward()
    touched = x.grad.abs().sum(dim=(0, 1)).nonzero().flatten()
    return int(touched[0]), int(touched[-1])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("layers, cycle", [(1, 1), (4, 2), (5, 3)])
def test_context_of_the_stack_is_exact(causal, layers, cycle):
    stack = DilatedStack(
        2, channels=12, hidden=8, layers=layers, dilation_cycle=cycle, causal=causal
    )
    past, future = stack.context
    assert seen_by(randomise(stack), 120, at=60) == (60 - past, 60 + future)
    assert stack.receptive_field == 1 + past + future
    assert (future == 0) == causal


def test_receptive_field_of_the_speech_stack_is_three_seconds():
    stack = DilatedStack(514, channels=16, hidden=8, paired=True, complex_pairs=True)
    assert stack.receptive_field == 1 + 2 * (3 * 31 + 1)


def test_inner_frames_keep_the_length():
    stack = DilatedStack(1, channels=12, hidden=8, layers=2, frames=Patch(4))
    x = torch.randn(2, 1, 37)
    assert stack(x, torch.tensor([0.1, 0.9])).shape == x.shape


def test_stack_starts_as_the_identity_on_its_reference():
    for options in ({}, {"complex_pairs": True}, {"frames": CompressedSTFT(window=64, hop=32)}):
        stack = DilatedStack(6, channels=12, hidden=8, layers=2, paired=True, **options)
        x, y = torch.randn(2, 2, 6, 160).unbind()
        torch.testing.assert_close(stack(x, torch.ones(2), y), y, atol=1e-4, rtol=1e-4)


def test_rows_and_frames_do_not_mix():
    stack = randomise(DilatedStack(4, channels=12, hidden=8, layers=3, complex_pairs=True))
    x, t = torch.randn(3, 4, 50, dtype=torch.float64), torch.tensor([0.1, 0.5, 0.9])
    together = stack(x, t)
    apart = torch.cat([stack(x[i : i + 1], t[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, apart)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("rows, steps", [(1, 1), (3, 5), (9, 16), (2, 17), (1, 200), (2, 333)])
@pytest.mark.parametrize("cond_steps", [None, 1, "all"])
def test_without_gradients_tiles_give_the_same(monkeypatch, causal, rows, steps, cond_steps):
    torch.manual_seed(0)
    monkeypatch.setattr(blocks, "TILE", 48)
    stack = DilatedStack(
        3, channels=12, hidden=8, layers=7, dilation_cycle=5, causal=causal, cond_channels=5
    )
    x, cond = torch.randn(rows, 3, steps).double(), None
    if cond_steps is not None:
        cond = torch.randn(rows, 5, steps if cond_steps == "all" else 1).double()
    for t in (torch.rand(rows).double(), torch.rand(1).double()):
        expected = randomise(stack)(x, t, cond=cond)
        with torch.no_grad():
            torch.testing.assert_close(stack(x, t, cond=cond), expected, atol=1e-5, rtol=1e-5)


def test_conditioner_and_time_reach_the_output():
    stack = randomise(DilatedStack(3, channels=12, hidden=8, layers=2, cond_channels=5))
    x, cond = torch.randn(1, 3, 20, dtype=torch.float64), torch.randn(1, 5, 20).double()
    base = stack(x, torch.tensor([0.2]), cond=cond)
    assert (stack(x, torch.tensor([0.3]), cond=cond) - base).abs().max() > 1e-3
    moved = cond.clone()
    moved[..., 10] += 1
    change = (stack(x, torch.tensor([0.2]), cond=moved) - base).abs().amax(dim=(0, 1))
    assert change[10] > 1e-3
    assert change[: 10 - stack.context[0]].max() == 0


def test_published_diffwave_has_its_size_and_receptive_field():
    network = DiffWave()
    assert sum(p.numel() for p in network.parameters()) == 2_619_971
    assert network.receptive_field == 6139
    mel, x = torch.randn(1, 80, 4), torch.randn(1, 1, 1024)
    start = network(x, torch.tensor([0.5]), cond=mel)
    assert torch.equal(start, network.outward.bias.expand_as(x))


def test_diffwave_context_is_exact():
    network = DiffWave(channels=4, layers=4, dilation_cycle=3, mels=0)
    network.state_channels = 1
    past, future = network.context
    assert seen_by(randomise(network), 120, at=60) == (60 - past, 60 + future)


@pytest.mark.parametrize("length", [1, 255, 256, 257, 4000])
@pytest.mark.parametrize(
    "codec",
    [Identity(), Patch(5), *(CompressedSTFT(power=p) for p in (0.3, 0.5, 1.0))],
    ids=repr,
)
def test_codecs_invert_exactly(codec, length):
    x = torch.randn(2, 1, length, generator=torch.Generator().manual_seed(length))
    x[..., length // 2 :] *= 1e-3
    state = codec.encode(x)
    assert state.shape[1] == codec.state_channels(1)
    torch.testing.assert_close(codec.decode(state, length), x, atol=3e-5, rtol=0)


def test_stft_compresses_magnitudes_and_keeps_phase():
    codec, plain = CompressedSTFT(power=0.5, floor=1e-9), CompressedSTFT(power=1.0)
    x = torch.randn(1, 1, 4096, generator=torch.Generator().manual_seed(0))
    real, imag = plain.encode(x).chunk(2, dim=1)
    inner = (real**2 + imag**2)[..., 1:-1]
    assert inner.mean().item() == pytest.approx(1.0, rel=0.05)
    squeezed = torch.complex(*codec.encode(x).chunk(2, dim=1))
    spectrum = torch.complex(real, imag)
    torch.testing.assert_close(squeezed.abs(), spectrum.abs().sqrt(), atol=1e-3, rtol=1e-3)
    assert (squeezed / spectrum).imag.abs().max() < 1e-3


@pytest.mark.parametrize("power", [0.3, 0.5])
def test_silence_has_finite_gradients_both_ways(power):
    codec = CompressedSTFT(power=power)
    x = torch.zeros(1, 1, 2048, requires_grad=True)
    codec.decode(codec.encode(x), 2048).sum().backward()
    torch.testing.assert_close(x.grad, torch.ones_like(x), atol=1e-3, rtol=0)
