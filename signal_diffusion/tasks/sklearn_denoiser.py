"""A denoiser as a transformer of scikit-learn, for pipelines over rows of equal length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from signal_diffusion.denoiser import Denoiser, denoiser_of
from signal_diffusion.dsp import Array
from signal_diffusion.streaming.settings import Settings, model_or_given_rate
from signal_diffusion.tasks.denoise import denoise


class SignalDenoiser(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Denoises every row of an array on its own, as a step of a scikit-learn pipeline.

    Nothing is learnt from the rows: `fit` loads the model and remembers how long they are. NaN are
    gaps, which are filled.

    Args:
        model: a shipped name such as "ecg", the path of a model file, or a `Denoiser`.
        sample_rate: of the rows in Hz; None means the model's own, with a warning.
        steps, noise_std, strength, seed: see `denoise`.

    Attributes:
        denoiser_: the model.
        n_features_in_: samples of a row.

    >>> import numpy as np
    >>> rows = np.random.default_rng(0).normal(size=(3, 1800))
    >>> SignalDenoiser("ecg", sample_rate=360).fit_transform(rows).shape
    (3, 1800)
    """

    def __init__(
        self,
        model: str | Path | Denoiser = "ecg",
        *,
        sample_rate: float | None = None,
        steps: int = 1,
        noise_std: float | None = None,
        strength: float = 1.0,
        seed: int = 0,
    ) -> None:
        self.model = model
        self.sample_rate = sample_rate
        self.steps = steps
        self.noise_std = noise_std
        self.strength = strength
        self.seed = seed

    def fit(self, X: Any, y: object = None) -> SignalDenoiser:
        """Load the model, for rows (n, L) or (n, C, L).

        Raises:
            InputError: there is no such model, or an option can't be used.
            ValueError: X is no array of numbers, or holds infinite ones.
        """
        self._rows(X, reset=True)
        denoiser = denoiser_of(self.model)
        self._rate = model_or_given_rate(denoiser, self.sample_rate)
        Settings(**self._options())
        self.denoiser_: Denoiser = denoiser
        return self

    def transform(self, X: Any) -> Array:
        """Rows (n, L) or (n, C, L), denoised: float32 if they were, and else float64.

        Raises:
            InputError: a row can't be used.
            ValueError: the rows have another length than those of `fit`, or hold infinite numbers.
        """
        check_is_fitted(self, "denoiser_")
        rows = self._rows(X, reset=False)
        return np.stack([self._denoised(row) for row in rows])

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def _denoised(self, row: Array) -> Array:
        gaps = np.isnan(row)
        missing = gaps if gaps.any() else None
        options = self._options()
        return denoise(self.denoiser_, row, sample_rate=self._rate, missing=missing, **options)

    def _rows(self, X: Any, *, reset: bool) -> Array:
        """X as floats, once it is known to be sound."""
        length = X.shape[2] if getattr(X, "ndim", 2) == 3 else None
        flat = X if length is None else X.reshape(-1, length)
        kinds = [np.float64, np.float32]
        checked = validate_data(self, flat, reset=reset, dtype=kinds, ensure_all_finite="allow-nan")
        return checked if length is None else checked.reshape(X.shape)

    def _options(self) -> dict[str, Any]:
        """How to denoise, in Python's own numbers: searches over grids hand in numpy's."""
        names = ("steps", "noise_std", "strength", "seed")
        chosen = {name: getattr(self, name) for name in names}
        return {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in chosen.items()
        }
