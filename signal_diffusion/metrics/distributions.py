"""Laws: how near one set of points is to another, how far it spreads, and how honest draws are.

The continuous ranked probability score (CRPS) of a forecast is the mean over its law of |X - x|
less half that of |X - X'|: the absolute error where the forecast is a point. It is in the signal's
units, lower is better, and least where the law is the truth's own. Gneiting and Raftery (2007),
"Strictly proper scoring rules, prediction, and estimation", JASA 102(477).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from signal_diffusion.errors import InputError
from signal_diffusion.metrics.closeness import Signal, float64


def frechet_distance(a: Signal, b: Signal) -> float:
    """Squared distance of the normal laws with the means and covariances of (n, K) and (m, K).

        |m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2))

    In squared units of the points. It rises as there are fewer points, so compare sets of one
    size. Dowson and Landau (1982), "The Frechet distance between multivariate normal
    distributions"; as a score of generators Heusel and others 2017, arXiv:1706.08500.

    Raises:
        InputError: the shapes don't fit, or a set has fewer than two points.

    >>> line = torch.tensor([[-1.0], [1.0]])
    >>> round(frechet_distance(line, 3 * line + 4), 6), 4**2 + (3 * 2**0.5 - 2**0.5) ** 2
    (24.0, 24.0)
    """
    first, second = _points(a), _points(b)
    if first.shape[1] != second.shape[1]:
        raise InputError(f"points have {first.shape[1]} and {second.shape[1]} numbers: not alike")
    cov_a, cov_b = (np.atleast_2d(np.cov(points, rowvar=False)) for points in (first, second))
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    # The trace of the root of a product is that of the root of the like symmetric one.
    between = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(0)).sum()
    apart = np.square(first.mean(0) - second.mean(0)).sum()
    return float(max(0.0, apart + np.trace(cov_a) + np.trace(cov_b) - 2 * between))


def diversity(
    points: Tensor,
    groups: Sequence[object],
    *,
    distances: Callable[[Tensor, Tensor], Tensor] = torch.cdist,
) -> float:
    """Mean distance of two points (n, ...) of the same group, a mean over groups of two or more.

    Args:
        points: one for each signal, such as features or imprints.
        groups: what each point belongs to, e.g. its class and speaker.
        distances: of points (k, ...) to all (k, k); Euclidean, or `likeness.distances`.

    Raises:
        InputError: there isn't a group for each point, or no group has two.

    >>> diversity(torch.tensor([[0.0], [2.0], [7.0], [11.0], [50.0]]), "aabbc")
    3.0
    """
    if len(points) != len(groups):
        raise InputError(f"there are {len(points)} points, but {len(groups)} groups")
    members: dict[object, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    grouped = [points[indices] for indices in members.values() if len(indices) > 1]
    if not grouped:
        raise InputError("no group has two points: draw more of each")
    found = [distances(group, group).double() for group in grouped]
    apart = [x[~torch.eye(len(x), dtype=torch.bool)].mean() for x in found]
    return float(np.mean(apart))


def _points(x: Signal) -> np.ndarray:
    points = float64(x).detach().numpy()
    if points.ndim != 2 or len(points) < 2:
        raise InputError(f"points have the shape {points.shape}: pass (n, K) with n of 2 or more")
    return points


def coverage(low: Signal, high: Signal, reference: Signal) -> Tensor:
    """Share of the samples that lie in a band, its edges included: shapes (..., L) to (...).

    Raises InputError where the shapes differ.

    >>> coverage(torch.zeros(4), torch.ones(4), torch.tensor([-1.0, 0.0, 0.5, 1.0]))
    tensor(0.7500, dtype=torch.float64)
    """
    low, high, reference = _alike(low=low, high=high, reference=reference)
    return ((low <= reference) & (reference <= high)).double().mean(-1)


def crps_of_draws(draws: Signal, reference: Signal, *, fair: bool = True) -> Tensor:
    """Mean CRPS of a law that is known by draws (..., M, L), for a reference (..., L): to (...).

        mean_i |x_i - x| - sum_ij |x_i - x_j| / (2 M (M - 1))

    Args:
        fair: what many draws would have on average (Ferro 2014, "Fair scores for ensemble
            forecasts", QJRMS 140); else with M^2 in place of M (M - 1), the CRPS of the M draws
            as they are, which rises as M falls.

    Raises:
        InputError: the shapes don't fit, or a fair score is asked of one draw.

    >>> crps_of_draws(torch.tensor([[0.0], [2.0]]), torch.tensor([1.0]), fair=False)
    tensor(0.5000, dtype=torch.float64)
    """
    draws, reference = float64(draws), float64(reference)
    if draws.ndim < 2 or (*draws.shape[:-2], draws.shape[-1]) != tuple(reference.shape):
        raise InputError(
            f"draws have shape {tuple(draws.shape)} but reference {tuple(reference.shape)}; "
            "pass (..., M, L) and (..., L)"
        )
    count = draws.shape[-2]
    if fair and count < 2:
        raise InputError("a fair CRPS needs two draws or more: pass fair=False for one")
    # Of sorted draws, the k-th is subtracted from those above it and added to those below.
    signs = (2 * torch.arange(count) - count + 1).double()
    spread = (draws.sort(-2).values * signs[:, None]).sum(-2)
    pairs = count * (count - 1 if fair else count)
    return ((draws - reference[..., None, :]).abs().mean(-2) - spread / pairs).mean(-1)


def crps_of_normal(mean: Signal, std: Signal, reference: Signal) -> Tensor:
    """Mean CRPS of normal laws of these means and deviations: shapes (..., L) to (...).

        std (w (2 Phi(w) - 1) + 2 phi(w) - 1 / sqrt(pi)),        w = (reference - mean) / std

    A deviation of 0 is a point, whose score is the absolute error. Raises InputError where the
    shapes differ. Gneiting, Raftery, Westveld, Goldman (2005), Monthly Weather Review 133.

    >>> crps_of_normal(torch.zeros(1), torch.zeros(1), torch.tensor([3.0]))
    tensor(3., dtype=torch.float64)
    """
    mean, std, reference = _alike(mean=mean, std=std, reference=reference)
    error = reference - mean
    w = error / torch.where(std > 0, std, 1.0)
    density = torch.exp(-w.square() / 2) * math.sqrt(2 / math.pi)
    scores = error * torch.erf(w / math.sqrt(2)) + std * (density - 1 / math.sqrt(math.pi))
    return torch.where(std > 0, scores, error.abs()).mean(-1)


def _alike(**named: Signal) -> list[Tensor]:
    """Tensors of one shape (..., L)."""
    tensors = [float64(x) for x in named.values()]
    if len({x.shape for x in tensors}) > 1 or tensors[0].ndim == 0 or not tensors[0].numel():
        shapes = ", ".join(f"{k} {tuple(x.shape)}" for k, x in zip(named, tensors, strict=True))
        raise InputError(f"the shapes are {shapes}; pass the same, (..., L) with L > 0")
    return tensors
