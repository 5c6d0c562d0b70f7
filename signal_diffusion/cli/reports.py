"""The report on many files: one line of JSON for each."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from signal_diffusion.cli.lines import reason
from signal_diffusion.errors import InputError
from signal_diffusion.recordings.partials import beside, failures

if TYPE_CHECKING:
    from signal_diffusion.tasks.files import FileReport
    from signal_diffusion.tasks.plans import Job


class ReportFile:
    """A file that gets a line, whole and at once, for each recording that is done.

    A line holds the fields of `FileReport` and `error`: null, or why there is no output. Lines of
    other recordings, from earlier runs, stay; a line that a kill cut short is dropped.

    Args:
        path: of the report.
        again: paths of the recordings that will be done, whose old lines go.

    Raises:
        InputError: the file can't be written, or is something else than a report.
    """

    def __init__(self, path: Path, again: Iterable[Path]) -> None:
        named = {source.resolve() for source in again}
        kept = [line for line, row in old_rows(path) if _source(row) not in named]
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with beside(path) as partial:
                partial.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
                os.replace(partial, path)
            self._file = path.open("a", encoding="utf-8", newline="\n")
        except OSError as error:
            raise InputError(f"{path} can't be written: {error.strerror or error}") from error

    def __enter__(self) -> ReportFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        # What could not be written fails again.
        with suppress(OSError):
            self._file.close()

    def add(self, job: Job, result: FileReport | Exception) -> None:
        """Write the line of one recording.

        Raises:
            InputError: the disk is full.
        """
        with failures(self._path):
            self._file.write(json.dumps(_row(job, result)) + "\n")
            self._file.flush()


def old_rows(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """The whole lines of a report and what they hold; none if there is no such file.

    Raises:
        InputError: it is something else than a report.
    """
    if os.path.isdir(path):
        raise InputError(f"the report {path} is a folder: name a file")
    try:
        content = path.read_bytes() if os.path.exists(path) else b""
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror or error}") from error
    if content and not content.startswith(b"{"):
        raise InputError(f"{path} exists and is no report: give another name with --report")
    lines = content.decode("utf-8", "replace").split("\n")
    rows = [(line, _parsed(line)) for line in lines]
    return [(line, row) for line, row in rows if row is not None]


def _parsed(line: str) -> dict[str, Any] | None:
    with suppress(ValueError):
        row = json.loads(line)
        return row if isinstance(row, dict) else None
    return None


def _source(row: dict[str, Any]) -> Path | None:
    """The recording that a line is about, by whatever name."""
    with suppress(TypeError, ValueError, OSError):
        return Path(row["path"]).resolve() if "path" in row else None
    return None


def _row(job: Job, result: FileReport | Exception) -> dict[str, Any]:
    from signal_diffusion.tasks.files import FileReport

    row: dict[str, Any] = {item.name: None for item in fields(FileReport)}
    row |= {"path": str(job.source), "output": str(job.target), "error": None}
    if isinstance(result, Exception):
        return {**row, "error": reason(result)}
    return {**row, **{name: _json(value) for name, value in asdict(result).items()}}


def _json(value: Any) -> Any:
    """A value that JSON has: null stands for numbers that are none."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
