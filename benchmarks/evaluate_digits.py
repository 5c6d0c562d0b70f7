"""Judge drawn spoken digits by a classifier of real ones, beside real ones.

    python benchmarks/evaluate_digits.py --data DATA --model digits --output results/digits.json \\
        --page docs/results.md --plot docs/digits.png

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
from pathlib import Path
from typing import cast

import numpy as np
import torch
from shared.classifier import train_classifier
from shared.judging import SHOWN, Sounds, parted, relative, scores, table_of_scores
from shared.result_tables import data_digest, insert_table

from signal_diffusion import Denoiser
from signal_diffusion.data.corpus import Corpus, clips_of, manifest_rows
from signal_diffusion.data.labels import fitted
from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError
from signal_diffusion.evaluation.outputs import write_results
from signal_diffusion.files import artifact
from signal_diffusion.plots.grid import draw_grid
from signal_diffusion.tasks.generate import generate, require_generator

#: Digits in the words that the model's condition has them in.
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SEEN = "real, that the classifier has seen"
UNSEEN, HELD_OUT = "real, the same speakers", "real, held-out speaker"


def real(data: str, split: str, *, sample_rate: int, length: int) -> Sounds:
    """The recordings of a split, as they are trained on."""
    rows = manifest_rows(data, "manifest.csv", where={"domain": ["digits"], "split": [split]})
    corpus = Corpus(clips_of(data, rows), sample_rate=sample_rate)
    signals = np.stack([fitted(corpus.clip(n), length) for n in range(len(corpus))])
    return digits(signals, [WORDS[int(row["label"])] for row in rows], [r["id"] for r in rows])


def digits(signals: Array, labels: Sequence[str], speakers: Sequence[str]) -> Sounds:
    """Digits, which are to differ within those of one speaker."""
    return Sounds(signals, labels, list(zip(labels, speakers, strict=True)))


def drawn(denoiser: NetworkDenoiser, count: int, *, steps: int, guidance: float) -> Sounds:
    """So many digits, of each class as many, which its speakers take in turn."""
    lists = {condition.name: condition.values("all") for condition in denoiser.conditions}
    classes, speakers = lists["class"], lists["speaker"]
    each = count // len(classes)
    if each < 2:
        raise InputError(f"count is {count}: draw two of each class or more ({2 * len(classes)})")
    values = [
        {"class": name, "speaker": speakers[number % len(speakers)]}
        for name in classes
        for number in range(each)
    ]
    signals = generate(denoiser, requested=values, steps=steps, guidance=guidance)
    labels, voices = ([str(one[name]) for one in values] for name in ("class", "speaker"))
    return digits(signals, labels, voices)


def draw_beside(path: Path, unseen: Sounds, made: Sounds, sample_rate: float) -> None:
    """Draw the ten digits of two speakers, real ones above drawn ones, into a PNG."""
    groups = cast("Sequence[tuple[str, str]]", made.groups)
    speakers = sorted({speaker for _, speaker in groups})[:2]
    shown = [
        (f"{word}, {name}", sounds.signals[list(sounds.groups).index((word, speaker))])
        for speaker in speakers
        for name, sounds in (("real", unseen), ("drawn", made))
        for word in WORDS
    ]
    titles, signals = zip(*shown, strict=True)
    draw_grid(path, signals, titles, sample_rate, columns=len(WORDS), force=True)


def table(results: Mapping[str, Mapping[str, float]]) -> str:
    """The scores as a table in Markdown."""
    return table_of_scores(results, SHOWN)


def evaluate(
    data: str,
    model: str,
    *,
    count: int,
    epochs: int,
    steps: int,
    guidance: float,
    plot: Path | None = None,
) -> dict[str, dict[str, float]]:
    """The scores of what the model draws and of real digits, by name."""
    denoiser = Denoiser.from_pretrained(model)
    rate, names = denoiser.sample_rate, {c.name for c in denoiser.conditions}
    if rate is None or not {"class", "speaker"} <= names:
        raise InputError(f"{model} draws no digits: give a model of experiment=digits")
    length = require_generator(denoiser)
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
    if plot is not None:
        draw_beside(plot, unseen, made, rate)
    found[name] = scores(judge, made, seen)
    whole = {method: relative(row, found[UNSEEN]) for method, row in found.items()}
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
    parser.add_argument("--page", type=Path)
    parser.add_argument("--plot", type=Path, help="PNG of real digits above drawn ones")
    options = parser.parse_args(arguments)
    torch.set_num_threads(min(2, torch.get_num_threads()))
    results = evaluate(
        options.data,
        options.model,
        count=options.count,
        epochs=options.epochs,
        steps=options.steps,
        guidance=options.guidance,
        plot=options.plot,
    )
    print(table(results))
    if options.output:
        write_results(
            options.output,
            "python benchmarks/evaluate_digits.py --data DATA",
            model=artifact.fingerprint(options.model),
            drawn=options.count,
            guidance=options.guidance,
            data=data_digest(options.data),
            results=results,
        )
    if options.page:
        insert_table(options.page, "digits", table(results))


if __name__ == "__main__":
    main()
