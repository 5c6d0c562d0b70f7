r"""Score the vibration model on bearings that it has not seen, beside wavelets and Wiener filters.

    python benchmarks/evaluate_vibration.py --data DATA --output results/vibration.json \
        --page docs/results.md

Records of the held-out bearings of DATA (CWRU, drive end, 12 kHz, faults of 0.028 inch) with white,
pink and recorded machine noise at -5, 0, 5 and 10 dB. SNR gain in dB; the error of the kurtosis in
% of the clean record's; the error in % of the peak of the envelope's spectrum at the fault's
frequency, by which a fault is found: a denoiser that flattens it is useless. A minute on two cores.
Expect gains of 10 to 3 dB and a fault peak nearer to the true one than the input's.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.signal
import torch
from shared.result_tables import data_digest, insert_table

from signal_diffusion import Denoiser, denoise
from signal_diffusion.data.vibration import MachineMixer, VibrationSources, pink
from signal_diffusion.dsp import Array
from signal_diffusion.evaluation.baselines import wavelet
from signal_diffusion.evaluation.outputs import write_results
from signal_diffusion.evaluation.summary import markdown_table
from signal_diffusion.files import artifact
from signal_diffusion.metrics import envelope_peak_error, kurtosis_error, snr

Method = Callable[["Clip"], Array]
RATE = 12000
SNRS = (-5, 0, 5, 10)
NOISES = ("white", "pink", "machine")
#: Fault frequencies over the shaft's, of the bearing SKF 6205: rolling element (twice its spin),
#: inner ring, outer ring (from CWRU's page of bearing information).
FAULTS = {"B": 4.7135, "IR": 5.4152, "OR": 3.5848}


@dataclass(frozen=True)
class Clip:
    """A noisy record and the clean one, each (L,), and what is known of them."""

    noisy: Array
    clean: Array
    noise: str
    snr_db: int
    fault_hz: float


def clips(sources: VibrationSources, mixer: MachineMixer) -> Iterator[Clip]:
    """Every record with every noise at every level, drawn from seed 0."""
    rng = np.random.default_rng(0)
    for row, clean in sources.records("valid"):
        fault = FAULTS[row["label"].split("_")[0].split("@")[0]] * float(row["rpm"]) / 60
        for kind in NOISES:
            for level in SNRS:
                noise: Array = rng.standard_normal(len(clean))
                if kind == "pink":
                    noise = pink(noise)
                elif kind == "machine":
                    noise = mixer.noise.crop(rng, int(rng.integers(len(mixer.noise))), len(clean))
                noise = noise / noise.std()
                yield Clip(clean + noise * 10 ** (-level / 20), clean, kind, level, fault)


def wiener(noisy: Array) -> Array:
    """The local Wiener filter of scipy, over nine samples."""
    return np.asarray(scipy.signal.wiener(noisy, 9))


def informed_wiener(clip: Clip) -> Array:
    """The best stationary linear filter: Wiener's, from the true spectra of record and noise."""
    window = 1024
    _, clean = scipy.signal.welch(clip.clean, RATE, nperseg=window)
    _, noise = scipy.signal.welch(clip.noisy - clip.clean, RATE, nperseg=window)
    taps = np.fft.fftshift(np.fft.irfft(clean / (clean + noise)))
    # Of odd length, so that its middle is a sample: half of the first tap goes to the end.
    taps = np.concatenate([[taps[0] / 2], taps[1:], [taps[0] / 2]])
    return np.asarray(scipy.signal.fftconvolve(clip.noisy, taps, mode="same"))


def scores(chosen: Sequence[Clip], method: Method) -> dict[str, dict[str, float]]:
    """Mean scores by noise and level, and over all."""
    rows = []
    for clip in chosen:
        estimate = np.array(method(clip), np.float64)
        peak_error = envelope_peak_error(
            estimate, clip.clean, sample_rate=RATE, frequency=clip.fault_hz
        )
        rows.append(
            {
                "gain": float(snr(estimate, clip.clean) - snr(clip.noisy, clip.clean)),
                "kurtosis_error": float(kurtosis_error(estimate, clip.clean)),
                "peak_error": float(peak_error),
            }
        )
    groups: dict[str, list[int]] = {"all": list(range(len(chosen)))}
    for index, clip in enumerate(chosen):
        groups.setdefault(clip.noise, []).append(index)
        groups.setdefault(f"{clip.snr_db} dB", []).append(index)
    return {
        group: {name: round(float(np.mean([rows[n][name] for n in at])), 2) for name in rows[0]}
        for group, at in groups.items()
    }


def methods(model: str) -> dict[str, Method]:
    """What is compared, the untouched input first."""
    denoiser = Denoiser.from_pretrained(model)
    return {
        "input": lambda clip: clip.noisy,
        "wavelet": lambda clip: wavelet(clip.noisy),
        "local Wiener": lambda clip: wiener(clip.noisy),
        "Wiener, true spectra known": informed_wiener,
        "vibration, 1 step": lambda clip: denoise(denoiser, clip.noisy, sample_rate=RATE),
    }


def table(results: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Gain by level, then the errors of kurtosis and fault peak over all, in Markdown."""
    head = ["", *(f"gain at {level} dB" for level in SNRS)]
    lines = []
    for name, groups in results.items():
        cells = [f"{groups[f'{level} dB']['gain']:.1f}" for level in SNRS]
        errors = [f"{groups['all'][key]:.0f}" for key in ("kurtosis_error", "peak_error")]
        lines.append([name, *cells, *errors])
    return markdown_table([*head, "kurtosis error %", "fault peak error %"], lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with manifest.csv")
    parser.add_argument("--model", default="vibration")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--page", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(min(2, torch.get_num_threads()))
    sources = VibrationSources(options.data)
    chosen = list(clips(sources, sources.mixer_of("valid")))
    results = {name: scores(chosen, method) for name, method in methods(options.model).items()}
    print(table(results))
    if options.output:
        write_results(
            options.output,
            "python benchmarks/evaluate_vibration.py --data DATA",
            model=artifact.fingerprint(options.model),
            clips=len(chosen),
            data=data_digest(options.data),
            results=results,
        )
    if options.page:
        insert_table(options.page, "vibration", table(results))


if __name__ == "__main__":
    main()
