"""What `signal-diffusion evaluate` does with generators: real recordings, and what is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from signal_diffusion.cli.messages import count as count_of
from signal_diffusion.cli.messages import say
from signal_diffusion.cli.terminal import bar
from signal_diffusion.conditions import Condition, Names, Value
from signal_diffusion.data.labelled import fitted
from signal_diffusion.errors import InputError
from signal_diffusion.evaluation.generators import SCORES, Known, evaluate_draws
from signal_diffusion.evaluation.methods import Modelled
from signal_diffusion.evaluation.outputs import FIGURES, data_told, model_told, write_files
from signal_diffusion.evaluation.summary import markdown
from signal_diffusion.files.atomic import failures
from signal_diffusion.samplers import sampler_named
from signal_diffusion.streaming.settings import Settings, device_named

if TYPE_CHECKING:
    from signal_diffusion.denoiser import NetworkDenoiser
    from signal_diffusion.evaluation.pairs import Pair
    from signal_diffusion.evaluation.plan import Drawing


def methods_of(drawing: Drawing) -> dict[str, Settings]:
    """The settings of each row, by its name."""
    how = sampler_named(drawing.sampler)
    every = [Settings(steps=steps, sampler=how, seed=drawing.seed) for steps in drawing.steps]
    return {Modelled(drawing.model, settings).name: settings for settings in every}


def evaluate_generator(
    denoiser: NetworkDenoiser, pairs: Sequence[Pair], drawing: Drawing, *, force: bool
) -> None:
    """Score what a generator draws beside real recordings; write and tell the scores.

    Raises:
        InputError: the recordings or settings can't be used, or there are scores already.
    """
    figures = drawing.output / FIGURES
    if figures.exists() and not force:
        raise InputError(f"{figures} exists: pass --force to replace it")
    known = known_of(denoiser, pairs)
    with bar("drawing", quiet=drawing.quiet) as tell:
        rows, told = evaluate_draws(
            denoiser.to(device_named(drawing.device)), known, methods_of(drawing),
            count=drawing.count, seed=drawing.seed, progress=tell,
        )  # fmt: skip
    text = markdown(told, list(SCORES), SCORES) + "\n"
    told |= {"evaluated": model_told(drawing.model), "seed": drawing.seed, "metrics": list(SCORES)}
    with failures(drawing.output):
        drawing.output.mkdir(parents=True, exist_ok=True)
    write_files(drawing.output, rows, text, command=drawing.command, data=data_told(pairs), **told)
    if not drawing.quiet:
        for line in [*text.splitlines(), f"{count_of(len(pairs), 'recording')}: {drawing.output}"]:
            say(line)


def known_of(denoiser: NetworkDenoiser, pairs: Sequence[Pair]) -> Known:
    """Real recordings as a generator is trained on them, and what each of them is.

    Raises:
        InputError: a recording can't be read, or is a table.
    """
    if tables := [pair for pair in pairs if pair.table]:
        raise InputError(f"{tables[0].clean} is a table, but generators are compared with sound")
    length = denoiser.length
    assert length is not None
    signals = [fitted(pair.read().clean.mean(axis=0), length) for pair in pairs]
    asked = [asked_of(denoiser.conditions, pair.name, dict(pair.groups)) for pair in pairs]
    return Known(np.stack(signals), [pair.name for pair in pairs], asked)


def asked_of(
    conditions: Sequence[Condition], name: str, groups: Mapping[str, str]
) -> dict[str, Value]:
    """What a recording is, by a model's conditions, as far as it is told.

    By a table's column of the condition's name; or else by a folder or a word of the file's name
    that is one of its values. A number between underscores is none, but for one that begins a name
    for the first condition, as in FSDD's.

    >>> digits, voices = Names("class", ("zero", "one")), Names("speaker", ("theo", "lucas"))
    >>> asked_of([digits, voices], "one/lucas_7", {}), asked_of([digits, voices], "1_theo_3", {})
    ({'class': 'one', 'speaker': 'lucas'}, {'class': 'one', 'speaker': 'theo'})
    >>> asked_of([digits, voices], "clip_1", {"speaker": "theo"})
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
            if word is None and place == 0 and len(parts) > 1:
                word = _numbered(parts[0], condition)
            if word is not None:
                found[condition.name] = word
    return found


def _numbered(word: str, names: Names) -> str | None:
    """The name whose number a word is."""
    at = int(word) if word.isdecimal() else names.width
    return names.names[at] if at < names.width else None
