"""Draw the spectrograms of the README: a noisy recording, the cleaned one, and what was removed.

    python recipes/plot_readme.py

Reads examples/noisy_speech.flac, cleans it with the shipped model `speech` in one step and writes
docs/before_after.png. A few seconds on a laptop. Expect speech harmonics in the second picture and
none of them in the third.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
import soundfile
import torch
from matplotlib import pyplot as plt
from PIL import Image

from signal_diffusion import Denoiser, denoise

ROOT = Path(__file__).parents[1]
WINDOW, HOP = 512, 128
RANGE_DB = 60.0
COLOURS = plt.get_cmap("magma", 32)


def spectrogram_db(samples: np.ndarray) -> np.ndarray:
    """Power of a signal (L,) per frequency and frame, in dB of full scale."""
    taper = torch.hann_window(WINDOW)
    stft = torch.stft(torch.as_tensor(samples), WINDOW, HOP, window=taper, return_complex=True)
    return 20 * torch.log10(2 * stft.abs() / taper.sum() + 1e-8).numpy()


def draw(panels: dict[str, np.ndarray], sample_rate: int) -> plt.Figure:
    """One spectrogram a panel, under one another, on one colour scale."""
    levels = {title: spectrogram_db(samples) for title, samples in panels.items()}
    top = 5 * np.ceil(max(np.percentile(v, 99.9) for v in levels.values()) / 5)
    figure, axes = plt.subplots(len(panels), sharex=True, figsize=(9, 6.6), layout="constrained")
    for axis, (title, level) in zip(axes, levels.items(), strict=True):
        seconds = len(panels[title]) / sample_rate
        image = axis.imshow(
            level,
            origin="lower",
            aspect="auto",
            cmap=COLOURS,
            extent=(0, seconds, 0, sample_rate / 2000),
            vmin=top - RANGE_DB,
            vmax=top,
        )
        axis.set_title(title, loc="left", fontsize=11)
        axis.set_ylabel("frequency, kHz")
    axes[-1].set_xlabel("time, s")
    figure.colorbar(image, ax=axes, label="level, dB of full scale", pad=0.015, aspect=40)
    return figure


def save(figure: plt.Figure, path: Path) -> None:
    """Write a figure as a small PNG of the colour scale's colours and greys."""
    whole = io.BytesIO()
    figure.savefig(whole, dpi=100)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.open(whole).convert("RGB")
    picture.quantize(palette=_palette(), dither=Image.Dither.NONE).save(path, optimize=True)


def _palette() -> Image.Image:
    greys = np.linspace(0, 255, 64 - COLOURS.N).astype(np.uint8)[:, None].repeat(3, axis=1)
    scale = COLOURS(np.arange(COLOURS.N), bytes=True)[:, :3]
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.concatenate([scale, greys]).tobytes())
    return palette


def main(
    model: str = "speech",
    recording: Path = ROOT / "examples" / "noisy_speech.flac",
    output: Path = ROOT / "docs" / "before_after.png",
) -> None:
    noisy, sample_rate = soundfile.read(recording, dtype="float32")
    denoiser = Denoiser.from_pretrained(model)
    clean = denoise(denoiser, noisy, sample_rate=sample_rate)
    panels = {"noisy recording": noisy, "cleaned, one step": clean, "removed": noisy - clean}
    save(draw(panels, sample_rate), output)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="speech", help="shipped name or model file")
    main(parser.parse_args().model)
