"""Alignment of an estimate with its reference: lag, gain, polarity, offset, channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.signal

from signal_diffusion.dsp import Array

#: Longest lag in seconds that is searched.
MOST_LAG = 0.5
#: Longest lag in samples that is searched at the least, where readings are seconds apart.
FEWEST = 8
#: Share of the power that is left of a constant once its mean is taken off.
ROUNDING = 1e-26
#: Correlation below which two signals have nothing in common, and no lag.
LEAST = 0.1
#: By how much another channel must fit better than the own one, so that they are exchanged.
CLEARLY = 0.05
#: The keys of the result of `alignment`.
ALIGNMENT = ("lag", "gain_db", "polarity", "offset", "channels")


def alignment(estimate: Array, reference: Array, rate: float) -> dict[str, Any]:
    """Alignment of an estimate (C, L) with its reference, which shows mistakes that scores hide.

    Both are taken about their means. `lag`: samples that it comes late, at most half a second's,
    or `FEWEST`; `gain_db`: of the reference in it; `polarity`: -1 where it is upside down;
    `offset`: of its mean over the reference's, in deviations of the reference;
    `channels`: of the reference that each channel is most like, such as "2 1" where two are
    exchanged. All but `channels` are of the first channel pair that fits, None where none does.

    >>> import numpy as np
    >>> reference = np.random.default_rng(0).standard_normal((1, 4000))
    >>> found = alignment(-0.5 * np.roll(reference, 3), reference, 8000)
    >>> found["lag"], round(found["gain_db"], 1), found["polarity"], found["channels"]
    (3, -6.0, -1, '1')
    """
    places = [[_place(e, r, rate) for r in reference] for e in estimate]
    best = [_best([fit for fit, _, _ in row], own) for own, row in enumerate(places)]
    fit, lag, gain = places[0][best[0]]
    related = fit >= LEAST
    return {
        "lag": lag if related else None,
        "gain_db": round(float(20 * np.log10(abs(gain))), 3) if related else None,
        "polarity": int(np.sign(gain)) if related else None,
        "offset": _offset(estimate[0], reference[best[0]]) if related else None,
        "channels": " ".join(str(channel + 1) for channel in best),
    }


def _offset(estimate: Array, reference: Array) -> float:
    e, r = (np.asarray(x, np.float64) for x in (estimate, reference))
    return round(float((e.mean() - r.mean()) / r.std()), 4)


def _best(fits: Sequence[float], own: int) -> int:
    other = int(np.argmax(fits))
    return other if fits[other] > fits[own] + CLEARLY else own


def _place(estimate: Array, reference: Array, rate: float) -> tuple[float, int, float]:
    """Correlation in [0, 1], lag in samples and gain where two channels (L,) fit best."""
    e, r = (_centred(np.asarray(x, np.float64)) for x in (estimate, reference))
    power, norm = float(r @ r), float(np.sqrt((e @ e) * (r @ r)))
    if norm == 0:
        return 0.0, 0, 0.0
    products = scipy.signal.correlate(e, r, method="fft")
    middle, most = len(r) - 1, min(max(round(MOST_LAG * rate), FEWEST), len(r) - 1)
    near = products[middle - most : middle + most + 1]
    at = int(np.argmax(np.abs(near)))
    return abs(float(near[at])) / norm, at - most, float(near[at]) / power


def _centred(x: Array) -> Array:
    """Samples (L,) about their mean; zeros where they are constant."""
    about = x - x.mean()
    return about if about @ about > ROUNDING * (x @ x) else np.zeros_like(x)
