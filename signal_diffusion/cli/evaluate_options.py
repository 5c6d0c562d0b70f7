"""The options of `signal-diffusion evaluate`, by the panel of the help that tells of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from signal_diffusion.cli import options as opt

DATA, RIVALS = "What to evaluate on", "What to compare with"

Model = Annotated[str, typer.Argument(help="Shipped model, or a model file.", show_default=False)]
Data = Annotated[
    Path | None,
    typer.Argument(
        help="Folder with clean/ and noisy/, of the same names; for others, of recordings.",
        show_default=False,
    ),
]
Output = Annotated[
    Path,
    typer.Option("-o", "--output", help="Folder of the results.", rich_help_panel=opt.IO),
]
Html = Annotated[
    Path | None,
    typer.Option(help="One page to read, see and hear the results.", rich_help_panel=opt.IO),
]
Clean = Annotated[
    Path | None,
    typer.Option(help="Instead of DATA: folder of clean recordings.", rich_help_panel=DATA),
]
Noisy = Annotated[Path | None, typer.Option(help="And of noisy ones.", rich_help_panel=DATA)]
Noise = Annotated[
    list[Path] | None,
    typer.Option(
        help="Or of noise, to be mixed with; repeated.", show_default=False, rich_help_panel=DATA
    ),
]
Snr = Annotated[
    str | None,
    typer.Option(help="Of mixes, in dB, e.g. 0,5,10.", metavar="DB,...", rich_help_panel=DATA),
]
Groups = Annotated[
    Path | None,
    typer.Option(help="CSV with a column file and others, to score by each.", rich_help_panel=DATA),
]
Metrics = Annotated[
    str | None,
    typer.Option(
        help="pesq, estoi, si_sdr, snr, lsd, stft, dnsmos, prd, cosine, ssd, mad, kurtosis, "
        "envelope (default: by the model).",
        metavar="NAME,...", show_default=False, rich_help_panel=DATA,
    ),
]  # fmt: skip
Steps = Annotated[
    str | None,
    typer.Option(
        help="Network calls; each has a row (default: 1, of generators 16).", metavar="N,...",
        show_default=False, rich_help_panel=opt.SAMPLING,
    ),
]  # fmt: skip
Count = Annotated[
    int | None,
    typer.Option(
        help="Of generators: signals that are drawn (default: half as many as recordings).",
        show_default=False, rich_help_panel=opt.SAMPLING,
    ),
]  # fmt: skip
Seed = Annotated[
    int,
    typer.Option(
        help="Of mixes, fresh noise, halves and the bootstrap.", rich_help_panel=opt.SAMPLING
    ),
]
Against = Annotated[
    str | None,
    typer.Option(
        help="noisereduce, wavelet, wiener, rnnoise, deepfilternet; bandpass for ecg; "
        "griffin_lim for vocoders.", metavar="NAME,...", rich_help_panel=RIVALS,
    ),
]  # fmt: skip
AgainstCommand = Annotated[
    list[str] | None,
    typer.Option(
        help="A command that reads {in} and writes {out}: WAV, or tables as they came; repeated.",
        metavar="NAME='COMMAND {in} {out}'", show_default=False, rich_help_panel=RIVALS,
    ),
]  # fmt: skip
AgainstFolder = Annotated[
    list[str] | None,
    typer.Option(
        help="What another method made, named as the recordings; repeated.",
        metavar="NAME=FOLDER", show_default=False, rich_help_panel=RIVALS,
    ),
]  # fmt: skip
Rate = Annotated[
    float | None,
    typer.Option(help="Of tables without time stamps.", metavar="HZ", rich_help_panel=opt.TABLES),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Go on: keep what is scored.", rich_help_panel=opt.MANY),
]
