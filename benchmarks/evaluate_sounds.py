"""Judge drawn drums or notes by classifiers of real ones, beside real ones.

    python benchmarks/evaluate_sounds.py --kind drums --data DATA --output results/drums.json \\
        --page docs/results.md
    python benchmarks/evaluate_sounds.py --kind notes --data DATA --output results/notes.json \\
        --page docs/results.md

The clips are few, so that four small networks (`tasks.classifying`) are each trained on three
quarters of the real training clips, and judge the last quarter, the held-out clips, and drawn
sounds that are asked for as the former and the latter are: the same classes or instruments and
pitches, as often, in several rounds. Scores are means over the four and over the rounds, so that
drawn sounds and real ones are compared in equal numbers. Reported are, as by `evaluate_digits.py`,

- share that is recognised, with the 95 % interval (Wilson) that so many clips leave open;
- diversity within a class or instrument, over that of the real clips of the same group;
- Fréchet distance to the three quarters in log-mel statistics and in the classifiers' features;

of notes also their distance from the pitch that was asked for in cents (YIN, which has errors of
its own: see the real ones), with what is an octave off counted apart;

and how many drawn sounds lie nearer to a training clip than any held-out one, or another training
clip, with the probability of that by chance (`tasks.memorisation`). A drawn note of a trained pitch
should be the training clip: those of held-out pitches tell.

About eight minutes on one core. Expected: see results/drums.json, results/notes.json.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from shared.classifier import train_classifier
from shared.judging import (
    SHOWN,
    Columns,
    Sounds,
    interval,
    mean_of,
    parted,
    relative,
    scores,
    table_of_scores,
)
from shared.pitch import cents_off, pitch_scores
from shared.result_tables import data_digest, insert_table

from signal_diffusion import Denoiser
from signal_diffusion.conditions import Names, Value
from signal_diffusion.data.corpus import Corpus, clips_of, manifest_rows
from signal_diffusion.data.labels import fitted
from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError
from signal_diffusion.evaluation.memorisation import REFERENCES, Clips, memorisation
from signal_diffusion.evaluation.outputs import write_results
from signal_diffusion.files import artifact
from signal_diffusion.tasks.generate import generate, require_generator

Row = dict[str, float]

#: Where the manifest has the clips of a kind, and how often a classifier is shown them.
SUBSETS, EPOCHS = {"drums": "one_shots", "notes": "notes"}, {"drums": 120, "notes": 40}
PITCH, PARTS = "pitch", 4
REAL, DRAWN, TRAINED, HELD_OUT = "real", "drawn", "as training clips", "as held-out clips"
COLUMNS: Columns = {
    "recognised %": SHOWN["recognised %"],
    "from": ("recognised_low", lambda value: f"{100 * value:.0f}"),
    "to": ("recognised_high", lambda value: f"{100 * value:.0f}"),
    **{heading: column for heading, column in SHOWN.items() if heading != "recognised %"},
    "pitch: cents off": ("pitch_error_cents", "{:.0f}".format),
    "within 50 %": ("within_50_cents", lambda value: f"{100 * value:.0f}"),
    "octave off %": ("octave_errors", lambda value: f"{100 * value:.0f}"),
}


@dataclass(frozen=True)
class Set:
    """Sounds with what each is, by the names of the model's conditions."""

    sounds: Sounds
    values: Sequence[Mapping[str, Value]]


def real(data: str, kind: str, split: str, denoiser: NetworkDenoiser) -> Set:
    """The clips of a split that the model's first condition has a name for."""
    where = {"domain": ["music"], "subset": [SUBSETS[kind]], "split": [split]}
    rows = manifest_rows(data, "manifest.csv", where={**where, "label": names_of(denoiser)})
    assert denoiser.sample_rate
    length = require_generator(denoiser)
    first, *others = denoiser.conditions
    corpus = Corpus(clips_of(data, rows), sample_rate=denoiser.sample_rate)
    signals = np.stack([fitted(corpus.clip(n), length) for n in range(len(corpus))])
    values: list[Mapping[str, Value]] = [
        {first.name: row["label"], **{one.name: float(row[one.name]) for one in others}}
        for row in rows
    ]
    return Set(sounds_of(signals, values), values)


def names_of(denoiser: NetworkDenoiser) -> Sequence[str]:
    """The classes or instruments that the model draws."""
    first = denoiser.conditions[0] if denoiser.conditions else None
    if not isinstance(first, Names) or denoiser.sample_rate is None or denoiser.kind != "generator":
        raise InputError("the model draws no sounds by name: give one of experiment=drums or notes")
    return first.names


def sounds_of(signals: Array, values: Sequence[Mapping[str, Value]]) -> Sounds:
    """Sounds whose class, and group, is the first thing that was asked."""
    labels = [str(next(iter(one.values()))) for one in values]
    return Sounds(signals, labels, labels)


def drawn(
    denoiser: NetworkDenoiser, like: Set, *, count: int, steps: int, guidance: float, seed: int
) -> list[Sounds]:
    """Rounds of what the model draws when asked for what others are, `count` or more in all."""
    rounds = -(-count // len(like.values))
    signals = generate(
        denoiser, requested=list(like.values) * rounds, steps=steps, guidance=guidance, seed=seed
    )
    return [sounds_of(part, like.values) for part in np.split(signals, rounds)]


def judged(
    train: Sounds, held_out: Sounds, made: Mapping[str, Sequence[Sounds]], *, epochs: int, rate: int
) -> dict[tuple[str, str], Row]:
    """Mean scores of real and drawn sounds, by method and the group that they are like."""
    rows: dict[tuple[str, str], list[Row]] = {}
    for part in range(PARTS):
        seen, unseen = parted(train, parts=PARTS, part=part)
        judge = train_classifier(seen.signals, seen.labels, sample_rate=rate, epochs=epochs)
        for key, several in {
            (REAL, TRAINED): [unseen],
            (REAL, HELD_OUT): [held_out],
            (DRAWN, TRAINED): [
                parted(subset, parts=PARTS, part=part)[1] for subset in made[TRAINED]
            ],
            (DRAWN, HELD_OUT): made[HELD_OUT],
        }.items():
            rows.setdefault(key, []).extend(scores(judge, subset, seen) for subset in several)
        print(f"judge {part + 1} of {PARTS}: {rows[REAL, TRAINED][-1]}", flush=True)
    return {key: mean_of(several) for key, several in rows.items()}


def pitched(sounds: Sequence[Sounds], like: Set, rate: int) -> Row:
    """How far sounds are off the pitches of others, if these have any."""
    if PITCH not in like.values[0]:
        return {}
    pitches = [float(str(one[PITCH])) for one in like.values]
    return pitch_scores(
        np.concatenate([cents_off(subset.signals, pitches, sample_rate=rate) for subset in sounds])
    )


def remembered(made: Sequence[Sounds], train: Sounds, held_out: Sounds, rate: int) -> Row:
    """Drawn sounds nearer to a training clip than any real one, and the chance of that."""
    signals = [np.concatenate([subset.signals for subset in made]), train.signals, held_out.signals]
    clips = [Clips([str(n) for n in range(len(x))], x.__getitem__) for x in signals]
    found, row = memorisation(*clips, sample_rate=rate), {}
    for reference in REFERENCES:
        verdict, key = found.against(reference), f"nearer_than_{reference.replace('-', '_')}"
        row[key] = round(verdict.under_all / len(clips[0]), 4)
        row[f"{key}_p"] = float(f"{verdict.p:.3g}")
    return row


def rated(row: Row, whole: Row, subset: Sequence[Sounds], like: Set, rate: int) -> Row:
    """The judges' scores of sounds that are like others, beside what real ones score."""
    return {
        **relative(row, whole),
        **interval(row["recognised"], len(subset) * len(like.values)),
        **pitched(subset, like, rate),
    }


def evaluate(
    data: str, kind: str, model: str, *, count: int, epochs: int, steps: int, guidance: float
) -> dict[str, dict[str, Row]]:
    """The scores of what the model draws and of real sounds, by method and group."""
    denoiser = Denoiser.from_pretrained(model)
    splits, rate = {TRAINED: "train", HELD_OUT: "valid"}, denoiser.sample_rate or 0
    sets = {group: real(data, kind, split, denoiser) for group, split in splits.items()}
    began = time.perf_counter()
    made = {
        group: drawn(denoiser, subset, count=count, steps=steps, guidance=guidance, seed=seed)
        for seed, (group, subset) in enumerate(sets.items())
    }
    size = sum(subset.signals.size for several in made.values() for subset in several)
    factor = {"real_time_factor": round((time.perf_counter() - began) * rate / size, 4)}
    train, held_out = (subset.sounds for subset in sets.values())
    found = judged(train, held_out, made, epochs=epochs, rate=rate)
    whole = {group: found[REAL, group] for group in sets}
    theirs = {
        group: rated(whole[group], whole[group], [like.sounds], like, rate)
        for group, like in sets.items()
    }
    ours = {
        group: {
            **rated(found[DRAWN, group], whole[group], made[group], like, rate),
            **remembered(made[group], train, held_out, rate),
            **factor,
        }
        for group, like in sets.items()
    }
    return {REAL: theirs, f"{Path(model).stem}, {steps} step{'s' * (steps > 1)}": ours}


def table(results: Mapping[str, Mapping[str, Row]]) -> str:
    """The scores as a table in Markdown."""
    rows = {
        f"{method}, {group}": row
        for method, groups in results.items()
        for group, row in groups.items()
    }
    shown = {
        h: (key, form)
        for h, (key, form) in COLUMNS.items()
        if any(key in row for row in rows.values())
    }
    return table_of_scores(rows, shown)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with manifest.csv")
    parser.add_argument("--kind", required=True, choices=SUBSETS)
    parser.add_argument("--model", help="name or file (default: the shipped one of the kind)")
    parser.add_argument("--count", type=int, default=250, help="sounds to draw of each group")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--guidance", type=float, default=1.5)
    parser.add_argument("--epochs", type=int, help=f"of the classifiers (default: {EPOCHS})")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--page", type=Path)
    given = parser.parse_args(arguments)
    torch.set_num_threads(min(2, torch.get_num_threads()))
    model = given.model or given.kind
    results = evaluate(
        given.data,
        given.kind,
        model,
        count=given.count,
        steps=given.steps,
        epochs=given.epochs or EPOCHS[given.kind],
        guidance=given.guidance,
    )
    print(table(results))
    if given.output:
        write_results(
            given.output,
            f"python benchmarks/evaluate_sounds.py --kind {given.kind} --data DATA",
            model=artifact.fingerprint(model),
            guidance=given.guidance,
            data=data_digest(given.data),
            results=results,
        )
    if given.page:
        insert_table(given.page, given.kind, table(results))


if __name__ == "__main__":
    main()
