"""What `signal-diffusion benchmark` scores on: recordings with their truth, and the measures.

All come at the model's rate; of each, the beginning counts, so that hours don't take hours.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from signal_diffusion.data.corpus import Clip, list_folder
from signal_diffusion.data.speech import matched
from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.errors import InputError
from signal_diffusion.metrics import estoi, log_spectral_distance, pesq_wb, prd, si_sdr, snr
from signal_diffusion.recordings import opened, resample
from signal_diffusion.tasks.benchmarking import RATE, Example, Row, task_of

Array = NDArray[Any]
#: Seconds of each recording that count.
LONGEST = 30.0
METRICS: dict[str, Callable[[Array, Array, int], torch.Tensor]] = {
    "si_sdr": lambda estimate, clean, _: si_sdr(estimate, clean),
    "snr": lambda estimate, clean, _: snr(estimate, clean),
    "prd": lambda estimate, clean, _: prd(estimate, clean),
    "lsd": lambda estimate, clean, _: log_spectral_distance(estimate, clean),
    "pesq": lambda estimate, clean, rate: pesq_wb(estimate, clean, sample_rate=rate),
    "estoi": lambda estimate, clean, rate: estoi(estimate, clean, sample_rate=rate),
}
#: PESQ's rate.
WIDE_BAND = 16000


@dataclass(frozen=True)
class Scoring:
    """Means of some measures over examples (C, L) at a rate in Hz."""

    examples: Sequence[Example]
    measures: Sequence[str]
    sample_rate: int

    def __call__(self, estimated: Callable[[Example], Array]) -> Row:
        """The means of one way of estimating; what can't be computed is None."""
        scores = [self._of(example, estimated(example)) for example in self.examples]
        means = np.mean(scores, axis=0)
        return {
            name: float(mean) if np.isfinite(mean) else None
            for name, mean in zip(self.measures, means, strict=True)
        }

    @property
    def digest(self) -> str:
        """What tells these examples from others: 16 digits of a SHA-256."""
        found = hashlib.sha256()
        for example in self.examples:
            found.update(example.name.encode() + example.clean.tobytes())
            found.update(b"" if example.given is None else example.given.tobytes())
        return found.hexdigest()[:16]

    def _of(self, example: Example, estimate: Array) -> list[float]:
        count = min(estimate.shape[-1], example.clean.shape[-1])
        pair = estimate[:, :count], example.clean[:, :count]
        try:
            found = [METRICS[name](*pair, self.sample_rate) for name in self.measures]
        except InputError as error:
            raise InputError(f"{example.name}: {error}") from error
        return [float(score.mean()) for score in found]


def scoring_of(
    denoiser: NetworkDenoiser, folder: Path, *, files: int, metrics: Sequence[str] | None
) -> Scoring:
    """The examples of a folder, evenly chosen, and the measures that suit the model.

    Args:
        denoiser: a denoiser, whose folder has clean/ and noisy/, or a vocoder, whose folder has
            recordings.
        folder: the data.
        files: the most that are taken.
        metrics: names of `METRICS`; None chooses.

    Raises:
        InputError: a name is unknown, or the folder holds no such recordings.
    """
    rate, task = denoiser.sample_rate or RATE, task_of(denoiser)
    if task == "generate":
        raise InputError(
            "this model draws signals, which have no truth to compare with: leave the data "
            "(`signal-diffusion memorisation` compares them with what it was trained on)"
        )
    names = tuple(metrics or _usual(denoiser, task))
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        raise InputError(f"metric is '{unknown[0]}': choose of {', '.join(METRICS)}")
    if task == "vocode":
        clips = _some(list_folder(folder), files)
        found = [Example(clip.name, None, _read(clip, rate)[:1]) for clip in clips]
    else:
        found = [_pair(noisy, clean, rate) for noisy, clean in _some(_pairs(folder), files)]
    return Scoring(found, names, rate)


def _usual(denoiser: NetworkDenoiser, task: str) -> list[str]:
    heard = denoiser.domain == "speech" and denoiser.sample_rate == WIDE_BAND
    pesq = ["pesq"] if heard and importlib.util.find_spec("pesq") is not None else []
    return [*pesq, "lsd"] if task == "vocode" else ["si_sdr", *pesq]


def _pairs(folder: Path) -> list[tuple[Clip, Clip]]:
    for name in ("clean", "noisy"):
        if not (folder / name).is_dir():
            raise InputError(
                f"{folder} has no folder {name}: give one with clean/ and noisy/, with files of "
                "the same names"
            )
    noisy, clean = matched(folder / "noisy", folder / "clean")
    return list(zip(noisy, clean, strict=True))


def _some(found: Sequence[Any], most: int) -> list[Any]:
    """So many at the most, evenly spread."""
    count = min(most, len(found))
    return [found[index * len(found) // count] for index in range(count)]


def _pair(noisy: Clip, clean: Clip, rate: int) -> Example:
    given, truth = _read(noisy, rate), _read(clean, rate)
    if given.shape != truth.shape:
        raise InputError(
            f"{noisy.path} is {given.shape} (channels, samples) at {rate} Hz, but its clean "
            f"partner {truth.shape}: make both alike"
        )
    return Example(noisy.name, given, truth)


def _read(clip: Clip, rate: int) -> Array:
    """The beginning (C, L) of a recording at a rate."""
    with opened(clip.path) as reader:
        own, blocks, count = reader.form.sample_rate, [], 0
        for block in reader.blocks():
            blocks.append(block.astype(np.float32, copy=False))
            count += block.shape[1]
            if count >= LONGEST * own:
                break
    samples = np.concatenate(blocks, axis=1)[:, : round(LONGEST * own)]
    return samples if own == rate else resample(samples, own, rate)
