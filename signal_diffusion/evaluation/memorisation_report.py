"""The report on a generator's memory: figures, a histogram, and its closest pairs as sound."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from signal_diffusion.audio import read
from signal_diffusion.audio.provenance import MARK, provenance, write_generated
from signal_diffusion.conditions import Condition, Value
from signal_diffusion.data.corpus import (
    SUFFIXES,
    Clip,
    Corpus,
    clips_of,
    list_folder,
    manifest_rows,
)
from signal_diffusion.data.labels import fitted
from signal_diffusion.denoiser import Denoiser
from signal_diffusion.errors import InputError
from signal_diffusion.evaluation.memorisation import (
    CHANCE,
    REFERENCES,
    RESOLUTION,
    VERY_NEAR,
    Clips,
    Comparison,
    Memorisation,
)
from signal_diffusion.evaluation.outputs import make_folder
from signal_diffusion.files import atomic
from signal_diffusion.files.npz import read_arrays
from signal_diffusion.plots.curves import INPUT, REMOVED, RESULT
from signal_diffusion.plots.spectrograms import DRAWING, as_png, require_matplotlib
from signal_diffusion.samplers import Progress
from signal_diffusion.tasks.generate import generate

if TYPE_CHECKING:
    from matplotlib.figure import Figure


OUTPUTS = FIGURES, HISTOGRAM = "memorisation.json", "histogram.png"
#: Seconds of silence between the two sounds of a pair.
PAUSE = 0.25
QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def write_report(
    folder: Path,
    found: Memorisation,
    drawn: Clips,
    training: Clips,
    *,
    sample_rate: int,
    against: str = "held-out",
    pairs: int = 20,
    facts: Mapping[str, Any] | None = None,
    force: bool = False,
) -> Comparison:
    """Write the figures, the histogram and the closest pairs into a folder; each appears whole.

    A pair is a WAV file in which the drawn signal is followed, after a short silence, by the
    training clip that is nearest to it, both at a peak of 0.9.

    Args:
        folder: is made.
        found: what `memorisation` found of the drawn and training clips.
        sample_rate: Hz.
        against: the reference of the verdict, see `memorisation.REFERENCES`.
        pairs: how many to list and write.
        facts: what else the JSON holds, such as the model.
        force: replace files that exist.

    Returns:
        The comparison that the verdict rests on.

    Raises:
        InputError: something can't be written.
    """
    verdict = found.against(against)
    require_matplotlib()
    make_folder(folder, OUTPUTS, force=force)
    closest = []
    for place, index in enumerate(found.closest(pairs), start=1):
        neighbour, distance = int(found.neighbours[index]), round(float(found.drawn[index]), 4)
        names = drawn.names[index], training.names[neighbour]
        pause = np.zeros(round(PAUSE * sample_rate), np.float32)
        both = [_peaked(drawn.signal(index)), pause, _peaked(training.signal(neighbour))]
        mark = {MARK: True, "drawn, then training": list(names), "distance": distance}
        path = folder / f"closest_{place:02d}.wav"
        write_generated(path, np.concatenate(both)[None], sample_rate, mark, force=force)
        closest.append({"drawn": names[0], "training": names[1], "distance": distance})
    with DRAWING:
        picture = as_png(_figure(found, verdict))
    atomic.write(folder / HISTOGRAM, picture, force=force)
    sets = {"drawn": found.drawn, "held_out": found.held_out, "training": found.training}
    figures = {
        **(facts or {}),
        "verdict": verdict.verdict,
        "against": against,
        "sentence": verdict.sentence,
        "notes": found.notes(against),
        "resolution": RESOLUTION,
        "very_near_share": VERY_NEAR,
        "chance": CHANCE,
        "comparisons": {name: asdict(found.against(name)) for name in REFERENCES},
        "p_held_out_like_training": found.p_alike,
        "counts": {name: len(distances) for name, distances in sets.items()},
        "quantiles": {
            name: {f"{q:g}": round(float(np.quantile(x, q)), 4) for q in QUANTILES}
            for name, x in sets.items()
        },
        "closest": closest,
    }
    atomic.write(folder / FIGURES, json.dumps(figures, indent=1) + "\n", force=force)
    return verdict


def _peaked(x: np.ndarray) -> np.ndarray:
    peak = float(np.abs(x).max())
    return np.asarray(0.9 * x / peak if peak > 0 else x, np.float32)


def _figure(found: Memorisation, verdict: Comparison) -> Figure:
    from matplotlib.figure import Figure

    sets = [
        ("drawn", found.drawn, REMOVED, 2.0),
        ("held-out clips", found.held_out, RESULT, 1.2),
        ("training clips, to the others", found.training, INPUT, 1.2),
    ]
    edges = np.linspace(0, max(float(x.max()) for _, x, _, _ in sets) * 1.02 + 1e-6, 60).tolist()
    figure = Figure(figsize=(9, 4.5), dpi=100, layout="constrained")
    axes = figure.subplots()
    for label, x, colour, width in sets:
        weights = np.full(len(x), 100 / len(x))
        name = f"{label} ({len(x)})"
        axes.hist(x, edges, weights=weights, histtype="step", color=colour, lw=width, label=name)
    label = f"nearest {100 * VERY_NEAR:g} % of the reference ({verdict.reference})"
    axes.axvline(verdict.very_near, color="black", ls=":", lw=1, label=label)
    axes.set_xlabel("distance to the nearest training clip (0: a copy)")
    axes.set_ylabel("share, %")
    axes.set_title(verdict.sentence, fontsize=9, wrap=True)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    return figure


@dataclass(frozen=True)
class Drawn:
    """Drawn signals, their rate in Hz and length in samples, and where they come from."""

    clips: Clips
    sample_rate: int
    length: int
    facts: Mapping[str, Any]
    domain: str | None = None


def drawn_signals(
    source: str,
    *,
    count: int,
    seed: int,
    steps: int,
    guidance: float,
    device: str,
    progress: Progress | None = None,
) -> Drawn:
    """The signals of a folder or an NPZ, or `count` that a generator draws.

    Of a generator's conditions, each signal has random values, by the seed.

    Raises:
        InputError: there is no such thing, or it holds or draws no signals.
    """
    path = Path(source)
    if path.suffix.lower() == ".npz":
        return _from_npz(path)
    if path.is_dir() and any(p.suffix.lower() in SUFFIXES for p in path.rglob("*")):
        clips = list_folder(path)
        rate = read(clips[0].path).sample_rate
        corpus = Corpus(clips, sample_rate=rate)
        length = int((corpus.ends - corpus.starts).max())
        relative = [str(clip.path.relative_to(path)) for clip in clips]
        held = Clips(relative, lambda index: fitted(corpus.clip(index), length))
        return Drawn(held, rate, length, {"folder": path.name})
    from signal_diffusion.streaming.settings import device_named

    denoiser = Denoiser.from_pretrained(source).to(device_named(device))
    if denoiser.sample_rate is None:
        raise InputError("this model has no sample rate, which files need")
    values = random_values(denoiser.conditions, count, seed)
    signals = generate(
        denoiser, requested=values, steps=steps, guidance=guidance, seed=seed, progress=progress
    )
    facts = provenance(source, seed=seed, steps=steps, guidance=guidance)
    names = [" ".join([*map(str, one.values()), f"{n:03d}"]) for n, one in enumerate(values)]
    return Drawn(
        Clips(names, signals.__getitem__),
        denoiser.sample_rate,
        signals.shape[1],
        facts,
        domain=denoiser.domain,
    )


def random_values(conditions: Sequence[Condition], count: int, seed: int) -> list[dict[str, Value]]:
    """Of every condition, one of its values for each of `count` signals.

    >>> from signal_diffusion.conditions import Names
    >>> random_values([Names("class", ("one",))], 2, 0)
    [{'class': 'one'}, {'class': 'one'}]
    """
    rng = np.random.default_rng(seed)
    lists = {condition.name: condition.values("all") for condition in conditions}
    return [
        {name: values[int(rng.integers(len(values)))] for name, values in lists.items()}
        for _ in range(count)
    ]


def training_sets(
    drawn: Drawn,
    *,
    root: Path | None = None,
    columns: Mapping[str, Sequence[str]],
    folders: Sequence[Path] = (),
) -> list[Clips]:
    """Clips that were trained on, and clips that were not, as long as the drawn signals.

    Args:
        drawn: the signals that are compared with them.
        root: of a manifest with the splits train and valid.
        columns: choose rows of the manifest; without any the drawn signals' domain does.
        folders: instead of a manifest, one of each.

    Raises:
        InputError: there are no such clips, or nothing tells which they are.
    """
    if root is None:
        listed = [list_folder(folder) for folder in folders]
    elif not columns and drawn.domain is None:
        raise InputError("which rows were trained on? Give e.g. --where domain=digits")
    else:
        where = columns or {"domain": [drawn.domain or ""]}
        splits = ("train", "valid")
        rows = [manifest_rows(root, where={**where, "split": [split]}) for split in splits]
        listed = [clips_of(root, found) for found in rows]
    return [_clips(clips, drawn) for clips in listed]


def _clips(clips: Sequence[Clip], drawn: Drawn) -> Clips:
    corpus = Corpus(clips, sample_rate=drawn.sample_rate)
    names = [clip.name for clip in clips]
    return Clips(names, lambda index: fitted(corpus.clip(index), drawn.length))


def _from_npz(path: Path) -> Drawn:
    held = read_arrays(path, "signals", ["sample_rate", "provenance"])
    try:
        signals, rate = np.asarray(held["signals"], np.float32), int(held["sample_rate"])
        facts = dict(json.loads(str(held.get("provenance", "{}"))))
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{path} can't be read as what `generate -o {path.name}` writes, "
            f"with signals (n, L) and sample_rate: {' '.join(str(error).split())}"
        ) from error
    if signals.ndim != 2 or not signals.size or rate < 1 or not np.isfinite(signals).all():
        raise InputError(f"{path} holds signals {signals.shape} at {rate} Hz: give finite (n, L)")
    names = [f"{path.stem}[{index}]" for index in range(len(signals))]
    return Drawn(Clips(names, signals.__getitem__), rate, signals.shape[1], facts)
