"""Score what a generator draws beside real recordings, without a trained judge."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from signal_diffusion.conditions import Condition, Names, Value
from signal_diffusion.data.labels import fitted
from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError
from signal_diffusion.evaluation.measures import Metric
from signal_diffusion.evaluation.methods import Modelled
from signal_diffusion.evaluation.outputs import (
    FIGURES,
    data_description,
    model_description,
    write_files,
)
from signal_diffusion.evaluation.pairs import Pair
from signal_diffusion.evaluation.summary import markdown
from signal_diffusion.evaluation.summary import statistics as statistics_of
from signal_diffusion.files.atomic import failures
from signal_diffusion.files.journal import Row
from signal_diffusion.metrics import diversity, frechet_distance
from signal_diffusion.metrics.likeness import distances, imprints, nearest
from signal_diffusion.samplers import Progress
from signal_diffusion.streaming.background import threads
from signal_diffusion.streaming.pieces import part_of
from signal_diffusion.streaming.settings import Settings
from signal_diffusion.tasks.generate import generate, require_generator

#: What the row of the real ones is called that no other is compared with.
REAL = "real, other half"


def _of_sets(*_: object) -> float:
    return float("nan")


#: Scores of a set, none of two signals, beside a half of the real ones, see `scores_of_set`.
SCORES: Mapping[str, Metric] = {
    "frechet": Metric(_of_sets, "Fréchet distance", 3),
    "diversity": Metric(_of_sets, "diversity, real: 1", 2),
    "nearest": Metric(_of_sets, "distance to the nearest real one", 3),
}


@dataclass(frozen=True)
class Recordings:
    """Signals (n, L), the name of each, and the values that it has by a model's conditions."""

    signals: Array
    names: Sequence[str]
    values: Sequence[Mapping[str, Value]]

    def chosen(self, indices: Sequence[int]) -> Recordings:
        """A subset."""
        places = list(indices)
        names, values = [self.names[i] for i in places], [self.values[i] for i in places]
        return Recordings(self.signals[places], names, values)

    @property
    def kinds(self) -> list[Hashable]:
        """What is alike in each, so that it should differ in the rest."""
        return [tuple(one.items()) for one in self.values]


def recordings_of(denoiser: NetworkDenoiser, pairs: Sequence[Pair]) -> Recordings:
    """Real recordings as a generator is trained on them, with their values by its conditions.

    Raises:
        InputError: a recording can't be read, or is a table.
    """
    if tables := [pair for pair in pairs if pair.table]:
        raise InputError(f"{tables[0].clean} is a table, but generators are compared with sound")
    length = require_generator(denoiser)
    signals = [fitted(pair.read().clean.mean(axis=0), length) for pair in pairs]
    values = [values_of(denoiser.conditions, pair.name, dict(pair.groups)) for pair in pairs]
    return Recordings(np.stack(signals), [pair.name for pair in pairs], values)


def values_of(
    conditions: Sequence[Condition], name: str, groups: Mapping[str, str]
) -> dict[str, Value]:
    """The values of a recording by a model's conditions, as far as they can be found.

    By a table's column of the condition's name; or else by a folder or a word of the file's name
    that is one of its values. A number between underscores is none, but for one that begins a name
    for the first condition, as in FSDD's.

    >>> digits, voices = Names("class", ("zero", "one")), Names("speaker", ("theo", "lucas"))
    >>> values_of([digits, voices], "one/lucas_7", {}), values_of([digits, voices], "1_theo_3", {})
    ({'class': 'one', 'speaker': 'lucas'}, {'class': 'one', 'speaker': 'theo'})
    >>> values_of([digits, voices], "clip_1", {"speaker": "theo"})
    {'speaker': 'theo'}
    """
    *folders, stem = name.split("/")
    parts = stem.split("_")
    words = [*folders, *parts]
    found: dict[str, Value] = {}
    for place, condition in enumerate(conditions):
        if condition.name in groups:
            found[condition.name] = condition.values(groups[condition.name])[0]
        elif isinstance(condition, Names):
            word = next((word for word in words if word in condition.names), None)
            if word is None and place == 0 and len(parts) > 1 and parts[0].isdecimal():
                word = dict(enumerate(condition.names)).get(int(parts[0]))
            if word is not None:
                found[condition.name] = word
    return found


def halves(
    real: Recordings, *, count: int | None = None, seed: int = 0
) -> tuple[Recordings, Recordings]:
    """Two halves of real signals, by kind: one to compare with, and one that is compared.

    Args:
        real: the signals; one that is alone of its kind is in the first half.
        count: signals of the second half, evenly chosen; None for all.
        seed: decides what goes where.

    Raises:
        InputError: no kind has two signals, or there are fewer than `count` or 2.
    """
    first, second = split(real.kinds, parts=2, part=1, seed=seed)
    most = len(second) if count is None else count
    if not 2 <= most <= len(second):
        raise InputError(
            f"count is {most}, but of {len(real.names)} recordings {len(second)} are left beside "
            f"those to compare with: give 2 to {max(2, len(second))}, or more recordings"
        )
    return real.chosen(first), real.chosen([second[n * len(second) // most] for n in range(most)])


def split(
    groups: Sequence[Hashable], *, parts: int = 4, part: int = 0, seed: int = 0
) -> tuple[list[int], list[int]]:
    """Places of most members, and of one of so many even parts of each group.

    A member that is alone in its group is in no part.

    >>> [len(half) for half in split(["x"] * 8 + ["y"])]
    [7, 2]
    """
    rng, taken = np.random.default_rng(seed), set()
    for group in dict.fromkeys(groups):
        members = [index for index, other in enumerate(groups) if other == group]
        if len(members) > 1:
            taken |= {int(i) for i in rng.permutation(members)[part::parts]}
    return [index for index in range(len(groups)) if index not in taken], sorted(taken)


def evaluate_generator(
    denoiser: NetworkDenoiser,
    model: str,
    pairs: Sequence[Pair],
    methods: Sequence[Modelled],
    folder: Path,
    *,
    count: int | None,
    seed: int,
    force: bool,
    command: str,
    progress: Progress | None = None,
) -> str:
    """Score what a generator draws beside real recordings, and write the scores into a folder.

    Args:
        denoiser: the generator.
        model: its name or file.
        pairs: the recordings.
        methods: the settings of each row.
        folder: of the results, see `outputs.write_files`.
        count, seed, progress: see `evaluate_draws`.
        force: replace results.
        command: command line that the summary names.

    Returns:
        The summary as Markdown.

    Raises:
        InputError: the recordings or settings can't be used, or there are results already.
    """
    if (folder / FIGURES).exists() and not force:
        raise InputError(f"{folder / FIGURES} exists: pass --force to replace it")
    real = recordings_of(denoiser, pairs)
    settings = {method.name: method.settings for method in methods}
    rows, found = evaluate_draws(
        denoiser, real, settings, count=count, seed=seed, progress=progress
    )
    text = markdown(found, list(SCORES), SCORES) + "\n"
    found |= {"evaluated": model_description(model), "seed": seed, "metrics": list(SCORES)}
    with failures(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_files(folder, rows, text, command=command, data=data_description(pairs), **found)
    return text


def evaluate_draws(
    denoiser: NetworkDenoiser,
    real: Recordings,
    methods: Mapping[str, Settings],
    *,
    count: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[list[Row], dict[str, Any]]:
    """Rows of real and drawn signals, and a summary in the form of `summary.summary`.

    Half of the real ones are compared with. The other half is the first row: what the law itself
    scores with so few. As many are drawn, each with the values of one of these.

    Args:
        denoiser: a generator.
        real: signals of its rate and length.
        methods: settings by the names of their rows.
        count: signals that are drawn; None for as many as there are in the other half.
        seed: of the halves and the intervals; draws have that of their settings.
        progress: called as progress(done calls, all calls).

    Raises:
        InputError: there are too few real signals, or a setting can't be used.
    """
    assert denoiser.sample_rate is not None
    reference, other = halves(real, count=count, seed=seed)
    sets: dict[str, tuple[Recordings, float | None]] = {REAL: (other, None)}
    for at, (name, settings) in enumerate(methods.items()):
        signals, seconds = _drawn(denoiser, other, settings, part_of(progress, at, len(methods)))
        names = [f"draw {n:04d}" for n in range(len(signals))]
        sets[name] = Recordings(signals, names, other.values), seconds
    rows: list[Row] = []
    scored: dict[str, Any] = {}
    for name, (drawn, taken) in sets.items():
        more = _rows(name, drawn, reference, taken, denoiser.sample_rate)
        whole = scores_of_set(drawn, reference, denoiser.sample_rate)
        apart = statistics_of([row["nearest"] for row in more], drawn.names, seed=seed)
        each, length = more[0]["taken"], more[0]["seconds"]
        scored[name] = {
            "scores": {n: {"mean": round(x, 6)} for n, x in whole.items()} | {"nearest": apart},
            "files": len(more),
            "failed": 0,
            "real_time_factor": None if each is None else round(each / length, 5),
            "peak_memory_mb": None,
        }
        rows += more
    ours = next(iter(methods))
    return rows, {"methods": scored, "compared_with": ours, "differences": {}, "groups": {}}


def scores_of_set(signals: Recordings, reference: Recordings, sample_rate: int) -> dict[str, float]:
    """How the law of signals lies beside that of others, by log-mel (`metrics.likeness`).

    `frechet`: distance of the means and deviations of the bands, which rises as there are fewer;
    `diversity`: mean distance of two signals of one kind, over that of the reference: below 1 they
    are too much alike.
    """
    law = (statistics(x.signals, sample_rate) for x in (signals, reference))
    spread, usual = (
        diversity(imprints(x.signals, sample_rate=sample_rate), x.kinds, distances=distances)
        for x in (signals, reference)
    )
    if not usual:
        raise InputError("recordings of one kind are all the same: give different ones")
    return {"frechet": frechet_distance(*law), "diversity": spread / usual}


def _rows(
    method: str, drawn: Recordings, reference: Recordings, taken: float | None, sample_rate: int
) -> list[Row]:
    """A row for each signal: its values, and the nearest of the reference."""
    first, own = (imprints(x.signals, sample_rate=sample_rate) for x in (reference, drawn))
    near, places = nearest(own, first)
    each = None if taken is None else round(taken / len(drawn.names), 6)
    return [
        {
            "file": name,
            "method": method,
            **values,
            "nearest": round(float(distance), 6),
            "nearest_file": reference.names[int(place)],
            "seconds": drawn.signals.shape[1] / sample_rate,
            "taken": each,
        }
        for name, values, distance, place in zip(
            drawn.names, drawn.values, near, places, strict=True
        )
    ]


def _drawn(
    denoiser: NetworkDenoiser, like: Recordings, settings: Settings, progress: Progress | None
) -> tuple[Array, float]:
    """Signals drawn with the values of others, and the seconds that they took, in one thread.

    Of the processor, or by the clock where that would wait for a GPU.
    """
    idle = next(denoiser.parameters()).device.type != "cpu"
    clock: Callable[[], float] = time.perf_counter if idle else time.process_time
    with threads(1), torch.no_grad():
        began = clock()
        signals = generate(
            denoiser,
            requested=like.values,
            steps=settings.times,
            sampler=settings.sampler,
            seed=settings.seed,
            progress=progress,
        )
    return signals, clock() - began


def statistics(signals: Array, sample_rate: int) -> torch.Tensor:
    """Mean and deviation over time of each band of the imprints: (n, L) to (n, 2 bands)."""
    imprint = imprints(signals, sample_rate=sample_rate)
    return torch.cat([imprint.mean(1), imprint.std(1)], dim=1)
