"""Quality against calls of the network, for every sampler on trained models: what the defaults are.

    python benchmarks/sampling_steps.py --data DATA --output results/samplers.json \\
        --page docs/results.md --plot docs/samplers.png

Three tasks, each with at most 1, 2, 4, 8, ... calls of the network (Heun has two a step, so that it
may have one call fewer), the task's own grid of times and the same noise for all samplers; with one
call all of them are the same.

- digits: drawn from noise, as many of each class and speaker, at the default guidance, and judged
  as `evaluate_digits.py` does: share recognised, Fréchet distances to real ones. Then the default
  number of calls with other guidance, beside real digits that the judge has not seen.
- vocoder: PESQ and ESTOI on recordings of held-out speakers, those of `evaluate_vocoder.py`.
- speech: PESQ and SI-SDR on the 60 mixes of `speech_valid_mixes.csv`.

Every row is kept in the JSON lines of `--rows` as soon as it is measured, and a run that was
stopped goes on from there; another model, or other numbers, are other rows. About forty minutes on
one core. Expect one call to be best where there is a truth (speech: PESQ 2.15, then 2.05, 1.93;
vocoder: 3.44 to 3.50 whatever the calls), as more calls draw a sample around the mean. For
digits expect `ddim` to be little better in 16 calls than in 8. Fresh noise (`ddpm`, `few_step`)
covers up the errors of a network of few minutes' training, which is recognised more often so, but
leaves a trained one with less diversity. Heun's method diverges at few calls: it corrects in sigma
over alpha, of which a flow loses nearly all in its first step.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import evaluate_digits
import evaluate_speech
import evaluate_vocoder
import numpy as np
import plot_samplers
from shared.classifier import Classifier, train_classifier
from shared.judging import Sounds, parted, scores
from shared.result_tables import data_digest, insert_table

from signal_diffusion import Denoiser, denoise, samplers
from signal_diffusion.errors import InputError
from signal_diffusion.evaluation.benchmark import Sampler, points
from signal_diffusion.evaluation.outputs import write_results
from signal_diffusion.files import artifact, journal
from signal_diffusion.files.journal import Row
from signal_diffusion.nn.mel import Mel
from signal_diffusion.schedules import Schedule
from signal_diffusion.tasks.generate import (
    GUIDANCE,
    STEPS,
    combinations,
    generate,
    require_generator,
)
from signal_diffusion.tasks.vocode import vocode

Scores = dict[str, float]
Job = tuple[Row, Callable[[], Scores]]

BUDGETS = {"digits": (1, 2, 4, 8, 16, 32), "vocoder": (1, 2, 4, 8), "speech": (1, 2, 4)}
GUIDANCES = (1.0, 1.5, 2.0, 3.0)
#: Scores that a machine which does other things too gets wrong.
TIMES = ("elapsed", "real_time_factor")


def usual(task: Callable[..., Any]) -> Row:
    """Default sampler and calls of `generate`, `vocode` or `denoise`."""
    given = inspect.signature(task).parameters
    return {"sampler": given["sampler"].default.__name__, "calls": given["steps"].default}


DEFAULTS = {
    "digits": {**usual(generate), "guidance": GUIDANCE},
    "vocoder": usual(vocode),
    "speech": usual(denoise),
}


def jobs_of(
    of: Row, schedule: Schedule, budgets: Sequence[int], scored: Callable[[Sampler, int], Scores]
) -> Iterator[Job]:
    """What tells each point from others, and what measures it."""
    for row, sampler, steps in points(schedule, budgets):
        yield {**of, **row}, partial(scored, sampler, steps)


class DrawnDigits:
    """Scores of digits that a generator draws, by a judge who is trained when first asked.

    Args:
        data: folder with manifest.csv.
        model: of classes and speakers.
        count: digits of each class and speaker.
        epochs: of the judge.
    """

    def __init__(self, data: str, model: str, *, count: int = 5, epochs: int = 25) -> None:
        self.data, self.model, self.count, self.epochs = data, model, count, epochs
        self.denoiser = Denoiser.from_pretrained(model)
        lists = {c.name: c.values("all") for c in self.denoiser.conditions}
        if self.denoiser.kind != "generator" or not {"class", "speaker"} <= set(lists):
            raise InputError(f"{model} draws no digits: give a model of experiment=digits")
        self.values, _ = combinations(lists, count)

    def jobs(self, budgets: Sequence[int], guidances: Sequence[float]) -> Iterator[Job]:
        """One for real digits, one for each pull of the conditions, and one for each point."""
        of: Row = {"task": "digits", "model": artifact.fingerprint(self.model)}
        of |= {"count": len(self.values), "epochs": self.epochs}
        yield {**of, "sampler": "real"}, self.real
        chosen = getattr(samplers, DEFAULTS["digits"]["sampler"])
        for guidance in guidances:
            row = {**DEFAULTS["digits"], "budget": STEPS, "guidance": guidance}
            yield {**of, **row}, partial(self.drawn, chosen, STEPS, guidance)
        pulled = {**of, "guidance": GUIDANCE}
        yield from jobs_of(pulled, self.denoiser.schedule, budgets, self.drawn)

    def drawn(self, sampler: Sampler, steps: int, guidance: float = GUIDANCE) -> Scores:
        """Scores of one way of drawing."""
        try:
            signals = generate(
                self.denoiser,
                requested=self.values,
                steps=steps,
                sampler=sampler,
                guidance=guidance,
            )
        except InputError:
            # A sampler that diverges has no result: it is judged as silence.
            signals = np.zeros((len(self.values), require_generator(self.denoiser)), np.float32)
        judge, seen, _ = self.judged
        labels, speakers = ([str(one[key]) for one in self.values] for key in ("class", "speaker"))
        return evaluate_digits.scores(
            judge, evaluate_digits.digits(signals, labels, speakers), seen
        )

    def real(self) -> Scores:
        """Scores of real digits that the judge has not seen, of the same speakers."""
        judge, seen, unseen = self.judged
        return scores(judge, unseen, seen)

    @cached_property
    def judged(self) -> tuple[Classifier, Sounds, Sounds]:
        """The judge, what it has seen, and what not."""
        rate, length = self.denoiser.sample_rate, require_generator(self.denoiser)
        assert rate is not None
        real = evaluate_digits.real(self.data, "train", sample_rate=rate, length=length)
        seen, unseen = parted(real)
        judge = train_classifier(seen.signals, seen.labels, sample_rate=rate, epochs=self.epochs)
        return judge, seen, unseen


def vocoder_jobs(data: str, model: str, budgets: Sequence[int], *, clips: int) -> Iterator[Job]:
    """One job for each point of a vocoder."""
    denoiser, mel = Denoiser.from_pretrained(model), Mel()
    chosen = evaluate_vocoder.recordings(data, mel)
    chosen = chosen[:: max(1, len(chosen) // clips)][:clips]
    of = {"task": "vocoder", "model": artifact.fingerprint(model), "count": len(chosen)}

    def scored(sampler: Sampler, steps: int) -> Scores:
        def method(x: Any) -> Any:
            frames = evaluate_vocoder.frames(x, mel)
            return vocode(denoiser, frames, steps=steps, sampler=sampler)

        return evaluate_vocoder.scores(method, chosen)

    return jobs_of(of, denoiser.schedule, budgets, scored)


def speech_jobs(data: str, model: str, budgets: Sequence[int], *, listing: Path) -> Iterator[Job]:
    """One job for each point of a denoiser of speech."""
    denoiser, chosen = Denoiser.from_pretrained(model), evaluate_speech.mixes(Path(data), listing)
    of = {"task": "speech", "model": artifact.fingerprint(model), "count": len(chosen)}

    def scored(sampler: Sampler, steps: int) -> Scores:
        rate = evaluate_speech.RATE
        return evaluate_speech.score(
            lambda x: denoise(denoiser, x, sample_rate=rate, steps=steps, sampler=sampler), chosen
        )

    return jobs_of(of, denoiser.schedule, budgets, scored)


def measured(jobs: Sequence[Job], kept: Path) -> list[Row]:
    """The rows of all jobs, of which those that are kept are not measured again."""
    return journal.measured([(of, partial(untimed, run)) for of, run in jobs], kept, show)


def untimed(run: Callable[[], Scores]) -> Scores:
    """Scores without those that go by what else the machine does."""
    return {k: v for k, v in run().items() if k not in TIMES}


def show(done: int, total: int, row: Row) -> None:
    """Tell of a row as soon as it is there."""
    print(f"{done}/{total} {json.dumps(row)}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with manifest.csv")
    parser.add_argument("--model", default="digits", help="generator of digits")
    parser.add_argument("--vocoder", default="vocoder")
    parser.add_argument("--speech", default="speech", help="denoiser of speech")
    parser.add_argument("--count", type=int, default=5, help="digits of each class and speaker")
    parser.add_argument("--clips", type=int, default=12, help="recordings for the vocoder")
    parser.add_argument("--rows", type=Path, default=Path("outputs/samplers.jsonl"))
    parser.add_argument("--output", type=Path)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args(arguments)
    digits = DrawnDigits(options.data, options.model, count=options.count)
    jobs = [
        *speech_jobs(
            options.data, options.speech, BUDGETS["speech"], listing=evaluate_speech.MIXES
        ),
        *vocoder_jobs(options.data, options.vocoder, BUDGETS["vocoder"], clips=options.clips),
        *digits.jobs(BUDGETS["digits"], GUIDANCES),
    ]
    rows = measured(jobs, options.rows)
    table = plot_samplers.table(rows, DEFAULTS)
    print(table)
    if options.output:
        write_results(
            options.output,
            "python benchmarks/sampling_steps.py --data DATA",
            defaults=DEFAULTS,
            data=data_digest(options.data),
            rows=rows,
        )
    if options.page:
        insert_table(options.page, "samplers", table)
    if options.plot:
        plot_samplers.draw(options.plot, rows, DEFAULTS)


if __name__ == "__main__":
    main()
