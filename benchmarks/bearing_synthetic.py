"""Do drawn windows help a classifier of bearing faults that has few real ones?

    python benchmarks/bearing_synthetic.py --data DATA --output results/bearing_synthetic.json \\
        --page docs/results.md

Of the training bearings of DATA (CWRU, faults of ball, inner and outer ring, 0.3 s a window), 2 or
5 windows of each class at two of the four loads train a classifier (`tasks.classifying`), and all
windows at the other two loads test it: the same bearings at other loads. A second test is on the
held-out bearings (faults of 0.028 inch, none of the outer ring) at those loads. Each seed takes
other loads, windows, weights and noise. Classifiers are shown 48 rows of a class, all as often:

- the few windows, repeated;
- them, and as many variants (shifted, mixed within their class, noise, level);
- them, and as many windows from a generator (`experiment=bearing_faults`) that was trained on these
  few windows alone;
- them, and as many from a generator that was trained, with their labels, on all windows of the two
  training loads, 32 or more of each class: it has seen more than the classifier has;
- for comparison, all those real windows themselves, as 96 rows of a class.

What came out, over six seeds, in F1 (%) at other loads: a generator of the few windows alone does
harm, 4.1 with 2 windows of a class (in five of six seeds) and 6.3 with 5 (in all). One that has
seen all windows of the training loads gains 12.2 with 2 windows (deviation 12.9, better in five of
six seeds), and with 5 no more than chance may (1.4, deviation 9.8); variants, which cost nothing,
1.6 and -0.4. Whoever has all windows should train on them: 98.1, where drawn ones bring 81.5. On
the held-out bearings no classifier is of use, with an accuracy of 39 to 58 % of two classes, and
nothing helps in more than one seed of six. Deviations are over the seeds, which share bearings.
The generators were trained briefly, 150 and 300 steps; what longer training brings is not told by
this. No setting was chosen by what drawn windows gain; that real ones of one load teach the others
was looked at before.

Two and a half minutes of processor time a seed, a quarter of an hour for six; a killed run goes on
from what `--output` holds.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from shared.bearing_sets import Windows, varied, windows_of, write_windows
from shared.classifier import Classifier, train_classifier
from shared.result_tables import data_digest, insert_table

from signal_diffusion.data.sets.cwru import BearingSources, scaled
from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.errors import InputError
from signal_diffusion.evaluation.outputs import write_results
from signal_diffusion.evaluation.summary import markdown_table
from signal_diffusion.tasks.generate import generate
from signal_diffusion.training.runs import trained

RATE, LENGTH = 12000, 4096
#: Calls of the network for a window, which is drawn without guidance, that is by the law learnt.
STEPS = 8
FAULTS = ("ball", "inner", "outer")
#: Revolutions a minute of the four loads; each way of taking two to train on is a seed.
LOADS = (1797.0, 1772.0, 1750.0, 1730.0)
SPLITS = tuple(combinations(LOADS, 2))
#: Real windows of a class, and rows of a class that every classifier is shown, however made.
COUNTS, ROWS = (2, 5), 48
REAL, VARIED = "few real windows", "and variants of them"
OWN, ALL = "and drawn ones, from them alone", "and drawn ones, from all windows of their loads"
CEILING = "all real windows of their loads"
ARMS = (REAL, VARIED, OWN, ALL, CEILING)
#: The most that the classifiers' windows are sped up by; the loads lie within 4 %.
SPEED = 0.05
#: Steps of the generators that see the few windows and all, and epochs of the classifiers.
SETTINGS = {"few": 150, "all": 300, "epochs": 30}
TESTS = {"loads": "other loads", "bearing": "other bearings"}


def generator(windows: Windows, *, steps: int, seed: int) -> NetworkDenoiser:
    """A generator that has seen these windows and nothing else, on a data folder of their own."""
    with tempfile.TemporaryDirectory() as folder:
        write_windows(Path(folder), windows)
        return trained(
            [
                "experiment=bearing_faults",
                f"data.sources.root={folder}",
                f"seed={seed}",
                f"trainer.max_steps={steps}",
                f"trainer.val_check_interval={steps}",
                "trainer.max_time=null",
                "trainer.enable_progress_bar=false",
                "data.sources.recordings=4",
                "+data.valid_batches=1",
                "hydra.job_logging.root.level=WARN",
            ]
        )


def drawn(denoiser: NetworkDenoiser, like: Windows, *, seed: int) -> Windows:
    """A window of each one's class, diameter and speed."""
    signals = generate(
        denoiser, requested=like.values, length=LENGTH, steps=STEPS, guidance=1.0, seed=seed
    )
    return Windows(scaled(signals), like.values)


def rows_of(subset: Windows, more: Windows, seed: int) -> dict[str, Windows]:
    """What the classifiers are shown: few windows, alone or with others, of as many rows in all.

    Args:
        some: the few windows.
        more: what a generator drew that was trained on all windows of their loads.
        seed: of everything that is drawn.
    """
    rng = np.random.default_rng((seed, len(subset.values)))
    half = subset.repeated(ROWS // 2)
    own = drawn(generator(subset, steps=SETTINGS["few"], seed=seed), half, seed=seed)
    return {
        REAL: subset.repeated(ROWS),
        VARIED: half + varied(half, rng),
        OWN: half + own,
        ALL: half + more,
    }


def scores(judge: Classifier, tested: Windows) -> dict[str, float]:
    """Accuracy, and the mean F1 over the classes that are there, in %."""
    found = judge.probabilities(tested.signals).argmax(1).numpy()
    wanted = np.array([judge.classes.index(name) for name in tested.classes])
    f1 = []
    for number in sorted(set(wanted)):
        both = ((found == number) & (wanted == number)).sum()
        f1.append(2 * both / ((found == number).sum() + (wanted == number).sum()))
    named = {"accuracy": np.mean(found == wanted), "f1": np.mean(f1)}
    return {name: round(100 * float(value), 2) for name, value in named.items()}


def judged(
    shown: Mapping[str, Windows], tests: Mapping[str, Windows], seed: int
) -> dict[str, dict[str, dict[str, float]]]:
    """The scores of a classifier of each name's windows, by test."""
    judges = {
        name: train_classifier(
            subset.signals,
            subset.classes,
            sample_rate=RATE,
            epochs=SETTINGS["epochs"],
            seed=seed,
            speed=SPEED,
        )
        for name, subset in shown.items()
    }
    return {
        name: {test: scores(judge, subset) for test, subset in tests.items()}
        for name, judge in judges.items()
    }


def measured(
    data: str,
    counts: Sequence[int],
    seeds: Sequence[int],
    rows: list[dict[str, Any]],
    save: Callable[[], None],
) -> None:
    """Add a row for each seed and count that `rows` lacks, and call `save` after each.

    Each seed trains on other loads, and tests are on the rest.
    """
    sources = BearingSources(data, (), LENGTH)
    train, held_out = (windows_of(sources, part, classes=FAULTS) for part in ("train", "valid"))
    done = {(row["seed"], row["windows"]) for row in rows}
    for seed in seeds:
        split = SPLITS[seed]
        missing = [n for n in counts if (seed, n) not in done]
        if not missing:
            continue
        seen = train.at(split).shuffled(np.random.default_rng(seed))
        rest = [rpm for rpm in LOADS if rpm not in split]
        tests = {"loads": train.at(rest), "bearing": held_out.at(rest)}
        made = generator(seen, steps=SETTINGS["all"], seed=seed)
        more = drawn(made, seen.repeated(ROWS // 2), seed=seed)
        whole = {CEILING: seen.repeated(max(len(at) for at in seen.places().values()))}
        best = judged(whole, tests, seed)
        for count in missing:
            shown = rows_of(seen.few(count), more, seed)
            found = {**judged(shown, tests, seed), **best}
            rows.append({"seed": seed, "train_rpm": split, "windows": count, "scores": found})
            save()


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """By test, count and what was shown: means over the seeds, and the gain in F1 over `REAL`."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: int(row["windows"])):
        groups.setdefault(str(row["windows"]), []).append(row["scores"])
    return {
        test: {
            count: {arm: _summed(subset, arm, test) for arm in ARMS}
            for count, subset in groups.items()
        }
        for test in TESTS
    }


def _summed(subset: Sequence[Mapping[str, Any]], arm: str, test: str) -> dict[str, float]:
    f1 = np.array([found[arm][test]["f1"] for found in subset])
    gain = f1 - np.array([found[REAL][test]["f1"] for found in subset])
    found = {
        "f1": f1.mean(),
        "accuracy": np.mean([one[arm][test]["accuracy"] for one in subset]),
        "gain": gain.mean(),
        "gain_std": gain.std(ddof=1) if len(gain) > 1 else 0.0,
        "seeds_better": (gain > 0).sum(),
        "seeds": len(gain),
    }
    return {name: round(float(value), 2) for name, value in found.items()}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Mean F1 in %, and behind it the gain over the few windows alone and its deviation."""
    found = summary(rows)
    heads = [f"{TESTS[test]}: {n} a class" for test, counts in found.items() for n in counts]
    every = [arms for counts in found.values() for arms in counts.values()]
    return markdown_table(["", *heads], [[arm, *(_cell(a[arm]) for a in every)] for arm in ARMS])


def _cell(found: Mapping[str, float]) -> str:
    if not found["gain"] and not found["gain_std"]:
        return f"{found['f1']:.1f}"
    return f"{found['f1']:.1f} ({found['gain']:+.1f} ± {found['gain_std']:.1f})"


def kept(path: Path | None) -> list[dict[str, Any]]:
    """The rows of an earlier run, to go on from.

    Raises:
        InputError: it had other settings.
    """
    if path is None or not path.is_file():
        return []
    found = json.loads(path.read_text(encoding="utf-8"))
    if found.get("settings") != SETTINGS:
        raise InputError(f"{path} has other settings: name another file, or delete it")
    return list(found["rows"])


def save(path: Path, rows: Sequence[Mapping[str, Any]], *, data: Mapping[str, Any]) -> None:
    """Write the results, whole or not at all, with the command and data that they come from."""
    counts, seeds = (" ".join(map(str, sorted({r[k] for r in rows}))) for k in ("windows", "seed"))
    options = f"--windows {counts} --seeds {seeds}"
    command = f"python benchmarks/bearing_synthetic.py --data DATA {options}"
    found = {"data": data, "settings": SETTINGS, "summary": summary(rows), "rows": rows}
    write_results(path, command, **found)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with manifest.csv")
    parser.add_argument("--windows", nargs="+", type=int, default=COUNTS, help="real, of a class")
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=range(len(SPLITS)), choices=range(len(SPLITS))
    )
    parser.add_argument("--output", type=Path, help="goes on where an earlier run ended")
    parser.add_argument("--page", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows, data = kept(options.output), data_digest(options.data)

    def found() -> None:
        row = rows[-1]
        text = ", ".join(f"{arm} {by['loads']['f1']:.0f}" for arm, by in row["scores"].items())
        print(f"{len(rows)}: split {row['seed']}, {row['windows']} a class: {text}", flush=True)
        if options.output:
            save(options.output, rows, data=data)

    measured(options.data, options.windows, options.seeds, rows, found)
    print(table(rows))
    if options.page:
        insert_table(options.page, "bearing", table(rows))


if __name__ == "__main__":
    main()
