"""`signal-diffusion memorisation`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from signal_diffusion.cli import options as opt
from signal_diffusion.cli.messages import say
from signal_diffusion.cli.terminal import bar, libraries_silent
from signal_diffusion.errors import InputError

if TYPE_CHECKING:
    from signal_diffusion.evaluation.memorisation import Clips, Memorisation
    from signal_diffusion.evaluation.memorisation_report import Drawn

SETS = "What was trained on, and what was not"
REFERENCES = ("held-out", "training")

Source = Annotated[
    str,
    typer.Argument(
        help="Generator, or what it drew: a folder of audio, or an NPZ.", show_default=False
    ),
]
Output = Annotated[
    Path, typer.Option("-o", "--output", help="Folder of the report.", rich_help_panel=opt.IO)
]
Data = Annotated[
    Path | None,
    typer.Option(
        help="Folder with manifest.csv: its rows of split train, and of split valid.",
        rich_help_panel=SETS, show_default=False,
    ),
]  # fmt: skip
Where = Annotated[
    list[str] | None,
    typer.Option(
        help="Rows that were trained on, repeated (default: domain=the model's).",
        metavar="COLUMN=VALUE,...", rich_help_panel=SETS, show_default=False,
    ),
]  # fmt: skip
Train = Annotated[
    Path | None,
    typer.Option(help="Instead: folder of audio.", rich_help_panel=SETS, show_default=False),
]
HeldOut = Annotated[
    Path | None,
    typer.Option(help="And one of audio like it.", rich_help_panel=SETS, show_default=False),
]
Count = Annotated[
    int,
    typer.Option("-n", "--count", help="Signals to draw.", rich_help_panel=opt.SAMPLING),
]
Steps = Annotated[int, typer.Option(help="Calls of the network.", rich_help_panel=opt.SAMPLING)]
Guidance = Annotated[
    float, typer.Option(help="Pull of the conditions.", rich_help_panel=opt.SAMPLING)
]
Against = Annotated[
    str,
    typer.Option(
        help="What the verdict compares with: held-out clips, or training clips with each other, "
        "where held-out ones are of another kind (speaker, machine).",
        metavar="held-out|training", rich_help_panel=SETS,
    ),
]  # fmt: skip
Speed = Annotated[
    float,
    typer.Option(
        help="Find copies that are sped up or slowed down by up to this share, too, e.g. 0.07.",
        rich_help_panel=SETS,
    ),
]
Pairs = Annotated[
    int, typer.Option(help="Closest pairs to list and write.", rich_help_panel=opt.IO)
]


def memorisation(
    source: Source,
    output: Output,
    data: Data = None,
    where: Where = None,
    train: Train = None,
    held_out: HeldOut = None,
    against: Against = "held-out",
    speed: Speed = 0.0,
    count: Count = 500,
    seed: opt.Seed = 0,
    steps: Steps = 16,
    guidance: Guidance = 1.5,
    pairs: Pairs = 20,
    force: opt.Force = False,
    quiet: opt.Quiet = False,
    device: opt.Device = "auto",
) -> None:
    """Tell whether a generator repeats what it was trained on: memorisation digits --data DATA."""
    _require(against=against, speed=speed, count=count, pairs=pairs)
    from signal_diffusion.evaluation.memorisation_report import (
        drawn_signals,
        folder_sets,
        manifest_sets,
        require_folder,
        sentence,
        words_of,
        write_report,
    )

    _require_sets(data, train, held_out, where)
    words = words_of(where or [])
    require_folder(output, force=force)
    with libraries_silent():
        with bar("drawing", quiet=quiet) as tell:
            drawn = drawn_signals(
                source, count=count, seed=seed, steps=steps, guidance=guidance, device=device,
                progress=tell,
            )  # fmt: skip
        if data is not None:
            known, unseen = manifest_sets(data, words, drawn)
        else:
            assert train is not None and held_out is not None
            known, unseen = folder_sets(train, held_out, drawn)
        found = _compared(drawn, known, unseen, speeds=speeds_of(speed), quiet=quiet)
        told: dict[str, Any] = {**drawn.told, "speeds": speeds_of(speed)}
        verdict = write_report(
            output, found, drawn.clips, known, sample_rate=drawn.sample_rate, against=against,
            pairs=pairs, told=told, force=force,
        )  # fmt: skip
    if not quiet:
        for line in [f"{output}: {sentence(verdict)}", *_notes(found, against)]:
            say(line)


def _compared(
    drawn: Drawn, known: Clips, unseen: Clips, *, speeds: Sequence[float], quiet: bool
) -> Memorisation:
    from signal_diffusion.evaluation.memorisation import memorisation as compare

    with bar("comparing", quiet=quiet) as tell:
        return compare(
            drawn.clips, known, unseen, sample_rate=drawn.sample_rate, speeds=speeds, progress=tell
        )


def speeds_of(most: float) -> list[float]:
    """Factors, 2 % apart or a little less, up to a share up and down.

    >>> speeds_of(0), speeds_of(0.03)
    ([1.0], [0.97, 0.985, 1.0, 1.015, 1.03])
    """
    each = -(-round(100 * most) // 2)
    return [round(1 + most * step / max(1, each), 4) for step in range(-each, each + 1)]


def _notes(found: Memorisation, against: str) -> list[str]:
    if against == "training" or found.p_alike >= 0.01:
        return []
    return [
        "note: held-out clips lie farther from the training clips than these from each other "
        f"(p = {found.p_alike:.2g}), and so are of another kind; --against training is fairer"
    ]


def _require(*, against: str, speed: float, count: int, pairs: int) -> None:
    if against not in REFERENCES:
        raise InputError(f"against is '{against}'; choose one of {', '.join(REFERENCES)}")
    if not 0 <= speed <= 0.5:
        raise InputError(f"speed is {speed:g}; it goes from 0 to 0.5, e.g. 0.07")
    for name, number, least in (("count", count, 1), ("pairs", pairs, 0)):
        if number < least:
            raise InputError(f"{name} is {number}; give {least} or more")


def _require_sets(
    data: Path | None, train: Path | None, held_out: Path | None, where: Sequence[str] | None
) -> None:
    folders = train is not None and held_out is not None
    if (data is not None) == (train is not None or held_out is not None) or not (data or folders):
        raise InputError("give --data DATA, or both --train FOLDER and --held-out FOLDER")
    if where and data is None:
        raise InputError("--where chooses rows of a manifest: give it with --data DATA")
