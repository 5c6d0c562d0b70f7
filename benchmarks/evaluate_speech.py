"""Score the speech model on voices and noises that it has not heard, beside a known baseline.

    python benchmarks/evaluate_speech.py --data DATA --output results/speech.json \\
        --page docs/results.md

Two groups of recordings under DATA: the six VoiceBank-DEMAND pairs `pairs/*_{noisy,clean}.flac`,
and the 60 mixes of `speech_valid_mixes.csv`: 22 speakers with a quiet floor, 13 kinds
of noise, at 0, 5, 10 and 15 dB SNR. Columns of the table: PESQ (wide band, up to 4.64), ESTOI (up
to 100) and SI-SDR (dB), each a mean over the recordings, and the real-time factor: seconds of
work per second of sound on two threads, the model's loading apart. About one minute on two cores.
Expect, in one step, PESQ 1.86 and SI-SDR 11.1 dB on the pairs (input: 1.41 and 8.2; most of them
have a second voice in the noise), 2.15 and 13.5 dB on the mixes (input: 1.44 and 7.5).
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from shared.result_tables import insert_table

from signal_diffusion import Denoiser, denoise
from signal_diffusion.errors import InputError
from signal_diffusion.evaluation.summary import markdown_table
from signal_diffusion.files import artifact
from signal_diffusion.metrics import estoi, pesq_wb, si_sdr

MIXES = Path(__file__).parent / "speech_valid_mixes.csv"
RATE = 16000
THREADS = 2
METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "pesq": lambda estimate, clean: pesq_wb(estimate, clean).item(),
    "estoi": lambda estimate, clean: 100 * estoi(estimate, clean, sample_rate=RATE).item(),
    "si_sdr": lambda estimate, clean: si_sdr(estimate, clean).item(),
}

Method = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Clip:
    """A noisy recording and its clean speech, each (L,)."""

    noisy: np.ndarray
    clean: np.ndarray


def pairs(data: Path) -> list[Clip]:
    """The recorded pairs under `data`."""
    paths = sorted((data / "pairs").glob("*_noisy.flac"))
    return [Clip(_read(p), _read(p.with_name(p.name.replace("noisy", "clean")))) for p in paths]


def mixes(data: Path, listing: Path = MIXES) -> list[Clip]:
    """The mixes of a listing: columns speech, speech_start, noise, noise_start, samples, snr_db."""
    return [_mix(data, row) for row in read_listing(listing)]


def read_listing(listing: Path) -> list[dict[str, str]]:
    """The rows of a listing of mixes."""
    with listing.open(newline="") as file:
        return list(csv.DictReader(file))


def _mix(data: Path, row: dict[str, str]) -> Clip:
    samples = int(row["samples"])
    clean = _read(data / row["speech"], int(row["speech_start"]), samples)
    noise = _read(data / row["noise"], int(row["noise_start"]), samples)
    wanted = np.mean(clean**2) / 10 ** (float(row["snr_db"]) / 10)
    return Clip(clean + noise * np.sqrt(wanted / np.mean(noise**2)), clean)


def _read(path: Path, start: int = 0, frames: int = -1) -> np.ndarray:
    samples, rate = soundfile.read(path, frames=frames, start=start, dtype="float32")
    if rate != RATE or samples.ndim != 1 or frames not in (-1, len(samples)):
        raise InputError(f"{path} is not what the listing says: mono at {RATE} Hz, long enough")
    return samples


def methods(model: Denoiser, name: str, steps: Sequence[int]) -> dict[str, Method]:
    """What is compared: the input itself, the baseline, and the model at several step counts."""
    from noisereduce import reduce_noise

    def after(count: int) -> Method:
        return lambda noisy: denoise(model, noisy, sample_rate=RATE, steps=count)

    table: dict[str, Method] = {
        "input": lambda noisy: noisy,
        "noisereduce": lambda noisy: reduce_noise(y=noisy, sr=RATE),
    }
    return table | {f"{name}, {n} step{'s' * (n > 1)}": after(n) for n in steps}


def score(method: Method, clips: Sequence[Clip]) -> dict[str, float]:
    """Mean of every metric over the clips, and the seconds that the method took."""
    method(clips[0].noisy)
    started = time.perf_counter()
    estimates = [method(clip.noisy) for clip in clips]
    elapsed = time.perf_counter() - started
    rows = zip(estimates, clips, strict=True)
    scores = [[metric(e, c.clean) for metric in METRICS.values()] for e, c in rows]
    means = np.mean(scores, axis=0).round(3).tolist()
    return dict(zip(METRICS, means, strict=True)) | {"elapsed": elapsed}


def evaluate(
    data: Path, model: str, steps: Sequence[int], *, listing: Path = MIXES
) -> dict[str, Any]:
    """Everything that the table needs and what made it, as plain values for JSON."""
    torch.set_num_threads(THREADS)
    file = artifact.resolve(model)
    denoiser = Denoiser.from_pretrained(file)
    groups = {"pairs": pairs(data), "mixes": mixes(data, listing)}
    rows = [
        _row(name, method, groups) for name, method in methods(denoiser, file.stem, steps).items()
    ]
    return {
        "command": f"python benchmarks/evaluate_speech.py --data DATA --model {file.stem} "
        f"--steps {' '.join(map(str, steps))}",
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": {"cpu": _cpu(), "cores": os.cpu_count(), "threads": THREADS},
        "versions": {p: version(p) for p in ("torch", "pesq", "pystoi", "noisereduce")},
        "model": {
            "sha256": _digest([file]),
            "parameters": sum(p.numel() for p in denoiser.parameters()),
        },
        "data": {
            "sha256": _digest([listing, *_files(data, listing)]),
            "recordings": {name: len(clips) for name, clips in groups.items()},
            "seconds": {name: round(_seconds(clips), 1) for name, clips in groups.items()},
        },
        "rows": rows,
    }


def _row(name: str, method: Method, groups: dict[str, list[Clip]]) -> dict[str, Any]:
    print(name, file=sys.stderr)
    scores = {group: score(method, clips) for group, clips in groups.items()}
    elapsed = sum(s.pop("elapsed") for s in scores.values())
    factor = elapsed / sum(_seconds(clips) for clips in groups.values())
    return {"method": name, **scores, "real_time_factor": round(factor, 4)}


def _seconds(clips: Iterable[Clip]) -> float:
    return sum(len(clip.clean) for clip in clips) / RATE


def _files(data: Path, listing: Path) -> list[Path]:
    named = {data / row[column] for row in read_listing(listing) for column in ("speech", "noise")}
    return sorted({*named, *(data / "pairs").glob("*.flac")})


def _digest(paths: Iterable[Path]) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def table(results: dict[str, Any]) -> str:
    """The results as a Markdown table."""
    counts = results["data"]["recordings"]
    head = [f"{counts['pairs']} pairs: PESQ", "ESTOI", "SI-SDR dB"]
    head += [f"{counts['mixes']} mixes: PESQ", "ESTOI", "SI-SDR dB", "real-time factor"]
    return markdown_table(["", *head], [[r["method"], *_cells(r)] for r in results["rows"]])


def _cells(row: dict[str, Any]) -> list[str]:
    scores = [row[group] for group in ("pairs", "mixes")]
    cells = [f"{s[key]:.{digits}f}" for s in scores for key, digits in _DIGITS.items()]
    return [*cells, "" if row["method"] == "input" else f"{row['real_time_factor']:.3f}"]


_DIGITS = {"pesq": 2, "estoi": 1, "si_sdr": 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="holds pairs/ speech/ noise/")
    parser.add_argument("--model", default="speech", help="shipped name or model file")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--page", type=Path, help="page of results whose table is rewritten")
    chosen = parser.parse_args()
    if not (chosen.data / "pairs").is_dir():
        parser.error(f"--data {chosen.data} has no folder pairs/")
    results = evaluate(chosen.data, chosen.model, chosen.steps)
    print(table(results))
    if chosen.output:
        chosen.output.parent.mkdir(parents=True, exist_ok=True)
        chosen.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if chosen.page:
        insert_table(chosen.page, "speech", table(results))


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
