"""Parquet, NPY, NPZ and WFDB come back as they were but for what changed; each becomes another."""

import importlib
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from signal_diffusion.errors import InputError
from signal_diffusion.tables import Columns, TableForm, opened_table, writing_table

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
wfdb = pytest.importorskip("wfdb")

ROWS = 1003


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).normal(size=shape)


def rewrite(
    source: Path, target: Path, change: float = 0.0, **choice: Any
) -> tuple[TableForm, np.ndarray, str | None]:
    """Write a table again; its form, its readings, and the note."""
    with opened_table(source, Columns(**choice)) as reader, writing_table(target, reader) as writer:
        blocks = []
        for block in reader.blocks(190):
            blocks.append(block)
            writer.write(block + change)
    return reader.form, np.concatenate(blocks, axis=1), writer.note


def readings(path: Path, **choice: Any) -> np.ndarray:
    with opened_table(path, Columns(**choice)) as reader:
        return np.concatenate(list(reader.blocks(77)), axis=1)


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    whole = [None if at == 7 else at % 9 for at in range(ROWS)]
    schema = pa.schema(
        [
            pa.field("time", pa.timestamp("us")),
            pa.field("x", pa.float32(), metadata={"unit": "g"}),
            pa.field("k", pa.int16()),
            pa.field("count", pa.int32()),
            pa.field("note", pa.string()),
        ],
        metadata={"who": "me"},
    )
    columns = [np.arange(ROWS) * 2500, noise(ROWS).astype("f4"), whole, range(ROWS), ["a"] * ROWS]
    arrays = [pa.array(c, kind) for c, kind in zip(columns, schema.types, strict=True)]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(arrays, schema=schema), path, compression="zstd")
    return path


def test_parquet_keeps_its_schema_and_what_is_no_channel(tmp_path: Path, parquet: Path) -> None:
    target = tmp_path / "b.parquet"
    form, values, note = rewrite(parquet, target, 0.25, channels=("x", "k"))
    assert form == TableForm(400.0, 2, "PARQUET", ("x", "k"), ("g", ""))
    before, after = pq.read_table(parquet), pq.read_table(target)
    assert note is not None and "k: whole numbers became fractions" in note
    assert after.schema.names == [*before.schema.names, "k_filled"]
    assert [str(kind) for kind in after.schema.types[:5]] == [
        *("timestamp[us]", "float", "double", "int32", "string")
    ]
    assert after.schema.metadata == before.schema.metadata
    assert after.schema.field("x").metadata == {b"unit": b"g"}
    for name in ("time", "count", "note"):
        assert after[name] == before[name]
    np.testing.assert_allclose(after["x"], values[0] + 0.25, rtol=1e-6)
    np.testing.assert_array_equal(np.flatnonzero(after["k_filled"]), [7])
    assert after["k"][7].as_py() == 7.25
    assert pq.ParquetFile(target).metadata.row_group(0).column(0).compression == "ZSTD"


def test_parquet_that_does_not_change_is_the_same(tmp_path: Path, parquet: Path) -> None:
    _, _, note = rewrite(parquet, tmp_path / "b.parquet", channels=("x", "count"))
    assert note is None
    after = pq.read_table(tmp_path / "b.parquet")
    assert after.equals(pq.read_table(parquet), check_metadata=True)


@pytest.mark.parametrize("dtype", ["f4", ">f8", "i2"])
@pytest.mark.parametrize("shape", [(ROWS,), (ROWS, 3), (3, ROWS)])
def test_npy_keeps_type_and_shape(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    array = (100 * noise(*shape)).astype(dtype)
    np.save(tmp_path / "a.npy", array)
    form, values, _ = rewrite(tmp_path / "a.npy", tmp_path / "b.npy", rate=1 / 3600)
    assert (form.sample_rate, form.channels) == (1 / 3600, 1 if len(shape) == 1 else 3)
    np.testing.assert_array_equal(values, np.atleast_2d(array if shape[0] < 9 else array.T))
    assert (tmp_path / "b.npy").read_bytes() == (tmp_path / "a.npy").read_bytes()
    _, _, note = rewrite(tmp_path / "a.npy", tmp_path / "c.npy", 0.75, rate=1)
    after = np.load(tmp_path / "c.npy")
    assert after.dtype == array.dtype
    expected = np.rint(array + 0.75) if dtype == "i2" else array + 0.75
    np.testing.assert_allclose(after, expected, rtol=1e-6, atol=1e-5)
    assert (note is not None) == (dtype == "i2")


def test_npz_keeps_all_other_arrays(tmp_path: Path) -> None:
    arrays = {
        "t": np.arange(ROWS) / 50,
        "acc": noise(ROWS, 2),
        "label": np.array("hi"),
        "more": np.array([{"a": 1}], dtype=object),
        "short": np.arange(9),
    }
    arrays["acc"][5, 1] = np.nan
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    form, values, _ = rewrite(tmp_path / "a.npz", tmp_path / "b.npz", 1.0)
    assert (form.names, form.sample_rate) == (("acc[0]", "acc[1]"), 50.0)
    with np.load(tmp_path / "b.npz", allow_pickle=True) as after:
        assert set(after) == {*arrays, "acc[1]_filled"}
        for name in ("t", "label", "more", "short"):
            np.testing.assert_array_equal(after[name], arrays[name])
        np.testing.assert_allclose(after["acc"].T, values + 1)
        np.testing.assert_array_equal(np.flatnonzero(after["acc[1]_filled"]), [5])
    np.savez(tmp_path / "c.npz", x=noise(ROWS), fs=8)
    assert rewrite(tmp_path / "c.npz", tmp_path / "d.npz")[0].sample_rate == 8


def test_of_an_npz_only_what_is_needed_is_unpacked_and_no_bomb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signal_diffusion.tables.numpy_files.LARGEST", 1 << 18)
    (tmp_path / "t").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "t"))
    zeros = np.zeros((4, 1 << 16))
    np.savez_compressed(tmp_path / "a.npz", x=noise(1 << 19), fs=50, more=zeros)
    opened = opened_table(tmp_path / "a.npz")
    with opened as reader, writing_table(tmp_path / "b.npz", reader) as writer:
        for block in reader.blocks():
            writer.write(block + 1)
            # What is unpacked has no name that a kill could leave.
            assert not list((tmp_path / "t").iterdir())
        assert not list(tmp_path.glob("tmp*"))
    with np.load(tmp_path / "b.npz") as after:
        np.testing.assert_array_equal(after["more"], zeros)
    np.savez_compressed(tmp_path / "c.npz", x=noise(100), fs=50, more=zeros)
    with pytest.raises(InputError, match=r"more\.npy holds 2 MiB in .* leave it out"):
        readings(tmp_path / "c.npz")


def member(header: bytes, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


@pytest.mark.parametrize(
    "content",
    [
        member(b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}\n"),
        member(b"{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}\n"),
        member(b"{'descr': 7, 'fortran_order': 'no', 'shape': 'x'}\n"),
        member(b"[" * 5000 + b"\n"),
        member(b"(" * 100 + b")" * 100 + b"\n"),
        b"\x93NUMPY\x09\x00",
        b"",
    ],
)
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_a_hostile_header_gives_one_line(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    if suffix == "npz":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", content)
    else:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.np") as caught:
        readings(path, rate=1)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


def test_an_array_of_objects_is_no_part_of_the_table(tmp_path: Path) -> None:
    things = np.array([{"a": at} for at in range(200)])
    np.savez(tmp_path / "a.npz", x=noise(200), things=things, fs=8)
    rewrite(tmp_path / "a.npz", tmp_path / "b.npz", 1.0)
    with np.load(tmp_path / "b.npz", allow_pickle=True) as after:
        assert list(after) == ["x", "things", "fs"] and after["things"][3] == {"a": 3}


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A record in two formats' worth of oddities: gains, offsets, comments and annotations."""
    wfdb.wrsamp(
        "a1",
        fs=360,
        units=["mV", "mV", "NU"],
        sig_name=["I", "II", "V 5"],
        comments=["age 50"],
        d_signal=np.rint(200 * noise(ROWS, 3)).astype(int),
        fmt=["16"] * 3,
        adc_gain=[200.0, 100.0, 10.0],
        baseline=[5, 0, -3],
        write_dir=str(tmp_path),
    )
    wfdb.wrann("a1", "atr", np.array([5, 9]), ["N", "V"], write_dir=str(tmp_path))
    return tmp_path / "a1"


@pytest.mark.parametrize("suffix", ["", ".hea", ".dat"])
def test_a_record_that_does_not_change_is_the_same(
    tmp_path: Path, record: Path, suffix: str
) -> None:
    form, values, _ = rewrite(Path(f"{record}{suffix}"), tmp_path / f"b{suffix}")
    assert form == TableForm(360.0, 3, "WFDB", ("I", "II", "V 5"), ("mV", "mV", "NU"))
    np.testing.assert_array_equal(values, wfdb.rdrecord(str(record)).p_signal.T)
    for kind in ("dat", "atr"):
        assert (tmp_path / f"b.{kind}").read_bytes() == Path(f"{record}.{kind}").read_bytes()
    header = Path(f"{record}.hea").read_text()
    assert (tmp_path / "b.hea").read_text() == header.replace("a1", "b")


def test_a_record_keeps_its_header_and_other_signals(tmp_path: Path, record: Path) -> None:
    _, values, _ = rewrite(record, tmp_path / "b", 0.1, channels=("II",))
    before, after = (wfdb.rdrecord(str(tmp_path / name), physical=False) for name in ("a1", "b"))
    np.testing.assert_array_equal(after.d_signal[:, [0, 2]], before.d_signal[:, [0, 2]])
    np.testing.assert_allclose(after.dac()[:, 1], values[0] + 0.1, atol=0.5 / 100)
    sums = [int(total) % (1 << 16) for total in after.checksum]
    assert sums == after.calc_checksum() and after.init_value == after.d_signal[0].tolist()
    assert (after.adc_gain, after.baseline, after.comments) == (
        *(before.adc_gain, before.baseline),
        ["age 50"],
    )


@pytest.mark.parametrize("kind", ["80", "212", "16", "24", "32"])
def test_missing_readings_of_a_record_are_filled_and_marked(tmp_path: Path, kind: str) -> None:
    physical = np.clip(noise(ROWS, 2), -1, 1)
    physical[3, 1] = np.nan
    wfdb.wrsamp(
        "a",
        fs=10,
        units=["V"] * 2,
        sig_name=["x", "y"],
        p_signal=physical,
        fmt=[kind] * 2,
        adc_gain=[50.0] * 2,
        baseline=[0] * 2,
        write_dir=str(tmp_path),
    )
    rewrite(tmp_path / "a.hea", tmp_path / "b.hea")
    after = wfdb.rdrecord(str(tmp_path / "b"))
    assert after.sig_name == ["x", "y", "y_filled"]
    np.testing.assert_array_equal(np.flatnonzero(after.p_signal[:, 2]), [3])
    assert after.p_signal[3, 1] == pytest.approx(physical[[2, 4], 1].mean(), abs=0.03)


@pytest.mark.parametrize(("shift", "scale"), [(-40.0, 1.0), (0.0, 50.0), (300.0, -7.0)])
def test_readings_beyond_the_range_of_a_record_get_a_new_gain_or_baseline(
    tmp_path: Path, record: Path, shift: float, scale: float
) -> None:
    with opened_table(record) as reader, writing_table(tmp_path / "b", reader) as writer:
        values = np.concatenate(list(reader.blocks()), axis=1)
        values[0] = scale * values[0] + 5 * shift
        writer.write(values)
    before, after = (wfdb.rdrecord(str(tmp_path / name), physical=False) for name in ("a1", "b"))
    # A mere shift needs no coarser steps.
    assert scale != 1 or after.adc_gain[0] == 200
    np.testing.assert_allclose(after.dac()[:, 0], values[0], atol=0.51 / after.adc_gain[0])
    np.testing.assert_array_equal(after.d_signal[:, 1:], before.d_signal[:, 1:])
    assert (after.adc_gain[1:], after.baseline[1:]) == (before.adc_gain[1:], before.baseline[1:])
    assert [int(total) % (1 << 16) for total in after.checksum] == after.calc_checksum()
    assert after.comments == ["age 50"] and after.units == before.units


def test_records_of_several_rates_or_cut_short_are_refused(tmp_path: Path, record: Path) -> None:
    with pytest.raises(InputError, match="takes letters"):
        rewrite(record, tmp_path / "a b.hea")
    header = Path(f"{record}.hea").read_text()
    (tmp_path / "two.hea").write_text(header.replace("a1.dat 16", "a1.dat 16x2", 1))
    with pytest.raises(InputError, match="several rates"):
        readings(tmp_path / "two.hea")
    (tmp_path / "far.hea").write_text(header.replace("(5)", "(" + "9" * 40 + ")", 1))
    with pytest.raises(InputError, match=r"cut short or damaged \(a baseline is out of range"):
        readings(tmp_path / "far.hea")
    data = Path(f"{record}.dat").read_bytes()
    Path(f"{record}.dat").write_bytes(data[:500])
    with pytest.raises(InputError, match="cut short or damaged"):
        readings(record)
    with pytest.raises(InputError, match="there is no header"):
        readings(tmp_path / "none.dat")


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet", "npy", "npz", "hea"])
def test_any_table_becomes_any_other(
    tmp_path: Path, parquet: Path, record: Path, suffix: str
) -> None:
    np.save(tmp_path / "n.npy", noise(3, ROWS))
    np.savez(tmp_path / "n.npz", t=np.arange(ROWS) / 50, x=noise(ROWS))
    rows = "".join(f"{at * 4},{at * 0.25},a{at}\n" for at in range(ROWS))
    (tmp_path / "n.csv").write_text(f"time (ms),x (mV),note\n{rows}")
    for number, source in enumerate([parquet, record, *tmp_path.glob("n.*")]):
        target = tmp_path / f"to{number}.{suffix}"
        rate = {"rate": 40.0} if source.suffix == ".npy" else {}
        form, values, _ = rewrite(source, target, 0.5, **rate)
        again = {"rate": form.sample_rate} if suffix == "npy" else {}
        with opened_table(target, Columns(**again)) as reader:
            after = np.concatenate(list(reader.blocks()), axis=1)
            assert reader.form.sample_rate == pytest.approx(form.sample_rate)
            if suffix != "npy":
                assert reader.form.names == form.names
        np.testing.assert_allclose(after, values + 0.5, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "npy", "npz", "hea", ""])
def test_a_new_table_replaces_none_that_another_run_has_written_meanwhile(
    tmp_path: Path, record: Path, suffix: str
) -> None:
    target = tmp_path / (f"b.{suffix}" if suffix else "b")
    with (
        opened_table(record) as reader,
        pytest.raises(InputError, match=" exists"),
        writing_table(target, reader) as writer,
    ):
        for block in reader.blocks():
            writer.write(block)
        rewrite(record, target, 1.0)
    np.testing.assert_allclose(readings(target, rate=1), readings(record) + 1, atol=0.1)
    with pytest.raises(InputError, match=" exists"):
        rewrite(record, target)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("suffix", ["csv", "parquet", "npy", "npz", "hea"])
def test_a_folder_that_is_deleted_meanwhile_is_named(
    tmp_path: Path, record: Path, suffix: str
) -> None:
    (tmp_path / "out").mkdir()
    with (
        opened_table(record) as reader,
        pytest.raises(InputError, match=r"the folder .*out is gone"),
        writing_table(tmp_path / "out" / f"b.{suffix}", reader) as writer,
    ):
        for block in reader.blocks(500):
            writer.write(block)
            shutil.rmtree(tmp_path / "out", ignore_errors=True)


def test_a_record_whose_samples_are_there_is_not_replaced(tmp_path: Path, record: Path) -> None:
    (tmp_path / "b.dat").write_bytes(b"mine")
    with pytest.raises(InputError, match=r"b\.dat exists"):
        rewrite(record, tmp_path / "b")
    assert (tmp_path / "b.dat").read_bytes() == b"mine"
    assert not (tmp_path / "b.hea").exists()


@pytest.mark.parametrize("kind", ["80", "212", "16", "24", "32"])
@pytest.mark.parametrize("shape", [(10, 2), (11, 1), (7, 3)])
def test_samples_are_packed_as_the_library_packs_them(
    tmp_path: Path, kind: str, shape: tuple[int, int]
) -> None:
    from signal_diffusion.tables.wfdb_files import FORMATS, packed

    most = FORMATS[kind]
    numbers = np.random.default_rng(0).integers(-most - 1, most + 1, shape)
    form = {"sig_name": list("abc")[: shape[1]], "fmt": [kind] * shape[1]}
    scale = {"adc_gain": [1] * shape[1], "baseline": [0] * shape[1], "units": ["V"] * shape[1]}
    wfdb.wrsamp("r", fs=1, d_signal=numbers, write_dir=str(tmp_path), **form, **scale)
    assert packed(numbers, kind) == (tmp_path / "r.dat").read_bytes()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.npy", np.zeros((2, 2, 2)), "shape"),
        ("a.npy", np.zeros(0), "no rows"),
        ("a.npy", np.array(["a", "b"]), "shape"),
        ("a.npy", np.array([1.0]), "one row only"),
        ("a.npy", np.array([np.nan, np.nan]), "there is no reading"),
        ("a.parquet", b"PAR1 nonsense", "is no Parquet file"),
        ("a.npz", b"PK nonsense", "is no NPZ file"),
        ("a.npy", b"nonsense", "no array of numbers"),
        ("a.npy", b"", "is empty"),
    ],
)
def test_what_is_no_table_gives_one_line(
    tmp_path: Path, name: str, content: Any, words: str
) -> None:
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        np.save(tmp_path / name, content)
    with pytest.raises(InputError, match=words) as caught:
        readings(tmp_path / name, rate=1)
    assert "\n" not in str(caught.value) and name in str(caught.value)


@pytest.mark.parametrize(("name", "package"), [("a.parquet", "pyarrow"), ("a.hea", "wfdb")])
def test_a_library_that_is_absent_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str
) -> None:
    def absent(wanted_name: str) -> Any:
        raise ImportError(wanted_name)

    (tmp_path / name).write_bytes(b"x")
    libraries = importlib.import_module("signal_diffusion.errors")
    monkeypatch.setattr(libraries, "import_module", absent)
    with pytest.raises(InputError, match=rf"needs the package {package}: .*\[sensors\]"):
        readings(tmp_path / name)
