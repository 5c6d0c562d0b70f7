"""Groups by which the scores of pairs are told apart, from a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from signal_diffusion.errors import InputError
from signal_diffusion.tasks.pairs import Pair


def with_groups(pairs: Sequence[Pair], table: Path) -> list[Pair]:
    """Pairs with the columns of a CSV table, of which `file` names the recordings.

    Raises:
        InputError: the table can't be read, lacks a recording, or has none or a taken column.
    """
    whole = {row["file"]: row for row in _table_rows(table)}
    rows = {Path(name).with_suffix("").as_posix(): row for name, row in whole.items()} | whole
    return [_grouped(pair, rows, table) for pair in pairs]


def _table_rows(table: Path) -> list[dict[str, str]]:
    import pandas

    try:
        frame = pandas.read_csv(table, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{table} can't be read as CSV: {' '.join(str(error).split())}") from error
    if "file" not in frame or len(frame.columns) < 2:
        raise InputError(f"{table} needs a column 'file' and others; it has {list(frame.columns)}")
    return [dict(row) for row in frame.to_dict("records")]


def _grouped(pair: Pair, rows: Mapping[str, dict[str, str]], table: Path) -> Pair:
    name = pair.recording
    row = rows.get(name) or rows.get(Path(name).name)
    if row is None:
        raise InputError(f"{table} has no row of the file {name}: add one")
    groups = [(column, value) for column, value in row.items() if column != "file"]
    known = dict(pair.groups)
    if taken := [column for column, _ in groups if column in known]:
        raise InputError(f"{table} has a column {taken[0]}, which mixes have already: rename it")
    return replace(pair, groups=(*pair.groups, *groups))
