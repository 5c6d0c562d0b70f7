"""Bands against closed forms: of the normal law, of the exact denoiser, and of one too sure."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
import torch
from builders import State, load, manifest

from signal_diffusion import (
    Denoiser,
    GaussianDenoiser,
    NetworkDenoiser,
    metrics,
    posterior,
    samplers,
)
from signal_diffusion.calibration import NORMAL, Bands, calibrated, spread
from signal_diffusion.errors import InputError
from signal_diffusion.files import artifact
from signal_diffusion.model_facts import model_facts
from signal_diffusion.nn.stack import DilatedStack
from signal_diffusion.plots.curves import Curves
from signal_diffusion.schedules import BrownianBridge
from signal_diffusion.streaming.settings import Settings
from signal_diffusion.tasks.denoise import measured_normal
from signal_diffusion.tasks.denoise_files import denoise_file

EXACT = Bands(width=1.0)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_crps_of_a_normal_law_is_its_integral() -> None:
    """The integral of (F(z) - [z >= x])^2 over z, by the trapezoidal rule."""
    mean, std, x = torch.tensor([0.3]), torch.tensor([1.7]), torch.tensor([2.0])
    z = torch.linspace(-15, 17, 320_001, dtype=torch.float64)
    law = torch.distributions.Normal(mean.double(), std.double()).cdf(z)
    expected = torch.trapezoid((law - (z >= x).double()).square(), z)
    found = metrics.crps_of_normal(mean, std, x)
    assert float(found) == pytest.approx(float(expected), abs=1e-4)


def test_many_draws_have_the_crps_of_their_law_and_few_are_fair() -> None:
    """Two draws have it on average if they are fair, and otherwise std / (2 sqrt(pi)) more."""
    truth, std = drawn(200_000, seed=1), 1.7
    expected = float(
        metrics.crps_of_normal(torch.zeros(200_000), torch.full((200_000,), std), truth)
    )
    for count in (2, 5):
        draws = std * drawn(count, 200_000, seed=count)
        fair, plain = (float(metrics.crps_of_draws(draws, truth, fair=f)) for f in (True, False))
        assert fair == pytest.approx(expected, rel=0.01)
        assert plain - fair == pytest.approx(std / (count * np.sqrt(np.pi)), rel=0.01)


def test_the_crps_of_draws_is_the_double_sum() -> None:
    draws, truth = drawn(2, 7, 5), drawn(2, 5, seed=9)
    pairs = (draws[:, :, None] - draws[:, None]).abs().sum((1, 2))
    near = (draws - truth[:, None]).abs().mean(1)
    for fair, over in ((True, 7 * 6), (False, 49)):
        expected = (near - pairs / (2 * over)).mean(-1)
        torch.testing.assert_close(metrics.crps_of_draws(draws, truth, fair=fair), expected)


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(InputError, match=r"draws have shape \(3, 4\) but reference \(5,\)"):
        metrics.crps_of_draws(drawn(3, 4), drawn(5))
    with pytest.raises(InputError, match="two draws or more"):
        metrics.crps_of_draws(drawn(1, 4), drawn(4))
    with pytest.raises(InputError, match=r"low \(3,\), high \(4,\)"):
        metrics.coverage(drawn(3), drawn(4), drawn(4))


@pytest.mark.parametrize("shots", [2, 3, 8, 32])
def test_a_band_of_exact_draws_holds_nine_tenths_at_any_number(shots: int) -> None:
    draws, truth = drawn(1, shots, 100_000).numpy(), drawn(1, 100_000, seed=shots)
    _, std, low, high = EXACT.around(draws)
    assert float(metrics.coverage(low, high, truth)) == pytest.approx(0.9, abs=0.004)
    np.testing.assert_allclose(high - low, 2 * NORMAL * std)
    raw = float(metrics.coverage(*spread(draws)[2:], truth))
    assert raw < (0.75 if shots <= 8 else 0.89), "quantiles of few draws lie inside the law's"


def test_bands_are_exact_where_the_variance_is_drawn_as_they_expect() -> None:
    """Variances whose inverse is of the gamma law: the predictive law is Student's t."""
    rng, weight, floor = np.random.default_rng(0), 5.0, 0.3
    std = floor / np.sqrt(rng.gamma(weight / 2, 2 / weight, (1, 200_000)))
    truth = std * rng.standard_normal((1, 200_000))
    for shots in (2, 8):
        draws = std[:, None] * rng.standard_normal((1, shots, 200_000))
        low, high = Bands(width=1.0, floor=floor, weight=weight).around(draws)[2:]
        assert float(metrics.coverage(low, high, truth)) == pytest.approx(0.9, abs=0.003)


def too_sure(rng: np.random.Generator, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Eight draws that differ half as much as they should, by levels that vary, and the truth."""
    std = np.exp(rng.standard_normal(length) - 1)
    shared = std * rng.standard_normal(length)
    return shared + 0.5 * std * rng.standard_normal((8, length)), std * rng.standard_normal(length)


def test_a_calibration_holds_for_what_it_has_not_seen() -> None:
    """At any number of draws, and with a better CRPS than the best band of constant width."""
    rng = np.random.default_rng(0)
    bands = calibrated(*too_sure(rng, 20_000))
    draws, truth = too_sure(rng, 20_000)
    assert 1.5 < bands.width < 6 and bands.weight <= 4, "the draws know where the errors are"
    for shots in (2, 4, 8):
        mean, std, low, high = bands.around(draws[None, :shots])
        assert float(metrics.coverage(low[0], high[0], truth)) == pytest.approx(0.9, abs=0.04)
        best = min(
            float(metrics.crps_of_normal(mean[0], np.full_like(truth, one), truth))
            for one in np.geomspace(0.2, 3, 20)
        )
        assert float(metrics.crps_of_normal(mean[0], std[0], truth)) < best, shots


def test_a_calibration_of_nothing_is_told() -> None:
    with pytest.raises(InputError, match=r"draws have shape \(8, 5\) but truth \(6,\)"):
        calibrated(np.zeros((8, 5)), np.zeros(6))
    with pytest.raises(InputError, match="more than one step"):
        calibrated(np.ones((8, 5)), np.zeros(5))


def oracle(length: int) -> tuple[GaussianDenoiser, torch.Tensor, torch.Tensor]:
    """The exact denoiser of coloured noise in white noise, a draw of the two, and the clean one."""
    bins = torch.linspace(0, 1, length // 2 + 1)
    variance, noise = 0.1 + 4 * torch.exp(-8 * bins), torch.full_like(bins, 0.5)
    white = torch.fft.rfft(drawn(2, length)) * torch.stack([variance, noise]).double().sqrt()
    clean, disturbance = torch.fft.irfft(white, n=length)
    exact = GaussianDenoiser(BrownianBridge(), variance=variance, noise_variance=noise)
    return exact, clean + disturbance, clean


def test_the_exact_denoiser_needs_no_calibration() -> None:
    """With steps enough; with the 16 of the default, a band of exact draws holds under 88 %."""
    exact, noisy, clean = oracle(8_000)
    for steps, least, most in ((16, 0.84, 0.88), (128, 0.89, 0.91)):
        exact.bands = replace(EXACT, steps=steps)
        band = posterior(exact, noisy, shots=8, steps=steps)
        held = float(metrics.coverage(band.low, band.high, clean))
        assert least < held < most, steps


def network(bands: Bands | None = None) -> NetworkDenoiser:
    backbone = DilatedStack(1, channels=8, hidden=4, layers=1, paired=True)
    return NetworkDenoiser(backbone, BrownianBridge(), bands=bands)


def test_the_model_file_keeps_the_bands_and_info_tells_them(tmp_path: Path) -> None:
    bands = Bands(width=1.5, floor=0.2, weight=4.0, steps=4, data="three records")
    network(bands=bands).save_pretrained(tmp_path / "with.safetensors")
    network().save_pretrained(tmp_path / "without.safetensors")
    kept = Denoiser.from_pretrained(tmp_path / "with.safetensors")
    assert kept.bands == bands
    facts = dict(model_facts(tmp_path / "with.safetensors"))
    assert facts["bands"] == "90 %, calibrated for 4 steps, on three records"
    assert Denoiser.from_pretrained(tmp_path / "without.safetensors").bands is None
    assert "bands" not in dict(model_facts(tmp_path / "without.safetensors"))


def test_shipping_keeps_the_bands(repository: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(artifact, "SHIPPED", tmp_path)
    bands = Bands(width=1.5, floor=0.2, weight=4.0, data="three records")
    network(bands=bands).save_pretrained(tmp_path / "run.safetensors")
    (tmp_path / "card.json").write_text(json.dumps({"purpose": "a test"}))
    recipe = load(repository / "recipes" / "ship_model.py")
    recipe.main(
        [str(tmp_path / "run.safetensors"), "--name", "x", "--card", str(tmp_path / "card.json")]
    )
    assert Denoiser.from_pretrained(tmp_path / "x.safetensors").bands == bands
    assert "calibrated for 16 steps, on three records" in (tmp_path / "x.md").read_text()


@pytest.mark.parametrize("name", ["width", "floor", "weight", "steps"])
def test_bands_of_a_damaged_file_are_told(name: str) -> None:
    for value in (-1.0, float("nan"), float("inf"), "wide"):
        with pytest.raises(InputError, match=f"{name} of the bands is"):
            replace(EXACT, **{name: value})


def test_the_floor_follows_units_and_strength() -> None:
    """Channels of other units have bands of these units, and half the strength half the band."""
    model = State(level_db=0.0)
    model.offset, model.bands = "kept", Bands(1.5, floor=0.5, weight=4.0, steps=2)
    noisy = drawn(1, 3000).repeat(2, 1).numpy() * np.array([[1.0], [1000.0]])
    draw = partial(posterior, shots=4, steps=2, seed=1)
    whole, half = draw(model, noisy), draw(model, noisy, strength=0.5)
    one, other = (draw(model, row) for row in noisy)
    np.testing.assert_allclose(whole.std[0], one.std, rtol=1e-6)
    np.testing.assert_allclose(1000 * one.std, other.std, rtol=1e-4)
    np.testing.assert_allclose(half.std, whole.std / 2, rtol=1e-5)
    np.testing.assert_allclose(whole.high - whole.mean, NORMAL * whole.std, rtol=1e-6)
    least = model.bands.reach(4) * np.sqrt(4 * 0.5**2 / 7) / NORMAL
    gain = measured_normal(model, [noisy], 1.0).gain
    np.testing.assert_allclose((whole.std * gain).min(axis=1), least, rtol=0.05)
    assert (whole.std * gain).min() >= least * (1 - 1e-6)


def test_silence_has_a_closed_band() -> None:
    draws = np.zeros((1, 3, 4), np.float32)
    draws[..., 2:] = np.random.default_rng(0).normal(size=(1, 3, 2))
    _, std, low, high = Bands(1.5, floor=0.5, weight=4.0).around(draws)
    assert not std[0, :2].any() and (low == high)[0, :2].all() and (low < high)[0, 2:].all()
    assert std.dtype == np.float32


def test_other_draws_than_those_calibrated_stay_as_they_are() -> None:
    model, noisy = State(), drawn(3000).numpy()
    options = ({"steps": 3}, {"steps": 2, "sampler": samplers.ddpm})
    raw = [posterior(model, noisy, shots=4, **some).high for some in options]  # type: ignore[arg-type]
    model.bands = Bands(width=2.0, steps=2)
    for some, expected in zip(options, raw, strict=True):
        found = posterior(model, noisy, shots=4, **some).high  # type: ignore[arg-type]
        np.testing.assert_array_equal(found, expected)


def test_a_file_is_told_whether_its_band_is_calibrated(tmp_path: Path) -> None:
    """And the band of a file is that of its array, in pieces or whole."""
    noisy = drawn(5000).float().numpy() / 10
    soundfile.write(tmp_path / "in.wav", noisy, 16000, "FLOAT")
    model = State(sample_rate=16000)
    for bands in (None, Bands(width=2.0, floor=0.5, weight=4.0, steps=2)):
        model.bands = bands
        denoise_file(
            model,
            tmp_path / "in.wav",
            tmp_path / "out.wav",
            uncertainty=tmp_path / "u.npz",
            settings=Settings(shots=4, steps=2, piece=0.05),
            force=True,
        )
        expected = posterior(model, noisy, shots=4, steps=2, sample_rate=16000)
        with np.load(tmp_path / "u.npz") as arrays:
            assert bool(arrays["calibrated"]) is (bands is not None)
            for name in ("std", "low", "high"):
                np.testing.assert_allclose(arrays[name][0], getattr(expected, name), atol=1e-6)


def test_the_picture_draws_the_same_band(tmp_path: Path) -> None:
    draws = drawn(1, 4, 3000).numpy()
    bands, scale = Bands(1.5, floor=0.5, weight=4.0), np.array([[0.1]])
    for one, label in ((bands, "90 % band"), (None, "5 % to 95 % of the draws")):
        curves = Curves(["a"], ["mV"], 100, 3000, bands=one, scale=scale)
        curves.push(draws[:, 0], draws)
        first, lines = curves._chosen.finish()
        expected = [x[:, first : first + lines.shape[2]] for x in spread(draws, one, scale)]
        np.testing.assert_allclose(lines[1:], np.stack(expected)[[0, 2, 3]])
        curve, *_ = curves._drawn(first, lines).axes
        assert label in [text.get_text() for text in curve.get_legend().get_texts()]


def calibrate(repository: Path) -> ModuleType:
    """The recipe, which imports two others."""
    names = ("evaluate_ecg", "evaluate_vibration", "calibrate_bands")
    return [load(repository / "benchmarks" / f"{name}.py") for name in names][-1]


def test_the_recipe_measures_each_half_by_the_other(
    repository: Path,
    tmp_path: Path,
    ecg: dict[str, np.ndarray],
) -> None:
    manifest(tmp_path, {k: np.tile(x, 8 if k in ("em", "ma") else 3) for k, x in ecg.items()})
    table = tmp_path / "manifest.csv"
    table.write_text(table.read_text().replace("234,ecg,train", "234,ecg,valid"))
    recipe = calibrate(repository)
    model = State(sample_rate=360, level_db=0.0)
    model.domain, model.offset = "ecg", "dropped"
    bands, halves, count = recipe.calibration(model, str(tmp_path), 4)
    assert [half["calibrated_on"] for half in halves] == [["234"], ["118"]]
    assert [list(half["by_shots"]["4"]["by_record"]) for half in halves] == [["118"], ["234"]]
    assert set(halves[0]["by_shots"]["2"]["by_noise"]) <= {"0 to 0.2", *GROUPS}
    both = [
        recipe.drawn(model, clip, 4) for half in recipe.ecg_halves(str(tmp_path)) for clip in half
    ]
    assert recipe.measured(bands, both, 4)["coverage"] == pytest.approx(0.9, abs=1e-3)
    assert count == len(both) and f"{count} clips of 2 held-out ecg records" in bands.data
    assert len(recipe.table(halves).splitlines()) == 2 + 2 * 3


GROUPS = ("0.2 to 0.6", "0.6 to 1", "1 to 1.5", "1.5 to 2")


def test_the_committed_bands_keep_their_bars(repository: Path) -> None:
    results = json.loads((repository / "results" / "bands.json").read_text())["ecg"]
    for half in results["halves"]:
        shots = half["by_shots"]["8"]
        assert 0.85 <= shots["coverage"] <= 0.95
        assert shots["crps"] < min(half["crps_of_constant_width"].values())
        assert not set(half["calibrated_on"]) & set(shots["by_record"])
    shipped = Denoiser.from_pretrained("ecg").bands
    if shipped is None:
        pytest.skip("the shipped ECG model has no bands yet: run benchmarks/calibrate_bands.py")
    assert asdict(shipped) == results["bands"]


def test_bands_that_do_not_hold_are_not_shipped(repository: Path) -> None:
    """Of two bearings, neither says how wide the other's band must be."""
    recipe = calibrate(repository)
    results = json.loads((repository / "results" / "bands.json").read_text())
    assert recipe.hold(results["ecg"]["halves"])
    assert not recipe.hold(results["vibration"]["halves"])
    assert Denoiser.from_pretrained("vibration").bands is None
