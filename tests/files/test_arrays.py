"""Arrays written block by block are the arrays that numpy reads, or there is no file."""

import tracemalloc
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from signal_diffusion.errors import InputError
from signal_diffusion.files import atomic, npz
from signal_diffusion.files.npz import writing_npz
from signal_diffusion.plots import spectrograms
from signal_diffusion.tasks.jobs import Job
from signal_diffusion.tasks.workers import report_file, row_of


def noise(channels: int, length: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(channels, length)).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("sizes", [(1,), (7, 300, 0, 2), (1000,)])
def test_blocks_become_the_array(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, ...], channels: int
) -> None:
    monkeypatch.setattr(npz, "COPY_BYTES", 100)
    mean = noise(channels, sum(sizes))
    with writing_npz(tmp_path / "a.npz", ["mean", "std"], channels) as writer:
        for block in np.split(mean, np.cumsum(sizes)[:-1], axis=1):
            writer.write("std", 2 * block.astype(np.float64))
            writer.write("mean", block)
        writer.put("sample_rate", 44100)
        writer.put("unit", "dB")
    with np.load(tmp_path / "a.npz") as stored:
        assert set(stored) == {"mean", "std", "sample_rate", "unit"}
        np.testing.assert_array_equal(stored["mean"], mean)
        np.testing.assert_array_equal(stored["std"], 2 * mean)
        assert stored["mean"].dtype == np.float32
        assert stored["mean"].flags.c_contiguous
        assert (stored["sample_rate"], stored["unit"]) == (44100, "dB")
    assert list(tmp_path.iterdir()) == [tmp_path / "a.npz"]


def test_an_array_that_nothing_was_written_to_is_empty(tmp_path: Path) -> None:
    with writing_npz(tmp_path / "a.npz", ["mean"], 2):
        pass
    assert np.load(tmp_path / "a.npz")["mean"].shape == (2, 0)


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), writing_npz(tmp_path / "a.npz", ["mean"], 1) as writer:
        writer.write("mean", noise(1, 100))
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_kept_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(b"old")
    with pytest.raises(InputError, match="exists"), writing_npz(path, ["mean"], 1):
        pass
    with writing_npz(path, ["mean"], 1, force=True):
        assert path.read_bytes() == b"old"
    assert np.load(path)["mean"].shape == (1, 0)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is full")
@pytest.mark.parametrize("length", [10, 1 << 20])
def test_a_full_disk_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    full = Path("/dev/full")
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: full.open("r+b"))
    with (
        pytest.raises(InputError, match=r"a.npz can't be written"),
        writing_npz(tmp_path / "a.npz", ["mean"], 1) as writer,
    ):
        writer.write("mean", noise(1, length))
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is full")
def test_a_full_disk_is_one_line_of_a_picture_and_a_report_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    pictures = spectrograms.Spectrograms(["before"], 8000)
    pictures.push(noise(1, 4000))
    monkeypatch.setattr(atomic, "beside", lambda _: nullcontext(Path("/dev/full")))
    with pytest.raises(InputError, match=r"a.png can't be written: No space"):
        pictures.save(tmp_path / "a.png")
    monkeypatch.setattr("os.replace", lambda _, path: path.symlink_to("/dev/full"))
    job = Job(Path("a.wav"), Path("b.wav"))
    with (
        pytest.raises(InputError, match=r"r.jsonl can't be written: No space"),
        report_file(tmp_path / "r.jsonl", []) as report,
    ):
        report.add([row_of(job, InputError("a.wav is empty"))])


@pytest.mark.parametrize("name", ["a.wav", "a", "missing/a.npz"])
def test_what_cannot_be_written_is_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError), writing_npz(tmp_path / name, ["mean"], 1):
        pass
    assert not list(tmp_path.iterdir())


def test_the_number_of_channels_stays(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="3 channels, not 2"),
        writing_npz(tmp_path / "a.npz", ["mean"], 2) as writer,
    ):
        writer.write("mean", noise(3, 10))


def test_memory_does_not_grow_with_the_recording(tmp_path: Path) -> None:
    block = noise(2, 1 << 16)
    tracemalloc.start()
    with writing_npz(tmp_path / "a.npz", ["mean", "std"], 2) as writer:
        for _ in range(40):
            writer.write("mean", block)
            writer.write("std", block)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.load(tmp_path / "a.npz", mmap_mode="r")["std"].shape == (2, 40 << 16)
    assert peak < 8e6
