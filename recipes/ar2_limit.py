"""How near a small network comes to the best that any denoiser can do.

    python recipes/ar2_limit.py

Trains `experiment=ar2` on a Gaussian AR(2) process, whose best denoiser is the Wiener filter, then
compares both at input SNRs of -10 to 20 dB. Under two minutes on two cores; every row of the table
ends within 0.3 dB of the limit. Hydra overrides can follow, e.g. `trainer.max_steps=500`.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from signal_diffusion import Denoiser
from signal_diffusion.data.processes import AutoRegressive
from signal_diffusion.training.runs import run

SNRS_DB = (-10, -5, 0, 5, 10, 15, 20)


def gaps(model: str | Path, *, clips: int = 512) -> list[tuple[int, float, float]]:
    """Rows (input SNR, Wiener limit, the model's output SNR), all in dB, on fresh clips."""
    process, denoiser = AutoRegressive(), Denoiser.from_pretrained(model)
    clean = process(np.random.default_rng(2**31), clips).clean
    z = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    rows = []
    for snr in SNRS_DB:
        level = torch.tensor(10 ** (snr / 20) / process.std, dtype=torch.float64).log()
        t = denoiser.schedule.time_at(level)
        alpha, _, sigma = denoiser.schedule(t)
        with torch.no_grad():
            x_hat = denoiser((alpha * clean + sigma * z).float(), t)
        error = (x_hat - clean).square().mean()
        rows.append((snr, process.wiener_db(snr), float(10 * torch.log10(process.std**2 / error))))
    return rows


def main(overrides: Sequence[str] = ()) -> list[tuple[int, float, float]]:
    """Train in a temporary folder and return the rows of `gaps`."""
    with tempfile.TemporaryDirectory() as folder:
        run(["experiment=ar2", f"hydra.run.dir={folder}", *overrides])
        return gaps(Path(folder) / "model.safetensors")


if __name__ == "__main__":
    print("input SNR  Wiener limit  network  gap (dB)")
    for snr, limit, reached in main(sys.argv[1:]):
        print(f"{snr:9d}  {limit:12.2f}  {reached:7.2f}  {limit - reached:4.2f}")
