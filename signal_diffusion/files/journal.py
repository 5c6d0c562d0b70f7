"""Measurements that are kept one by one, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from signal_diffusion.errors import InputError
from signal_diffusion.files import atomic

Row = dict[str, Any]
#: What tells a measurement from others, and what makes it.
Job = tuple[Row, Callable[[], Row]]


def measured(
    jobs: Sequence[Job], kept: Path, tell: Callable[[int, int, Row], None] = lambda *_: None
) -> list[Row]:
    """The rows of all jobs, of which those that are kept are not measured again.

    Args:
        jobs: each a description, which its row holds, and what measures the rest of the row.
        kept: file of JSON lines, one a row; it is whole at any time.
        tell: called as tell(done jobs, all jobs, row) after each.

    Raises:
        InputError: the file holds something else, or can't be written.
    """
    known = kept_rows(kept)
    found: list[Row] = []
    for number, (asked, run) in enumerate(jobs, start=1):
        row = next((row for row in known if asked.items() <= row.items()), None)
        if row is None:
            row = run() | asked
            known.append(row)
            _keep(known, kept)
        found += [] if row in found else [row]
        tell(number, len(jobs), row)
    return found


def kept_rows(path: Path) -> list[Row]:
    """The rows of a file of JSON lines; none where there is no file.

    Raises:
        InputError: it holds something else.
    """
    if not path.exists():
        return []
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(f"{path} holds no rows of an earlier run: remove it") from error
    if not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{path} holds no rows of an earlier run: remove it")
    return rows


def _keep(rows: Sequence[Row], path: Path) -> None:
    """Write rows as JSON lines; the file is whole at any time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write(path, "".join(json.dumps(row) + "\n" for row in rows))
