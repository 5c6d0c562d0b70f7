"""Time and memory of cleaning long files, beside a known baseline, as whole processes.

    python benchmarks/benchmark_files.py --output results/files.json --page docs/results.md

Tiles examples/noisy_speech.flac to 10 and 60 minutes at 16 kHz mono and to 10 and 60 minutes at
48 kHz stereo, cleans each with `signal-diffusion denoise` and the ten-minute ones with noisereduce
too (an hour of it needs more memory than most laptops have), and tells seconds, real-time factor
and the peak memory of every process. Ten minutes on two cores; expect a real-time factor of 0.006
and 450 MB at 16 kHz mono whatever the length, and more than the speed of noisereduce.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from shared.result_tables import data_digest, insert_table

from signal_diffusion.dsp.resampling import resample
from signal_diffusion.evaluation.outputs import write_results
from signal_diffusion.evaluation.summary import markdown_table

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "noisy_speech.flac"
KINDS = ((16000, 1), (48000, 2))
REDUCE = """
import sys, noisereduce, soundfile
noisy, rate = soundfile.read(sys.argv[1], dtype="float32", always_2d=True)
soundfile.write(sys.argv[2], noisereduce.reduce_noise(y=noisy.T, sr=rate).T, rate)
"""


def tiled(path: Path, rate: int, channels: int, minutes: float) -> None:
    """Write the example over and over, each channel from another place on."""
    clip, source_rate = soundfile.read(EXAMPLE, dtype="float32")
    clip = resample(clip[None], source_rate, rate)[0]
    frames = round(minutes * 60 * rate)
    with soundfile.SoundFile(path, "w", rate, channels, "PCM_16") as file:
        for start in range(0, frames, len(clip)):
            block = np.stack([np.roll(clip, 1000 * channel) for channel in range(channels)], axis=1)
            file.write(block[: frames - start])


def measured(command: Sequence[str]) -> tuple[float, float]:
    """Seconds and peak memory in MB of a process."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{' '.join(command[:4])} ... ended with status {status}")
    return time.perf_counter() - began, usage.ru_maxrss / 1024


def rows(minutes: Sequence[float], baseline_minutes: float) -> list[dict[str, Any]]:
    """One row for each method, kind and length."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        noisy, clean = Path(folder, "noisy.wav"), Path(folder, "clean.wav")
        commands = {
            "speech": ["signal-diffusion", "denoise", str(noisy), "-o", str(clean), "--force"],
            "noisereduce": [sys.executable, "-c", REDUCE, str(noisy), str(clean)],
        }
        for rate, channels in KINDS:
            for length in minutes:
                tiled(noisy, rate, channels, length)
                for method, command in commands.items():
                    if method == "noisereduce" and length > baseline_minutes:
                        continue
                    seconds, memory = measured(command)
                    found.append(
                        {
                            "method": method,
                            "rate": rate,
                            "channels": channels,
                            "minutes": length,
                            "seconds": round(seconds, 1),
                            "memory_mb": round(memory),
                            "real_time_factor": round(seconds / length / 60, 5),
                        }
                    )
                    print(json.dumps(found[-1]), flush=True)
    return found


def table(found: Sequence[dict[str, Any]]) -> str:
    """The rows as a table in Markdown."""
    head = ["recording", "method", "seconds", "real-time factor", "peak memory"]
    lines = []
    for row in found:
        kind = "mono" if row["channels"] == 1 else "stereo"
        recording = f"{row['minutes']:g} min of {row['rate'] / 1000:g} kHz {kind}"
        times = f"{row['seconds']:.0f}", f"{row['real_time_factor']:.4f}"
        lines.append([recording, row["method"], *times, f"{row['memory_mb']} MB"])
    return markdown_table(head, lines, words=2)


def ratio(found: Sequence[dict[str, Any]]) -> list[str]:
    """How much faster than the baseline, on the same file in the same run."""
    by = {(row["method"], row["rate"], row["minutes"]): row["seconds"] for row in found}
    return [
        f"{seconds / by['speech', rate, minutes]:.1f}"
        for (method, rate, minutes), seconds in by.items()
        if method == "noisereduce"
    ]


def shown(found: Sequence[dict[str, Any]]) -> str:
    """The table, and the ratios below it, in Markdown."""
    times = " and ".join(ratio(found))
    return f"{table(found)}\n\nThat is {times} times as fast as noisereduce on the same file."


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, nargs="+", default=[10, 60])
    parser.add_argument("--baseline-minutes", type=float, default=10)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--page", type=Path)
    options = parser.parse_args(arguments)
    found = rows(options.minutes, options.baseline_minutes)
    print(table(found), f"\ntimes as fast as noisereduce: {', '.join(ratio(found))}")
    if options.output:
        write_results(
            options.output,
            "python benchmarks/benchmark_files.py",
            data=data_digest(EXAMPLE),
            rows=found,
        )
    if options.page:
        insert_table(options.page, "files", shown(found))


if __name__ == "__main__":
    main()
