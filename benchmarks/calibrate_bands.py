"""Calibrate a model's bands on records that it was not trained on, and measure them on others.

    python benchmarks/calibrate_bands.py --data DATA --model ecg --write ecg.safetensors \
        --output results/bands.json

Eight draws of 16 steps of each clip, of the held-out records of DATA: for ECG models ten seconds
with noise of 0 to 2 times the record's span, for vibration models a third of a second with noise at
-5 to 10 dB. The records are halved (and the ECG's noise with them; bearings by their fault), and
each half calibrates bands that are measured on the other: that is what is printed and kept. What
`--write` puts into the model is calibrated on both halves together, and refused unless each half
holds 85 to 95 % by the other's. CRPS is in units of the level that the model brings a clip to, that
of a normal law as wide as the band; beside it the best of three bands of constant width, which has
the least CRPS on the half that calibrates. Seven minutes of one core for ECG, two for vibration.
Expect coverages of 0.86 and 0.93 for ECG, where the draws' own quantiles hold 0.39 and 0.45; for
vibration 0.68 and 0.99: two bearings are too few, the shipped model has no calibrated bands.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import evaluate_ecg
import evaluate_vibration
import numpy as np
import torch
from shared.result_tables import data_digest

from signal_diffusion import Denoiser, denoise
from signal_diffusion.calibration import Bands, calibrated, spread
from signal_diffusion.data.ecg import EcgSources, ElectrodeMixer
from signal_diffusion.data.vibration import VibrationSources
from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.dsp import Array
from signal_diffusion.evaluation.outputs import machine
from signal_diffusion.evaluation.summary import markdown_table
from signal_diffusion.metrics import coverage, crps_of_draws, crps_of_normal
from signal_diffusion.tasks.denoise import measured_normal

STEPS = 16
#: One ECG window of so many is drawn, and one drawn window of `GENTLE` has noise of 0 to 0.2.
EVERY, GENTLE = 2, 5
#: Samples of a clip of vibration.
LENGTH = 4096


@dataclass(frozen=True)
class Clip:
    """A noisy recording and its reference (L,), what it is of, and the noise that it is in."""

    noisy: Array
    clean: Array
    record: str
    group: str


@dataclass(frozen=True)
class Drawn:
    """Draws (shots, L) of a clip and the truth (L,) at the model's level.

    `units` are what a band of constant width may go by: that level, the recording's own unit, and
    the root mean square of what was removed.
    """

    draws: Array
    truth: Array
    units: dict[str, float]
    clip: Clip


def ecg_halves(data: str) -> list[list[Clip]]:
    """Ten seconds of every other window of the held-out records, halved with their noise."""
    mixer = EcgSources(data).mixer_of("valid")
    return [list(_ecg_half(mixer, half)) for half in (0, 1)]


def _ecg_half(mixer: ElectrodeMixer, half: int) -> Iterator[Clip]:
    leads = mixer.leads[half::2]
    noise = {
        kind: [np.array_split(x, 2)[half] for x in subset] for kind, subset in mixer.noise.items()
    }
    rng = np.random.default_rng(half)
    windows = [
        clip
        for clip in evaluate_ecg.clips(replace(mixer, leads=leads, noise=noise))
        if len(clip.clean) == 10 * evaluate_ecg.RATE
    ]
    for number, clip in enumerate(windows[::EVERY]):
        record = next(lead.name for lead in leads if np.shares_memory(clip.clean, lead.clean))
        noisy, group, added = clip.noisy, clip.group, clip.noisy - clip.clean
        if number % GENTLE == 0:
            group = "0 to 0.2"
            noisy = clip.clean + rng.uniform(0, 0.2) * np.ptp(clip.clean) / np.ptp(added) * added
        yield Clip(noisy, clip.clean, record, group)


def vibration_halves(data: str) -> list[list[Clip]]:
    """The middle of every held-out record in every noise, halved by the bearing's fault."""
    sources = VibrationSources(data)
    found = list(evaluate_vibration.clips(sources, sources.mixer_of("valid")))
    names = [row["key"] for row, _ in sources.records("valid")]
    per_record = len(found) // len(names)
    subset = []
    for number, clip in enumerate(found):
        middle = slice(len(clip.clean) // 2, len(clip.clean) // 2 + LENGTH)
        record, group = names[number // per_record], f"{clip.noise}, {clip.snr_db} dB"
        subset.append(Clip(clip.noisy[middle], clip.clean[middle], record, group))
    faults = sorted({clip.record.split("_")[0] for clip in subset})
    return [[c for c in subset if c.record.split("_")[0] in faults[half::2]] for half in (0, 1)]


HALVES = {"ecg": ecg_halves, "vibration": vibration_halves}


def drawn(denoiser: Denoiser, clip: Clip, shots: int) -> Drawn:
    """A clip and its draws: those of a recording with so many channels that are all the same."""
    noisy = clip.noisy.astype(np.float32)
    rate, rows = denoiser.sample_rate or 1, np.tile(noisy, (shots, 1))
    draws = denoise(denoiser, rows, sample_rate=rate, steps=STEPS).astype(np.float64)
    normal = measured_normal(denoiser, [noisy[None]], rate)
    gain = float(np.ravel(normal.gain)[0])
    removed = gain * float(np.std(noisy - draws.mean(axis=0)))
    units = {"level": 1.0, "recording's unit": gain, "removed": removed}
    return Drawn(gain * draws, gain * clip.clean, units, clip)


def joined(subset: Sequence[Drawn]) -> tuple[Array, Array]:
    """Draws (shots, L) and truth (L,) of all clips, one after the other."""
    return np.concatenate([d.draws for d in subset], 1), np.concatenate([d.truth for d in subset])


def measured(bands: Bands | None, subset: Sequence[Drawn], shots: int) -> dict[str, Any]:
    """Coverage of the band of so many draws, in all and by record and noise, and its CRPS."""
    draws, truth = joined(subset)
    mean, std, low, high = (x[0] for x in spread(draws[None, :shots], bands))
    inside = (low <= truth) & (truth <= high)
    of_record, of_group = (
        np.repeat([getattr(d.clip, name) for d in subset], [len(d.truth) for d in subset])
        for name in ("record", "group")
    )
    return {
        "coverage": round(float(coverage(low, high, truth)), 4),
        "by_record": _by(inside, of_record),
        "by_noise": _by(inside, of_group),
        "width": round(float(np.mean(high - low)), 4),
        "crps": round(float(crps_of_normal(mean, std, truth)), 5),
        "crps_of_draws": round(float(crps_of_draws(draws[:shots], truth)), 5),
    }


def _by(inside: Array, names: Array) -> dict[str, float]:
    return {str(name): round(float(inside[names == name].mean()), 4) for name in np.unique(names)}


def constant(unit: str, fitted: Sequence[Drawn], subset: Sequence[Drawn]) -> float:
    """CRPS of a normal law whose constant width is the best for the clips that it is fitted on."""

    def score(clips: Sequence[Drawn], factor: float) -> float:
        draws, truth = joined(clips)
        std = np.repeat([factor * d.units[unit] for d in clips], [len(d.truth) for d in clips])
        return float(crps_of_normal(draws.mean(axis=0), std, truth))

    draws, truth = joined(fitted)
    rms = np.std(draws.mean(axis=0) - truth) / np.mean([d.units[unit] for d in fitted])
    best = min(rms * np.geomspace(0.2, 1.5, 25), key=lambda factor: score(fitted, factor))
    return round(score(subset, best), 5)


def crossed(one: Sequence[Drawn], other: Sequence[Drawn]) -> dict[str, Any]:
    """What bands that were calibrated on one half are worth on the other."""
    bands = calibrated(*joined(one), steps=STEPS)
    shots = len(one[0].draws)
    return {
        "calibrated_on": sorted({d.clip.record for d in one}),
        "bands": {k: v for k, v in asdict(bands).items() if k != "data"},
        "uncalibrated": measured(None, other, shots),
        "by_shots": {str(n): measured(bands, other, n) for n in (2, 4, 8) if n <= shots},
        "crps_of_constant_width": {unit: constant(unit, one, other) for unit in one[0].units},
    }


def sentence(halves: Sequence[Mapping[str, Any]], domain: str, clips: int) -> str:
    """What the bands of a model go by and are worth, in a line."""
    held = [f"{100 * list(half['by_shots'].values())[-1]['coverage']:.0f} %" for half in halves]
    records = sum(len(half["calibrated_on"]) for half in halves)
    return (
        f"{clips} clips of {records} held-out {domain} records; "
        f"bands of either half of them hold {' and '.join(held)} of the other"
    )


def hold(halves: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the bands of each half are honest on the other, at all draws."""
    return all(0.85 <= list(half["by_shots"].values())[-1]["coverage"] <= 0.95 for half in halves)


def table(halves: Sequence[Mapping[str, Any]]) -> str:
    """The halves as a table in Markdown."""
    head = ["measured on", "draws", "coverage", "by record", "by noise", "CRPS"]
    lines = []
    for half in halves:
        least = min(half["crps_of_constant_width"].values())
        for name, row in [("raw", half["uncalibrated"]), *half["by_shots"].items()]:
            shares = [row[by].values() for by in ("by_record", "by_noise")]
            ranges = [f"{min(subset):.2f} to {max(subset):.2f}" for subset in shares]
            cells = [", ".join(row["by_record"]), name, f"{row['coverage']:.3f}", *ranges]
            lines.append([*cells, f"{row['crps']:.4f}", f"{least:.4f}"])
    return markdown_table([*head, "of constant width"], lines)


def calibration(
    denoiser: NetworkDenoiser, data: str, shots: int
) -> tuple[Bands, list[dict[str, Any]], int]:
    """The bands of all held-out clips, what those of each half are worth, and how many they are."""
    domain = str(denoiser.domain)
    halves = [[drawn(denoiser, clip, shots) for clip in half] for half in HALVES[domain](data)]
    both = [*halves[0], *halves[1]]
    found = [crossed(halves[0], halves[1]), crossed(halves[1], halves[0])]
    words = sentence(found, domain, len(both))
    return calibrated(*joined(both), steps=STEPS, data=words), found, len(both)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with manifest.csv")
    parser.add_argument("--model", default="ecg", help="name or file")
    parser.add_argument("--shots", type=int, default=8)
    parser.add_argument("--write", type=Path, help="model file with the bands in it")
    parser.add_argument("--output", type=Path, help="JSON, by the model's domain")
    options = parser.parse_args(arguments)
    torch.set_num_threads(min(2, torch.get_num_threads()))
    denoiser = Denoiser.from_pretrained(options.model)
    if denoiser.domain not in HALVES:
        parser.error(
            f"{options.model} is for {denoiser.domain}; give one for {' or '.join(HALVES)}"
        )
    bands, halves, clips = calibration(denoiser, options.data, options.shots)
    print(table(halves))
    print(bands)
    if options.output:
        whole = json.loads(options.output.read_text()) if options.output.is_file() else {}
        whole[denoiser.domain] = {
            "command": "python benchmarks/calibrate_bands.py --data DATA "
            f"--model {denoiser.domain}",
            "date": datetime.now(timezone.utc).date().isoformat(),
            "machine": machine(),
            "data": data_digest(options.data),
            "clips": clips,
            "bands": asdict(bands),
            "halves": halves,
        }
        options.output.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    if options.write:
        if not hold(halves):
            parser.exit(
                1, f"{options.write} is not written: the halves don't hold for each other\n"
            )
        denoiser.bands = bands
        denoiser.save_pretrained(options.write)


if __name__ == "__main__":
    main()
