"""Keep the words of C libraries out of the command's own."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

STDERR = 2


@contextmanager
def libraries_silent() -> Iterator[None]:
    """Decoders print warnings of their own where a file is damaged: Python's errors tell enough.

    File descriptor 2 leads nowhere, while `sys.stderr` goes where it did.
    """
    if not _is_the_real_one():
        yield
        return
    shown = sys.stderr
    kept = os.dup(STDERR)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, STDERR)
    os.close(nowhere)
    sys.stderr = os.fdopen(kept, "w", buffering=1, encoding=shown.encoding, errors="replace")
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(sys.stderr.fileno(), STDERR)
        sys.stderr.close()
        sys.stderr = shown


def _is_the_real_one() -> bool:
    try:
        return sys.stderr.fileno() == STDERR
    except (AttributeError, OSError, ValueError, io.UnsupportedOperation):
        return False
