"""Train from noisy recordings alone, and compare with the best that can be done.

    python recipes/noisy_only_limit.py

An AR(2) process in white noise at 0, 5 and 10 dB, whose best denoiser is the Wiener filter, and a
sum of three sines at the same levels, beside the same network that learns as long from the clean
sines, in fresh noise of that level each time. Each is written as a CSV of a million readings with
an offset; `experiment=noisy_only` trains on it for four and a half minutes without a clean sample,
and estimates the noise itself. Scores are on fresh draws, whose noise is given, or estimated
besides. Forty-five minutes on two cores; with --steps N instead of minutes, a busy machine changes
nothing.

Expected on two cores of an AMD EPYC, at 0, 5 and 10 dB: the sines 26.9, 31.5 and 35.5 dB, where
learning from clean ones for as long gives 27.2, 31.4 and 35.6; the AR(2) process 7.0, 10.2 and
13.7, the Wiener filter 7.2, 10.3 and 13.9.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_dir
from numpy.typing import NDArray

from signal_diffusion import Denoiser, denoise
from signal_diffusion.data.processes import AutoRegressive
from signal_diffusion.training.runs import conf_folder, fit

#: Readings to learn from, and of a fresh draw.
ROWS, FRESH = 1_000_000, 100_000
OFFSET = 7.0
#: Amplitudes and frequencies in cycles a reading, whose sum never repeats itself.
SINES = ((1.0, 0.01 * 2**0.5), (0.7, 0.01 * 10**0.5), (0.4, 0.05 * 3**0.5))


def drawn(kind: str, rng: np.random.Generator, length: int) -> NDArray[np.floating]:
    """A clean signal (L,)."""
    if kind == "ar2":
        return AutoRegressive(length=length)(rng, 1).clean[0, 0].double().numpy()
    time = np.arange(length)
    phases = rng.uniform(0, 2 * np.pi, len(SINES))
    waves = [a * np.sin(2 * np.pi * f * time + p) for (a, f), p in zip(SINES, phases, strict=True)]
    return np.sum(waves, axis=0)


def learning_from_clean(std: float) -> list[str]:
    """Overrides by which the same network learns from readings without noise, whose unit is std.

    All clips are at the level that is asked for, which makes it hard to beat; the last weights
    are kept, since what is held out has no noise to be scored on.
    """
    objective = "module.objective"
    return [
        f"data.sources.noise_std={std}",
        "model.denoiser.schedule.sigma_max=1.0",
        f"{objective}._target_=signal_diffusion.training.objectives.Supervised",
        f"+{objective}.loss._target_=signal_diffusion.training.losses.SquaredError",
        f"+{objective}.last_time=1.0",
        f"+{objective}.noise_std=1.0",
        "~trainer.callbacks",
        "+trainer.callbacks=[]",
    ]


def limited(minutes: float, steps: int | None) -> list[str]:
    """Overrides that end a training after some time, or after some steps."""
    if steps is not None:
        return ["trainer.max_time=null", f"trainer.max_steps={steps}"]
    seconds = round(60 * minutes)
    return [f"trainer.max_time=00:00:{seconds // 60:02d}:{seconds % 60:02d}"]


def trained(readings: NDArray[np.floating], overrides: Sequence[str]) -> Denoiser:
    """A denoiser from one CSV of readings."""
    with tempfile.TemporaryDirectory() as folder:
        lines = [f"{n},{value:.5f}" for n, value in enumerate(readings)]
        Path(folder, "readings.csv").write_text("\n".join(["time,reading", *lines, ""]))
        usual = [
            "experiment=noisy_only",
            f"data.sources.root={folder}",
            f"folder={folder}",
            "trainer.logger=false",
            "trainer.enable_progress_bar=false",
        ]
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            fit(compose("train", [*usual, *overrides]))
        return Denoiser.from_pretrained(Path(folder) / "model.safetensors")


def snr_db(clean: NDArray[np.floating], estimate: NDArray[np.floating]) -> float:
    """Signal power over that of the error, in dB."""
    return float(10 * np.log10(np.mean(clean**2) / np.mean((estimate - clean) ** 2)))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kinds", nargs="+", default=["ar2", "sines"])
    parser.add_argument("--snr", nargs="+", type=float, default=[0.0, 5.0, 10.0])
    parser.add_argument("--minutes", type=float, default=4.5)
    parser.add_argument("--steps", type=int, help="instead of minutes, e.g. on a busy machine")
    parser.add_argument("--rows", type=int, default=ROWS)
    options = parser.parse_args(arguments)
    for kind in options.kinds:
        for level in options.snr:
            row = compared(kind, level, options.minutes, options.steps, options.rows)
            print(json.dumps(row), flush=True)


def compared(
    kind: str, level: float, minutes: float, steps: int | None, rows: int
) -> dict[str, str | float]:
    """A row of scores in dB of one signal at one SNR in dB."""
    rng = np.random.default_rng(0)
    clean = drawn(kind, rng, rows)
    std = float(clean.std() * 10 ** (-level / 20))
    learnt = clean + std * rng.standard_normal(rows) + OFFSET
    fresh = drawn(kind, rng, FRESH)
    noisy = fresh + std * rng.standard_normal(FRESH) + OFFSET

    def scored(denoiser: Denoiser, noise_std: float | None = None) -> float:
        return round(snr_db(fresh, denoise(denoiser, noisy, noise_std=noise_std) - OFFSET), 2)

    found = trained(learnt, limited(minutes, steps))
    row: dict[str, str | float] = {
        "signal": kind,
        "input_db": round(snr_db(fresh, noisy - OFFSET), 2),
        "output_db": scored(found, std),
        "output_db_estimated_noise": scored(found),
    }
    if kind == "ar2":
        return {**row, "wiener_db": round(AutoRegressive(length=4096).wiener_db(level), 2)}
    # A step that knows the truth calls the network once a clip, not 1.25 times.
    longer = None if steps is None else round(1.4 * steps)
    informed = [*limited(minutes, longer), *learning_from_clean(std)]
    return {**row, "clean_trained_db": scored(trained(clean, informed), std)}


if __name__ == "__main__":
    main()
