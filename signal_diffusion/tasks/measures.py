"""What is measured of an estimate (C, L) beside its reference: scores, lag, gain, channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import scipy.signal
import torch

from signal_diffusion import metrics
from signal_diffusion.errors import InputError
from signal_diffusion.recordings import resample
from signal_diffusion.tasks.buffers import Array

#: Of the listening metrics, Hz.
LISTENING_RATE = 16000
#: Seconds by which an estimate may lie beside its reference, and the lag be found.
MOST_LAG = 0.5
#: By how much another channel must fit better than the own one, so that they are exchanged.
CLEARLY = 0.05
#: What `alignment` tells.
ALIGNMENT = ("lag", "gain_db", "polarity", "channels")

#: Takes estimate, reference (C, L) and the rate in Hz.
Measure = Callable[[Array, Array, int], float]


@dataclass(frozen=True)
class Metric:
    """A score of an estimate.

    Attributes:
        measure: takes estimate and reference (C, L) and their rate in Hz; the mean over channels.
        heading: of its column.
        digits: that are shown.
        scale: what it is multiplied by where it is shown.
        needs: package that it is measured by, and the extra that brings it; None for none.
    """

    measure: Measure
    heading: str
    digits: int = 1
    scale: float = 1.0
    needs: tuple[str, str] | None = None


def _plain(metric: Callable[[Array, Array], torch.Tensor]) -> Measure:
    return lambda estimate, reference, _: float(metric(estimate, reference).mean())


def _pesq(estimate: Array, reference: Array, rate: int) -> float:
    pair = (resample(x, rate, LISTENING_RATE) for x in (estimate, reference))
    return float(metrics.pesq_wb(*pair).mean())


def _estoi(estimate: Array, reference: Array, rate: int) -> float:
    return float(metrics.estoi(estimate, reference, sample_rate=rate).mean())


def _dnsmos(estimate: Array, _: Array, rate: int) -> float:
    """Overall DNSMOS P.835 (Reddy, Gopal and Cutler 2022), without a reference, by `speechmos`."""
    run = import_module("speechmos.dnsmos").run
    heard = np.clip(resample(estimate, rate, LISTENING_RATE), -1, 1)
    return float(np.mean([run(channel, LISTENING_RATE)["ovrl_mos"] for channel in heard]))


_EVALUATE, _MOS = "signal-diffusion[evaluate]", "signal-diffusion[dnsmos]"
METRICS: Mapping[str, Metric] = {
    "pesq": Metric(_pesq, "PESQ", 2, needs=("pesq", _EVALUATE)),
    "estoi": Metric(_estoi, "ESTOI %", 1, 100.0, needs=("pystoi", _EVALUATE)),
    "si_sdr": Metric(_plain(metrics.si_sdr), "SI-SDR dB"),
    "snr": Metric(_plain(metrics.snr), "SNR dB"),
    "lsd": Metric(_plain(metrics.log_spectral_distance), "log-spectral distance dB"),
    "stft": Metric(_plain(metrics.multi_resolution_error), "STFT error", 2),
    "prd": Metric(_plain(metrics.prd), "PRD %"),
    "cosine": Metric(_plain(metrics.cosine_similarity), "cosine", 3),
    "dnsmos": Metric(_dnsmos, "DNSMOS", 2, needs=("speechmos.dnsmos", _MOS)),
}
#: By the domain of the model.
DEFAULTS: Mapping[str | None, tuple[str, ...]] = {
    "speech": ("pesq", "estoi", "si_sdr", "lsd"),
    "music": ("si_sdr", "lsd", "stft"),
}
OTHERWISE = ("si_sdr", "snr", "lsd")


def metrics_named(names: Sequence[str], *, domain: str | None = None) -> list[str]:
    """The names of metrics that were given, or, without any, those that suit a domain.

    Raises:
        InputError: there is no such metric, or its package is not installed.

    >>> metrics_named([], domain="music")
    ['si_sdr', 'lsd', 'stft']
    """
    wanted = list(dict.fromkeys(names)) or list(DEFAULTS.get(domain, OTHERWISE))
    for name in wanted:
        if name not in METRICS:
            raise InputError(f"metric is '{name}'; choose among {', '.join(METRICS)}")
        require_package(f"metric {name}", METRICS[name].needs)
    return wanted


def require_package(what: str, needs: tuple[str, str] | None) -> None:
    """Raise an InputError where a module (its name, and the extra with it) can't be imported."""
    if needs is None:
        return
    try:
        import_module(needs[0])
    except ImportError as error:
        package = needs[0].partition(".")[0]
        raise InputError(f"{what} needs the package {package}: pip install '{needs[1]}'") from error


def measured(
    names: Sequence[str], estimate: Array, reference: Array, rate: int
) -> tuple[dict[str, float | None], str | None]:
    """Scores by name, None where one can't be reckoned, and the reason of the first of these."""
    scores: dict[str, float | None] = {}
    reasons = []
    for name in names:
        scores[name] = None
        try:
            score = METRICS[name].measure(estimate, reference, rate)
        except InputError as error:
            reasons.append(f"{name}: {error}")
            continue
        if np.isfinite(score):
            scores[name] = score
        else:
            reasons.append(f"{name} is {score} here")
    return scores, reasons[0] if reasons else None


def alignment(estimate: Array, reference: Array, rate: int) -> dict[str, Any]:
    """How an estimate (C, L) lies beside its reference, by which mistakes show that scores hide.

    `lag`: samples that it comes late, at most half a second's; `gain_db`: of the reference in it;
    `polarity`: -1 where it is upside down; `channels`: of the reference that each channel is most
    like, such as "2 1" where two are exchanged. All but `channels` are of the first channel pair
    that fits, None where one of both is silent.

    >>> import numpy as np
    >>> reference = np.random.default_rng(0).standard_normal((1, 4000))
    >>> found = alignment(-0.5 * np.roll(reference, 3), reference, 8000)
    >>> found["lag"], round(found["gain_db"], 1), found["polarity"], found["channels"]
    (3, -6.0, -1, '1')
    """
    places = [[_place(e, r, rate) for r in reference] for e in estimate]
    best = [_best([fit for fit, _, _ in row], own) for own, row in enumerate(places)]
    fit, lag, gain = places[0][best[0]]
    heard = fit > 0
    return {
        "lag": lag if heard else None,
        "gain_db": round(float(20 * np.log10(abs(gain))), 3) if heard else None,
        "polarity": int(np.sign(gain)) if heard else None,
        "channels": " ".join(str(channel + 1) for channel in best),
    }


def _best(fits: Sequence[float], own: int) -> int:
    other = int(np.argmax(fits))
    return other if fits[other] > fits[own] + CLEARLY else own


def _place(estimate: Array, reference: Array, rate: int) -> tuple[float, int, float]:
    """Correlation in [0, 1], lag in samples and gain where two channels (L,) fit best."""
    e, r = (np.asarray(x, np.float64) for x in (estimate, reference))
    power, norm = float(r @ r), float(np.sqrt((e @ e) * (r @ r)))
    if norm == 0:
        return 0.0, 0, 0.0
    products = scipy.signal.correlate(e, r, method="fft")
    middle, most = len(r) - 1, min(round(MOST_LAG * rate), len(r) - 1)
    near = products[middle - most : middle + most + 1]
    at = int(np.argmax(np.abs(near)))
    return abs(float(near[at])) / norm, at - most, float(near[at]) / power
