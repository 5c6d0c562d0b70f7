"""Training on single beats of the QT database in recorded wander: see `qtdb` for the protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from signal_diffusion.data.mixing import Batch
from signal_diffusion.data.module import Recordings, Source
from signal_diffusion.data.qtdb import LENGTH, TEST_RECORDS, beats, in_noise, wander
from signal_diffusion.errors import InputError
from signal_diffusion.levels import level_db

Array = NDArray[Any]

#: Every which training record is kept for validation, and which share of the noise, its end.
VALID_EVERY, VALID_NOISE = 8, 0.2


@dataclass(frozen=True)
class BeatMixer:
    """Draws batches of beats (clean, noisy) of 512 samples in noise from anywhere in a recording.

    The noisy beat is brought to a median of 0 and to a level, as `denoise` does; the clean one
    keeps its place in the window's zeros.

    Args:
        clean: beats (n, 512) in mV.
        names: of their records (n,).
        noise: recording (L,).
        ratios: range of the noise's span over the beat's.
        level_db: level of the noisy beat.
    """

    clean: Array
    names: Sequence[str]
    noise: Array
    ratios: tuple[float, float] = (0.2, 2.0)
    level_db: float = 0.0

    def __call__(self, rng: np.random.Generator, size: int) -> Batch:
        """A batch of `size` beats."""
        picks = rng.integers(len(self.clean), size=size)
        starts = rng.integers(len(self.noise) - LENGTH + 1, size=size)
        clean = self.clean[picks]
        noise = np.lib.stride_tricks.sliding_window_view(self.noise, LENGTH)[starts]
        noisy = in_noise(clean, noise, rng.uniform(*self.ratios, size))
        noisy -= np.median(noisy, axis=1, keepdims=True)
        both = torch.from_numpy(np.stack([clean, noisy]).astype(np.float32))[:, :, None]
        both *= 10 ** ((self.level_db - level_db(both[1])) / 20)
        pairs = zip(picks, starts, strict=True)
        return Batch(both[0], both[1], [f"{self.names[n]}[{n}] + bw[{at}]" for n, at in pairs])


@dataclass(frozen=True)
class QtSources:
    """Beats of the QT database's training records, and the first half of the noise.

    Every eighth record and the noise's last fifth are kept for validation; the test records and the
    noise's second half are not looked at.

    Args:
        qt, noise: folders of the QT database and the noise stress test database.
        version: of the noise, 1 or 2.
        mixer: options of `BeatMixer`.
        recordings: held-out beats to validate on.
    """

    qt: str
    noise: str
    version: int = 1
    mixer: Mapping[str, Any] = field(default_factory=dict)
    recordings: int = 128

    def __call__(self) -> tuple[Source, Source, Recordings]:
        noise = wander(self.noise, self.version)[0]
        held = max(LENGTH, round(VALID_NOISE * len(noise)))
        found = {name: some for name, some in beats(self.qt) if name not in TEST_RECORDS}
        kept = list(found)[::VALID_EVERY]
        train = self._mixer({k: v for k, v in found.items() if k not in kept}, noise[:-held])
        valid = self._mixer({k: found[k] for k in kept}, noise[-held:])
        batch = valid(np.random.default_rng(0), self.recordings)
        items = zip(batch.clean, batch.noisy, batch.names, strict=True)
        return train, valid, Recordings(list(items))

    def _mixer(self, found: Mapping[str, Array], noise: Array) -> BeatMixer:
        """A mixer of all beats that are not flat."""
        lively = {name: x[np.ptp(x, axis=1) > 0].astype(np.float32) for name, x in found.items()}
        names = [name for name, x in lively.items() for _ in x]
        if not names:
            raise InputError(f"{self.qt} has too few training records: it needs two with beats")
        return BeatMixer(np.concatenate(list(lively.values())), names, noise, **self.mixer)
