"""Outputs are absent or whole, whenever a run is killed, and the next run makes up for the rest."""

import json
import os
import random
import signal
import sys
import time
from contextlib import suppress
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
from builders import Start, network

from signal_diffusion.audio import Recording, write

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forks a process that is warm")

#: More of them, e.g. 50, take a minute.
KILLS = int(os.environ.get("SIGNAL_DIFFUSION_KILLS", "15"))
#: No Ogg: libsndfile numbers its streams at random, so that no two files are equal.
NAMES = ("a.wav", "b/c.flac", "b/d.wav", "b/e.mp3", "f.wav", "g.flac", "h.wav", "i.flac")


@pytest.fixture(scope="module")
def start(processes: Start) -> Start:
    """Starts `denoise` in a process of its own."""
    return partial(processes, "denoise")


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """The command's arguments up to the output: a folder of recordings, two at a time."""
    root = tmp_path_factory.mktemp("kill")
    network().save_pretrained(root / "identity.safetensors")
    generator = np.random.default_rng(11)
    for number, name in enumerate(NAMES):
        samples = generator.uniform(-0.5, 0.5, (2, 60_000 + 7_000 * number)).astype(np.float32)
        (root / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        write(root / "in" / name, Recording(samples, 16000 if number % 2 else 22050))
    model = root / "identity.safetensors"
    return [root / "in", "--model", model, "--jobs", 2, "--quiet", "-o"]


def finished(process: BaseProcess) -> int | None:
    process.join(120)
    return process.exitcode


def sounds(out: Path) -> dict[str, bytes]:
    """All but hidden files and the report."""
    files = (path for path in out.rglob("[!.]*") if path.is_file() and path.suffix != ".jsonl")
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


def wait_for(count: int, out: Path, process: BaseProcess) -> None:
    """Sleep until so many files are done."""
    while process.is_alive() and len(sounds(out)) < count:
        time.sleep(0.001)


def hidden(out: Path) -> list[str]:
    return [path.name for path in out.rglob(".*")]


@pytest.fixture(scope="module")
def whole(
    start: Start, line: list[object], tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, bytes], float]:
    """What an undisturbed run writes, and its seconds."""
    out, taken = tmp_path_factory.mktemp("whole"), 0.0
    for name in ("cold", "warm"):
        began = time.perf_counter()
        assert finished(start(*line, out / name)) == 0
        taken = time.perf_counter() - began
    assert sounds(out / "cold") == sounds(out / "warm")
    assert sounds(out / "warm").keys() == set(NAMES)
    return sounds(out / "warm"), taken


def test_a_killed_run_leaves_whole_files_and_is_resumed(
    tmp_path: Path, start: Start, line: list[object], whole: tuple[dict[str, bytes], float]
) -> None:
    expected, taken = whole
    draw = random.Random(0)
    left: list[int] = []
    for number in range(KILLS):
        out = tmp_path / str(number)
        process = start(*line, out)
        # After some files and a bit, since by the clock most would be struck too early or too late.
        wait_for(draw.randrange(len(NAMES)), out, process)
        time.sleep(draw.uniform(0, taken / len(NAMES)))
        process.kill()
        assert finished(process) in (-signal.SIGKILL, 0)
        found = sounds(out)
        assert found.items() <= expected.items()
        left.append(len(found))
        assert finished(start(*line, out, "--resume")) == 0
        assert sounds(out) == expected
        assert hidden(out) == []
        lines = [json.loads(row) for row in (out / "report.jsonl").read_text().splitlines()]
        assert len({row["path"] for row in lines}) == len(lines)
    # Most were struck at work, or nothing was shown.
    assert sum(count < len(NAMES) for count in left) > KILLS / 2, left


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_without_a_partial_file_however_often_it_comes(
    tmp_path: Path,
    start: Start,
    line: list[object],
    whole: tuple[dict[str, bytes], float],
    name: str,
) -> None:
    number = signal.Signals[name]
    expected, _ = whole
    out = tmp_path / "out"
    process = start(*line, out)
    wait_for(1, out, process)
    os.kill(process.pid or 0, number)
    time.sleep(0.01)
    # The run may have ended meanwhile.
    with suppress(ProcessLookupError):
        os.kill(process.pid or 0, signal.SIGINT)
    assert finished(process) == 128 + number
    assert 0 < len(sounds(out)) < len(NAMES)
    assert sounds(out).items() <= expected.items()
    assert hidden(out) == []
