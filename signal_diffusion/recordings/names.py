"""Names of files, as libsndfile takes them."""

from __future__ import annotations

import os
from pathlib import Path


def native(path: Path) -> str | bytes:
    """The absolute name of a file, in the bytes that the system knows it by."""
    # Absolute, since libsndfile takes the name - for a pipe; in bytes, since not all are UTF-8.
    whole = path.absolute()
    return str(whole) if os.name == "nt" else os.fsencode(whole)
