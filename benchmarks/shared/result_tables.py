"""Tables of results in the pages of the docs, and digests of the data that they are of."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path
from typing import Any

from signal_diffusion.errors import InputError


def data_digest(data: str | Path) -> dict[str, Any]:
    """How many files of data there are, and the SHA-256 of their names and of what they hold.

    Of a folder with a `manifest.csv` it and the files in its column `path` count, of others all.
    """
    data = Path(data)
    folder, names = (data.parent, [data.name]) if data.is_file() else (data, _listed(data))
    found = hashlib.sha256()
    for name in names:
        of_file = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        found.update(f"{name} {of_file}\n".encode())
    return {"files": len(names), "sha256": found.hexdigest()}


def _listed(folder: Path) -> list[str]:
    manifest = folder / "manifest.csv"
    if not manifest.is_file():
        files = (path for path in folder.rglob("*") if path.is_file())
        return sorted(path.relative_to(folder).as_posix() for path in files)
    with manifest.open(newline="", encoding="utf-8") as file:
        return sorted({manifest.name, *(row["path"] for row in csv.DictReader(file))})


def insert_table(page: Path, name: str, table: str) -> None:
    """Put a table between a page's markers `<!-- NAME-table -->` and `<!-- /NAME-table -->`.

    Raises:
        InputError: the page lacks one of them.
    """
    before, _, after = _parted(page, name)
    first, last = _markers(name)
    page.write_text(f"{before}{first}\n\n{table}\n\n{last}{after}", encoding="utf-8")


def table_of(page: Path, name: str) -> str:
    """The table between a page's markers, see `insert_table`."""
    return _parted(page, name)[1].strip()


def _parted(page: Path, name: str) -> tuple[str, str, str]:
    first, last = _markers(name)
    before, found, rest = page.read_text(encoding="utf-8").partition(first)
    inside, closed, after = rest.partition(last)
    if not found or not closed:
        raise InputError(f"{page} lacks the markers {first} and {last}: put both in")
    return before, inside, after


def _markers(name: str) -> tuple[str, str]:
    return f"<!-- {name}-table -->", f"<!-- /{name}-table -->"
