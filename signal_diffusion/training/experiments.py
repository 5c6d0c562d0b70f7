"""The experiments of `conf/`, found without importing what runs them."""

from __future__ import annotations

from pathlib import Path

from signal_diffusion.errors import InputError


def conf_folder() -> Path:
    """`conf/` inside the installed package, or at the top of a clone."""
    here = Path(__file__).parents[1]
    for folder in (here / "conf", here.parent / "conf"):
        if (folder / "train.yaml").is_file():
            return folder
    raise InputError(f"no conf folder in {here} or {here.parent}: install signal-diffusion again")


def experiments() -> dict[str, str]:
    """The first sentence of the comment at the top of each experiment, by its name.

    >>> experiments()["speech_denoise"]
    'The shipped speech model, on two cores in an hour and a half'
    """
    paths = sorted((conf_folder() / "experiment").glob("*.yaml"))
    return {path.stem: _summary(path.read_text(encoding="utf-8")) for path in paths}


def _summary(text: str) -> str:
    comments = []
    for line in text.splitlines():
        if not line.startswith("#") or line.startswith("#   "):
            break
        if not line.startswith("# @"):
            comments.append(line.removeprefix("#").strip())
    return " ".join(comments).partition(": ")[0].partition(". ")[0].rstrip(".:")
