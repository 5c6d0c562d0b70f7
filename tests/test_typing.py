"""The public names are typed: what a type checker makes of a user's first lines."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
#: Tensors have no parameters, so that nothing here may be `Any`.
TENSORS = """
import torch
from signal_diffusion import Denoiser, DenoiseStream, GaussianDenoiser, Settings, denoise
from signal_diffusion import metrics, samplers, schedules
from signal_diffusion.guidance import ClassifierFree

model = Denoiser.from_pretrained("speech")
noisy = torch.zeros(1, 16000)
clean = denoise(model, noisy, sample_rate=16000, steps=2, sampler=samplers.ddim)
rate, level, kind = model.sample_rate, model.recording.level_db, ClassifierFree(model, 2.0).kind
score = metrics.si_sdr(clean, noisy)
oracle = GaussianDenoiser(schedules.EDM(), variance=torch.ones(5))
times = schedules.log_snr_grid(oracle.schedule, 8)
estimate = samplers.ddim(oracle, torch.ones(1, 1, 8), times, eta=0.5)
stream = DenoiseStream(model, sample_rate=16000, steps=2)
settings = Settings(steps=2, strength=0.5)
calls = samplers.network_calls(samplers.heun, 4, oracle.schedule)
"""
#: Arrays have `Any` for their shape, in every library.
ARRAYS = """
import numpy as np
from signal_diffusion import Denoiser, DenoiseStream, denoise, denoise_blocks, posterior

model, noisy = Denoiser.from_pretrained("speech"), np.zeros((1, 16000), np.float32)
reveal_type(denoise(model, noisy))
reveal_type(posterior(model, noisy, shots=4).mean)
reveal_type(list(denoise_blocks(model, [noisy]))[0])
reveal_type(DenoiseStream(model, sample_rate=16000).push(noisy))
"""


def checked(tmp_path: Path, text: str, *options: str) -> str:
    pytest.importorskip("mypy", reason="needs the extra 'dev'")
    (tmp_path / "mine.py").write_text(text, encoding="utf-8")
    line = [sys.executable, "-m", "mypy", "--config-file", os.devnull, *options]
    line += ["--follow-imports=silent", "--ignore-missing-imports"]
    line += ["--cache-dir", str(ROOT / ".mypy_cache" / "user"), "mine.py"]
    done = subprocess.run(
        line,
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "signal_diffusion" / "py.typed").read_bytes() == b""


def test_a_users_first_lines_hold_no_any(tmp_path: Path) -> None:
    assert "Success" in checked(tmp_path, TENSORS, "--strict", "--disallow-any-expr")


def test_a_users_arrays_stay_arrays(tmp_path: Path) -> None:
    notes = [line for line in checked(tmp_path, ARRAYS).splitlines() if "Revealed" in line]
    assert len(notes) == 4 and all('type is "numpy.ndarray[' in note for note in notes), notes
