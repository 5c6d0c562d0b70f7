"""Time and memory of cleaning long electrocardiograms in CSV files, as whole processes.

    python benchmarks/benchmark_tables.py --data DATA --output results/tables.json
        --page docs/results.md

Writes tables of time stamps and leads at 360 Hz, of 1 and 10 hours with 2 leads and of an hour with
8: records of DATA (MIT-BIH) over and over, each hour with fresh white noise. Each is cleaned with
`signal-diffusion denoise --model ecg` in one step, and seconds, real-time factor and peak memory of
the process are told. Six minutes on two cores that have nothing else to do. Expect a real-time
factor of 0.005 for 2 leads and 0.02 for 8, and a peak memory that does not go by the length.

A day of 8 leads (--kinds 24x8), 2.1 GB, takes half an hour more, and 5 GB of disk in the folder for
temporary files (TMPDIR). Run on part of one core, beside other programs, it took 1,823 s of
processor time, 0.021 of real time, and 640 MB.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from shared.result_tables import data_digest, insert_table

from signal_diffusion.dsp import Array
from signal_diffusion.evaluation.outputs import write_results
from signal_diffusion.evaluation.summary import markdown_table

RATE = 360
#: Hours and leads of the tables.
KINDS = ((1.0, 2), (10.0, 2), (1.0, 8))
NOISE_MV = 0.1


def records(data: Path, leads: int) -> Array:
    """The first records of the data in mV, (leads, L)."""
    with np.load(data / "sensors" / "ecg_mitdb.npz") as arrays:
        names = [name for name in arrays if name.isdigit()][:leads]
        return np.stack([arrays[name] for name in names]) * float(arrays["scale_mv"])


def blocks(clean: Array, rows: int) -> Iterator[Array]:
    """Leads (C, n) over and over with fresh noise, of so many rows in all."""
    rng = np.random.default_rng(0)
    for start in range(0, rows, clean.shape[1]):
        part = clean[:, : rows - start]
        yield part + NOISE_MV * rng.standard_normal(part.shape)


def write(path: Path, clean: Array, rows: int) -> None:
    """Write a table of seconds and leads, in mV to three decimals."""
    line = "%.6f" + ",%.3f" * len(clean) + "\n"
    with path.open("w", encoding="utf-8") as file:
        file.write(",".join(["time (s)", *(f"lead {at + 1} (mV)" for at in range(len(clean)))]))
        file.write("\n")
        start = 0
        for block in blocks(clean, rows):
            seconds = (start + np.arange(block.shape[1])) / RATE
            numbers = np.vstack([seconds, block]).T.ravel().tolist()
            file.write(line * block.shape[1] % tuple(numbers))
            start += block.shape[1]


def measured(command: Sequence[str]) -> tuple[float, float, float]:
    """Seconds by the clock and of the processors, and peak memory in MB, of a process."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{' '.join(command[:4])} ... ended with status {status}")
    taken = time.perf_counter() - began
    return taken, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def rows(data: Path, kinds: Sequence[tuple[float, int]]) -> list[dict[str, Any]]:
    """One row for each length and count of leads."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        noisy, clean = Path(folder, "noisy.csv"), Path(folder, "clean.csv")
        command = [
            sys.executable,
            "-m",
            "signal_diffusion",
            "denoise",
            str(noisy),
            "-o",
            str(clean),
            "--model",
            "ecg",
            "--force",
        ]
        for hours, leads in kinds:
            write(noisy, records(data, leads), round(hours * 3600 * RATE))
            seconds, processor, memory = measured(command)
            found.append(
                {
                    "hours": hours,
                    "leads": leads,
                    "megabytes": round(noisy.stat().st_size / 1e6),
                    "seconds": round(seconds, 1),
                    "processor_seconds": round(processor, 1),
                    "memory_mb": round(memory),
                    "real_time_factor": round(seconds / hours / 3600, 5),
                }
            )
            print(json.dumps(found[-1]), flush=True)
    return found


def table(found: Sequence[dict[str, Any]]) -> str:
    """The rows as a table in Markdown."""
    head = ["electrocardiogram at 360 Hz, CSV", "size", "seconds", "real-time factor"]
    lines = [
        [
            f"{row['hours']:g} h of {row['leads']} leads",
            f"{row['megabytes']} MB",
            f"{row['seconds']:.0f}",
            f"{row['real_time_factor']:.4f}",
            f"{row['memory_mb']} MB",
        ]
        for row in found
    ]
    return markdown_table([*head, "peak memory"], lines)


def kind(text: str) -> tuple[float, int]:
    """Hours and leads, given as HOURSxLEADS.

    >>> kind("0.5x2")
    (0.5, 2)
    """
    hours, leads = text.split("x")
    return float(hours), int(leads)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--kinds", type=kind, nargs="+", default=KINDS, metavar="HOURSxLEADS")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--page", type=Path)
    options = parser.parse_args(arguments)
    found = rows(options.data, options.kinds)
    print(table(found))
    if options.output:
        write_results(
            options.output,
            "python benchmarks/benchmark_tables.py --data DATA",
            data=data_digest(options.data),
            rows=found,
        )
    if options.page:
        insert_table(options.page, "tables", table(found))


if __name__ == "__main__":
    main()
