"""Damaged and hostile inputs of vocode, score, generate and evaluate: one line or a sound result.

Some of each command's mutants, by a seed; SIGNAL_DIFFUSION_MUTANTS=500 makes 2,000 of them.
"""

import io
import json
import os
import pickle
import resource
import signal
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from builders import Command, Start, damaged, generator, sensor, untrained, vocoder

from signal_diffusion import NetworkDenoiser
from signal_diffusion.nn.stack import DilatedStack
from signal_diffusion.schedules import EDM

MUTANTS = int(os.environ.get("SIGNAL_DIFFUSION_MUTANTS", "40"))
#: Seconds of one run, and bytes that it may take beside those of the test.
LONGEST, MOST_BYTES = 60, 1_500_000_000
FORMS = (("wav", "PCM_16"), ("wav", "FLOAT"), ("flac", "PCM_16"), ("aiff", "PCM_24"))
FRAMES = np.log(1e-4 + np.random.default_rng(1).random((80, 12))).astype(np.float32)
READINGS = np.sin(np.arange(600) / 3) + 0.1 * np.random.default_rng(2).standard_normal(600)
TABLE = "time;a\n" + "".join(f"{n / 10:.1f};{x:.4f}\n" for n, x in enumerate(READINGS))
WORDS = ("nan", "inf", "1e308", "", "x", "-9999", "\x1b[2J", '"', "1,000", "9" * 5000, "\0", "٣")
#: What takes the place of values in the header of a model.
VALUES: tuple[Any, ...] = (
    *(float("nan"), float("inf"), -1, 0, 10**9, 10**400, 0.5, None, True, "", "x"),
    *("\x1b[2J", "../../evil", [], {}, [1], {"a": 1}, ["a", [1]], [[[[]]]]),
    {"class": "os.system", "arguments": {"command": "touch PWNED"}},
    {"class": "signal_diffusion.nn.frames.Patch", "arguments": {"size": 10**9}},
)


class Pickled:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch PWNED",)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    stack = DilatedStack(1, channels=8, hidden=8, layers=2, dilation_cycle=2)
    pump = NetworkDenoiser(stack, EDM(), target="edm")
    row = [[1.0]] * 3
    known = {"columns": ["a"], "window": 20, "levels": [0.3, 1.0, 4.0], "median": row}
    scale = {"middle": [[0.0]], "spread": [[1.0]]}
    pump.card = {"readings": {**known, "deviation": row, "scale": scale}}
    made = {"score": pump, "generate": generator(), "vocode": vocoder(trained=True)}
    for name, model in {**made, "evaluate": untrained(), "sensor": sensor()}.items():
        model.save_pretrained(folder / f"{name}.safetensors")
    return folder


def sound(form: tuple[str, str]) -> bytes:
    file = io.BytesIO()
    samples = (0.2 * np.random.default_rng(0).standard_normal(6000)).clip(-1, 1)
    soundfile.write(file, samples, 16000, form[1], format=form[0])
    return file.getvalue()


def array(values: Any) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(values), allow_pickle=True)
    return file.getvalue()


def header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """An NPY whose header promises more than is there."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text + bytes(64)


def array_mutant(rng: np.random.Generator, values: np.ndarray) -> bytes:
    broken = values.astype(np.float64)
    broken.flat[int(rng.integers(values.size))] = rng.choice([np.nan, np.inf, 1e300, -1e308])
    pickled = pickle.dumps(Pickled())
    ways = (
        array(np.array([Pickled(), {}], dtype=object)),
        array(broken),
        array(values.astype(str(rng.choice(["f2", "i4", "c8", "U8", "?", "longdouble"])))),
        array(np.zeros(tuple(rng.integers(0, 5, int(rng.integers(5)))))),
        header("|O", (1,))[:-64] + pickled,
        header("<f4", (80, 10 ** int(rng.integers(3, 18)))),
        header("<U9999999", (-1, 2**62)),
        damaged(array(values), rng),
    )
    return ways[int(rng.integers(len(ways)))]


def archive(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return file.getvalue()


def table_mutant(rng: np.random.Generator) -> bytes:
    if not rng.integers(3):
        return damaged(TABLE.encode(), rng)
    rows = [row.split(";") for row in TABLE.split("\n")]
    for _ in range(int(rng.integers(1, 4))):
        row = rows[int(rng.integers(len(rows) - 1)) if rng.integers(5) else 0]
        row[int(rng.integers(len(row)))] = WORDS[int(rng.integers(len(WORDS)))]
    return "\n".join(";".join(row) for row in rows).encode()


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield tree, key
        if isinstance(value, (dict, list)):
            yield from places(value)


def model_mutant(rng: np.random.Generator, model: Path) -> bytes:
    """A model whose file, weights or header are damaged."""
    data = model.read_bytes()
    size = 8 + struct.unpack("<Q", data[:8])[0]
    outer, weights = json.loads(data[8:size]), np.frombuffer(data[size:], np.float16).copy()
    way = int(rng.integers(8))
    if way == 0:
        return damaged(data, rng)
    if way == 1:
        weights[rng.integers(len(weights), size=3)] = rng.choice([np.nan, np.inf, 6e4])
    inner = json.loads(outer["__metadata__"]["signal_diffusion"])
    for _ in range(int(rng.integers(1, 3)) if way > 2 else 0):
        every = list(places(inner))
        node, key = every[int(rng.integers(len(every)))]
        node[key] = VALUES[int(rng.integers(len(VALUES)))]
    text = json.dumps(inner) if way != 2 else "[" * 100_000
    outer["__metadata__"]["signal_diffusion"] = text
    head = json.dumps(outer).encode()
    return struct.pack("<Q", len(head)) + head + weights.tobytes()


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def mutant(command: str, rng: np.random.Generator, folder: Path, models: Path) -> list[object]:
    """The arguments of a run on damaged inputs, which are written into the folder."""
    way, form = int(rng.integers(5)), FORMS[int(rng.integers(len(FORMS)))]
    model, words = models / f"{command}.safetensors", []
    if way == 0 or command == "generate":
        model = put(folder / "model.safetensors", model_mutant(rng, model))
    if command == "generate":
        ranges = ("one", "two..one", "all", "..", ",", "9" * 5000, "40..80", "80..40", "1e308")
        lengths = ("0.1", "nan", "inf", "1e9", "-1")
        for option, values in (("--class", ranges), ("--pitch", ranges), ("--length", lengths)):
            words += [option, values[int(rng.integers(len(values)))]] if rng.integers(2) else []
        model = models / "generate.safetensors" if way > 2 else model
        return [model, *words, "--steps", "2", "-o", folder / ("o.npz" if way % 2 else "out")]
    if command == "vocode":
        settings = array(json.dumps({"hop": []}) if rng.integers(2) else "[" * 100_000)
        members = {"log_mel.npy": array_mutant(rng, FRAMES), "mel.npy": settings}
        source = {
            0: lambda: put(folder / "mel.npy", array(FRAMES)),
            1: lambda: put(folder / "mel.npy", array_mutant(rng, FRAMES)),
            2: lambda: put(folder / "mel.npz", archive(members)),
            3: lambda: put(folder / "mel.npz", damaged(archive(members), rng)),
            4: lambda: put(folder / f"in.{form[0]}", damaged(sound(form), rng)),
        }[way]()
        return [source, "-o", folder / "o.wav", "--model", model]
    if command == "score":
        members = {
            "a.npy": array_mutant(rng, READINGS),
            "rate.npy": array(rng.choice([10, np.nan])),
        }
        source = {
            0: lambda: put(folder / "t.csv", TABLE.encode()),
            1: lambda: put(folder / "t.npz", archive(members)),
            2: lambda: put(folder / "t.npz", damaged(archive(members), rng)),
        }.get(way, lambda: put(folder / "t.csv", table_mutant(rng)))()
        return [source, "-o", folder / "o.csv", "--model", model, "--columns", "a"]
    if way in (1, 2):
        put(folder / "data" / "clean" / "t.csv", TABLE.encode())
        put(folder / "data" / "noisy" / "t.csv", table_mutant(rng))
        return [models / "sensor.safetensors", folder / "data", "-o", folder / "out"]
    for side in ("clean", "noisy"):
        content = damaged(sound(form), rng) if way and rng.integers(3) else sound(form)
        put(folder / "data" / side / f"a.{form[0]}", content)
    return [model, folder / "data", "-o", folder / "out", "--metrics", "si_sdr"]


def require_sound(folder: Path) -> None:
    for path in folder.rglob("*"):
        assert ".partial" not in path.name and path.name != "PWNED"
        if path.name == "o.wav" or (path.parent.name == "out" and path.suffix == ".wav"):
            assert np.isfinite(soundfile.read(path)[0]).all()
        if path.name == "o.csv":
            assert "nan" not in path.read_text() and "inf" not in path.read_text()
        if path.name == "o.npz":
            assert np.isfinite(np.load(path)["signals"]).all()


@pytest.fixture
def bounded() -> Iterator[None]:
    """Little memory, as far as the system has such a limit."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    taken = Path("/proc/self/statm")
    if taken.exists():
        now = int(taken.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + MOST_BYTES, before[1]))
    yield
    signal.alarm(0)
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("name", ["vocode", "score", "generate", "evaluate"])
def test_damaged_inputs(
    name: str, models: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    codes = set()
    for number in range(MUTANTS):
        rng, folder = np.random.default_rng([len(name), number]), tmp_path / str(number)
        folder.mkdir()
        line = mutant(name, rng, folder, models)
        signal.alarm(LONGEST)
        code, out, err = command(name, *line)
        signal.alarm(0)
        # With 1, the error would be raw, or a rival or a recording of several failed.
        assert code in ((0, 1, 2) if name == "evaluate" else (0, 2)), (number, err)
        assert code == 1 or err.count("\n") == code // 2, (number, err)
        assert "--traceback" not in err and "\x1b" not in out + err, (number, err)
        require_sound(folder)
        codes.add(code)
    assert not (tmp_path / "PWNED").exists() and {0, 2} <= codes


def test_a_parquet_column_of_another_kind_does_not_end_the_process(
    models: Path, tmp_path: Path, processes: Start
) -> None:
    """In its footer, a column that may have gaps is one that may not: pyarrow would abort."""
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    whole = io.BytesIO()
    pandas.DataFrame({"a": READINGS}).to_parquet(whole)
    optional = b"\x25\x02\x18\x01a"
    assert whole.getvalue().count(optional) == 1
    source = tmp_path / "t.parquet"
    source.write_bytes(whole.getvalue().replace(optional, b"\x25\x00\x18\x01a"))
    line = ["score", source, "-o", tmp_path / "o.csv", "--model", models / "score.safetensors"]
    process = processes(*line, "--rate", 10, errors=tmp_path / "errors")
    process.join(120)
    assert process.exitcode == 2 and "damaged" in (tmp_path / "errors").read_text()
