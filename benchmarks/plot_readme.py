"""Draw the spectrograms of the README: a noisy recording, the cleaned one, and what was removed.

    python benchmarks/plot_readme.py

Reads examples/noisy_speech.flac, cleans it with the shipped model `speech` in one step and writes
docs/before_after.png. A few seconds on a laptop. Expect speech harmonics in the second picture and
none of them in the third.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import soundfile

from signal_diffusion import Denoiser, denoise
from signal_diffusion.plots.spectrograms import Spectrograms

ROOT = Path(__file__).parents[1]
TITLES = ("noisy recording", "cleaned, one step", "removed")


def main(
    model: str = "speech",
    recording: Path = ROOT / "examples" / "noisy_speech.flac",
    output: Path = ROOT / "docs" / "before_after.png",
) -> None:
    noisy, sample_rate = soundfile.read(recording, dtype="float32")
    clean = denoise(Denoiser.from_pretrained(model), noisy, sample_rate=sample_rate)
    spectrograms = Spectrograms(TITLES, sample_rate, len(noisy))
    spectrograms.push(noisy[None], clean[None], (noisy - clean)[None])
    output.parent.mkdir(parents=True, exist_ok=True)
    spectrograms.save(output, force=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="speech", help="shipped name or model file")
    main(parser.parse_args().model)
