"""What `signal-diffusion benchmark` scores on: recordings with their truth, and the measures.

All come at the model's rate, or at their own where it has none; of each, the beginning counts, so
that hours don't take hours. Gaps of tables are filled in between their neighbours.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from signal_diffusion.cli.evaluated_data import takes_readings
from signal_diffusion.data.corpus import list_folder
from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.errors import InputError
from signal_diffusion.recordings import opened, resample
from signal_diffusion.recordings.tables import is_table
from signal_diffusion.tasks.benchmarking import RATE, Example, Row, task_of
from signal_diffusion.tasks.measures import METRICS, metrics_named
from signal_diffusion.tasks.pairs import Pair, folder_pairs
from signal_diffusion.tasks.plans import Columns
from signal_diffusion.tasks.readings import opened_columns, shape_of

Array = NDArray[Any]
#: Seconds of each recording that count, and samples of slow readings.
LONGEST, FEWEST = 30.0, 10_000
#: PESQ's rate.
WIDE_BAND = 16000


@dataclass(frozen=True)
class Scoring:
    """Means of some measures over examples (C, L) at a rate in Hz."""

    examples: Sequence[Example]
    measures: Sequence[str]
    sample_rate: float

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
            return [METRICS[name].measure(*pair, self.sample_rate) for name in self.measures]
        except InputError as error:
            raise InputError(f"{example.name}: {error}") from error


def scoring_of(
    denoiser: NetworkDenoiser, folder: Path, *, files: int, metrics: Sequence[str] | None
) -> Scoring:
    """The examples of a folder, evenly chosen, and the measures that suit the model.

    Args:
        denoiser: a denoiser, whose folder has clean/ and noisy/, of sound or of tables, or a
            vocoder, whose folder has recordings.
        folder: the data.
        files: the most that are taken.
        metrics: names of `METRICS`; None chooses.

    Raises:
        InputError: a name is unknown, or the folder holds no such recordings.
    """
    task = task_of(denoiser)
    if task == "generate":
        raise InputError(
            "this model draws signals, which have no truth to compare with: leave the data "
            "(`signal-diffusion memorisation` compares them with what it was trained on)"
        )
    if task == "vocode":
        return _of_vocoder(denoiser, folder, files, metrics)
    pairs = _some(_pairs(folder), files)
    readings = takes_readings(denoiser, denoiser.domain or "this", pairs)
    usual = [] if readings else ["si_sdr", *_pesq(denoiser)]
    names = metrics_named(metrics or usual, domain=denoiser.domain, readings=readings)
    own = shape_of(pairs[0].clean)[0] if readings else RATE
    rate = denoiser.sample_rate or own
    return Scoring([_example(pair, rate) for pair in pairs], names, rate)


def _of_vocoder(
    denoiser: NetworkDenoiser, folder: Path, files: int, metrics: Sequence[str] | None
) -> Scoring:
    rate = denoiser.sample_rate or RATE
    names = metrics_named(metrics or [*_pesq(denoiser), "lsd"])
    clips = _some(list_folder(folder), files)
    found = [Example(clip.name, None, _read(clip.path, rate)[:1]) for clip in clips]
    return Scoring(found, names, rate)


def _pesq(denoiser: NetworkDenoiser) -> list[str]:
    """PESQ, for models of such speech, where it is installed."""
    heard = denoiser.domain == "speech" and denoiser.sample_rate == WIDE_BAND
    return ["pesq"] if heard and importlib.util.find_spec("pesq") is not None else []


def _pairs(folder: Path) -> list[Pair]:
    for name in ("clean", "noisy"):
        if not (folder / name).is_dir():
            raise InputError(
                f"{folder} has no folder {name}: give one with clean/ and noisy/, with files of "
                "the same names"
            )
    return folder_pairs(folder / "clean", folder / "noisy")


def _some(found: Sequence[Any], most: int) -> list[Any]:
    """So many at the most, evenly spread."""
    count = min(most, len(found))
    return [found[index * len(found) // count] for index in range(count)]


def _example(pair: Pair, rate: float) -> Example:
    assert pair.noisy is not None
    return Example(pair.name, _read(pair.noisy, rate), _read(pair.clean, rate))


def _read(path: Path, rate: float) -> Array:
    """The beginning (C, L) of a recording or a table at a rate."""
    own, blocks = _blocks(path)
    most = max(round(LONGEST * own), FEWEST)
    held, count = [], 0
    for block in blocks:
        held.append(block)
        count += block.shape[1]
        if count >= most:
            break
    return resample(np.concatenate(held, axis=1)[:, :most], own, rate)


def _blocks(path: Path) -> tuple[float, Iterator[Array]]:
    """The rate of a file in Hz, and what it holds, bit by bit."""

    def of_sound() -> Iterator[Array]:
        with opened(path) as reader:
            for block in reader.blocks():
                yield block.astype(np.float32, copy=False)

    def of_table() -> Iterator[Array]:
        with opened_columns(path, Columns()) as reader:
            yield from reader.blocks()

    return shape_of(path)[0], of_table() if is_table(path) else of_sound()
