"""Which files are denoised into which."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from signal_diffusion.audio import CONTAINERS
from signal_diffusion.audio.files import check_output, opened
from signal_diffusion.audio.forms import Form, stored_form
from signal_diffusion.errors import InputError
from signal_diffusion.files.atomic import require_writable
from signal_diffusion.tables import TableForm, is_table, opened_table
from signal_diffusion.tables.columns import Columns, container_of, main_file, output_file
from signal_diffusion.tasks.inputs import LeftOut, found, single

#: Suffixes of the pictures and arrays that are written beside recordings.
PLOT, UNCERTAINTY = ".png", ".npz"


@dataclass(frozen=True)
class Job:
    """A file to denoise and the files that this writes.

    Attributes:
        source: the noisy file.
        target: the clean one, as asked for: a container that can't hold it changes the suffix.
        keep_noise, plot, uncertainty: further outputs, where they are wanted.
    """

    source: Path
    target: Path
    keep_noise: Path | None = None
    plot: Path | None = None
    uncertainty: Path | None = None

    @property
    def outputs(self) -> list[Path]:
        """All that is written, the target first."""
        sides = (self.keep_noise, self.plot, self.uncertainty)
        return [self.target, *(path for path in sides if path is not None)]


def plan(
    inputs: Sequence[str],
    output: str,
    *,
    keep_noise: str | None = None,
    plot: str | None = None,
    uncertainty: str | None = None,
    left_out: LeftOut = lambda _: None,
) -> list[Job]:
    """The jobs that some inputs stand for, in order.

    Args:
        inputs: files, folders (all recordings in them, hidden ones left out) and patterns of paths.
            Below a folder, or the fixed beginning of a pattern, the tree of folders is kept; where
            there are several inputs a folder keeps its own name, too.
        output: a file for one file; a folder for several, for a folder or a pattern, or where it
            exists as one or ends with a slash.
        keep_noise, plot, uncertainty: the same for what else is written. In a folder, names that
            would be equal keep the source's suffix, too: a.wav.png beside a.flac.png.
        left_out: called with the suffix of each recording of a format that can't be read.

    Raises:
        InputError: an input is missing or holds nothing, or an output would be written twice or
            over an input.
    """
    places = (output, keep_noise, plot, uncertainty)
    one = single(inputs)
    folders = frozenset() if one else frozenset(Path(p).resolve() for p in places if p is not None)
    several = len(inputs) > 1
    pairs = [
        pair
        for given in inputs
        for pair in found(given, folders, several=several, left_out=left_out)
    ]
    names = _names(pairs)
    jobs = [_job(pair[0], own, places, one=one) for pair, own in zip(pairs, names, strict=True)]
    require_distinct(jobs)
    return jobs


def require_distinct(jobs: Sequence[Job]) -> None:
    """Raise an `InputError` if two outputs are one file, or one is an input."""
    mains = {main_file(job.source, container_of(job.source)): job.source for job in jobs}
    sources = {_identity(path): source for path, source in mains.items() if os.path.exists(path)}
    writers: dict[Path, Path] = {}
    for job in jobs:
        for path in job.outputs:
            source = sources.get(_identity(path)) if os.path.exists(path) else None
            if source is not None:
                itself = "the input itself" if source == job.source else f"another input, {source}"
                raise InputError(f"the output {path} is {itself}: give it another name")
            key = path.parent.resolve() / path.name
            if key in writers:
                both = " and ".join(dict.fromkeys(map(str, (writers[key], job.source))))
                raise InputError(f"two outputs of {both} would be {path}: give them other names")
            writers[key] = job.source


def _names(pairs: Sequence[tuple[Path, Path]]) -> list[list[Path]]:
    """For each source, the names below output folders: of sound, of a picture, of arrays."""
    wanted = [_wanted(source, name) for source, name in pairs]
    taken = Counter(path for paths in wanted for path in paths)
    return [
        [
            # Else a recording's whole name, and the suffix of what is written.
            path if path == name or taken[path] == 1 else name.with_name(name.name + path.suffix)
            for path in paths
        ]
        for (_, name), paths in zip(pairs, wanted, strict=True)
    ]


def _wanted(source: Path, name: Path) -> list[Path]:
    kept = name.suffix.lower() in CONTAINERS or is_table(source)
    sound = name if kept else name.with_suffix(".wav")
    return [sound, name.with_suffix(PLOT), name.with_suffix(UNCERTAINTY)]


def _job(source: Path, names: Sequence[Path], places: Sequence[str | None], *, one: bool) -> Job:
    """The job of a recording whose outputs have these names below output folders."""
    sound, picture, arrays = names
    target, *sides = (
        None if place is None else Path(place, inside if is_folder(place, one=one) else "")
        for place, inside in zip(places, (sound, sound, picture, arrays), strict=True)
    )
    assert target is not None
    return Job(source, target, *sides)


def is_folder(place: str, *, one: bool) -> bool:
    """Whether an output is a folder, for the one file that is the input or for many."""
    return not one or place.endswith(("/", os.sep)) or os.path.isdir(place)


def _identity(path: Path) -> tuple[int, int]:
    """What tells a file that exists from all others, whatever its names."""
    status = path.stat()
    return status.st_dev, status.st_ino


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


def header_of(job: Job, *, mix: bool = False, columns: Columns = Columns()) -> Header:
    """Read the header of a job's file, without its samples.

    Args:
        job: what to do.
        mix: the channels become one.
        columns: of a table of readings.
    """
    try:
        if is_table(job.source):
            with opened_table(job.source, columns) as table:
                sides = {
                    name: output_file(path, table.form)[1]
                    for name, path in (("target", job.target), ("keep_noise", job.keep_noise))
                    if path is not None
                }
                return Header(job, replace(job, **sides), table.form, table.frames)
        with opened(job.source) as reader:
            form, frames = reader.form, reader.frames
            if frames == 0:
                # Which raises an error, unless the header is wrong.
                next(reader.blocks(), None)
        form = replace(form, channels=1) if mix else form
        target, _, note = stored_form(job.target, form, frames=frames)
        keep_noise = job.keep_noise
        if keep_noise is not None:
            keep_noise = stored_form(keep_noise, form, frames=frames)[0]
    except InputError as error:
        return Header(job, job, error=str(error))
    return Header(job, replace(job, target=target, keep_noise=keep_noise), form, frames, note)


def require_new(paths: Sequence[Path]) -> None:
    """Raise an `InputError` if outputs exist."""
    there = [path for path in paths if os.path.lexists(path)]
    if len(paths) == 1 and there:
        raise InputError(f"{there[0]} exists: pass --force to replace it, or -o for another name")
    if there:
        raise InputError(
            f"{len(there)} of {len(paths)} outputs exist, the first is {there[0]}: "
            "pass --resume to keep them or --force to replace them"
        )


def require_output(header: Header, places: Sequence[str], *, force: bool, dry_run: bool) -> None:
    """Raise an `InputError` if a single file can't be read, or written where it should be.

    Args:
        header: of the file.
        places: of its outputs, as they were given.
        force: outputs may exist.
        dry_run: nothing will be written.
    """
    if header.error is not None:
        raise InputError(header.error)
    for path, suffix in ((header.job.plot, PLOT), (header.job.uncertainty, UNCERTAINTY)):
        if path is not None and path.suffix.lower() != suffix:
            raise InputError(f"{path} can't be written: give a name that ends in {suffix}")
    for place, path in zip(places, header.written.outputs, strict=True):
        if not os.path.isdir(path.parent) and not is_folder(place, one=True):
            raise InputError(f"{path} can't be written: there is no folder {path.parent}")
    target = header.written.target
    if dry_run or not os.path.isdir(target.parent):
        return
    if isinstance(header.form, Form):
        check_output(target, header.form, force=force)
    else:
        require_writable(target, force=force)


def require_folders(places: Sequence[str]) -> None:
    """Raise an `InputError` if the outputs of many recordings are no folders."""
    for place in places:
        if os.path.exists(place) and not os.path.isdir(place):
            raise InputError(f"{place} is a file: many recordings need a folder")
