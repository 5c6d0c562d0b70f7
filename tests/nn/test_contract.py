"""A network of one's own works in `denoise` and in a model file, or fails at construction."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from signal_diffusion import Denoiser, NetworkDenoiser, denoise
from signal_diffusion.errors import InputError
from signal_diffusion.model_facts import model_facts
from signal_diffusion.schedules import BrownianBridge


class Smoother(nn.Module):
    """A convolution over state and observation; `whole` ones see all of a recording."""

    def __init__(self, taps: int = 9, *, whole: bool = False) -> None:
        super().__init__()
        self.taps, self.whole = taps, whole
        self.context = None if whole else (taps // 2, taps // 2)
        self.layer = nn.Conv1d(2, 1, taps, padding="same")
        self.register_buffer("seen", torch.tensor(70_000))

    def forward(self, x: Tensor, t: Tensor, y: Tensor, cond: Tensor | None) -> Tensor:
        level = y.square().mean(-1, keepdim=True).sqrt() if self.whole else 1
        return level * self.layer(torch.cat([x, y], dim=1))


@pytest.mark.parametrize("whole", [False, True])
def test_a_network_of_ones_own_denoises_and_is_stored(tmp_path: Path, whole: bool) -> None:
    torch.manual_seed(0)
    denoiser = NetworkDenoiser(Smoother(5, whole=whole), BrownianBridge(), sample_rate=8000).eval()
    x = np.random.default_rng(0).normal(size=3000).astype(np.float32)
    cleaned = denoise(denoiser, x, sample_rate=8000, piece=0.1)
    y = torch.from_numpy(x)[None, None]
    with torch.no_grad():
        np.testing.assert_allclose(cleaned, denoiser(y, torch.tensor(1.0), y)[0, 0], atol=1e-6)
    denoiser.save_pretrained(tmp_path / "m.safetensors")
    with pytest.raises(InputError, match="pass allow="):
        Denoiser.from_pretrained(tmp_path / "m.safetensors")
    own = Smoother.__module__
    loaded = Denoiser.from_pretrained(tmp_path / "m.safetensors", allow=(own,))
    np.testing.assert_allclose(denoise(loaded, x, sample_rate=8000), cleaned, atol=1e-3)
    assert loaded.backbone.seen == 70_000, "whole numbers are not rounded to float16"
    assert loaded.context() == (None if whole else (2, 2))
    assert own in sys.modules


def test_a_model_that_sees_all_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    denoiser = NetworkDenoiser(Smoother(whole=True), BrownianBridge())
    assert denoiser.receptive_field is None
    monkeypatch.setattr(Denoiser, "from_pretrained", lambda _: denoiser)
    assert ("receptive field", "the whole recording") in model_facts("speech")


class NoContext(Smoother):
    def __init__(self) -> None:
        super().__init__()
        del self.context


class NotKept(Smoother):
    def __init__(self, width: int) -> None:
        super().__init__()


class Kept(Smoother):
    def __init__(self, layer: object) -> None:
        super().__init__()
        self.kept = layer


class OtherForward(Smoother):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:  # type: ignore[override]
        return x


def of_context(context: object) -> nn.Module:
    network = Smoother()
    network.context = context  # type: ignore[assignment]
    return network


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (NoContext, r"NoContext has no attribute context .* set self\.context = \(past, future\)"),
        (lambda: of_context(3), "context of two whole numbers"),
        (lambda: of_context((1.5, 2)), "context of two whole numbers"),
        (lambda: NotKept(3), r"NotKept has no attribute 'width', .* set self\.width = width"),
        (lambda: Kept("x"), "a Conv1d can't be stored in a model file"),
        (OtherForward, r"forward of OtherForward must take \(x, t, y, cond\)"),
        (lambda: 3, "backbone is a int; pass a torch.nn.Module"),
    ],
)
def test_what_is_missing_is_said_at_construction(network, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        NetworkDenoiser(network(), BrownianBridge())
    assert "\n" not in str(caught.value)


def test_a_class_of_a_function_is_not_stored(tmp_path: Path) -> None:
    class Local(Smoother):
        pass

    with pytest.raises(InputError, match="Local is defined in a function: define it in a module"):
        NetworkDenoiser(Local(), BrownianBridge()).save_pretrained(tmp_path / "m")
    assert not list(tmp_path.iterdir())
