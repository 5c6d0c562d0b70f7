"""The options of `signal-diffusion denoise`, by the panel of the help that tells of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

#: The names of `samplers.SAMPLERS`, for help texts, which must not load torch.
SAMPLER_NAMES = "ddim, ddpm, heun, dpmpp_2m, few_step"
#: ffmpeg's names, which `recordings.pipes.RAW_FORMATS` maps to libsndfile's.
RAW_FORMATS = ("u8", "s16le", "s24le", "s32le", "f32le", "f64le", "mulaw", "alaw")

IO, HOW_MUCH, SAMPLING, MANY = "Input and output", "Strength", "Sampling", "Many files"
TABLES = "Tables of sensor readings: CSV, Parquet, NPY, NPZ, WFDB"

Inputs = Annotated[
    list[str],
    typer.Argument(help="Files, folders, quoted globs, or - for a pipe.", show_default=False),
]
Output = Annotated[
    str,
    typer.Option(
        "-o", "--output", help="File, folder for many inputs, or - for a pipe.", rich_help_panel=IO
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Replace existing outputs.", rich_help_panel=IO)
]
Channels = Annotated[
    list[str] | None,
    typer.Option(
        help="each on its own (default), or mix them into one; raw PCM: also their number.",
        metavar="each|mix|N",
        show_default=False,
        rich_help_panel=IO,
    ),
]
Rate = Annotated[
    float | None,
    typer.Option(
        help="Of raw PCM in a pipe, or of tables without time stamps.",
        metavar="HZ",
        rich_help_panel=IO,
    ),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        help="Names of the channels, repeated or with commas (default: all of numbers).",
        show_default=False,
        rich_help_panel=TABLES,
    ),
]
Skip = Annotated[
    list[str] | None,
    typer.Option(
        help="Names of columns to leave alone.", show_default=False, rich_help_panel=TABLES
    ),
]
Time = Annotated[
    str | None,
    typer.Option(help="Name of the time column, where it isn't found.", rich_help_panel=TABLES),
]
Delimiter = Annotated[
    str | None, typer.Option(help="Between fields, where it isn't found.", rich_help_panel=TABLES)
]
Format = Annotated[
    str | None,
    typer.Option(help=f"Of raw PCM in a pipe: {' '.join(RAW_FORMATS)}.", rich_help_panel=IO),
]
KeepNoise = Annotated[
    str | None,
    typer.Option(help="Write what was removed: file, or folder for many.", rich_help_panel=IO),
]
Plot = Annotated[
    str | None,
    typer.Option(help="Draw before, after, removed: PNG, or folder.", rich_help_panel=IO),
]
Window = Annotated[
    str | None,
    typer.Option(
        help="Of tables, what --plot draws, in seconds or rows (default: where most was removed).",
        metavar="START[:END][rows]",
        show_default=False,
        rich_help_panel=IO,
    ),
]
Uncertainty = Annotated[
    str | None,
    typer.Option(help="Write the spread of --shots: NPZ, or folder.", rich_help_panel=IO),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Only errors.", rich_help_panel=IO)]

Strength = Annotated[
    float | None,
    typer.Option(
        help="From 0, as it came, to 1, all noise off (default).",
        show_default=False,
        rich_help_panel=HOW_MUCH,
    ),
]
MaxAttenuation = Annotated[
    float | None,
    typer.Option(help="The most that is taken off.", metavar="DB", rich_help_panel=HOW_MUCH),
]
Band = Annotated[
    str,
    typer.Option(
        help="full, or model: drop all above the model's own.",
        metavar="full|model",
        rich_help_panel=HOW_MUCH,
    ),
]
Level = Annotated[
    float | None,
    typer.Option(
        help="Of the loud passages, re full scale, instead of measuring it.",
        metavar="DB",
        rich_help_panel=HOW_MUCH,
    ),
]

Model = Annotated[
    str, typer.Option(help="Shipped model's name, or a model file.", rich_help_panel=SAMPLING)
]
Steps = Annotated[
    int | None,
    typer.Option(
        help="Network calls: 1 is the mean (default), more add detail (16 with --shots).",
        show_default=False,
        rich_help_panel=SAMPLING,
    ),
]
Sampler = Annotated[
    str,
    typer.Option(help=f"{SAMPLER_NAMES}, or an import path.", rich_help_panel=SAMPLING),
]
Shots = Annotated[
    int, typer.Option(help="Samples that are drawn and averaged.", rich_help_panel=SAMPLING)
]
Seed = Annotated[int, typer.Option(help="Seed of the fresh noise.", rich_help_panel=SAMPLING)]
NoiseStd = Annotated[
    float | None,
    typer.Option(
        help="Deviation of the noise, for models of processes without a recording.",
        rich_help_panel=SAMPLING,
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.", rich_help_panel=SAMPLING)]
Piece = Annotated[
    float | None,
    typer.Option(
        help="Processed at once: bounds memory.", metavar="SECONDS", rich_help_panel=SAMPLING
    ),
]

Jobs = Annotated[int, typer.Option(help="Files at the same time.", rich_help_panel=MANY)]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Go on: keep the outputs that exist.", rich_help_panel=MANY),
]
Report = Annotated[
    Path | None,
    typer.Option(
        help="One JSON line per file (default: report.jsonl in the output folder).",
        show_default=False,
        rich_help_panel=MANY,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Say what would be done, and write nothing.", rich_help_panel=MANY
    ),
]
