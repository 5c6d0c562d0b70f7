"""Outputs of every command: two runs, a model that gives NaN, a folder that is deleted."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import Command, Start, generator, network, noise, put, sensor, vocoder

from signal_diffusion import NetworkDenoiser
from signal_diffusion.errors import InputError
from signal_diffusion.nn.stack import DilatedStack
from signal_diffusion.schedules import EDM
from signal_diffusion.tasks import anomaly
from signal_diffusion.tasks.anomaly import score_table
from signal_diffusion.tasks.denoise_files import denoise_file, denoise_table
from signal_diffusion.tasks.generate import Drawing, draw_files
from signal_diffusion.tasks.vocode import vocode_file


def pump() -> NetworkDenoiser:
    stack = DilatedStack(1, channels=8, hidden=8, layers=2, dilation_cycle=2)
    return NetworkDenoiser(stack, EDM(), target="edm")


MADE = {"speech": network, "sensor": sensor, "drawing": generator, "voice": vocoder, "pump": pump}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording, a table and models."""
    folder = tmp_path_factory.mktemp("inputs")
    for name, model in MADE.items():
        model().save_pretrained(folder / f"{name}.safetensors")
    put(folder / "a.wav", noise(1, 20_000), 16000)
    rows = (f"{n / 10:.1f},{x:.5f}\n" for n, x in enumerate(noise(2)[0]))
    (folder / "t.csv").write_text("time,flow\n" + "".join(rows))
    return folder


#: Commands by what two runs write both, with {} where each has a file of its own.
SHARED = {
    "sound": ("denoise a.wav --model speech -o {out}/o.wav", "o.wav"),
    "noise": ("denoise a.wav --model speech -o {out}/{n}.wav --keep-noise {out}/o.wav", "o.wav"),
    "picture": ("denoise a.wav --model speech -o {out}/{n}.wav --plot {out}/o.png", "o.png"),
    "spread": (
        "denoise a.wav --model speech -o {out}/{n}.wav --shots 2 --steps 2 "
        "--uncertainty {out}/o.npz",
        "o.npz",
    ),
    "table": ("denoise t.csv --model sensor -o {out}/o.csv", "o.csv"),
    "curves": ("denoise t.csv --model sensor -o {out}/{n}.csv --plot {out}/o.png", "o.png"),
    "arrays": ("denoise t.csv --model sensor -o {out}/o.npz", "o.npz"),
    "signal": ("generate drawing --steps 2 -o {out}/o.wav", "o.wav"),
    "signals": ("generate drawing --steps 2 -n 2 -o {out}/o.npz", "o.npz"),
    "grid": ("generate drawing --steps 2 -o {out}/{n}.wav --plot {out}/o.png", "o.png"),
    "voice": ("vocode a.wav --model voice -o {out}/o.wav", "o.wav"),
    "frames": ("vocode a.wav --model voice -o {out}/o.npz", "o.npz"),
    "scores": ("score t.csv --model pump -o {out}/o.csv", "o.csv"),
}


def words(line: str, inputs: Path, out: Path, n: int = 0) -> list[str]:
    files = {path.name: str(path) for path in inputs.iterdir()}
    files |= {path.stem: str(path) for path in inputs.glob("*.safetensors")}
    return [files.get(word, word).format(out=out, n=n) for word in line.split()]


@pytest.mark.parametrize("kind", SHARED)
def test_of_two_runs_to_one_new_file_one_writes_it(
    tmp_path: Path, inputs: Path, processes: Start, kind: str
) -> None:
    if ".png" in SHARED[kind][0]:
        pytest.importorskip("matplotlib")
    line, name = SHARED[kind]
    logs = [tmp_path / f"errors{n}" for n in range(2)]
    out = tmp_path / "out"
    out.mkdir()
    running = [processes(*words(line, inputs, out, n), errors=log) for n, log in enumerate(logs)]
    for process in running:
        process.join(120)
    texts = [log.read_text() for log in logs]
    assert sorted(process.exitcode or 0 for process in running) == [0, 2], texts
    refused = next(text for text in texts if "error:" in text).splitlines()[-1]
    # A run that starts after the other's first output counts what is there.
    counted = r"error: 1 of 2 outputs exist, the first is .*"
    assert re.search(rf"({counted}/o\.\w+|/{Path(name).stem}\.\w+ exists): pass", refused)
    assert (out / name).exists() and not list(out.glob(".*"))


@pytest.mark.parametrize("kind", ["sound", "table", "signal", "signals", "voice", "scores"])
def test_a_model_that_gives_nan_writes_nothing(
    tmp_path: Path, inputs: Path, command: Command, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    whole = NetworkDenoiser.forward

    def forward(self: NetworkDenoiser, x_t: torch.Tensor, *rest: Any) -> torch.Tensor:
        """NaN, but of the silence that a model is tried on when it is loaded."""
        return whole(self, x_t, *rest) * (torch.nan if x_t.any() else 1)

    line = words(SHARED[kind][0], inputs, tmp_path)
    monkeypatch.setattr(NetworkDenoiser, "forward", forward)
    more = ["--resume"] if kind in ("sound", "table", "signal") else []
    for rest in ([], more):
        code, out, err = command(*line, *rest)
        assert (code, out) == (2, ""), err
        assert "NaN or infinite" in err.splitlines()[-1] and "Traceback" not in err
        assert not list(tmp_path.iterdir())


def losing(folder: Path) -> Callable[[int, int], None]:
    return lambda *_: shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("kind", ["sound", "table", "signals", "voice", "scores"])
def test_a_folder_that_is_deleted_is_named(
    tmp_path: Path, inputs: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    lost, drawing = losing(out), Drawing(str(inputs / "drawing.safetensors"), {}, steps=2)
    if kind == "scores":
        times = anomaly.window_times

        def window_times(*arguments: Any) -> Iterator[str]:
            lost(0, 0)
            yield from times(*arguments)

        monkeypatch.setattr(anomaly, "window_times", window_times)
    with pytest.raises(InputError, match=r"the folder .*out is gone|no folder .*out"):
        if kind == "sound":
            denoise_file(network(), inputs / "a.wav", out / "o.wav", progress=lost)
        elif kind == "table":
            denoise_table(sensor(), inputs / "t.csv", out / "o.csv", progress=lost)
        elif kind == "signals":
            draw_files(generator(), drawing, out / "o.npz", progress=lost)
        elif kind == "voice":
            model = str(inputs / "voice.safetensors")
            vocode_file(vocoder(), inputs / "a.wav", out / "o.wav", model=model, progress=lost)
        else:
            score_table(pump(), inputs / "t.csv", out / "o.csv")
