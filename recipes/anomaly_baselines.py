"""How well scores of windows tell faults, beside what other methods say of the same windows.

It needs scikit-learn, which is the extra "sklearn".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from signal_diffusion.dsp import Array
from signal_diffusion.evaluation.summary import markdown_table

#: Scores (W,) of the windows of a run (C, n).
Scorer = Callable[[Array], Array]

#: Trees of a forest, and forests of other seeds that are averaged.
TREES, FORESTS = 200, 5
#: Share of the variance that a subspace holds.
KEPT = 0.9


def windows(x: Array, rows: int) -> Iterator[Array]:
    """Windows (..., rows) of (..., n), as `score_table` has them: half a rest counts as one.

    >>> [window.tolist() for window in windows(np.arange(8), 3)]
    [[0, 1, 2], [3, 4, 5], [6, 7]]
    """
    for start in range(0, x.shape[-1], rows):
        if 2 * (x.shape[-1] - start) >= rows:
            yield x[..., start : start + rows]


def marked(faulty: Array, rows: int) -> Array:
    """Which windows lie by half or more in readings (n,) that are marked."""
    return np.array([window.mean() >= 0.5 for window in windows(faulty, rows)])


def features(x: Array, rows: int) -> Array:
    """Mean and deviation of every channel in the windows of a run (C, n): (W, 2 C)."""
    pairs = [(window.mean(axis=1), window.std(axis=1)) for window in windows(x, rows)]
    return np.array([np.concatenate(pair) for pair in pairs])


def isolation_forest(train: Sequence[Array], rows: int) -> Scorer:
    """Forests of several seeds on the windows of runs, on average.

    Source: Liu and others 2008, by scikit-learn.
    """
    from sklearn.ensemble import IsolationForest

    fitted = np.concatenate([features(x, rows) for x in train])
    forests = [
        IsolationForest(n_estimators=TREES, random_state=seed).fit(fitted)
        for seed in range(FORESTS)
    ]
    return lambda x: -np.mean([f.score_samples(features(x, rows)) for f in forests], axis=0)


def subspace(train: Sequence[Array], rows: int) -> Scorer:
    """The squared distance of windows from the subspace that holds most of the variance of others.

    Source: Jackson and Mudholkar 1979: the Q statistic of principal components.
    """
    fitted = np.concatenate([features(x, rows) for x in train])
    middle, spread = fitted.mean(axis=0), fitted.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    _, sizes, axes = np.linalg.svd((fitted - middle) / spread, full_matrices=False)
    held = np.cumsum(sizes**2) / (sizes**2).sum()
    rest = axes[int(np.searchsorted(held, KEPT)) + 1 :]
    return lambda x: np.square((features(x, rows) - middle) / spread @ rest.T).sum(axis=1)


def distance(rows: int) -> Scorer:
    """The mean square of the windows' means: how far readings without units lie from the median."""
    return lambda x: np.array([np.square(w.mean(axis=1)).mean() for w in windows(x, rows)])


def area(labels: Array, scores: Array) -> float:
    """The area under the ROC curve: how often a faulty window scores above one that is not."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, scores))


def best_f1(labels: Array, scores: Array) -> float:
    """The largest F1 over all thresholds."""
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(labels, scores)
    return float((2 * precision * recall / np.maximum(precision + recall, 1e-9)).max())


def comparison(labels: Array, scores: Mapping[str, Array]) -> str:
    """ROC-AUC and best F1 of each method as a table, and which is best."""
    rows = {name: (area(labels, s), best_f1(labels, s)) for name, s in scores.items()}
    lines = [[name, f"{auc:.3f}", f"{f1:.3f}"] for name, (auc, f1) in rows.items()]
    always = 2 * labels.mean() / (1 + labels.mean())
    ahead = max(rows, key=lambda name: rows[name][0])
    return (
        f"{markdown_table(['method', 'ROC-AUC', 'best F1'], lines)}\n\n"
        f"{len(labels)} windows, {labels.mean():.0%} faulty: F1 {always:.3f} for all.\n"
        f"By ROC-AUC the best is: {ahead}."
    )
