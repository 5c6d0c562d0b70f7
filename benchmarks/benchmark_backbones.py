"""Processor seconds a second of sound: DiffWave on samples beside our networks on frames.

    python benchmarks/benchmark_backbones.py --output results/backbones.json

Runs, on one thread, the configured models of `experiment=vocoder` and `experiment=digits` and the
published DiffWave (`experiment=diffwave`, and the same network at 16 kHz) with as many calls of the
network each; phases and everything else that a sound needs are counted. Weights are random, which
time does not go by. Two minutes on one core. Expect the vocoder to take a thirtieth to a
fiftieth of DiffWave's time at the same rate.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.evaluation.outputs import write_results
from signal_diffusion.evaluation.summary import markdown_table
from signal_diffusion.nn.mel import UnitMel
from signal_diffusion.tasks.diffwave_checkpoint import FAST, diffwave
from signal_diffusion.tasks.generate import generate
from signal_diffusion.tasks.vocode import require_vocoder, vocode
from signal_diffusion.training.runs import conf_folder

#: Calls of the network: those of DiffWave's fast sampling.
STEPS = len(FAST)


def configured(experiment: str, *overrides: str) -> NetworkDenoiser:
    """The model of an experiment with random weights."""
    from hydra import compose, initialize_config_dir
    from hydra.utils import instantiate

    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = compose("train", [f"experiment={experiment}", *overrides])
    torch.manual_seed(0)
    denoiser: NetworkDenoiser = instantiate(config.model.denoiser)
    return denoiser.eval()


def vocoded(denoiser: NetworkDenoiser, seconds: float) -> Callable[[], int]:
    """Makes sound of mel frames of noise; tells its samples."""
    mel, _ = require_vocoder(denoiser)
    frames = mel(0.1 * torch.randn(1, round(seconds * mel.sample_rate)))[0]
    return lambda: vocode(denoiser, frames, steps=STEPS).shape[-1]


def drawn(denoiser: NetworkDenoiser, seconds: float) -> Callable[[], int]:
    """Draws a signal; tells its samples. Without guidance, which doubles the calls."""
    assert denoiser.sample_rate is not None
    length = round(seconds * denoiser.sample_rate)
    return lambda: generate(denoiser, length=length, steps=STEPS, guidance=1.0).shape[-1]


def waved(denoiser: NetworkDenoiser, seconds: float) -> Callable[[], int]:
    """Makes sound of DiffWave's mel frames of noise; tells its samples."""
    assert denoiser.sample_rate is not None
    frames = UnitMel(denoiser.sample_rate)(
        0.1 * torch.randn(1, round(seconds * denoiser.sample_rate))
    )
    return lambda: diffwave(denoiser, frames[0]).shape[-1]


def cost(run: Callable[[], int], sample_rate: float, repeats: int) -> float:
    """Processor seconds a second of sound: the median of some runs, after one to warm up."""
    taken = []
    for _ in range(repeats + 1):
        began = time.process_time()
        samples = run()
        taken.append((time.process_time() - began) * sample_rate / samples)
    return statistics.median(taken[1:])


def rows(seconds: float, repeats: int) -> list[dict[str, Any]]:
    """One row for each model; ours make ten times as much sound, as they are quick."""
    models = {
        "DiffWave, 22.05 kHz": (configured("diffwave"), waved, seconds),
        "DiffWave, 16 kHz": (
            configured("diffwave", "model.denoiser.sample_rate=16000"),
            waved,
            seconds,
        ),
        "vocoder, 16 kHz": (configured("vocoder"), vocoded, 10 * seconds),
        "digits, 8 kHz": (configured("digits"), drawn, 10 * seconds),
    }
    found: list[dict[str, Any]] = []
    for name, (denoiser, task, length) in models.items():
        taken = cost(task(denoiser, length), float(denoiser.sample_rate or 0), repeats)
        found.append(
            {
                "model": name,
                "parameters": sum(p.numel() for p in denoiser.parameters()),
                "calls": STEPS,
                "processor_seconds_a_second": round(taken, 4),
            }
        )
        print(json.dumps(found[-1]), flush=True)
    return found


def table(found: Sequence[dict[str, Any]]) -> str:
    """The rows as a table in Markdown, with how much less than DiffWave's each cost is."""
    costs = {row["model"]: row["processor_seconds_a_second"] for row in found}
    head = ["model", "parameters", "processor seconds a second", "DiffWave at 22.05 kHz"]
    lines = []
    for row in found:
        own = row["processor_seconds_a_second"]
        times = [costs[f"DiffWave, {rate} kHz"] / own for rate in ("22.05", "16")]
        parameters = f"{row['parameters'] / 1e6:.1f} M"
        lines.append([row["model"], parameters, f"{own:.3g}", *(f"{n:.3g} times" for n in times)])
    return markdown_table([*head, "at 16 kHz"], lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="of DiffWave's sound")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    found = rows(options.seconds, options.repeats)
    print(table(found))
    if options.output:
        write_results(options.output, "python benchmarks/benchmark_backbones.py", rows=found)


if __name__ == "__main__":
    main()
