"""Score the filling of gaps in ECG records that no model has seen, beside classical fillings.

    python benchmarks/evaluate_gaps.py --data DATA --output results/gaps.json --page docs/results.md

Ten seconds of every minute of the held-out records of DATA (MIT-BIH, lead MLII), as they are but
without drift, and with the held-out minutes of the noise stress test at 10 dB; in each either two
blocks of 0.1, 0.3 or 1 s are missing, or 10 or 30 % of the samples. MAE and CRPS in microvolts,
over what is missing, against the record high-passed at 0.5 Hz.

Where there is noise, the classical fillings are band-passed (0.67 to 40 Hz, zero phase), as the
model takes the noise off too. A filling without a spread is a point, whose CRPS is its absolute
error; the Kalman smoother has its predictive deviation, and the model draws four times in 16
steps. Fifteen minutes on one core. Expect, in blocks of 0.3 s at 10 dB, an MAE of 120 or less
(line 160, Kalman 143); without noise, single samples are filled best by a spline (7 to 9).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from shared.result_tables import data_digest, insert_table
from statsmodels.regression.linear_model import burg
from statsmodels.tsa.statespace.sarimax import SARIMAX

from signal_diffusion import Denoiser, denoise
from signal_diffusion.data.ecg import EcgSources, ElectrodeMixer
from signal_diffusion.dsp import Array
from signal_diffusion.dsp.gaps import filled
from signal_diffusion.evaluation.baselines import bandpass
from signal_diffusion.evaluation.outputs import write_results
from signal_diffusion.evaluation.summary import markdown_table
from signal_diffusion.files import artifact
from signal_diffusion.metrics import crps_of_draws, crps_of_normal

RATE = 360
#: Seconds of a block, or the share of single samples that are missing.
GAPS = {"0.1 s": 0.1, "0.3 s": 0.3, "1 s": 1.0, "10 %": 0.1, "30 %": 0.3}
NOISES = {"no noise": None, "10 dB": 10.0}
BLOCKS = 2
SHOTS, STEPS = 4, 16
#: Of the autoregression behind the Kalman smoother.
ORDER = 10


@dataclass(frozen=True)
class Windows:
    """Readings of which some are missing and their references in mV, each (B, L)."""

    readings: Array
    clean: Array
    missing: Array
    noisy: bool


@dataclass(frozen=True)
class Filling:
    """What a method makes of windows: a mean, and a deviation or draws where it has them.

    Attributes:
        mean: (B, L).
        std: (B, L), 0 for points.
        draws: (M, B, L) in place of a deviation, or None.
    """

    mean: Array
    std: Array
    draws: Array | None = None


Method = Callable[[Windows], Filling]


def windows(mixer: ElectrodeMixer) -> Iterator[tuple[str, Windows]]:
    """The groups of the protocol by name, drawn from seed 1234."""
    rng = np.random.default_rng(1234)
    starts = range(0, len(mixer.leads[0].raw) - 10 * RATE + 1, 60 * RATE)
    cuts = [(lead, slice(n, n + 10 * RATE)) for lead in mixer.leads for n in starts]
    clean = np.stack([lead.clean[cut] for lead, cut in cuts]).astype(np.float64)
    raw = np.stack([lead.raw[cut] for lead, cut in cuts]).astype(np.float64)
    noise = np.stack([mixer.drawn_noise(rng, clean.shape[1])[0] for _ in cuts])
    for name, snr_db in NOISES.items():
        readings = clean
        if snr_db is not None:
            gain = np.sqrt(np.square(clean).mean(axis=1, keepdims=True)) * 10 ** (-snr_db / 20)
            readings = raw - np.median(raw, axis=1, keepdims=True) + gain * noise
        for gap in GAPS:
            missing = np.stack([mask(rng, gap, clean.shape[1]) for _ in cuts])
            yield f"{name}, {gap}", Windows(readings, clean, missing, snr_db is not None)


def mask(rng: np.random.Generator, gap: str, length: int) -> Array:
    """Which samples of a window (L,) are missing; blocks lie apart, and off its ends."""
    if gap.endswith("%"):
        return rng.random(length) < GAPS[gap]
    marked, part = np.zeros(length, bool), length // BLOCKS
    size = round(GAPS[gap] * RATE)
    for n in range(BLOCKS):
        start = n * part + int(rng.integers(RATE // 2, part - size - RATE // 2))
        marked[start : start + size] = True
    return marked


def linear(windows_: Windows) -> Filling:
    """A straight line between the neighbours, as the tables' reader draws it."""
    return _point(windows_, filled(windows_.readings, windows_.missing))


def spline(windows_: Windows) -> Filling:
    """A cubic spline through all that is there; straight on at the ends."""
    mean = filled(windows_.readings, windows_.missing)
    for row, missing in zip(mean, windows_.missing, strict=True):
        present = np.flatnonzero(~missing)
        holes = np.flatnonzero(missing & (np.arange(len(row)) <= present[-1]))
        holes = holes[holes >= present[0]]
        row[holes] = CubicSpline(present, row[present])(holes)
    return _point(windows_, mean)


def kalman(windows_: Windows) -> Filling:
    """The Kalman smoother of an autoregression in white noise, fitted to the window."""
    pairs = zip(windows_.readings, windows_.missing, strict=True)
    means, stds = zip(*(_smoothed(*pair) for pair in pairs), strict=True)
    return Filling(_passed(windows_, np.stack(means)), np.stack(stds))


def _smoothed(readings: Array, missing: Array) -> tuple[Array, Array]:
    """Mean and deviation of each sample (L,); Burg's fit to a line's filling, then to its own."""
    offset = np.median(readings[~missing])
    guess = filled(readings[None], missing[None])[0] - offset
    present = np.where(missing, np.nan, readings - offset)
    model = SARIMAX(present, order=(ORDER, 0, 0), measurement_error=True)
    for _ in range(2):
        weights, variance = burg(guess, order=ORDER)
        # Of the innovations, what is the readings' own noise: whichever is likeliest.
        shares = [1e-3, 0.1, 0.5]
        fits = [np.r_[weights, share * variance, variance * (1 - share)] for share in shares]
        found = model.smooth(max(fits, key=model.loglike))
        guess = found.smoothed_state[0]
    deviation = np.sqrt(found.smoothed_state_cov[0, 0].clip(min=0))
    return guess + offset, deviation


def _point(windows_: Windows, mean: Array) -> Filling:
    return Filling(_passed(windows_, mean), np.zeros_like(mean))


def _passed(windows_: Windows, mean: Array) -> Array:
    return bandpass(mean, RATE) if windows_.noisy else mean


def by_model(name: str) -> Method:
    """The model's filling: its mean in one step, and draws of it."""
    denoiser = Denoiser.from_pretrained(name)

    def method(windows_: Windows) -> Filling:
        readings = windows_.readings.astype(np.float32)
        rate, missing = denoiser.sample_rate, windows_.missing
        mean = denoise(denoiser, readings, sample_rate=rate, missing=missing)
        draws = [
            denoise(denoiser, readings, sample_rate=rate, missing=missing, steps=STEPS, seed=seed)
            for seed in range(SHOTS)
        ]
        return Filling(mean, np.zeros_like(mean), np.stack(draws))

    return method


def methods(model: str) -> dict[str, Method]:
    """What is compared."""
    return {"linear": linear, "spline": spline, "Kalman": kalman, "ecg": by_model(model)}


def scores(groups: Mapping[str, Windows], method: Method) -> dict[str, dict[str, float]]:
    """MAE and CRPS of a method by group, in microvolts, over the missing samples of all windows."""
    found = {}
    for group, windows_ in groups.items():
        filling, at = method(windows_), windows_.missing
        error = np.abs(filling.mean - windows_.clean)[at].mean()
        crps = crps_of_normal(filling.mean[at], filling.std[at], windows_.clean[at])
        if filling.draws is not None:
            crps = crps_of_draws(filling.draws[:, at], windows_.clean[at])
        found[group] = {"mae": round(1000 * float(error), 2), "crps": round(1000 * float(crps), 2)}
    return found


def table(results: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """The scores as a table in Markdown: MAE and CRPS by noise and gap."""
    groups = list(next(iter(results.values())))
    lines = [
        [name, *(f"{scored[group]['mae']:.0f}, {scored[group]['crps']:.0f}" for group in groups)]
        for name, scored in results.items()
    ]
    return markdown_table(["", *groups], lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with manifest.csv")
    parser.add_argument("--model", default="ecg")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--page", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(min(2, torch.get_num_threads()))
    mixer = replace(EcgSources(options.data).mixer_of("valid"), made=0.0)
    groups = dict(windows(mixer))
    results = {name: scores(groups, method) for name, method in methods(options.model).items()}
    print(table(results))
    if options.output:
        write_results(
            options.output,
            "python benchmarks/evaluate_gaps.py --data DATA",
            model=artifact.fingerprint(options.model),
            windows=len(next(iter(groups.values())).clean),
            data=data_digest(options.data),
            results=results,
        )
    if options.page:
        insert_table(options.page, "gaps", table(results))


if __name__ == "__main__":
    main()
