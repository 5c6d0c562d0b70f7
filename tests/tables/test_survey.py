"""Columns that are no signals stay to the byte, faults don't set the scale, and a line says so."""

from pathlib import Path

import numpy as np
import pytest

from signal_diffusion.errors import InputError
from signal_diffusion.tables import Columns, TableReader, opened_table, writing_table
from signal_diffusion.tables.survey import KINDS, misfit, survey

ROWS = 3000


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=ROWS)


def table(path: Path, **columns: object) -> Path:
    """A CSV of a column of seconds at 250 Hz and others, of formatted numbers."""
    texts = [f"{at / 250:.3f}" for at in range(ROWS)]
    rows = [",".join(["time", *columns])]
    cells = [[str(cell) for cell in column] for column in columns.values()]  # type: ignore
    rows += [",".join(row) for row in zip(texts, *cells, strict=True)]
    path.write_text("\n".join([*rows, ""]))
    return path


def texts(path: Path, name: str) -> list[str]:
    names, *rows = (line.split(",") for line in path.read_text().splitlines())
    return [row[names.index(name)] for row in rows]


def rewritten(reader: TableReader, target: Path) -> list[str]:
    """Write a table again, one higher; returns its notes."""
    with writing_table(target, reader) as writer:
        for block in reader.blocks():
            writer.write(block + 1)
    return reader.notes()


COLUMNS = {
    "stamp": (599616000000000000 + 7692307 * np.arange(ROWS), "rising"),
    "left": (9000 - np.arange(ROWS) // 3, "falling"),
    "seq": (np.arange(ROWS) % 16, "a counter"),
    "flag": (np.arange(ROWS) % 7 // 6, "two values"),
    "fixed": (np.full(ROWS, 0.5), "constant"),
    "beats": (72 + (np.arange(ROWS) // 300) % 3, "steps"),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_what_is_no_signal_stays_to_the_byte_unless_it_is_named(tmp_path: Path, name: str) -> None:
    column, reason = COLUMNS[name]
    path = table(tmp_path / "a.csv", x=np.round(noise(), 3), other=column)
    with opened_table(path, domain="") as reader:
        assert reader.form.names == ("x",)
        line = f"columns that change: x; that stay: time (time stamps), other ({reason})"
        assert reader.choice() == line
        assert rewritten(reader, tmp_path / "b.csv") == []
    assert texts(tmp_path / "b.csv", "other") == texts(path, "other")
    assert texts(tmp_path / "b.csv", "x") != texts(path, "x")
    for columns in (Columns(channels=("x", "other")), Columns(channels=("other",))):
        with opened_table(path, columns, domain="") as reader:
            assert reader.form.names == columns.channels
    with opened_table(path) as reader:
        assert reader.form.names == ("x", "other")


@pytest.mark.parametrize(
    "signal",
    [
        np.round(np.sin(np.arange(ROWS) / 30), 2),
        np.round(noise()).clip(-2, 2),
        np.round(20 + 0.01 * np.cumsum(noise()), 1) + np.round(0.1 * noise(1), 1),
        np.where(np.arange(ROWS) % 250 < 20, 1.0, 0.01 * noise()),
        np.arange(ROWS) * 0.01 + 0.1 * noise(),
    ],
)
def test_signals_are_changed(tmp_path: Path, signal: np.ndarray) -> None:
    with opened_table(table(tmp_path / "a.csv", x=signal), domain="") as reader:
        assert reader.form.names == ("x",) and reader.notes() == []


def test_a_table_without_any_signal_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", flag=np.arange(ROWS) % 2, k=np.full(ROWS, 3))
    with (
        pytest.raises(InputError, match=r"flag \(two values\), k \(constant\).*--columns"),
        opened_table(path, domain=""),
    ):
        pass


def test_columns_of_other_units_or_names_are_no_signals_of_a_domain(tmp_path: Path) -> None:
    assert misfit("ABP", "mmHg", "ecg") == "unit mmHg"
    for name in ("RESP", "PLETH", "heart_rate", "SpO2", "EMG 1"):
        assert misfit(name, "mV", "ecg") == "no ecg by its name"
    for name, unit in (("II", "mV"), ("V5", "uV"), ("ECG1", ""), ("MLII", "NU"), ("x", "V")):
        assert misfit(name, unit, "ecg") == ""
    for unit in ("g", "m/s^2", "mm/s", "m/s2", "V", "mV", "m/s²"):
        assert misfit("x", unit, "vibration") == ""
    assert misfit("x", "°C", "vibration") == "unit °C"
    assert not misfit("x", "°C", "") and "speech" not in KINDS
    path = table(tmp_path / "a.csv", **{"II (mV)": noise(), "ABP (mmHg)": 90 + noise(1)})
    with opened_table(path, domain="ecg") as reader:
        assert reader.form.names == ("II (mV)",)
        assert reader.choice().endswith("time (time stamps), ABP (mmHg) (unit mmHg)")


@pytest.mark.parametrize("share", [0.001, 0.2, 0.3])
@pytest.mark.parametrize("fault", [-9999.0, 163.84, 1e6])
def test_faults_are_missing_and_do_not_set_the_scale(
    tmp_path: Path, share: float, fault: float
) -> None:
    clean = 0.05 * noise() + np.where(np.arange(ROWS) % 250 < 8, 1.5, 0.0)
    count = max(3, int(share * ROWS))
    faulty = clean.copy()
    faulty[1000 : 1000 + count] = fault
    path = table(tmp_path / "a.csv", x=np.round(faulty, 4))
    with opened_table(path, domain="") as reader:
        notes = rewritten(reader, tmp_path / "b.csv")
        values = np.concatenate(list(reader.blocks()), axis=1)[0]
    kept = np.ones(ROWS, bool)
    kept[1000 : 1000 + count] = False
    np.testing.assert_allclose(values[kept], clean[kept], atol=1e-4)
    assert np.abs(values).max() < 2
    assert notes == [
        f"x: {count} readings, from row 1002 on, stand out by orders of magnitude: taken as "
        "missing",
        f"missing readings filled: {count} of x",
    ]
    marks = np.array(texts(tmp_path / "b.csv", "x_filled"), int)
    np.testing.assert_array_equal(marks == 1, ~kept)


def test_a_rail_has_many_readings_in_a_row(tmp_path: Path) -> None:
    clean = 0.05 * noise()
    for length, missing in ((40, 0), (60, 60)):
        faulty = clean.copy()
        faulty[100 : 100 + length] = faulty[300 : 300 + length] = -5.0
        with opened_table(table(tmp_path / "a.csv", x=faulty), domain="") as reader:
            assert reader.scan().lacking == (2 * missing,)


@pytest.mark.parametrize("rails", [(-5.0, 5.0), (3.3, 3.3), (-2.5, 4.096)])
def test_rails_at_both_ends_are_missing(tmp_path: Path, rails: tuple[float, float]) -> None:
    faulty = 0.05 * noise() + np.where(np.arange(ROWS) % 250 < 8, 1.2, 0.0)
    kept = np.ones(ROWS, bool)
    for start, rail in zip((500, 1800), rails, strict=True):
        faulty[start : start + 300] = rail
        kept[start : start + 300] = False
    with opened_table(table(tmp_path / "a.csv", x=np.round(faulty, 4)), domain="") as reader:
        values, mask = (np.concatenate(x, axis=1)[0] for x in zip(*reader.marked(), strict=True))
    np.testing.assert_array_equal(mask, ~kept)
    np.testing.assert_allclose(values[kept], faulty[kept], atol=1e-4)


@pytest.mark.parametrize("code", [0, -1, -999, 9999, -32768, 65535, 999.25])
def test_a_code_for_no_reading_is_missing_among_numbers_of_a_converter(
    tmp_path: Path, code: float
) -> None:
    counts = np.round(2000 + 14 * noise())
    counts[5::97] = code
    with opened_table(table(tmp_path / "a.csv", x=counts), domain="") as reader:
        mask = np.concatenate(list(reader.gaps()), axis=1)[0]
    np.testing.assert_array_equal(np.flatnonzero(mask), np.arange(5, ROWS, 97))


def test_spikes_of_a_signal_are_no_faults(tmp_path: Path) -> None:
    clean = np.where(np.arange(ROWS) % 250 == 8, 1.5, 0.02 * noise())
    resting = np.where(np.arange(ROWS) % 250 < 30, noise(1), 0.0)
    path = table(tmp_path / "a.csv", x=clean, y=resting, z=np.clip(noise(2), -1.5, 1.5))
    with opened_table(path, domain="") as reader:
        assert reader.form.channels == 3 and reader.notes() == []


def test_a_survey_does_not_depend_on_how_the_table_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = {name: column for name, (column, _) in COLUMNS.items()}
    path = table(tmp_path / "a.csv", x=noise(), **columns)
    with opened_table(path) as reader:
        whole = survey(reader.source, range(1, 8), "")
        monkeypatch.setattr("signal_diffusion.tables.csv_rows.CHUNK", 500)
        cut = survey(reader.source, range(1, 8), "")
    assert cut == whole
    assert list(cut.reasons.values()) == [reason for _, reason in COLUMNS.values()]
