r"""Score models by the published protocol of ECG denoising: the QT database in recorded wander.

    signal-diffusion train experiment=ecg_qt data.sources.qt=QTDB data.sources.noise=NSTDB
    python benchmarks/ecg_qt_protocol.py --qt QTDB --noise NSTDB \
        --model outputs/ecg_qt/DATE/model.safetensors --shots 10 --output results.json

QTDB and NSTDB are PhysioNet's folders qtdb/1.0.0 and nstdb/1.0.0. An hour of training on two cores,
then five minutes; `--shots 10` (of 16 steps each: 160 calls) takes seven hours of one core more.

The protocol is that of DeepFilter (Romero and others 2021) as DeScoD-ECG (Li and others 2022,
arXiv:2208.00542) uses it: beats of 105 records at 360 Hz in windows of 512 samples, the 14 records
that are held out, baseline wander of 0.2 to 2 times the beat's span, in two versions of the noise,
pooled. The public code has a model trained for each version: give both (`data.sources.version=2`);
one alone is scored in both. The whole database has about 72 000 training and 13 316 test beats.
Published, at 0.2 to 2:

    DeScoD-ECG, 10 shots (500 calls)   SSD 3.77    MAD 0.329   PRD 40.5 %   cosine 0.926
    MECG-E, 1 call                     SSD 3.445   MAD 0.319   PRD 37.6 %   cosine 0.936

NO SCORE OF OURS EXISTS HERE: the databases were not at hand, only small files of the same form.
What differs from our own protocol (evaluate_ecg.py), so that figures can't be compared: beats
instead of minutes, in windows that are short for a high-pass; wander alone instead of muscles and
electrodes; a reference that keeps its own drift and is moved so that a beat's ends lie about 0. And
what a score must be read with:

- PRD as published has the estimate's energy below the line, about the mean of all beats: noise that
  is unlike the beat gives under 100 %, however strong. That is `prd_published` here; `prd`, as
  everywhere else, has the reference's. The other metrics are those of the public code.
- A ratio at the edge of two bins counts in both, as published. Beats come in the order of their
  records' names; in the public code it is the disk's, and so are ratio and noise of each beat.
- The shipped `ecg` is NOT held out here: it was trained on record 233 of the arrhythmia database,
  which sel233 is a part of, and on minutes 0 to 18 of the noise, of which 15 to 18 are test noise.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from shared.ecg_filters import fir_bandpass

from signal_diffusion import Denoiser, denoise_blocks
from signal_diffusion.data.sets.qt import (
    CHANNELS,
    LENGTH,
    RATE,
    TEST_RECORDS,
    beats,
    in_noise,
    wander,
)
from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError
from signal_diffusion.evaluation.baselines import bandpass, wavelet
from signal_diffusion.evaluation.summary import markdown_table
from signal_diffusion.files import artifact, atomic
from signal_diffusion.files.atomic import require_writable
from signal_diffusion.metrics import cosine_similarity, mad, prd, ssd
from signal_diffusion.streaming.settings import STEPS_OF_SHOTS, Settings

#: Beats (n, L) to estimates (n, L).
Method = Callable[[Array], Array]
BINS = ((0.2, 0.6), (0.6, 1.0), (1.0, 1.5), (1.5, 2.0))
#: Beats that are denoised at once.
AT_ONCE = 256
#: Of the generator that draws how strong the noise is.
SEED = 1234


@dataclass(frozen=True)
class HeldOut:
    """The test beats in one version of the noise.

    Attributes:
        clean, noisy: (n, 512) in mV.
        ratios: spans of the noise over those of the beats (n,).
        trained: how many training beats there are, on which the ratios depend.
    """

    clean: Array
    noisy: Array
    ratios: Array
    trained: int


def held_out(qt: str | Path, noise: str | Path) -> tuple[HeldOut, HeldOut]:
    """The test beats in both versions of the noise, with the same ratios.

    As in the public code, the ratios are hundredths that are drawn after those of all training
    beats, and the noise is taken window by window, from its beginning again where it ends.

    Raises:
        InputError: a folder, the noise or one of the test records is missing.
    """
    noises = [wander(noise, version)[1] for version in CHANNELS]
    clean, trained = _test_beats(qt)
    rng = np.random.RandomState(SEED)
    rng.randint(20, 200, trained)
    ratios = rng.randint(20, 200, len(clean)) / 100
    one, two = (in_noise(clean, _in_turn(x, len(clean)), ratios) for x in noises)
    return HeldOut(clean, one, ratios, trained), HeldOut(clean, two, ratios, trained)


def _test_beats(qt: str | Path) -> tuple[Array, int]:
    """The beats of all test records, and the count of all others'."""
    tested: dict[str, Array] = {}
    trained = 0
    for name, found in beats(qt):
        if name in TEST_RECORDS:
            tested[name] = found
        else:
            trained += len(found)
    missing = [name for name in TEST_RECORDS if not len(tested.get(name, ()))]
    if missing:
        raise InputError(f"{qt} has no beats of the test records {', '.join(missing)}: add them")
    return np.concatenate(list(tested.values())), trained


def _in_turn(noise: Array, count: int) -> Array:
    """Windows (count, 512) one after another, from the beginning again where the noise ends."""
    whole = len(noise) // LENGTH
    return noise[: whole * LENGTH].reshape(whole, LENGTH)[np.arange(count) % whole]


def prd_published(estimate: Array, reference: Array) -> Array:
    """PRD of beats (n, L) in % as the public code has it, (n,): over the estimate's energy about
    the mean of all references."""
    error = np.square(estimate - reference).sum(axis=1)
    return 100 * np.sqrt(error / np.square(estimate - reference.mean()).sum(axis=1))


METRICS: dict[str, Callable[[Array, Array], Any]] = {
    "ssd": ssd,
    "mad": mad,
    "prd_published": prd_published,
    "prd": prd,
    "cosine": cosine_similarity,
}


def by_model(model: str, settings: Settings) -> Method:
    """A model, each beat with a level and an offset of its own, by the mean of its draws."""
    denoiser = Denoiser.from_pretrained(model)

    def estimate(noisy: Array, seed: int) -> Array:
        chosen = replace(settings, seed=seed)
        return np.concatenate(
            list(denoise_blocks(denoiser, [noisy], sample_rate=RATE, settings=chosen)), axis=1
        )

    def method(noisy: Array) -> Array:
        starts = range(0, len(noisy), AT_ONCE)
        return np.concatenate([estimate(noisy[n : n + AT_ONCE], n) for n in starts])

    return method


def methods(models: Sequence[str], shots: int, steps: int) -> dict[str, list[Method]]:
    """What is compared, in each version of the noise; the untouched input first."""
    same: dict[str, Method] = {
        "input": lambda noisy: noisy,
        "FIR band-pass": lambda noisy: fir_bandpass(noisy, RATE),
        "IIR band-pass": lambda noisy: bandpass(noisy, RATE),
        "IIR and wavelet": lambda noisy: wavelet(bandpass(noisy, RATE)),
        "shipped ecg (not held out), 1 step": by_model("ecg", Settings()),
    }
    found = {name: [method] * len(CHANNELS) for name, method in same.items()}
    of_version = list(models) * (len(CHANNELS) // max(len(models), 1))
    if models:
        found["model, 1 step"] = [by_model(model, Settings()) for model in of_version]
    if models and shots:
        drawn = Settings(steps=steps, shots=shots)
        name = f"model, {shots} shots ({shots * steps} calls)"
        found[name] = [by_model(model, drawn) for model in of_version]
    return found


def scores(
    versions: Sequence[HeldOut], of_version: Sequence[Method]
) -> dict[str, dict[str, float]]:
    """Means over the beats of all versions, in each bin of ratios and pooled."""
    rows: dict[str, list[Array]] = {name: [] for name in METRICS}
    for version, method in zip(versions, of_version, strict=True):
        estimate = np.ascontiguousarray(method(version.noisy))
        for name, metric in METRICS.items():
            rows[name].append(np.asarray(metric(estimate, version.clean)))
    values = {name: np.concatenate(parts) for name, parts in rows.items()}
    ratios = np.concatenate([version.ratios for version in versions])
    within = {f"{low:g} to {high:g}": (ratios >= low) & (ratios <= high) for low, high in BINS}
    groups = {**within, "all": np.ones(len(ratios), bool)}
    return {
        group: {name: round(float(found[at].mean()), 4) for name, found in values.items()}
        for group, at in groups.items()
        if at.any()
    }


def table(results: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """The pooled scores, and PRD and cosine by bin, in Markdown."""
    bins = [group for group in next(iter(results.values())) if group != "all"]
    heads = ["SSD mV²", "MAD mV", "PRD % as published", "PRD %", "cosine"]
    heads += [f"{name}: PRD % as published, cosine" for name in bins]
    lines = []
    for name, groups in results.items():
        whole = groups["all"]
        cells = [f"{whole['ssd']:.3f}", f"{whole['mad']:.3f}", f"{whole['prd_published']:.1f}"]
        cells += [f"{whole['prd']:.1f}", f"{whole['cosine']:.3f}"]
        cells += [f"{groups[b]['prd_published']:.1f}, {groups[b]['cosine']:.3f}" for b in bins]
        lines.append([name, *cells])
    return markdown_table(["", *heads], lines)


def write(path: Path, whole: Mapping[str, Any]) -> None:
    """Write results as JSON, wholly or not at all."""
    atomic.write(path, json.dumps(whole, indent=1) + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--qt", required=True, help="PhysioNet's folder qtdb/1.0.0")
    parser.add_argument("--noise", required=True, help="PhysioNet's folder nstdb/1.0.0")
    parser.add_argument("--model", nargs="+", default=[], help="one, or one a version of the noise")
    parser.add_argument("--shots", type=int, default=0, help="draws to average besides; 0 for none")
    parser.add_argument("--steps", type=int, default=STEPS_OF_SHOTS, help="of each draw")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    options = parser.parse_args(arguments)
    if len(options.model) > len(CHANNELS):
        raise InputError(f"--model has {len(options.model)} names: give one, or one a version")
    if options.output:
        require_writable(options.output, force=True)
    torch.set_num_threads(min(2, torch.get_num_threads()))
    compared = methods(options.model, options.shots, options.steps)
    versions = held_out(options.qt, options.noise)
    results = {name: scores(versions, of_version) for name, of_version in compared.items()}
    print(table(results))
    if options.output:
        files = {model: artifact.resolve(model).read_bytes() for model in ["ecg", *options.model]}
        write(
            options.output,
            {
                "command": "python benchmarks/ecg_qt_protocol.py --qt QTDB --noise NSTDB",
                "date": datetime.now(timezone.utc).date().isoformat(),
                "model_sha256_16": {
                    k: hashlib.sha256(v).hexdigest()[:16] for k, v in files.items()
                },
                "training_beats": versions[0].trained,
                "test_beats": len(versions[0].clean),
                "results": results,
            },
        )


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
