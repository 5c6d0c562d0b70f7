"""What the report of an evaluation says of metrics: in words, and as numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from signal_diffusion.tasks.measures import METRICS

#: Of which more is better; of all others, less is.
HIGHER = frozenset({"pesq", "estoi", "si_sdr", "snr", "cosine", "dnsmos"})
#: By name; a metric that is not here is told by its heading alone.
WORDS: Mapping[str, str] = {
    "pesq": "How well listeners would rate the speech beside the clean recording, from 1 (bad) to "
    "4.64 (the same), foretold by ITU-T P.862.2.",
    "estoi": "How much of the speech would be understood, from 0 to 100 %, by extended short-time "
    "objective intelligibility.",
    "si_sdr": "How far everything that is not the clean signal lies below it; a wrong loudness "
    "does not count.",
    "snr": "How far the error lies below the clean signal; a wrong loudness counts.",
    "lsd": "How far the spectrum is from that of the clean signal, on the scale of dB, where "
    "quiet stretches count as much as loud ones.",
    "stft": "How far magnitudes of the spectrum are from the clean ones, at several resolutions.",
    "prd": "The error's root mean square in per cent of the clean signal's.",
    "cosine": "How alike the shapes are: 1 means the same but for the scale.",
    "dnsmos": "How well listeners would rate the sound by itself, from 1 to 5, foretold by a "
    "network (DNSMOS P.835).",
    "ssd": "The sum of the squared errors, in the recording's own units squared.",
    "mad": "The largest error of all samples, in the recording's own units.",
    "kurtosis": "The error of the kurtosis, which tells how spiky a signal is, in per cent.",
    "envelope": "The error of the highest peak of the envelope's spectrum, by which faults of "
    "bearings are found, in per cent.",
}


@dataclass(frozen=True)
class Cell:
    """A mean as it is shown: the number, its interval, and what it means.

    Attributes:
        mean, ends: as text; `ends` is empty where there is no interval.
        better: of differences, whether the interval tells that they are for the better (True) or
            for the worse (False); None where it leaves that open.
        best: whether no other of its column is better.
    """

    mean: str = ""
    ends: str = ""
    better: bool | None = None
    best: bool = False


def heading(metric: str) -> str:
    return METRICS[metric].heading


def direction(metric: str) -> str:
    """Which way is better, in words."""
    return "higher is better" if metric in HIGHER else "lower is better"


def shown(metric: str, value: float | None, *, sign: str = "") -> str:
    """A score as text, with a real minus but where it is 0; "–" where there is none.

    >>> shown("estoi", -0.0712, sign="+"), shown("pesq", -1e-9), shown("pesq", None)
    ('−7.1', '0.00', '–')
    """
    if value is None:
        return "–"
    told = METRICS[metric].shown(value, sign=sign)
    return told.replace("-", "−" if is_seen(told) else sign)


def is_seen(told: str) -> bool:
    """Whether a number as text is another than 0.

    >>> is_seen("+0.00"), is_seen("-0.01")
    (False, True)
    """
    return any(digit in told for digit in "123456789")


def better_by(metric: str, change: float) -> float:
    """A change of a score, positive where it is for the better.

    >>> better_by("pesq", 0.5), better_by("prd", 0.5)
    (0.5, -0.5)
    """
    return change if metric in HIGHER else -change


def cell(metric: str, found: Mapping[str, float] | None, *, sign: str = "") -> Cell:
    """What a table shows of statistics; with a sign, they are of differences."""
    if found is None:
        return Cell()
    mean = shown(metric, found["mean"], sign=sign)
    if "low" not in found:
        return Cell(mean)
    low, high = found["low"], found["high"]
    ends = " to ".join(shown(metric, end, sign=sign) for end in (low, high))
    sure = bool(sign) and low * high > 0
    return Cell(mean, ends, better_by(metric, low) > 0 if sure else None)


def best_of(metric: str, means: Sequence[float | None]) -> set[int]:
    """Places of the best means, which are several where they are shown alike.

    >>> best_of("pesq", [1.411, None, 1.709, 1.7101])
    {2, 3}
    """
    known = [mean for mean in means if mean is not None]
    if not known:
        return set()
    best = shown(metric, max(known, key=lambda mean: better_by(metric, mean)))
    return {at for at, mean in enumerate(means) if mean is not None and shown(metric, mean) == best}
