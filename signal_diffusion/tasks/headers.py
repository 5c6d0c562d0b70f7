"""What is known of a job before it is begun."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from signal_diffusion.errors import InputError
from signal_diffusion.recordings.forms import Form, stored_form
from signal_diffusion.recordings.reading import opened
from signal_diffusion.recordings.tables import TableForm, is_table, opened_table
from signal_diffusion.tasks.plans import Columns, Job


@dataclass(frozen=True)
class Header:
    """What the header of a job's file tells.

    Attributes:
        job: what is asked for.
        written: the job with the outputs that are really written.
        form: of the output; None where the file can't be read.
        frames: as promised; None where they are not.
        note: what can't be given back as it came.
        error: why the file can't be read or written.
    """

    job: Job
    written: Job
    form: Form | TableForm | None = None
    frames: int | None = None
    note: str | None = None
    error: str | None = None

    @property
    def seconds(self) -> float:
        """0 where it is not known."""
        return 0.0 if self.form is None else (self.frames or 0) / self.form.sample_rate

    @property
    def table(self) -> bool:
        """Whether it is a table of readings."""
        return is_table(self.job.source)


def header(job: Job, *, mix: bool = False, columns: Columns = Columns()) -> Header:
    """Read the header of a job's file, without its samples.

    Args:
        job: what to do.
        mix: the channels become one.
        columns: of a table of readings.
    """
    try:
        if is_table(job.source):
            return _of_table(job, columns)
        with opened(job.source) as reader:
            form, frames = reader.form, reader.frames
            if frames == 0:
                # Which raises an error, unless the header is wrong.
                next(reader.blocks(), None)
        form = replace(form, channels=1) if mix else form
        target, _, note = stored_form(job.target, form, frames=frames)
        keep_noise = _stored(job.keep_noise, form, frames)
    except InputError as error:
        return Header(job, job, error=str(error))
    return Header(job, replace(job, target=target, keep_noise=keep_noise), form, frames, note)


def _of_table(job: Job, columns: Columns) -> Header:
    opening = opened_table(
        job.source, rate=columns.rate, channels=columns.channels, time=columns.time,
        delimiter=columns.delimiter, skip=columns.skip,
    )  # fmt: skip
    with opening as reader:
        return Header(job, job, reader.form, reader.frames)


def _stored(path: Path | None, form: Form, frames: int | None) -> Path | None:
    return None if path is None else stored_form(path, form, frames=frames)[0]
