"""What is checked before a model is loaded: nothing is begun that can't be finished."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from signal_diffusion import recordings
from signal_diffusion.cli.asked import Where
from signal_diffusion.cli.reports import old_rows
from signal_diffusion.errors import InputError
from signal_diffusion.recordings.forms import Form
from signal_diffusion.recordings.partials import require_writable
from signal_diffusion.tasks.headers import Header
from signal_diffusion.tasks.plans import Job, is_folder, require_distinct, single

REPORT = "report.jsonl"


def require_ready(headers: Sequence[Header], where: Where) -> None:
    """Raise an `InputError` if the files can't be read, or written where it is asked for.

    Of many files, those that can't be read are left to fail on their own.
    """
    require_distinct([header.written for header in headers])
    _require_tables(headers, where)
    _require_new(headers, where)
    _require_report(headers, where)
    if single(where.inputs):
        _require_one(headers[0], where)
    else:
        _require_folders(where)


def remaining(headers: Sequence[Header], where: Where) -> list[Header]:
    """What is left to do: all, or, where a run goes on, what lacks an output."""
    if not where.resume:
        return list(headers)
    return [header for header in headers if not all(map(os.path.exists, header.written.outputs))]


def report_path(where: Where) -> Path | None:
    """The report's file; None where there is none."""
    if where.report is not None or single(where.inputs):
        return where.report
    return Path(where.output) / REPORT


def remove_leftovers(jobs: Sequence[Job], where: Where) -> None:
    """Remove what killed runs left in the folders of the outputs."""
    report = report_path(where)
    folders = {path.parent for job in jobs for path in job.outputs}
    folders |= {report.parent} if report is not None else set()
    for folder in sorted(folder for folder in folders if os.path.isdir(folder)):
        recordings.remove_leftovers(folder)


def _require_tables(headers: Sequence[Header], where: Where) -> None:
    sound = [header.job.source for header in headers if not header.table]
    if where.window is not None and sound:
        raise InputError(
            f"window is for pictures of tables, but {sound[0]} is sound, which is drawn whole: "
            "leave it"
        )


def _require_new(headers: Sequence[Header], where: Where) -> None:
    if where.force or where.resume:
        return
    paths = [path for header in headers for path in header.written.outputs]
    there = [path for path in paths if os.path.lexists(path)]
    if len(paths) == 1 and there:
        raise InputError(f"{there[0]} exists: pass --force to replace it")
    if there:
        raise InputError(
            f"{len(there)} of {len(paths)} outputs exist, the first is {there[0]}: "
            "pass --resume to keep them or --force to replace them"
        )


def _require_report(headers: Sequence[Header], where: Where) -> None:
    path = report_path(where)
    if path is None:
        return
    taken = [p for h in headers for p in (h.job.source, *h.written.outputs)]
    if path.resolve() in {other.resolve() for other in taken}:
        raise InputError(f"the report {path} is an input or an output, too: give another name")
    old_rows(path)


def _require_one(header: Header, where: Where) -> None:
    if header.error is not None:
        raise InputError(header.error)
    _require_suffix(header.job.plot, ".png")
    _require_suffix(header.job.uncertainty, ".npz")
    places = [place for place in (where.output, *where.sides) if place is not None]
    for place, path in zip(places, header.written.outputs, strict=True):
        if not os.path.isdir(path.parent) and not is_folder(place, one=True):
            raise InputError(f"{path} can't be written: there is no folder {path.parent}")
    if not where.dry_run and os.path.isdir(header.written.target.parent):
        _require_writable(header, where.force or where.resume)


def _require_folders(where: Where) -> None:
    for place in (where.output, *where.sides):
        if place is not None and os.path.exists(place) and not os.path.isdir(place):
            raise InputError(f"{place} is a file: many recordings need a folder")


def _require_suffix(path: Path | None, suffix: str) -> None:
    if path is not None and path.suffix.lower() != suffix:
        raise InputError(f"{path} can't be written: give a name that ends in {suffix}")


def _require_writable(header: Header, force: bool) -> None:
    form = header.form
    if not isinstance(form, Form):
        require_writable(header.written.target, force=force)
        return
    nothing = np.zeros((form.channels, 0), np.float32)
    empty = recordings.Recording(nothing, form.sample_rate, form.container, form.subtype)
    recordings.check_output(header.written.target, empty, force=force)
