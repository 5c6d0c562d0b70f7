"""Train from noisy recordings alone, and compare with the best that can be done.

    python recipes/noisy_only_limit.py

An AR(2) process in white noise at 0, 5 and 10 dB, whose best denoiser is the Wiener filter, and a
sum of three sines at the same levels. Each is written as a CSV of 100,000 readings with an offset;
`experiment=noisy_only` trains on it for three minutes without a clean sample, and estimates the
noise itself. Scores are on fresh draws. Twenty minutes on two cores; expect 0.3 to 0.5 dB under the
Wiener filter on the AR(2) process.
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
from signal_diffusion.data.synthetic import AutoRegressive
from signal_diffusion.runs import conf_folder, fit

ROWS, OFFSET = 100_000, 7.0
SINES = ((1.0, 0.013), (0.7, 0.031), (0.4, 0.087))


def drawn(kind: str, rng: np.random.Generator, length: int) -> NDArray[np.floating]:
    """A clean signal (L,)."""
    if kind == "ar2":
        return AutoRegressive(length=length)(rng, 1).clean[0, 0].double().numpy()
    time = np.arange(length)
    phases = rng.uniform(0, 2 * np.pi, len(SINES))
    waves = [
        a * np.sin(2 * np.pi * f * time + p) for (a, f), p in zip(SINES, phases, strict=True)
    ]  # fmt: skip
    return np.sum(waves, axis=0)


def trained(noisy: NDArray[np.floating], minutes: float) -> Denoiser:
    """A denoiser from one CSV of noisy readings."""
    with tempfile.TemporaryDirectory() as folder:
        lines = [f"{n},{value:.5f}" for n, value in enumerate(noisy)]
        Path(folder, "readings.csv").write_text("\n".join(["time,reading", *lines, ""]))
        seconds = round(60 * minutes)
        overrides = [
            "experiment=noisy_only", f"data.sources.root={folder}", f"folder={folder}",
            f"trainer.max_time=00:00:{seconds // 60:02d}:{seconds % 60:02d}",
            "trainer.logger=false", "trainer.enable_progress_bar=false",
        ]  # fmt: skip
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            fit(compose("train", overrides))
        return Denoiser.from_pretrained(Path(folder) / "model.safetensors")


def snr_db(clean: NDArray[np.floating], estimate: NDArray[np.floating]) -> float:
    """Signal power over that of the error, in dB."""
    return float(10 * np.log10(np.mean(clean**2) / np.mean((estimate - clean) ** 2)))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kinds", nargs="+", default=["ar2", "sines"])
    parser.add_argument("--snr", nargs="+", type=float, default=[0.0, 5.0, 10.0])
    parser.add_argument("--minutes", type=float, default=3.0)
    options = parser.parse_args(arguments)
    for kind in options.kinds:
        for level in options.snr:
            rng = np.random.default_rng(0)
            clean = drawn(kind, rng, ROWS)
            std = clean.std() * 10 ** (-level / 20)
            denoiser = trained(clean + std * rng.standard_normal(ROWS) + OFFSET, options.minutes)
            fresh = drawn(kind, rng, ROWS)
            noisy = fresh + std * rng.standard_normal(ROWS) + OFFSET
            row = {
                "signal": kind,
                "input_db": round(snr_db(fresh, noisy - OFFSET), 2),
                "output_db": round(snr_db(fresh, denoise(denoiser, noisy) - OFFSET), 2),
            }
            if kind == "ar2":
                row["wiener_db"] = round(AutoRegressive(length=4096).wiener_db(level), 2)
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
