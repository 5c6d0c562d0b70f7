"""Where a generated signal comes from: written into its file, beside it, and read back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from signal_diffusion.audio.files import opened, writing
from signal_diffusion.audio.forms import Form, nearest_form
from signal_diffusion.audio.tags import Tags, read_tags
from signal_diffusion.files import atomic
from signal_diffusion.files.artifact import digest
from signal_diffusion.files.atomic import require_writable

#: What the tag begins with, by which `read_provenance` knows it.
MARK = "synthetic"


def provenance(model: str | Path, **settings: Any) -> dict[str, Any]:
    """What is told of a signal: that it is synthetic, by which software, model and settings."""
    return {
        MARK: True,
        "software": f"signal_diffusion {version('signal-diffusion')}",
        "model": Path(model).name,
        "model_sha256_16": digest(model),
        **settings,
    }


def write_generated(
    path: Path,
    samples: np.ndarray,
    sample_rate: int,
    origin: Mapping[str, Any],
    *,
    force: bool = False,
) -> None:
    """Write samples (C, L) with their provenance in the file's own tags and in a JSON beside it.

    Args:
        path: of the audio file; the JSON has its name and the suffix .json.
        samples: in [-1, 1].
        sample_rate: Hz.
        origin: see `provenance`.
        force: replace files that exist.

    Raises:
        InputError: a file exists, or can't be written.
    """
    form = nearest_form(path, Form(sample_rate, len(samples)))
    text = json.dumps(dict(origin), sort_keys=True)
    listing = path.with_suffix(".json")
    require_writable(listing, force=force)
    # Tags of another container than the file's are carried over as texts.
    tags = Tags(Form(sample_rate, len(samples), "NONE", form.subtype), {"comment": [text]})
    with writing(path, form, tags=tags, force=force) as writer:
        writer.write(samples)
    atomic.write(listing, text + "\n", force=force)


def read_provenance(path: str | Path) -> dict[str, Any] | None:
    """What a file says of its own origin; None if it doesn't say that it is synthetic.

    Raises:
        InputError: the file can't be read.
    """
    path = Path(path)
    with opened(path) as reader:
        form = reader.form
    with suppress(Exception):
        found = json.loads(read_tags(path, form).fields["comment"][0])
        if isinstance(found, dict) and found.get(MARK):
            return found
    return None
