"""A judge of short signals: a small network that tells their classes, and its features."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError
from signal_diffusion.evaluation.memorisation import sped
from signal_diffusion.metrics.likeness import imprint_mel, imprints
from signal_diffusion.samplers import Progress

BATCH = 64
#: Frames of a signal, at least, so that the convolutions leave one.
FRAMES = 8
#: Share of the frames that signals of a batch are shifted by, at most, while training.
SHIFT = 0.1
#: While training, share of the bands and frames that are hidden, at most, and of the range above
#: the floor that is kept, at least.
HIDDEN = 0.15
LEAST_LEVEL = 0.7


class Classifier(nn.Module):
    """Tells the classes of short signals by their imprints (`metrics.likeness`).

    Four convolutions over time and frequency, halved after each but the last; the features are the
    mean and the maximum over time of what is left, at each quarter of the bands.

    Args:
        classes: their names.
        sample_rate: of the signals, Hz.
        channels: of the first convolution.
    """

    def __init__(self, classes: Sequence[str], sample_rate: int, *, channels: int = 24) -> None:
        super().__init__()
        self.classes, self.sample_rate, self.channels = list(classes), sample_rate, channels
        widths = [1, channels, channels, 2 * channels, 2 * channels]
        layers: list[nn.Module] = []
        for place, (before, after) in enumerate(pairwise(widths)):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if place < 3 else []
        self.body = nn.Sequential(*layers)
        bands = imprint_mel(sample_rate).bands // 8
        self.reduced = nn.Linear(4 * channels * bands, 64)
        self.head = nn.Linear(64, len(self.classes))

    def forward(self, imprint: Tensor) -> Tensor:
        """Imprints (n, N, bands) to logits (n, classes)."""
        logits: Tensor = self.head(F.dropout(F.relu(self._reduced(imprint)), 0.3, self.training))
        return logits

    def features(self, signals: Array) -> Tensor:
        """Signals (n, L) to features (n, 64), those that the classes are read off."""
        return self._of(signals, self._reduced)

    def probabilities(self, signals: Array) -> Tensor:
        """Signals (n, L) to the classes' probabilities (n, classes)."""
        return self._of(signals, lambda batch: self(batch).softmax(1))

    def accuracy(self, signals: Array, labels: Sequence[str]) -> float:
        """Share of signals (n, L) whose likeliest class is their label."""
        found = self.probabilities(signals).argmax(1)
        return float((found == _numbers(self.classes, labels)).double().mean())

    def _reduced(self, imprint: Tensor) -> Tensor:
        hidden = self.body(imprint[:, None])
        pooled = torch.cat([hidden.mean(2), hidden.amax(2)], dim=1).flatten(1)
        return cast(Tensor, self.reduced(pooled))

    def _of(self, signals: Array, function: Any) -> Tensor:
        self.eval()
        with torch.no_grad():
            every = imprints(signals, sample_rate=self.sample_rate)
            return torch.cat([function(batch) for batch in every.split(BATCH)])


def train_classifier(
    signals: Array,
    labels: Sequence[str],
    *,
    sample_rate: int,
    epochs: int = 40,
    speed: float = 0.15,
    seed: int = 0,
    progress: Progress | None = None,
) -> Classifier:
    """A classifier of signals (n, L), trained on variants that keep their class.

    Each batch is played at a speed of its own and begins elsewhere; of each signal some bands and
    some frames are hidden, and its level falls towards the floor under which nothing is seen.

    Args:
        signals: one row for each.
        labels: their classes' names.
        sample_rate: Hz.
        epochs: times that all are shown.
        speed: the most that they are sped up or slowed down by, with their pitch.
        seed: of weights, order and variants; torch's own generator is left as it was.
        progress: called as progress(done epochs, all).

    Raises:
        InputError: there is no label for each signal, only one class, or signals are too short.
    """
    classes = sorted(set(labels))
    if len(labels) != len(signals) or len(classes) < 2:
        raise InputError(
            f"there are {len(signals)} signals, {len(labels)} labels and {len(classes)} classes: "
            "give a label for each signal, of two classes or more"
        )
    least = FRAMES * imprint_mel(sample_rate).hop
    if signals.shape[1] < least:
        raise InputError(f"signals have {signals.shape[1]} samples: give {least} or more")
    numbers, rng = _numbers(classes, labels), np.random.default_rng(seed)
    steps = epochs * -(-len(signals) // BATCH)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Classifier(classes, sample_rate)
        optimiser = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
        for epoch in range(epochs):
            model.train()
            for batch in np.array_split(rng.permutation(len(signals)), steps // epochs):
                imprint = varied(signals[batch], sample_rate=sample_rate, speed=speed, rng=rng)
                loss = F.cross_entropy(model(imprint), numbers[batch], label_smoothing=0.05)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
            if progress is not None:
                progress(epoch + 1, epochs)
    return model.eval()


def varied(signals: Array, *, sample_rate: int, speed: float, rng: np.random.Generator) -> Tensor:
    """Imprints (n, N, bands) of variants of signals (n, L)."""
    played = sped(np.asarray(signals, np.float32), 1 + rng.uniform(-speed, speed))
    imprint = imprints(played, sample_rate=sample_rate)
    most = round(SHIFT * imprint.shape[1])
    imprint = imprint.roll(int(rng.integers(-most, most + 1)), dims=1)
    for row in imprint:
        _hide(row, rng)
        _hide(row.T, rng)
    floor = torch.from_numpy(rng.uniform(0, 1 - LEAST_LEVEL, (len(imprint), 1, 1))).float()
    return (imprint - floor).clamp_min(0) / (1 - floor)


def _hide(rows: Tensor, rng: np.random.Generator) -> None:
    """Set a few neighbouring rows to 0, in place."""
    width = int(rng.integers(round(HIDDEN * len(rows)) + 1))
    start = int(rng.integers(len(rows) - width + 1))
    rows[start : start + width] = 0


def _numbers(classes: Sequence[str], labels: Sequence[str]) -> Tensor:
    unknown = set(labels) - set(classes)
    if unknown:
        raise InputError(f"there is no class '{min(unknown)}'; there are {', '.join(classes)}")
    return torch.tensor([list(classes).index(label) for label in labels])
