"""How near the law of one set of points is to that of another, and how far its points spread."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from signal_diffusion.errors import InputError
from signal_diffusion.metrics.closeness import Signal


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
    cov_a, cov_b = _covariance(first), _covariance(second)
    root = _root(cov_a)
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
    some = [points[indices] for indices in members.values() if len(indices) > 1]
    if not some:
        raise InputError("no group has two points: draw more of each")
    return float(np.mean([_mean_apart(distances(group, group)) for group in some]))


def _mean_apart(found: Tensor) -> float:
    """Mean of what lies off the diagonal."""
    return float(found[~torch.eye(len(found), dtype=torch.bool)].double().mean())


def _points(x: Signal) -> np.ndarray:
    points = torch.as_tensor(x).detach().cpu().double().numpy()
    if points.ndim != 2 or len(points) < 2:
        raise InputError(f"points have the shape {points.shape}: pass (n, K) with n of 2 or more")
    return points


def _covariance(points: np.ndarray) -> np.ndarray:
    return np.cov(points, rowvar=False).reshape(points.shape[1], points.shape[1])


def _root(covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T
