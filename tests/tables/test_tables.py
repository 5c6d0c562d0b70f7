"""Text tables come back byte for byte but for what changed; errors are one line."""

import random
import re
from pathlib import Path

import numpy as np
import pytest

from signal_diffusion.errors import InputError
from signal_diffusion.tables import (
    Columns,
    TableForm,
    TableReader,
    is_table,
    opened_table,
    writing_table,
)


def rewrite(
    reader: TableReader, target: Path, change: float = 0.0, size: int = 700, mask: bool = True
) -> None:
    with writing_table(target, reader, mask=mask) as writer:
        for block in reader.blocks(size):
            writer.write(block + change)


def readings(path: Path, **choice: object) -> tuple[TableForm, np.ndarray]:
    with opened_table(path, Columns(**choice)) as reader:  # type: ignore[arg-type]
        return reader.form, np.concatenate(list(reader.blocks(300)), axis=1)


def table(folder: Path, text: str, name: str = "a.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def refused(path: Path, **choice: object) -> str:
    with pytest.raises(InputError) as caught:
        readings(path, **choice)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    return str(caught.value)


def random_table(seed: int) -> tuple[str, dict[str, object]]:
    """A text table of 2 to 60 rows in any dialect, and how to read it."""
    dice = random.Random(seed)
    sign = dice.choice(",;\t|")
    mark = dice.choice(".,") if sign != "," else "."
    end = dice.choice(["\n", "\r\n", "\r"])

    def number(value: float) -> str:
        text = f"{value:.{dice.choice([1, 3, 5])}f}".replace(".", mark)
        style = dice.random()
        if style < 0.1:
            return f'"{text}"'
        if style < 0.2 and sign != "\t":
            return f" {text} "
        return dice.choice(["", "NaN", "-"]) if style < 0.3 else text

    lines = dice.choice([[], ["# made by hand", "# 12;7,5|3\t2"]])
    if dice.random() < 0.8:
        lines = [*lines, sign.join(["time", '"x (mV)"', "note", "y"])]
    words = ["", "plain", f'"a{sign}b"', '"said ""so"""', '"two\nlines"' if end != "\r" else "one"]
    for row in range(dice.randint(3, 60)):
        time = f"{row / 50:.2f}".replace(".", mark)
        first = number(dice.gauss(0, 10)) if row else f"1{mark}5"
        # Without a header, a text is no more than a text in its own column.
        note = dice.choice(words) if row else "plain"
        lines.append(sign.join([time, first, note, number(dice.gauss(0, 1e-3)) if row else "2"]))
    text = dice.choice(["", "\ufeff"]) + end.join(lines) + dice.choice(["", end, end * 3])
    return text, {}


@pytest.mark.parametrize("seed", range(60))
def test_what_does_not_change_is_the_same_to_the_byte(tmp_path: Path, seed: int) -> None:
    text, choice = random_table(seed)
    path = table(tmp_path, text)
    with opened_table(path, Columns(**choice)) as reader:  # type: ignore[arg-type]
        assert (reader.form.channels, reader.form.sample_rate) == (2, 50.0)
        with writing_table(tmp_path / "b.csv", reader, mask=False) as writer:
            for mask, block in zip(reader.gaps(7), reader.blocks(7), strict=True):
                writer.write(np.where(mask, np.nan, block))
    assert (tmp_path / "b.csv").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("seed", range(60))
def test_only_the_readings_change(tmp_path: Path, seed: int) -> None:
    path = table(tmp_path, random_table(seed)[0])
    with opened_table(path) as reader:
        rewrite(reader, tmp_path / "b.csv", change=0.123456789, size=11, mask=False)
    form, before = readings(path)
    again, after = readings(tmp_path / "b.csv")
    assert again == form
    np.testing.assert_allclose(after, before + 0.123456789, rtol=1e-5)
    strip = re.compile(rb'[-+]?\d+[.,]\d+|NaN|-(?=[;,|\t \r\n"])|_filled|[ "]')
    rest = [strip.sub(b"", file.read_bytes()) for file in (path, tmp_path / "b.csv")]
    assert len(rest[0].splitlines()) == len(rest[1].splitlines())


def test_a_changed_reading_keeps_the_columns_decimals_and_one_more(tmp_path: Path) -> None:
    path = table(tmp_path, 't;a;b;c\n0,0;12345,67; 3 ;1,5e-03\n0,1;1,25;"-4";2e-03\n')
    with opened_table(path) as reader, writing_table(tmp_path / "b.csv", reader) as writer:
        block = next(reader.blocks())
        writer.write(block + np.array([[0.001], [0.5], [1e-4]]))
    assert (tmp_path / "b.csv").read_text() == (
        't;a;b;c\n0,0;12345,671; 3,50000 ;1,60000e-03\n0,1;1,25100;"-3,50000";2,10000e-03\n'
    )


def test_gaps_are_filled_marked_and_missing_rows_are_not_written(tmp_path: Path) -> None:
    path = table(tmp_path, "time,x,y\n0.0,,1\n0.1,2,2\n0.2,nan,3\n0.5,8,4\n0.6,,5\n")
    with opened_table(path) as reader:
        masks = np.concatenate(list(reader.gaps(2)), axis=1)
        blocks = np.concatenate(list(reader.blocks(3)), axis=1)
        assert reader.frames == 7
        rewrite(reader, tmp_path / "b.csv")
    np.testing.assert_allclose(blocks, [[2, 2, 3.5, 5, 6.5, 8, 8], [1, 2, 3, 10 / 3, 11 / 3, 4, 5]])
    np.testing.assert_array_equal(masks[0], [1, 0, 1, 1, 1, 0, 1])
    np.testing.assert_array_equal(masks[1], [0, 0, 0, 1, 1, 0, 0])
    assert (tmp_path / "b.csv").read_text() == (
        "time,x,y,x_filled\n0.0,2.00000,1,1\n0.1,2,2,0\n0.2,3.50000,3,1\n0.5,8,4,0\n0.6,8.00000,5,1\n"
    )
    assert readings(tmp_path / "b.csv")[0].names == ("x", "y")


def test_filling_does_not_depend_on_how_the_table_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(3)
    values = generator.normal(size=(2000, 2))
    values[generator.random((2000, 2)) < 0.3] = np.nan
    values[300:900, 1] = np.nan
    rows = [f"{at / 8},{a:.3f},{b:.3f}" for at, (a, b) in enumerate(values) if at % 97]
    path = table(tmp_path, "time,a,b\n" + "\n".join(rows))
    _, whole = readings(path)
    monkeypatch.setattr("signal_diffusion.tables.csv_rows.CHUNK", 100)
    with opened_table(path) as reader:
        first, second = (np.concatenate(list(reader.blocks(64)), axis=1) for _ in range(2))
        rewrite(reader, tmp_path / "b.csv", size=333)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, whole, rtol=1e-12, atol=1e-12)
    present = ~np.isnan(values[1:]) & (np.arange(1, 2000) % 97 != 0)[:, None]
    np.testing.assert_allclose(first.T[present], values[1:][present], atol=6e-4)
    assert len((tmp_path / "b.csv").read_text().splitlines()) == len(rows) + 1


@pytest.mark.parametrize(
    ("stamps", "rate"),
    [
        (["0", "0.004", "0.008", "0.012"], 250.0),
        ([f"{at / 360:.3f}" for at in range(500)], 360.0),
        ([str(round(at / 0.9)) for at in range(500)], 900.0),
        ([str(1700000000000000000 + 1000 * at) for at in range(9)], 1e6),
        ([str(1700000000000 + 20 * at) for at in range(9)], 50.0),
        ([str(3600 * at) for at in range(9)], 1 / 3600),
        ([f"2024-03-01T10:00:{at:02}Z" for at in range(9)], 1.0),
        ([f"2024-03-01 10:00:0{at / 8:.3f}+02:00" for at in range(9)], 8.0),
        ([f"2024-02-{28 + at}" if at < 2 else f"2024-03-0{at - 1}" for at in range(5)], 1 / 86400),
        ([*[f"23:59:5{at / 4}" for at in range(40)][-8:], "00:00:00.0", "0:00:00.25"], 4.0),
        ([f"'0:0{at / 5:.3f}'" for at in range(9)], 5.0),
        ([f"01.03.2024 10:00:0{at / 8:.3f}" for at in range(9)], 8.0),
    ],
)
def test_the_rate_is_read_from_time_stamps(tmp_path: Path, stamps: list[str], rate: float) -> None:
    name = "time (ms)" if rate == 900 else "time"
    rows = "".join(f"{stamp},{at}.5\n" for at, stamp in enumerate(stamps))
    form, values = readings(table(tmp_path, f"{name},x\n{rows}"))
    assert form.sample_rate == pytest.approx(rate, rel=1e-9)
    assert values.shape == (1, len(stamps))


def test_jitter_averages_out_and_whole_steps_are_missing_rows(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    times = np.delete(np.arange(1000), [100, 101, 700]) / 100
    times += generator.normal(scale=3e-4, size=len(times))
    rows = "".join(f"{time:.6f},1\n" for time in times)
    form, values = readings(table(tmp_path, f"time,x\n{rows}"))
    assert form.sample_rate == pytest.approx(100, rel=1e-3)
    assert values.shape == (1, 1000)


def test_names_units_and_choices(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        "Logger 7\nFs: 10\n\nsample,Elapsed,ECG1,ECG2 (V),flag,note\n,s,mV,,,\n# still no row\n"
        + "".join(f"{at},{at / 10},{at}.5,1,{at % 2},ok\n" for at in range(20)),
        "a.txt",
    )
    form, values = readings(path, time="Elapsed", skip=("flag",))
    assert (form.names, form.units, form.sample_rate) == (("ECG1", "ECG2 (V)"), ("mV", "V"), 10.0)
    np.testing.assert_array_equal(values[0], np.arange(20) + 0.5)
    assert readings(path, rate=3, channels=("ECG2 (V)",))[0].names == ("ECG2 (V)",)
    assert "flag" in readings(path, time="Elapsed")[0].names


def test_a_preamble_of_as_many_fields_is_no_part_of_the_table(tmp_path: Path) -> None:
    rows = "".join(f"{at / 4},{at}.5\n" for at in range(20))
    path = table(tmp_path, f"Logger,7\nSerial,12345\nRate,4\nOn,2024-03-01\n\ntime,ECG\n{rows}")
    form, values = readings(path)
    assert (form.names, form.sample_rate) == (("ECG",), 4.0)
    np.testing.assert_array_equal(values[0], np.arange(20) + 0.5)


@pytest.mark.parametrize("units", ["s,mV,ohm,V", "(seconds),(mV),(ohm),(V)", "s,mV,ohm,"])
def test_a_row_of_units_needs_no_unit_of_every_column(tmp_path: Path, units: str) -> None:
    rows = "".join(f"{at / 4},{at}.5,{at % 3}.5,1\n" for at in range(20))
    form, _ = readings(table(tmp_path, f"time,I,resp,last\n{units}\n{rows}"))
    assert form.names == ("I", "resp", "last") and form.units[:2] == ("mV", "ohm")


@pytest.mark.parametrize("columns", [1, 3])
def test_the_start_and_the_rate_of_a_wristband_are_no_readings(
    tmp_path: Path, columns: int
) -> None:
    lines = [["1583938234.00"] * columns, ["64.0"] * columns]
    lines += [[f"{at % 7 + place}.5" for place in range(columns)] for at in range(50)]
    path = table(tmp_path, "".join(",".join(line) + "\n" for line in lines))
    form, values = readings(path)
    assert (form.sample_rate, values.shape) == (64.0, (columns, 50))
    with opened_table(path) as reader:
        rewrite(reader, tmp_path / "b.csv", change=1.0)
    assert (tmp_path / "b.csv").read_text().splitlines()[:2] == [",".join(x) for x in lines[:2]]


def test_a_table_without_a_header_has_numbers_for_names(tmp_path: Path) -> None:
    path = table(tmp_path, "0.0\t5\t1\n0.5\t6\t2\n1.0\t7\t4\n", "a.tsv")
    assert readings(path)[0].names == ("2", "3") and readings(path)[0].sample_rate == 2
    assert readings(path, rate=1, channels=("1",))[0].names == ("1",)
    assert "its columns are '1', '2', '3'" in refused(path, channels=("ECG1",))
    counted = table(tmp_path, "1,5.5\n2,6\n3,9\n")
    assert "pass rate=" in refused(counted)
    assert readings(counted, rate=8)[0].names == ("2",)


def test_columns_may_be_lined_up_by_blanks(tmp_path: Path) -> None:
    text = "  time    x  note\n" + "".join(f" {at / 4:6.2f}   {at:3}  ab \r\n" for at in range(9))
    path = table(tmp_path, text, "a.txt")
    with opened_table(path) as reader:
        assert (reader.form.names, reader.form.sample_rate) == (("x",), 4.0)
        rewrite(reader, tmp_path / "b.txt")
        rewrite(reader, tmp_path / "c.txt", change=1.5)
    assert (tmp_path / "b.txt").read_bytes() == path.read_bytes()
    changed = "".join(f" {at / 4:6.2f}     {at + 1.5:.5f}  ab \r\n" for at in range(9))
    assert (tmp_path / "c.txt").read_bytes().decode().partition("\n")[2] == changed


def test_blank_lines_at_the_end_are_no_readings(tmp_path: Path) -> None:
    path = table(tmp_path, "x\n1\n\n3\n\n\n")
    with opened_table(path, Columns(rate=1)) as reader:
        rewrite(reader, tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_bytes() == b"x,x_filled\n1,0\n2.00000,1\n3,0\n\n\n"


def test_a_constant_channel_comes_back(tmp_path: Path) -> None:
    path = table(tmp_path, "time,x\n" + "".join(f"{at},3\n" for at in range(9)))
    with opened_table(path) as reader:
        rewrite(reader, tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_bytes() == path.read_bytes()


LONG = "time,x,y\n" + "".join(f"{at},{at}.5,1\n" for at in range(5000))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("\n\n", "holds no rows"),
        ("time,x\n", "header, but no rows"),
        ("time,x\n0,1\n", "one row only"),
        ("time,x\n0,1\n1,2\n1,3\n", "row 4.*they must rise"),
        ("time,x\n0,1\n2,2\n1,3\n", "go back in row 4"),
        ("time,x\n" + "".join(f"{at**1.5},1\n" for at in range(99)), "not regular"),
        ("time,x\n0,1\n1,2\n2000000,3\n", "before row 4, 1999998 rows are missing"),
        (LONG.replace("\n4000,4000.5", "\n4000,oops"), "row 4002, column 'x': 'oops'"),
        (LONG.replace("\n4000,4000.5", "\n,4000.5"), "row 4002, column 'time'"),
        (LONG.replace("\n4000,4000.5", "\n4000;4000.5"), "row 4002: it has 2 fields"),
        (LONG.replace("\n4000,4000.5", "\n4000,1,4000.5"), "row 4002: it has 4 fields"),
        (LONG.replace("\n4000,4000.5", '\n4000,5" 7'), "row 4002: a quote"),
        (LONG.replace("\n4000,4000.5", "\n4000,inf"), "column 'x': reading 4001 is infinite"),
        ("1,2\n3,4\n5;6\n7,8\n9;10\n11;12\n13;14\n15;16\n", "others have"),
        ("name,note\na,b\nc,d\n", "no column of numbers"),
        ("time,x,y\n0,NaN,1\n1,NaN,2\n2,NaN,3\n", "column 'x': there is no reading"),
        ("time,x,x\n0,1,2\n1,2,3\n", "2 columns 'x'"),
        (",".join(f"c{at}" for at in range(20000)) + "\n" + ",".join(["1"] * 20000), "20000 col"),
        ("x,y\n1,2\n3,4\n", "does not tell its rate"),
        ("time\0,x\n", "UTF-8"),
    ],
)
def test_what_can_not_be_read_gives_one_line(tmp_path: Path, text: str, words: str) -> None:
    choice = {"channels": ("x",)} if "2 columns" in words else {}
    assert re.search(words, refused(table(tmp_path, text), **choice))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LONG + "Average,2.5,1\n", "row 5002, column 'time': 'Average' is no time stamp"),
        ("time,x\n" + "".join(f"{at},1\n" for at in range(30)) + "Sum,30\n", "row 32.*'Sum'"),
        (
            "time,x\n" + "".join(f"{45000.5 + at / 360 / 86400:.10f},1\n" for at in range(99)),
            "look like days .*Excel.*86400",
        ),
        (
            "time,x\n" + "".join(f"{738000.5 + at / 360 / 86400:.10f},1\n" for at in range(99)),
            "look like days .*86400",
        ),
        (
            "t,x\n" + "".join(f"{at / 250 / 86400:.12f},1\n" for at in range(99)),
            "look like days .*86400",
        ),
        (LONG + ",2.5,1\n", "row 5002, column 'time': an empty field is no time stamp"),
        ("t,x\n" + "".join(f"{at // 2},1\n" for at in range(99)), "row 3.*rounded"),
        (
            "Date,x\n" + "".join(f"03/01/2024 10:00:{at} AM,1\n" for at in range(10, 60)),
            "'03/01/2024 10:00:10 AM' is no time stamp: .*31.01.2024 12",
        ),
        (
            "t;x\n" + "".join(f"0,{at:03};{at % 9}.006,{at % 7}9\n" for at in range(99)),
            "'0.006,09' is no number .*thousands",
        ),
        (LONG + "\nMean,2.5,1\n", "row 5002: it is blank, but other rows follow"),
        (LONG + "# all, in, all, done\n", "row 5002: it has 4 fields by ',' .the first is '# all'"),
        (LONG.replace("\n4000,4000.5", '\n4000,5"1"'), "row 4002: a quote"),
        ("time;x\n0.1;1,013.25\n0.2;1,014.5\n", "'1,013.25' is no number .*thousands"),
        (LONG.replace("\n4000,4000.5", '\n4000,"4,000.5"'), "row 4002.*'4,000.5'.*thousands"),
    ],
)
def test_a_likely_cause_is_named(tmp_path: Path, text: str, words: str) -> None:
    assert re.search(words, refused(table(tmp_path, text)))


def test_days_are_read_where_their_column_says_so(tmp_path: Path) -> None:
    rows = "".join(f"{45000.5 + at / 8640:.9f},{at % 7}\n" for at in range(99))
    form, _ = readings(table(tmp_path, f"time (days),x\n{rows}"))
    assert form.sample_rate == pytest.approx(0.1, rel=1e-4)


def test_the_delimiter_is_that_of_the_rows_not_of_comments(tmp_path: Path) -> None:
    rows = "".join(f"{at % 16}\t1\t{at * 7 % 31}\t\n" for at in range(99))
    text = '# Open Signals Text File\n# {"a b": {"rate": 1000, "column": ["n", "x"]}}\n# End\n'
    path = table(tmp_path, text + rows, "a.txt")
    with opened_table(path, Columns(rate=1000), domain="") as reader:
        assert reader.form.names == ("3",)
        rewrite(reader, tmp_path / "b.txt", change=1)
    changed = (tmp_path / "b.txt").read_text().splitlines()[3:]
    assert [line.split("\t")[:2] for line in changed] == [[str(n % 16), "1"] for n in range(99)]


def test_options_out_of_range_are_refused(tmp_path: Path) -> None:
    path = table(tmp_path, "time,x\n0,1\n1,2\n")
    for choice in ({"rate": 0}, {"channels": "x"}, {"channels": ()}, {"delimiter": "ab"}):
        with pytest.raises(InputError, match=next(iter(choice))):
            readings(path, **choice)
    assert "no column 'z'" in refused(path, time="z")
    assert "there is no such file" in refused(tmp_path / "none.csv")
    with pytest.raises(InputError, match="suffix must be one of"):
        readings(tmp_path / "a.wav")


def test_nothing_is_left_of_a_table_that_fails(tmp_path: Path) -> None:
    path = table(tmp_path, LONG)
    with opened_table(path) as reader:
        with pytest.raises(InputError, match="exists"), writing_table(path, reader):
            pass
        with pytest.raises(KeyError), writing_table(tmp_path / "b.csv", reader) as writer:
            writer.write(next(reader.blocks(10)))
            raise KeyError
    assert [file.name for file in tmp_path.iterdir()] == ["a.csv"]


def test_tables_have_a_suffix_of_theirs(tmp_path: Path) -> None:
    assert all(is_table(f"a{suffix}") for suffix in (".csv", ".TSV", ".parquet", ".npz", ".hea"))
    assert not is_table("a.wav") and not is_table(tmp_path)
    (tmp_path / "r.hea").touch()
    assert is_table(tmp_path / "r")
