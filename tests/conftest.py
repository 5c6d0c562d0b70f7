"""What every test may ask for."""

import multiprocessing
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from builders import (
    DIGIT_RATE,
    SAMPLES,
    WARM,
    Command,
    Outcome,
    Start,
    run_command,
    spoken_digit,
)

from signal_diffusion import cli


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the clone."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def samples() -> Path:
    """Real recordings: clean/SPEAKER/, noise/ and pairs/{noisy,clean}/, all mono at 16 kHz."""
    return SAMPLES


@pytest.fixture(scope="module")
def ecg(samples: Path) -> dict[str, np.ndarray]:
    """Leads and noises (L,) in mV, at 360 Hz."""
    with np.load(samples / "ecg" / "record.npz") as arrays:
        scale = float(arrays["scale_mv"])
        return {name: arrays[name] * scale for name in ("234", "118", "em", "ma")}


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten digits by two speakers to train on, and by one who is held out."""
    root, rng = tmp_path_factory.mktemp("digits"), np.random.default_rng(3)
    rows = ["path,domain,split,id,label"]
    for speaker, split in (("ann", "train"), ("bob", "train"), ("cyd", "valid")):
        for number in range(80 if split == "train" else 30):
            name = f"{speaker}_{number}.wav"
            x = spoken_digit(rng, number % 10, ("ann", "bob", "cyd").index(speaker))
            soundfile.write(root / name, x, DIGIT_RATE, subtype="PCM_16")
            rows.append(f"{name},digits,{split},{speaker},{number % 10}")
    (root / "manifest.csv").write_text("\n".join(rows))
    return root


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command in this process: exit code, standard output, standard error."""

    def run(*arguments: object) -> Outcome:
        with pytest.raises(SystemExit) as stopped:
            cli.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return stopped.value.code, out, err

    return run


@pytest.fixture(scope="module")
def processes() -> Iterator[Start]:
    """Starts the command in a process of its own; with `errors`, its standard error in a file."""
    methods = multiprocessing.get_all_start_methods()
    with pytest.MonkeyPatch.context() as patch:
        # A process with threads must not be forked, and one thread makes equal bytes.
        patch.setenv("OMP_NUM_THREADS", "1")
        context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
        if "forkserver" in methods:
            context.set_forkserver_preload(WARM)

        def started(*arguments: object, errors: Path | None = None) -> BaseProcess:
            line = [str(argument) for argument in arguments]
            process = context.Process(target=run_command, args=(line, errors))
            process.start()
            return process

        yield started
