"""What was done to one recording, as a row of a report."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from signal_diffusion.dsp import Array
from signal_diffusion.dsp.levels import FRAME, LevelMeter
from signal_diffusion.streaming.noise_check import ChannelNoise, Removed

#: Of the frames whose levels are told, s.
FRAME_SECONDS = 0.032


class Stored(Protocol):
    """What counts of the form of a recording, of sound or of readings."""

    @property
    def sample_rate(self) -> float: ...

    @property
    def channels(self) -> int: ...

    @property
    def dtype(self) -> str: ...


@dataclass(frozen=True)
class FileReport:
    """What was done to one file.

    Attributes:
        path, output: the files.
        sample_rate, channels, seconds: of the output, in Hz and s.
        level_in_db, level_out_db: of the loud frames, dB of full scale.
        estimated_snr_db: the power of what was kept over that of what was removed; None where
            nothing was kept or removed.
        processing_seconds, real_time_factor: time of the work in s, and that over `seconds`.
        note: what could not be given back as it came.
        noise: of denoisers that go by the noise, what was called noise; None for others.
    """

    path: str
    output: str
    sample_rate: float
    channels: int
    seconds: float
    level_in_db: float
    level_out_db: float
    estimated_snr_db: float | None
    processing_seconds: float
    real_time_factor: float
    note: str | None
    noise: tuple[ChannelNoise, ...] | None = None


class Tally:
    """Levels and powers of what comes by."""

    def __init__(self, form: Stored) -> None:
        self.form, self.frames = form, 0
        frame = max(FRAME, round(FRAME_SECONDS * form.sample_rate))
        self.before, self.after = (LevelMeter(form.channels, frame=frame) for _ in range(2))
        self.kept = self.removed = 0.0

    def __call__(self, noisy: Array, draws: Array) -> None:
        mean = draws.mean(axis=1)
        self.frames += noisy.shape[1]
        self.before.push(noisy)
        self.after.push(mean)
        self.kept += float(np.square(mean, dtype=np.float64).sum())
        self.removed += float(np.square(noisy - mean, dtype=np.float64).sum())

    def report(
        self,
        source: Path | str,
        target: Path | str,
        began: float,
        *,
        note: str | None = None,
        removed: Removed | None = None,
    ) -> FileReport:
        """What was seen, as a row, of work that began at a time of `time.perf_counter`."""
        form, spent = self.form, time.perf_counter() - began
        seconds = self.frames / form.sample_rate
        both = self.kept > 0 and self.removed > 0
        return FileReport(
            path=str(source),
            output=str(target),
            sample_rate=form.sample_rate,
            channels=form.channels,
            seconds=seconds,
            level_in_db=round(self.before.level_db, 2),
            level_out_db=round(self.after.level_db, 2),
            estimated_snr_db=round(10 * math.log10(self.kept / self.removed), 2) if both else None,
            processing_seconds=round(spent, 3),
            real_time_factor=round(spent / seconds, 5) if seconds else 0.0,
            note=note,
            noise=None if removed is None else removed.channels(),
        )
