"""The experiments of `conf/`, found without importing what runs them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from signal_diffusion.errors import InputError

#: The word that stands for the experiment by which a model was trained.
OWN = "own"


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


def overrides_of(words: str | None, card: Mapping[str, Any]) -> list[str]:
    """The overrides of a run, in which `own` stands for the model's own experiment.

    Raises:
        InputError: the model's card names none, or the words are no overrides.
    """
    try:
        overrides = shlex.split(words or "")
    except ValueError as error:
        raise InputError(f"train is '{words}', which lacks a quote: {error}") from error
    experiment = own_experiment(card)
    if OWN in overrides and experiment is None:
        raise InputError("train is 'own', but the model's card names none: give experiment=NAME")
    return [f"experiment={experiment}" if word == OWN else word for word in overrides]


def own_experiment(card: Mapping[str, Any]) -> str | None:
    """The experiment that the model's card names, if it does."""
    found = re.search(r"experiment=(\w+)", str(card.get("command", "")))
    return None if found is None else found[1]
