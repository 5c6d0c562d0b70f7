"""Benchmarks of sensors on small real recordings, and the tables of results."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from builders import load, manifest
from shared.result_tables import table_of

from signal_diffusion.files import artifact
from signal_diffusion.metrics import envelope_peak


@pytest.mark.parametrize("name", ["ecg", "vibration"])
def test_the_page_of_results_and_the_shipped_model_are_of_the_committed_numbers(
    repository: Path, name: str
) -> None:
    recipe = load(repository / "benchmarks" / f"evaluate_{name}.py")
    results = json.loads((repository / "results" / f"{name}.json").read_text())
    assert table_of(repository / "docs" / "results.md", name) == recipe.table(results["results"])
    assert results["model"] == artifact.fingerprint(name)


def test_the_ecg_model_keeps_its_bars(repository: Path) -> None:
    results = json.loads((repository / "results" / "ecg.json").read_text())["results"]
    ours = results["ecg, 1 step"]
    first = ours["-3 to 10 dB"]
    assert first["snr"] >= 14 and first["prd"] <= 22 and first["cosine"] >= 0.965
    for name, groups in results.items():
        for group in groups:
            if group != "all" and name != "ecg, 1 step":
                assert ours[group]["prd"] < groups[group]["prd"], (name, group)
                assert ours[group]["cosine"] > groups[group]["cosine"], (name, group)


def test_the_vibration_model_keeps_the_fault(repository: Path) -> None:
    results = json.loads((repository / "results" / "vibration.json").read_text())["results"]
    ours, untouched = results["vibration, 1 step"]["all"], results["input"]["all"]
    assert ours["gain"] > 5 and ours["peak_error"] < untouched["peak_error"]


def test_the_ecg_recipe_scores_by_group(repository, tmp_path, ecg) -> None:
    recipe = load(repository / "benchmarks" / "evaluate_ecg.py")
    long = {name: np.tile(x, 3) for name, x in ecg.items()}
    manifest(tmp_path, long)
    some = list(recipe.clips(recipe.EcgSources(str(tmp_path)).mixer_of("valid")))
    assert {len(clip.noisy) for clip in some} == {3600, 21600}
    perfect = recipe.scores(some, lambda noisy: next(c.clean for c in some if c.noisy is noisy))
    assert perfect["-3 to 10 dB"]["cosine"] == 1 and perfect["-3 to 10 dB"]["prd"] == 0
    methods = recipe.methods("ecg")
    untouched, filtered, fir = (
        recipe.scores(some, methods[name]) for name in ("input", "IIR band-pass", "FIR band-pass")
    )
    assert filtered["-3 to 10 dB"]["snr"] > untouched["-3 to 10 dB"]["snr"]
    assert fir["-3 to 10 dB"]["snr"] == pytest.approx(filtered["-3 to 10 dB"]["snr"], abs=3)


def test_the_vibration_recipe_finds_a_planted_fault(repository: Path) -> None:
    recipe = load(repository / "benchmarks" / "evaluate_vibration.py")
    rng, time = np.random.default_rng(0), np.arange(36000) / recipe.RATE
    carrier = rng.standard_normal(36000)
    faulty = (1 + np.cos(2 * np.pi * 160 * time)) * carrier
    peak = partial(envelope_peak, sample_rate=recipe.RATE)
    assert peak(faulty, frequency=160) > 5 * peak(carrier, frequency=160)
    assert peak(faulty, frequency=160) > 5 * peak(faulty, frequency=250)
    clip = recipe.Clip(faulty + rng.standard_normal(36000), faulty, "white", 0, 160.0)
    scores = recipe.scores([clip], recipe.informed_wiener)["white"]
    assert scores["gain"] > 0, "the filter is not delayed"
    assert recipe.scores([clip], lambda c: c.clean)["white"]["peak_error"] == 0


def test_the_benchmark_of_files_measures_processes(repository: Path, tmp_path: Path) -> None:
    recipe = load(repository / "benchmarks" / "benchmark_files.py")
    recipe.tiled(tmp_path / "a.wav", 8000, 2, 0.01)
    import soundfile

    assert soundfile.info(tmp_path / "a.wav").frames == 4800
    import sys

    seconds, memory = recipe.measured([sys.executable, "-c", "x = bytes(50_000_000)"])
    assert seconds < 60 and memory > 50
    with pytest.raises(RuntimeError, match="ended with status"):
        recipe.measured([sys.executable, "-c", "raise SystemExit(3)"])
    row = {"channels": 1, "rate": 16000, "minutes": 10, "memory_mb": 400, "real_time_factor": 0.01}
    found = [
        {**row, "method": "speech", "seconds": 6},
        {**row, "method": "noisereduce", "seconds": 9},
    ]
    assert recipe.ratio(found) == ["1.5"] and "400 MB" in recipe.table(found)


def test_the_page_of_results_shows_the_measured_files(repository: Path) -> None:
    results = repository / "results" / "files.json"
    if not results.exists():
        pytest.skip("results/files.json is not there yet: run benchmarks/benchmark_files.py")
    recipe = load(repository / "benchmarks" / "benchmark_files.py")
    rows = json.loads(results.read_text())["rows"]
    assert table_of(repository / "docs" / "results.md", "files") == recipe.shown(rows)
    ours = [row for row in rows if row["method"] == "speech"]
    assert max(row["memory_mb"] for row in ours) <= 700
    assert all(row["real_time_factor"] <= 0.02 for row in ours if row["rate"] == 16000)


def test_the_benchmark_of_tables_cleans_what_it_wrote(repository, tmp_path, ecg) -> None:
    recipe = load(repository / "benchmarks" / "benchmark_tables.py")
    (tmp_path / "sensors").mkdir()
    counts = {name: np.rint(ecg[name] / 0.005)[:4000].astype(np.int16) for name in ("234", "118")}
    beats = {"118_r": np.zeros(3)}
    np.savez(tmp_path / "sensors" / "ecg_mitdb.npz", scale_mv=0.005, **counts, **beats)
    clean = recipe.records(tmp_path, 2)
    recipe.write(tmp_path / "a.csv", clean, 9000)
    seconds, *leads = np.loadtxt(tmp_path / "a.csv", delimiter=",", skiprows=1, unpack=True)
    np.testing.assert_allclose(seconds, np.arange(9000) / 360, atol=1e-6)
    noise = np.array(leads) - np.tile(clean, 3)[:, :9000]
    assert noise.std() == pytest.approx(recipe.NOISE_MV, rel=0.03)
    assert abs(np.corrcoef(noise[0, :4000], noise[0, 4000:8000])[0, 1]) < 0.1, "fresh each time"
    (row,) = recipe.rows(tmp_path, [recipe.kind("0.002x2")])
    assert (row["hours"], row["leads"]) == (0.002, 2) and row["memory_mb"] > 100
    assert "| 0.002 h of 2 leads |" in recipe.table([row])


def test_the_page_of_results_shows_the_measured_tables(repository: Path) -> None:
    results = repository / "results" / "tables.json"
    if not results.exists():
        pytest.skip("results/tables.json is not there yet: run benchmarks/benchmark_tables.py")
    recipe = load(repository / "benchmarks" / "benchmark_tables.py")
    rows = json.loads(results.read_text())["rows"]
    assert table_of(repository / "docs" / "results.md", "tables") == recipe.table(rows)
    by = {(row["hours"], row["leads"]): row for row in rows}
    assert set(by) == set(recipe.KINDS)
    assert by[10, 2]["seconds"] < 180
    assert all(row["memory_mb"] <= 700 for row in rows)
    assert by[10, 2]["memory_mb"] < 1.1 * by[1, 2]["memory_mb"], "it does not go by the length"
