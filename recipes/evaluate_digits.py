"""Judge drawn spoken digits by a classifier of real ones, beside real ones.

    python recipes/evaluate_digits.py --data DATA --model digits --output results/digits.json \\
        --readme README.md

A small network (`tasks.classifying`) is trained on three quarters of the real training clips, with
their speed and level varied, and sees no drawn one. It judges as many drawn digits, the classes and
speakers in turn, as there are clips in the last quarter, which are real, of the same speakers, and
unseen by it; and the clips of the held-out speaker. Reported of each:

- share that is recognised; for drawn ones, as what was asked for (bar: 90 %);
- diversity: mean distance of two signals of one class and speaker, in log-mel (loudness and start
  free, `metrics.likeness`) and in the classifier's features, over that of the unseen real clips
  (bar: 0.8);
- Fréchet distance to the three quarters, in the classifier's features and in the mean and deviation
  of each log-mel band; that of the unseen real clips is what the law itself has with so few.

About five minutes on one core. Expected: real clips of the same speakers recognised to 99 % or
more, of the held-out one to about 85 %; of the drawn ones see results/digits.json.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from signal_diffusion import Denoiser, artifact
from signal_diffusion.data.corpus import Corpus, clips_of, manifest_rows
from signal_diffusion.data.labelled import fitted
from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.errors import InputError
from signal_diffusion.metrics import diversity, frechet_distance
from signal_diffusion.metrics.likeness import distances, imprints
from signal_diffusion.results import insert_table, write_results
from signal_diffusion.tasks.classifying import Classifier, train_classifier
from signal_diffusion.tasks.generate import generate

Array = NDArray[Any]
#: Digits in the words that the model's condition has them in.
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SEEN = "real, that the classifier has seen"
UNSEEN, HELD_OUT = "real, the same speakers", "real, held-out speaker"


@dataclass(frozen=True)
class Digits:
    """Signals (n, L) with what each is, and who speaks it."""

    signals: Array
    labels: Sequence[str]
    speakers: Sequence[str]

    @property
    def groups(self) -> list[tuple[str, str]]:
        return list(zip(self.labels, self.speakers, strict=True))

    def chosen(self, indices: Sequence[int]) -> Digits:
        """Some of them."""
        return Digits(
            self.signals[list(indices)],
            [self.labels[i] for i in indices],
            [self.speakers[i] for i in indices],
        )


def real(data: str, split: str, *, sample_rate: int, length: int) -> Digits:
    """The recordings of a split, as they are trained on."""
    rows = manifest_rows(data, "manifest.csv", where={"domain": ["digits"], "split": [split]})
    corpus = Corpus(clips_of(data, rows), sample_rate=sample_rate)
    signals = np.stack([fitted(corpus.clip(n), length) for n in range(len(corpus))])
    return Digits(signals, [WORDS[int(row["label"])] for row in rows], [r["id"] for r in rows])


def parted(digits: Digits, *, share: float = 0.25, seed: int = 0) -> tuple[Digits, Digits]:
    """Most of the signals, and a share of each class and speaker (one at least, if it has two)."""
    rng, groups = np.random.default_rng(seed), digits.groups
    taken: set[int] = set()
    for group in sorted(set(groups)):
        members = [index for index, other in enumerate(groups) if other == group]
        count = max(1, round(share * len(members))) if len(members) > 1 else 0
        taken |= {int(i) for i in rng.permutation(members)[:count]}
    rest = [index for index in range(len(groups)) if index not in taken]
    return digits.chosen(rest), digits.chosen(sorted(taken))


def drawn(denoiser: NetworkDenoiser, count: int, *, steps: int, guidance: float) -> Digits:
    """So many digits, of each class as many, which its speakers take in turn."""
    lists = {condition.name: condition.values("all") for condition in denoiser.conditions}
    classes, speakers = lists["class"], lists["speaker"]
    each = count // len(classes)
    if each < 2:
        raise InputError(f"count is {count}: draw two of each class or more ({2 * len(classes)})")
    asked = [
        {"class": name, "speaker": speakers[number % len(speakers)]}
        for name in classes
        for number in range(each)
    ]
    signals = generate(denoiser, asked=asked, steps=steps, guidance=guidance)
    labels, voices = ([str(one[name]) for one in asked] for name in ("class", "speaker"))
    return Digits(signals, labels, voices)


def statistics(signals: Array, sample_rate: int) -> torch.Tensor:
    """Mean and deviation over time of each band of the imprints: (n, L) to (n, 2 bands)."""
    imprint = imprints(signals, sample_rate=sample_rate)
    return torch.cat([imprint.mean(1), imprint.std(1)], dim=1)


def scores(judge: Classifier, some: Digits, seen: Digits) -> dict[str, float]:
    """What the judge makes of digits, and how near they are to those that it has seen."""
    rate, features = judge.sample_rate, judge.features(some.signals)
    imprint = imprints(some.signals, sample_rate=rate)
    law = statistics(some.signals, rate), statistics(seen.signals, rate)
    found = {
        "recognised": judge.accuracy(some.signals, some.labels),
        "diversity_log_mel": diversity(imprint, some.groups, distances=distances),
        "diversity_features": diversity(features, some.groups),
        "frechet_features": frechet_distance(features, judge.features(seen.signals)),
        "frechet_log_mel": frechet_distance(*law),
    }
    return {name: round(value, 5) for name, value in found.items()}


def relative(found: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """The scores, with the diversities over those of the unseen real clips."""
    whole = found[UNSEEN]
    over = ("diversity_log_mel", "diversity_features")
    return {
        name: {**row, **{f"{key}_ratio": round(row[key] / whole[key], 4) for key in over}}
        for name, row in found.items()
    }


def table(results: Mapping[str, Mapping[str, float]]) -> str:
    """The scores as a table in Markdown."""
    lines = [
        "|  | recognised % | diversity: log-mel | features | Fréchet: log-mel | features | "
        "seconds a second |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, row in results.items():
        factor = f"{row['real_time_factor']:.3f}" if "real_time_factor" in row else ""
        lines.append(
            f"| {name} | {100 * row['recognised']:.1f} | {row['diversity_log_mel_ratio']:.2f} | "
            f"{row['diversity_features_ratio']:.2f} | {row['frechet_log_mel']:.3f} | "
            f"{row['frechet_features']:.2f} | {factor} |"
        )
    return "\n".join(lines)


def evaluate(
    data: str, model: str, *, count: int, epochs: int, steps: int, guidance: float
) -> dict[str, dict[str, float]]:
    """The scores of what the model draws and of real digits, by name."""
    denoiser = Denoiser.from_pretrained(model)
    rate, length, asked = denoiser.sample_rate, denoiser.length, {"class", "speaker"}
    if rate is None or length is None or not asked <= {c.name for c in denoiser.conditions}:
        raise InputError(f"{model} draws no digits: give a model of experiment=digits")
    seen, unseen = parted(real(data, "train", sample_rate=rate, length=length))
    held_out = real(data, "valid", sample_rate=rate, length=length)
    judge = train_classifier(seen.signals, seen.labels, sample_rate=rate, epochs=epochs)
    found = {
        UNSEEN: scores(judge, unseen, seen),
        HELD_OUT: scores(judge, held_out, seen),
        SEEN: scores(judge, seen, seen),
    }
    print(found, flush=True)
    began = time.perf_counter()
    made = drawn(denoiser, count, steps=steps, guidance=guidance)
    taken = time.perf_counter() - began
    name = f"{Path(model).stem}, {steps} step{'s' * (steps > 1)}"
    whole = relative({**found, name: scores(judge, made, seen)})
    whole[name]["real_time_factor"] = round(taken * rate / made.signals.size, 4)
    return whole


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with manifest.csv")
    parser.add_argument("--model", default="digits")
    parser.add_argument("--count", type=int, default=500, help="digits to draw")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--guidance", type=float, default=1.5)
    parser.add_argument("--epochs", type=int, default=25, help="of the classifier")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--readme", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(min(2, torch.get_num_threads()))
    results = evaluate(
        options.data, options.model, count=options.count, epochs=options.epochs,
        steps=options.steps, guidance=options.guidance,
    )  # fmt: skip
    print(table(results))
    if options.output:
        write_results(
            options.output, "python recipes/evaluate_digits.py --data DATA",
            model_sha256_16=artifact.digest(options.model), drawn=options.count,
            guidance=options.guidance, results=results,
        )  # fmt: skip
    if options.readme:
        insert_table(options.readme, "digits", table(results))


if __name__ == "__main__":
    main()
