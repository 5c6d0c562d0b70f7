"""The stack of shared bands: exact receptive field, causality, its start, pieces."""

import pytest
import torch
import torch.nn.functional as F

from signal_diffusion.denoiser import Denoiser, NetworkDenoiser
from signal_diffusion.errors import InputError
from signal_diffusion.model_facts import macs
from signal_diffusion.nn import band_stack
from signal_diffusion.nn.band_stack import BandStack, GatedTaps
from signal_diffusion.nn.blocks import infers
from signal_diffusion.nn.frames import CompressedSTFT
from signal_diffusion.schedules import BrownianBridge
from signal_diffusion.tasks.denoise import denoise

SMALL = dict(bands=[2, 1], widths=[2, 3], channels=12, hidden=8, mixed=2, dilation_cycle=3)


def small(**options):
    return BandStack(14, **{**SMALL, "layers": 4, **options})


def randomise(module, seed=0):
    """Gives every weight a value, so that no path is cut by a zero start."""
    generator = torch.Generator().manual_seed(seed)
    for p in module.parameters():
        p.data = torch.randn(p.shape, generator=generator, dtype=p.dtype) * 0.2
    return module.double().eval()


def states(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("layers, cycle", [(1, 1), (4, 2), (5, 3)])
def test_context_is_exact(causal, layers, cycle):
    stack = randomise(small(layers=layers, dilation_cycle=cycle, causal=causal))
    x = states(1, 14, 80).requires_grad_()
    stack(x, torch.tensor([0.3]))[0, :, 40].abs().sum().backward()
    touched = x.grad.abs().sum(dim=(0, 1)).nonzero().flatten()
    past, future = stack.context
    assert (int(touched[0]), int(touched[-1])) == (40 - past, 40 + future)
    assert stack.receptive_field == 1 + past + future
    assert (future == 0) == causal


@pytest.mark.parametrize("paired", [False, True])
def test_it_starts_as_the_identity_on_its_reference(paired):
    stack = small(paired=paired)
    x, y = torch.randn(2, 2, 14, 9).unbind()
    made = stack(x, torch.ones(2), y if paired else None)
    torch.testing.assert_close(made, y if paired else x)


def test_rows_do_not_mix_and_every_bin_counts():
    stack = randomise(small())
    x, t = states(3, 14, 20), torch.tensor([0.1, 0.5, 0.9])
    apart = torch.cat([stack(x[i : i + 1], t[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(stack(x, t), apart)
    x = x.requires_grad_()
    stack(x, t)[:, 3].abs().sum().backward()
    assert bool((x.grad.abs().sum(dim=(0, 2)) > 0).all())


def test_conditioner_starts_as_nothing_and_is_of_its_frame():
    stack = small(cond_channels=5)
    x, t, cond = states(1, 14, 20).float(), torch.tensor([0.2]), torch.randn(1, 5, 20)
    assert torch.equal(stack(x, t, cond=cond), stack(x, t))
    stack, x, cond = randomise(stack), x.double(), cond.double()
    base = stack(x, t, cond=cond)
    assert (stack(x, torch.tensor([0.3]), cond=cond) - base).abs().max() > 1e-3
    moved = cond.clone()
    moved[..., 12] += 1
    change = (stack(x, t, cond=moved) - base).abs().amax(dim=(0, 1))
    assert change[12] > 1e-3 and change[: 12 - stack.context[0]].max() == 0
    torch.testing.assert_close(stack(x, t, cond=0 * cond), stack(x, t))
    torch.testing.assert_close(
        stack(x, t, cond=cond[..., :1]), stack(x, t, cond=cond[..., :1].expand_as(cond))
    )


def test_bands_that_hold_too_little_are_refused():
    with pytest.raises(InputError, match="hold 7 bins"):
        BandStack(16, **SMALL)


@pytest.mark.parametrize("past, future", [(1, 1), (4, 0), (8, 8), (12, 0)])
def test_gated_taps_are_dilated_convolutions(past, future):
    h, weight = states(9, 3, 4).requires_grad_(), states(2, 3, 4, 5, seed=2).requires_grad_()
    padded = F.pad(h.permute(1, 2, 0), (past, future))
    value, gate = (
        F.conv1d(padded, w.permute(2, 1, 0), dilation=(past + future) // 2) for w in weight
    )
    made = GatedTaps.apply(h, weight, past, future)
    torch.testing.assert_close(made.permute(1, 2, 0), value * gate.sigmoid())
    assert torch.autograd.gradcheck(lambda *x: GatedTaps.apply(*x, past, future), (h, weight))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("rows, steps", [(1, 1), (3, 5), (9, 16), (2, 17), (1, 200)])
@pytest.mark.parametrize("cond_steps", [None, 1, "all"])
def test_without_gradients_tiles_give_the_same(monkeypatch, causal, rows, steps, cond_steps):
    """The learning path and the one of inference, in double precision, for one time and many."""
    monkeypatch.setattr(band_stack, "TILE", 48)
    options = dict(layers=7, dilation_cycle=5, causal=causal, cond_channels=5)
    stack, cond = randomise(small(paired=True, **options)), None
    x, y = states(2, rows, 14, steps)
    if cond_steps is not None:
        cond = states(rows, 5, steps if cond_steps == "all" else 1)
    for t in (torch.rand(rows).double(), torch.full((rows,), 0.5).double()):
        expected = stack(x, t, y, cond)
        before = x.clone(), y.clone()
        with torch.no_grad():
            torch.testing.assert_close(stack(x, t, y, cond), expected, atol=1e-10, rtol=1e-10)
        assert torch.equal(x, before[0]) and torch.equal(y, before[1])
    assert infers(x.detach()) is False, "with gradients, blocks don't work in place"


def test_single_precision_is_met_to_rounding():
    stack = randomise(small(channels=64, hidden=64, layers=12, dilation_cycle=5)).float()
    x, t = states(1, 14, 300).float(), torch.ones(1)
    expected = stack.double()(x.double(), t.double()).detach().float()
    stack.float()
    learnt = stack(x, t).detach()
    with torch.no_grad():
        inferred = stack(x, t)
    size = expected.abs().max()
    assert float((learnt - expected).abs().max() / size) < 1e-5
    assert float((inferred - expected).abs().max() / size) < 1e-5


@pytest.fixture(scope="module")
def model():
    """A denoiser of half a second's sight."""
    torch.manual_seed(0)
    options = {**SMALL, "bands": [4, 1], "widths": [4, 17]}
    backbone = BandStack(66, layers=5, paired=True, **options)
    for p in backbone.parameters():
        p.data = torch.randn(p.shape) * 0.2
    codec = CompressedSTFT(window=64, hop=32)
    return NetworkDenoiser(backbone, BrownianBridge(), codec=codec, sample_rate=16000, level_db=0.0)


def test_pieces_equal_the_whole(model):
    x = 0.1 * torch.randn(20000)
    whole, pieces = (denoise(model, x, sample_rate=16000, piece=size) for size in (None, 0.25))
    torch.testing.assert_close(pieces, whole, atol=1e-5, rtol=1e-4)


def test_it_is_written_and_read(model, tmp_path):
    model.save_pretrained(tmp_path / "model.safetensors")
    again = Denoiser.from_pretrained(tmp_path / "model.safetensors")
    x = 0.1 * torch.randn(4000)
    made, expected = (denoise(m, x, sample_rate=16000) for m in (again, model))
    torch.testing.assert_close(made, expected, atol=1e-2, rtol=1e-2)
    with torch.device("meta"):
        assert BandStack(14, **SMALL).place.is_meta


def test_compute_counts_every_weight_once_a_band(model):
    """At 501 frames a second, of which a dilation's taps miss those beyond the ends."""
    stack, frames = model.backbone, 501
    bands, widths = stack.bands, [w.weight.numel() for w in (*stack.inward, *stack.head)]
    edges = sum(count * width for count, width in zip(2 * bands, widths, strict=True))
    block = stack.blocks[0]
    shared = sum(m.weight.numel() for m in (block.inward, block.squeeze, block.spread))
    shared += block.dilated.numel() + block.outward.weight.numel()
    blocks = stack.layers * (sum(bands) * shared + block.across.weight.numel())
    assert macs(model) == pytest.approx(frames * (edges + blocks), rel=0.01)
