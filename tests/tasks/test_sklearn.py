"""The transformer keeps scikit-learn's rules, and does what `denoise` does."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import signal_diffusion
from signal_diffusion import SignalDenoiser, denoise
from signal_diffusion.denoiser import Denoiser
from signal_diffusion.errors import InputError


def rows(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=shape)


@pytest.fixture(scope="module")
def ecg() -> Denoiser:
    return Denoiser.from_pretrained("ecg")


@pytest.fixture(scope="module")
def fitted(ecg: Denoiser) -> SignalDenoiser:
    return SignalDenoiser(ecg, sample_rate=250).fit(rows(2, 700))


@parametrize_with_checks([SignalDenoiser()])
def test_it_keeps_the_rules(estimator: Any, check: Any) -> None:
    check(estimator)


def test_each_row_is_denoised_on_its_own(fitted: SignalDenoiser, ecg: Denoiser) -> None:
    some = rows(3, 700)
    alone = [denoise(ecg, row, sample_rate=250) for row in some]
    np.testing.assert_array_equal(fitted.transform(some), alone)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_with_channels_keep_shape_and_dtype(
    fitted: SignalDenoiser, ecg: Denoiser, dtype: type
) -> None:
    some = rows(3, 2, 700).astype(dtype)
    cleaned = fitted.transform(some)
    assert (cleaned.shape, cleaned.dtype) == (some.shape, some.dtype)
    np.testing.assert_array_equal(cleaned[1], denoise(ecg, some[1], sample_rate=250))


def test_options_are_those_of_denoise(fitted: SignalDenoiser, ecg: Denoiser) -> None:
    some = rows(2, 700)
    options = {"steps": np.int64(2), "strength": np.float64(0.5), "seed": 7}
    other = clone(fitted).set_params(**options).fit(some)
    expected = denoise(ecg, some[1], sample_rate=250, steps=2, strength=0.5, seed=7)
    np.testing.assert_array_equal(other.transform(some)[1], expected)
    assert {**other.get_params(), "model": "ecg"} == {
        "model": "ecg",
        "sample_rate": 250,
        "noise_std": None,
        **options,
    }


@pytest.mark.parametrize("shape", [(2, 700), (2, 3, 700)])
def test_gaps_are_filled(fitted: SignalDenoiser, ecg: Denoiser, shape: tuple[int, ...]) -> None:
    some = rows(*shape)
    some[1, ..., 100:130] = np.nan
    cleaned = fitted.transform(some)
    assert np.isfinite(cleaned).all()
    expected = denoise(ecg, some[1], sample_rate=250, missing=np.isnan(some[1]))
    np.testing.assert_array_equal(cleaned[1], expected)
    np.testing.assert_array_equal(cleaned[0], denoise(ecg, some[0], sample_rate=250))


def test_the_noise_of_unpaired_models_may_be_given() -> None:
    from signal_diffusion import GaussianDenoiser, schedules

    flat = torch.ones(51)
    wiener = GaussianDenoiser(schedules.EDM(), variance=flat)
    some = rows(2, 100)
    cleaned = SignalDenoiser(wiener, noise_std=1.0).fit_transform(some)
    np.testing.assert_allclose(cleaned, some / 2, atol=1e-5)


def test_infinite_numbers_are_refused(fitted: SignalDenoiser) -> None:
    some = rows(2, 700)
    some[0, 3] = np.inf
    with pytest.raises(ValueError, match="infinity"):
        fitted.transform(some)


def test_it_is_a_step_of_a_pipeline(fitted: SignalDenoiser) -> None:
    some = rows(2, 700)
    pipeline = make_pipeline(
        FunctionTransformer(np.negative), SignalDenoiser(sample_rate=250), StandardScaler()
    )
    cleaned = clone(pipeline).fit_transform(some)
    np.testing.assert_allclose(
        cleaned, StandardScaler().fit_transform(fitted.transform(-some)), atol=1e-9
    )


def test_it_is_pickled_with_its_model(fitted: SignalDenoiser) -> None:
    some = rows(2, 700)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.transform(some), fitted.transform(some))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"model": "nothing"}, "no model 'nothing'"),
        ({"sample_rate": -1}, "sample_rate is -1 Hz"),
        ({"sample_rate": 1e9}, "this model is for 360 Hz"),
        ({"steps": 0}, "steps is 0"),
        ({"strength": 2}, "strength is 2"),
        ({"seed": 0.5}, "seed is 0.5"),
    ],
)
def test_what_cannot_be_is_one_line(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        SignalDenoiser(**options).fit(rows(2, 700))


def test_a_path_is_a_model(ecg: Denoiser, tmp_path: Path) -> None:
    ecg.save_pretrained(tmp_path / "model.safetensors")
    assert SignalDenoiser(tmp_path).fit(rows(2, 700)).denoiser_.domain == "ecg"


@pytest.mark.parametrize("shape", [(2, 699), (2, 2, 699), (700,), (1, 1, 1, 700), (0, 700)])
def test_rows_of_another_shape_are_refused(fitted: SignalDenoiser, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError):
        fitted.transform(rows(*shape))


def test_without_fit_there_is_no_transform() -> None:
    with pytest.raises(NotFittedError):
        SignalDenoiser().transform(rows(2, 700))


def test_the_package_offers_it_but_not_to_star_imports() -> None:
    assert "SignalDenoiser" in dir(signal_diffusion)
    assert "SignalDenoiser" not in signal_diffusion.__all__
