"""Metrics of an estimate (C, L) and its reference, and how they are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from signal_diffusion import metrics
from signal_diffusion.dsp import Array
from signal_diffusion.dsp.resampling import resample
from signal_diffusion.errors import InputError, library

#: Of the listening metrics, Hz.
LISTENING_RATE = 16000

#: Takes estimate, reference (C, L) and the rate in Hz.
Measure = Callable[[Array, Array, float], float]


@dataclass(frozen=True)
class Metric:
    """A score of an estimate.

    Attributes:
        measure: takes estimate and reference (C, L) and their rate in Hz; the mean over channels.
        heading: of its column.
        digits: that are shown.
        scale: what it is multiplied by where it is shown.
        needs: package that it is measured by, and the extra that brings it; None for none.
        sound_only: whether it is a metric of hearing, which says nothing of other signals.
        form: "f", or "g" where units, which decide the size of the scores, are the signals' own.
        higher: whether a higher score is better.
        explanation: what it measures, in a sentence.
    """

    measure: Measure
    heading: str
    digits: int = 1
    scale: float = 1.0
    needs: tuple[str, str] | None = None
    sound_only: bool = False
    form: str = "f"
    higher: bool = False
    explanation: str = ""

    @property
    def direction(self) -> str:
        """Which scores are better, in words."""
        return "higher is better" if self.higher else "lower is better"

    def shown(self, score: float, *, sign: str = "") -> str:
        """A score as tables show it.

        >>> METRICS["estoi"].shown(0.5, sign="+"), METRICS["mad"].shown(0.00123456)
        ('+50.0', '0.001235')
        """
        return f"{self.scale * score:{sign}.{self.digits}{self.form}}"


def _plain(metric: Callable[..., torch.Tensor]) -> Measure:
    return lambda estimate, reference, _: float(metric(estimate, reference).mean())


def _of_rate(metric: Callable[..., torch.Tensor]) -> Measure:
    return lambda estimate, reference, rate: float(
        metric(estimate, reference, sample_rate=rate).mean()
    )


def _pesq(estimate: Array, reference: Array, rate: float) -> float:
    pair = (resample(x, rate, LISTENING_RATE) for x in (estimate, reference))
    return float(metrics.pesq_wb(*pair).mean())


def _dnsmos(estimate: Array, _: Array, rate: float) -> float:
    narrow = resample(estimate, rate, LISTENING_RATE)
    return float(np.mean([metrics.dnsmos(channel) for channel in narrow]))


_EVALUATE, _MOS = "evaluate", "dnsmos"

#: By name.
METRICS: Mapping[str, Metric] = {
    "pesq": Metric(
        _pesq,
        "PESQ",
        2,
        needs=("pesq", _EVALUATE),
        sound_only=True,
        higher=True,
        explanation="How well listeners would rate the speech beside the clean recording, from 1 "
        "(bad) to 4.64 (the same), predicted by ITU-T P.862.2.",
    ),
    "estoi": Metric(
        _of_rate(metrics.estoi),
        "ESTOI %",
        1,
        scale=100.0,
        needs=("pystoi", _EVALUATE),
        sound_only=True,
        higher=True,
        explanation="How much of the speech would be understood, from 0 to 100 %, by extended "
        "short-time objective intelligibility.",
    ),
    "si_sdr": Metric(
        _plain(metrics.si_sdr),
        "SI-SDR dB",
        higher=True,
        explanation="How far everything that is not the clean signal lies below it; a wrong "
        "loudness does not count.",
    ),
    "voice_lost": Metric(
        _of_rate(metrics.voice_lost),
        "voice lost dB",
        2,
        sound_only=True,
        explanation="By how much active speech fell: the level of the clean voice less that of its "
        "part in the result; noise that is left does not count, a wrong loudness does.",
    ),
    "snr": Metric(
        _plain(metrics.snr),
        "SNR dB",
        higher=True,
        explanation="How far the error lies below the clean signal; a wrong loudness counts.",
    ),
    "lsd": Metric(
        _plain(metrics.log_spectral_distance),
        "log-spectral distance dB",
        explanation="How far the spectrum is from that of the clean signal, on the scale of dB, "
        "where quiet stretches count as much as loud ones.",
    ),
    "stft": Metric(
        _plain(metrics.multi_resolution_error),
        "STFT error",
        2,
        explanation="How far magnitudes of the spectrum are from the clean ones, at several "
        "resolutions.",
    ),
    "prd": Metric(
        _plain(metrics.prd),
        "PRD %",
        explanation="The error's root mean square in per cent of the clean signal's.",
    ),
    "cosine": Metric(
        _plain(metrics.cosine_similarity),
        "cosine",
        3,
        higher=True,
        explanation="How alike the shapes are: 1 means the same but for the scale.",
    ),
    "ssd": Metric(
        _plain(metrics.ssd),
        "SSD",
        4,
        form="g",
        explanation="The sum of the squared errors, in the recording's own units squared.",
    ),
    "mad": Metric(
        _plain(metrics.mad),
        "MAD",
        4,
        form="g",
        explanation="The largest error of all samples, in the recording's own units.",
    ),
    "kurtosis": Metric(
        _plain(metrics.kurtosis_error),
        "kurtosis error %",
        explanation="The error of the kurtosis, which tells how spiky a signal is, in per cent.",
    ),
    "envelope": Metric(
        _of_rate(metrics.envelope_peak_error),
        "envelope peak error %",
        explanation="The error of the highest peak of the envelope's spectrum, by which faults "
        "of bearings are found, in per cent.",
    ),
    "dnsmos": Metric(
        _dnsmos,
        "DNSMOS",
        2,
        needs=("speechmos.dnsmos", _MOS),
        sound_only=True,
        higher=True,
        explanation="How well listeners would rate the sound by itself, from 1 to 5, predicted "
        "by a network (DNSMOS P.835).",
    ),
}

#: By the domain of the model.
DEFAULTS: Mapping[str | None, tuple[str, ...]] = {
    "speech": ("pesq", "estoi", "si_sdr", "voice_lost", "lsd"),
    "music": ("si_sdr", "lsd", "stft"),
    "ecg": ("ssd", "mad", "prd", "cosine", "snr"),
    "vibration": ("snr", "kurtosis", "envelope"),
}

#: Of sound, and of readings, of other domains.
OTHERWISE, OF_READINGS = ("si_sdr", "snr", "lsd"), ("snr", "prd", "cosine")

#: Of what a vocoder makes again, whose phases are free.
OF_VOCODERS = ("pesq", "estoi", "lsd", "stft")


def metrics_named(
    names: Sequence[str], *, domain: str | None = None, readings: bool = False
) -> list[str]:
    """The requested names of metrics, or, without any, those that suit a domain.

    Args:
        names: the requested ones.
        domain: of the model.
        readings: whether it is measured on readings of sensors, not on sound.

    Raises:
        InputError: there is no such metric, it is for sound, or its package is not installed.

    >>> metrics_named([], domain="music"), metrics_named([], domain="vibration", readings=True)
    (['si_sdr', 'lsd', 'stft'], ['snr', 'kurtosis', 'envelope'])
    """
    usual = DEFAULTS.get(domain, OF_READINGS if readings else OTHERWISE)
    wanted = list(dict.fromkeys(names)) or list(usual)
    for name in wanted:
        if name not in METRICS:
            raise InputError(f"metric is '{name}'; choose among {', '.join(METRICS)}")
        if readings and METRICS[name].sound_only:
            fit = ", ".join(other for other, metric in METRICS.items() if not metric.sound_only)
            raise InputError(f"metric {name} measures sound, not readings: use {fit}")
        if needs := METRICS[name].needs:
            library(*needs, of=f"metric {name}")
    return wanted


def measured(
    names: Sequence[str],
    estimate: Array,
    reference: Array,
    rate: float,
    *,
    unscored: Array | None = None,
) -> tuple[dict[str, float | None], str | None]:
    """Scores by name, None where one can't be computed, and the reason of the first of these.

    Samples (C, L) that are `unscored` are cut out of their channel before it is measured.
    """
    scores: dict[str, float | None] = {}
    reasons = []
    for name in names:
        scores[name] = None
        try:
            score = _score(METRICS[name].measure, estimate, reference, rate, unscored)
        except InputError as error:
            reasons.append(f"{name}: {error}")
            continue
        if np.isfinite(score):
            scores[name] = score
        else:
            reasons.append(f"{name} is {score} here")
    return scores, reasons[0] if reasons else None


def _score(
    measure: Measure, estimate: Array, reference: Array, rate: float, unscored: Array | None
) -> float:
    if unscored is None:
        return measure(estimate, reference, rate)
    rows = zip(estimate, reference, ~unscored, strict=True)
    return float(np.mean([measure(e[None, kept], r[None, kept], rate) for e, r, kept in rows]))
