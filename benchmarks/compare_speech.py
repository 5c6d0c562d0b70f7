"""The speech model beside denoisers that others made, all by `signal-diffusion evaluate`.

    pip install ".[evaluate,dnsmos,rivals]"
    python benchmarks/compare_speech.py --data DATA --output results/compare_speech.json \\
        --page docs/results.md --readme README.md

On recordings of speakers and noises that the model was not trained on, at 16 kHz: the six
VoiceBank-DEMAND pairs `pairs/*_{noisy,clean}.flac` under DATA, and the 60 mixes of
`speech_valid_mixes.csv`. GTCRN works at 16 kHz, RNNoise and DeepFilterNet 3 at 48 kHz: they are
given what is resampled from 16 kHz, without anything above 8 kHz, their constant delays are made
good, and what they return is resampled back. DeepFilterNet was trained on VCTK, which VoiceBank is
taken from, so that the pairs' voice may not be new to it.

PESQ is wide band, DNSMOS the overall one of P.835 and, at two seconds a recording, of the pairs
alone. The table has the mean, and for the others the mean difference to the model, file by file,
with its 95 % interval. The real-time factor is seconds of one thread per second of sound, loading
apart; memory is the peak of a process that reads the longest pair, denoises it and writes it, with
what it imports for that. About five minutes on one core. Expect the model at PESQ 1.86 and SI-SDR
11.1 dB on the pairs, DeepFilterNet 3 at 1.84 and 9.9 dB; on the mixes the model at 2.15 and 13.5.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import evaluate_speech
import soundfile
from shared.result_tables import insert_table

from signal_diffusion.evaluation.measures import METRICS
from signal_diffusion.evaluation.outputs import write_results
from signal_diffusion.evaluation.summary import markdown_table

MODEL = "speech"
RIVALS = ("noisereduce", "wavelet", "wiener", "rnnoise", "gtcrn", "deepfilternet")
SETS = {"pairs": "6 pairs", "mixes": "60 mixes"}
SCORES = {
    "pairs": ("pesq", "estoi", "si_sdr", "voice_lost", "dnsmos"),
    "mixes": ("pesq", "estoi", "si_sdr", "voice_lost"),
}
NAMES = {
    "rnnoise": "RNNoise",
    "gtcrn": "GTCRN",
    "deepfilternet": "DeepFilterNet 3",
    "wiener": "local Wiener",
}
#: The rows of the README.
SUMMARY = {
    "input": "input",
    "noisereduce": "noisereduce",
    "rnnoise": "RNNoise",
    "speech, 1 step": "**signal_diffusion, model `speech`**",
    "deepfilternet": "DeepFilterNet 3",
}
#: A rival as a program of its own, for its memory: name, file to read, file to write.
ALONE = """
import sys
from signal_diffusion.audio import Recording, read, write
from signal_diffusion.evaluation.baselines import FILTERS
given = read(sys.argv[2])
made = FILTERS[sys.argv[1]].work(given.samples, given.sample_rate)
write(sys.argv[3], Recording(made, given.sample_rate, "WAV", "FLOAT"))
"""


def place_pairs(data: Path, folder: Path) -> None:
    """Copy the recorded pairs to clean/ and noisy/ of a folder."""
    for path in sorted((data / "pairs").glob("*.flac")):
        name, _, kind = path.stem.rpartition("_")
        _copy_once(path, folder / kind / f"{name}.flac")


def place_mixes(data: Path, folder: Path) -> None:
    """Write the mixes to clean/ and noisy/ of a folder, and their SNRs to a table."""
    rows = evaluate_speech.read_listing(evaluate_speech.MIXES)
    for row, mix in zip(rows, evaluate_speech.mixes(data), strict=True):
        for kind, samples in (("clean", mix.clean), ("noisy", mix.noisy)):
            path = folder / kind / f"{int(row['mix']):02}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                soundfile.write(path, samples, evaluate_speech.RATE, subtype="FLOAT")
    lines = [f"{int(row['mix']):02},{row['snr_db']}" for row in rows]
    (folder / "groups.csv").write_text("\n".join(["file,snr", *lines, ""]), encoding="utf-8")


def place_longest(pairs: Path, folder: Path) -> None:
    """Copy the longest of some pairs."""
    longest = max((pairs / "clean").iterdir(), key=lambda path: soundfile.info(path).frames)
    for kind in ("clean", "noisy"):
        _copy_once(pairs / kind / longest.name, folder / kind / longest.name)


def _copy_once(source: Path, target: Path) -> None:
    """Copy a file that isn't there yet: scores are kept with the times of the files."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copy(source, target)


def scored(work: Path, name: str, *options: str) -> dict[str, Any]:
    """What `signal-diffusion evaluate` says of the pairs in a folder of `work`."""
    words = ["evaluate", MODEL, name, "-o", f"{name}-scores", "--resume", "--quiet", *options]
    subprocess.run([sys.executable, "-m", "signal_diffusion", *words], cwd=work, check=True)
    found = json.loads((work / f"{name}-scores" / "summary.json").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def alone() -> list[str]:
    """Options for the model and each rival as a program of its own."""
    python = [sys.executable]
    lines = {name: [*python, "-c", ALONE, name, "{in}", "{out}"] for name in RIVALS}
    command = ["-m", "signal_diffusion", "denoise", "{in}", "-o", "{out}", "--quiet"]
    lines[MODEL] = [*python, *command]
    named = [f"{name}={shlex.join(line)}" for name, line in lines.items()]
    return [word for line in named for word in ("--against-command", line)]


def compared(data: Path, work: Path, *, jobs: int) -> dict[str, Any]:
    """All that was found, by set of pairs, and the peak memory by method."""
    place_pairs(data, work / "pairs")
    place_mixes(data, work / "mixes")
    place_longest(work / "pairs", work / "longest")
    groups: dict[str, list[str]] = {"pairs": [], "mixes": ["--groups", "mixes/groups.csv"]}
    against = ["--against", ",".join(RIVALS), "--jobs", str(jobs)]
    found = {
        name: scored(work, name, *against, *options, f"--metrics={','.join(SCORES[name])}")
        for name, options in groups.items()
    }
    methods = scored(work, "longest", "--metrics", "si_sdr", *alone())["methods"]
    memory = {name: methods[name]["peak_memory_mb"] for name in (MODEL, *RIVALS)}
    return {"sets": found, "memory_mb": memory}


def table(sets: Mapping[str, Mapping[str, Any]], memory: Mapping[str, float]) -> str:
    """Means, and paired differences with their intervals, of each set."""
    return "\n\n".join(_table(name, found, memory) for name, found in sets.items())


def _table(name: str, found: Mapping[str, Any], memory: Mapping[str, float]) -> str:
    scores = [score for score in SCORES[name] if score in found["metrics"]]
    headings = (METRICS[score].heading for score in scores)
    heads = [SETS[name], *headings, "real-time factor", "peak MB"]
    lines = []
    for method, row in found["methods"].items():
        less = found["differences"].get(method, {})
        factor = "" if row["real_time_factor"] is None else f"{row['real_time_factor']:.4f}"
        peak = memory.get(method.partition(",")[0])
        lines.append(
            [
                NAMES.get(method, method),
                *(_cell(score, row["scores"][score], less.get(score)) for score in scores),
                factor,
                "" if peak is None else f"{peak:.0f}",
            ]
        )
    return markdown_table(heads, lines)


def summary(mixes: Mapping[str, Any]) -> str:
    """Means of the mixes for five methods: the table of the README."""
    lines = []
    for name in SUMMARY:
        row = mixes["methods"][name]
        scores, factor = row["scores"], row["real_time_factor"]
        cells = [_number(score, scores[score]["mean"]) for score in ("pesq", "estoi", "si_sdr")]
        lines.append([SUMMARY[name], *cells, "" if factor is None else f"{factor:.3f}"])
    return markdown_table(["", "PESQ", "ESTOI %", "SI-SDR dB", "real-time factor"], lines)


def _number(score: str, value: float, sign: str = "") -> str:
    metric = METRICS[score]
    return f"{metric.scale * value:{sign}.{metric.digits}f}"


def _cell(score: str, of: Mapping[str, float], less: Mapping[str, float] | None) -> str:
    """A mean, and what it is more than the model's, from and to where that may lie."""
    number = partial(_number, score)
    if less is None:
        return f"{number(of['mean'])} ({number(of['low'])} to {number(of['high'])})"
    ends = f"{number(less['low'], '+')} to {number(less['high'], '+')}"
    return f"{number(of['mean'])}, {number(less['mean'], '+')} ({ends})"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="holds pairs/ speech/ noise/")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--work", type=Path, help="folder to keep, so that a stopped run goes on")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--page", type=Path, help="page of results whose table is rewritten")
    parser.add_argument("--readme", type=Path, help="README whose table is rewritten")
    options = parser.parse_args(arguments)
    with nullcontext(options.work) if options.work else tempfile.TemporaryDirectory() as work:
        found = compared(options.data.resolve(), Path(work).resolve(), jobs=options.jobs)
    print(table(found["sets"], found["memory_mb"]))
    if options.output:
        command = "python benchmarks/compare_speech.py --data DATA"
        # Real-time factors of a machine with other work to do are worse.
        load = os.getloadavg()[2] if hasattr(os, "getloadavg") else None
        write_results(options.output, command, load_average=load, **found)
    if options.page:
        insert_table(options.page, "compare", table(found["sets"], found["memory_mb"]))
    if options.readme:
        insert_table(options.readme, "summary", summary(found["sets"]["mixes"]))


if __name__ == "__main__":
    main()
