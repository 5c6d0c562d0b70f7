"""`signal-diffusion memorisation`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from signal_diffusion.cli import options as opt
from signal_diffusion.cli.messages import say
from signal_diffusion.cli.options import argument
from signal_diffusion.cli.terminal import bar, libraries_silent
from signal_diffusion.errors import InputError

SETS = "What was trained on, and what was not"


def memorisation(
    source: Annotated[
        str, argument("Generator, or what it drew: a folder of audio, or an NPZ.", "SOURCE")
    ],
    output: Path = opt.setting(..., "Folder of the report.", "-o", "--output"),
    data: Path | None = opt.setting(
        None, "Folder with manifest.csv: its rows of split train, and of split valid.", panel=SETS
    ),
    where: list[str] | None = opt.setting(
        None,
        "Rows that were trained on, repeated (default: domain=the model's).",
        panel=SETS,
        metavar="COLUMN=VALUE,...",
    ),
    train: Path | None = opt.setting(
        None, "Folder of the training audio, instead of --data.", panel=SETS
    ),
    held_out: Path | None = opt.setting(
        None, "Folder of audio like it that was not trained on.", panel=SETS
    ),
    against: str = opt.setting(
        "held-out",
        "Reference of the verdict: held-out clips, or training clips with each other, where "
        "held-out ones are of another kind (speaker, machine).",
        panel=SETS,
        metavar="held-out|training",
    ),
    speed: float = opt.setting(
        0.0,
        "Find copies that are sped up or slowed down by up to this share, too, e.g. 0.07.",
        panel=SETS,
    ),
    count: int = opt.setting(
        500, "Number of signals to draw.", "-n", "--count", panel=opt.SAMPLING
    ),
    seed: opt.Seed = 0,
    steps: int = opt.setting(16, "Number of network calls.", panel=opt.SAMPLING),
    guidance: float = opt.setting(1.5, "Strength of the conditions.", panel=opt.SAMPLING),
    pairs: int = opt.setting(20, "Number of closest pairs to list and write."),
    force: opt.Force = False,
    quiet: opt.Quiet = False,
    device: opt.Device = "auto",
) -> None:
    """Test whether a generator repeats what it was trained on: memorisation digits --data DATA."""
    opt.require_least(1, count=count)
    opt.require_least(0, pairs=pairs)
    _require_sets(data, train, held_out, where)
    columns = columns_of(where or [])
    from signal_diffusion.evaluation import memorisation as measure
    from signal_diffusion.evaluation import memorisation_report as report
    from signal_diffusion.evaluation.outputs import require_folder

    measure.require_reference(against)
    speeds = measure.speeds_of(speed)
    require_folder(output, report.OUTPUTS, force=force)
    with libraries_silent():
        with bar("drawing", quiet=quiet) as progress:
            drawn = report.drawn_signals(
                source,
                count=count,
                seed=seed,
                steps=steps,
                guidance=guidance,
                device=device,
                progress=progress,
            )
        folders = [folder for folder in (train, held_out) if folder is not None]
        training, others = report.training_sets(drawn, root=data, columns=columns, folders=folders)
        with bar("comparing", quiet=quiet) as progress:
            found = measure.memorisation(
                drawn.clips,
                training,
                others,
                sample_rate=drawn.sample_rate,
                speeds=speeds,
                progress=progress,
            )
        verdict = report.write_report(
            output,
            found,
            drawn.clips,
            training,
            sample_rate=drawn.sample_rate,
            against=against,
            pairs=pairs,
            facts={**drawn.facts, "speeds": speeds},
            force=force,
        )
    if not quiet:
        for line in [f"{output}: {verdict.sentence}", *found.notes(against)]:
            say(line)


def columns_of(where: Sequence[str]) -> dict[str, list[str]]:
    """Columns and the values that are chosen of each.

    >>> columns_of(["domain=music", "subset=notes,drums"])
    {'domain': ['music'], 'subset': ['notes', 'drums']}
    """
    columns: dict[str, list[str]] = {}
    for word in where:
        column, equals, values = word.partition("=")
        if not (column and equals and values):
            raise InputError(f"where is '{word}'; give COLUMN=VALUE, e.g. --where domain=digits")
        columns[column] = values.split(",")
    return columns


def _require_sets(
    data: Path | None, train: Path | None, held_out: Path | None, where: Sequence[str] | None
) -> None:
    folders = train is not None and held_out is not None
    if (data is not None) == (train is not None or held_out is not None) or not (data or folders):
        raise InputError("give --data DATA, or both --train FOLDER and --held-out FOLDER")
    if where and data is None:
        raise InputError("--where chooses rows of a manifest: give it with --data DATA")
