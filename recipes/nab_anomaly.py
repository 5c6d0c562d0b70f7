"""Find the failures of a machine by its temperature, by a denoiser's error, with a picture.

    python recipes/nab_anomaly.py --data NAB --output FOLDER

Trains `experiment=nab` on the first 60 % of the series (or takes --model) and scores the next 15 %,
three hours a window, as `signal-diffusion score` does: FOLDER gets readings.csv, scores.csv and
scores.png. NAB is a clone of github.com/numenta/NAB, which has time stamps and labels; a folder as
of `data.machine.TemperatureSources` has neither: it gets the picture and the highest windows, at
seconds since the beginning.

Half a minute on one core. Expect, with the labels, over 95 windows of 12 days, of which the 47
hours before and after one failure are labelled:

| method | ROC-AUC | best F1 |
| --- | ---: | ---: |
| denoiser, beside training | 0.893 | 0.636 |
| denoiser, beside the first four days | 0.911 | 0.684 |
| isolation forest | 0.894 | 0.667 |
| distance from the median | 0.921 | 0.703 |

One event measures next to nothing: all four are alike, and the plain distance of a window's mean
from the median of training needs no model. The network sees a quarter of an hour before and after
(one that saw twenty hours got 0.78 beside training, since it took the slow fall for usual), which
was chosen on this very part. The last 25 % of the series, with the benchmark's last failure, was
not looked at; `--part test` scores it.

The part that trains holds two labelled failures, so that medians and absolute deviations are taken
of its readings and of the errors on it; the network itself has seen them. The series has no gaps,
but its stamps go back by an hour once in that part: they are not read there, and its readings are
taken as evenly spaced. The benchmark's own score, of alarms as they would be raised in time, is not
computed.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from anomaly_baselines import comparison, distance, isolation_forest, marked
from score_plot import draw_scores

from signal_diffusion import Denoiser
from signal_diffusion.data.sets.sensor_series import SPLITS, STEP, TemperatureSources
from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.dsp import Array
from signal_diffusion.evaluation.summary import markdown_table
from signal_diffusion.tables.columns import Columns
from signal_diffusion.tasks.anomaly import learn_usual, score_table
from signal_diffusion.training.runs import trained

#: Readings of a window: three hours.
ROWS = 36
NAME = "temperature"
#: Windows that are told of, and how many lie between them at least: a day.
TOLD, APART = 5, 8
#: Seconds at the beginning that are taken as usual, where there is no training: four days.
BASELINE = 4 * 86400.0


def written(path: Path, x: Array, stamps: Sequence[str] | None) -> Path:
    """A CSV of temperatures (1, n), beside their time stamps where there are some."""
    with path.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow([NAME] if stamps is None else ["timestamp", NAME])
        rows = [[value] for value in map(float, x[0])]
        table.writerows(rows if stamps is None else zip(stamps, x[0], strict=True))
    return path


def scored(
    denoiser: NetworkDenoiser, source: Path, target: Path, *, baseline: float | None = None
) -> tuple[list[str], Array]:
    """Times and scores of the windows of a table, from the file that they are written to."""
    columns = Columns(rate=None if _stamped(source) else 1 / STEP)
    score_table(denoiser, source, target, columns=columns, rows=ROWS, baseline=baseline, force=True)
    with target.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["time"] for row in rows], np.array([float(row["score"] or "nan") for row in rows])


def _stamped(path: Path) -> bool:
    with path.open() as file:
        return file.readline().startswith("timestamp")


def highest(times: Sequence[str], scores: Array) -> str:
    """The windows of the highest scores, a day or more from one another."""
    kept: list[int] = []
    for n in np.argsort(-scores):
        if all(abs(n - other) >= APART for other in kept):
            kept.append(int(n))
    return markdown_table(["from", "score"], [[times[n], f"{scores[n]:.1f}"] for n in kept[:TOLD]])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="clone of NAB, or folder with manifest.csv")
    parser.add_argument("--output", required=True, type=Path, help="folder for scores and picture")
    parser.add_argument("--part", default="valid", choices=list(SPLITS), help="what is scored")
    parser.add_argument("--model", help="of experiment=nab; none: train one")
    parser.add_argument("--save", help="where the model goes")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options.output.mkdir(parents=True, exist_ok=True)
    sources = TemperatureSources(options.data)
    if options.model:
        denoiser = Denoiser.from_pretrained(options.model)
    else:
        denoiser = trained(["experiment=nab", f"data.sources.root={options.data}"])
    train, scale = sources.scale(sources.readings("train")), sources.scale
    learn_usual(denoiser, [train], [NAME], rows=ROWS, scale=scale)
    if options.save:
        denoiser.save_pretrained(options.save)
    x, faulty = sources.readings(options.part), sources.faulty(options.part)
    source = written(options.output / "readings.csv", x, sources.stamps(options.part))
    times, scores = scored(denoiser, source, options.output / "scores.csv")
    beside = options.output / "scores_beside_beginning.csv"
    _, relative = scored(denoiser, source, beside, baseline=BASELINE)
    draw_scores(
        options.output / "scores.png",
        x[0],
        scores,
        rows=ROWS,
        sample_rate=1 / STEP,
        label="temperature",
        faulty=faulty,
        force=True,
    )
    print(highest(times, scores))
    if faulty is not None and faulty.any():
        methods = {
            "denoiser, beside training": scores,
            "denoiser, beside the first four days": relative,
            "isolation forest": isolation_forest([train], ROWS)(scale(x)),
            "distance from the median": distance(ROWS)(scale(x)),
        }
        print("\n" + comparison(marked(faulty, ROWS), methods))


if __name__ == "__main__":
    main()
