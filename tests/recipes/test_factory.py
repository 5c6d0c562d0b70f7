"""Engines and machines: their files as they are published, and the recipes that score them."""

import csv
import json
import math
from datetime import datetime, timedelta
from pathlib import Path

import anomaly_baselines
import numpy as np
import pytest
import torch
from builders import load
from PIL import Image

from signal_diffusion.data.sets.cmapss import TurbofanSources
from signal_diffusion.data.sets.sensor_series import SERIES, TemperatureSources
from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.errors import InputError
from signal_diffusion.nn.stack import DilatedStack
from signal_diffusion.schedules import EDM

VARYING = ["s2", "s7", "s21"]


@pytest.fixture(autouse=True)
def small_forests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anomaly_baselines, "TREES", 20)
    monkeypatch.setattr(anomaly_baselines, "FORESTS", 1)


def lives(engines: int, *, seed: int = 0) -> np.ndarray:
    """Rows of C-MAPSS: three sensors that drift at the end, others that stand still."""
    rng, rows = np.random.default_rng(seed), []
    for unit in range(1, engines + 1):
        cycles = 140 + 10 * unit
        table = np.tile(np.arange(26.0), (cycles, 1))
        table[:, 0], table[:, 1] = unit, np.arange(1, cycles + 1)
        wear = np.clip(np.arange(cycles) - cycles + 60, 0, None) / 4
        for sign, column in zip((1, -1, 1), (6, 11, 25), strict=True):
            table[:, column] = 500 + sign * wear + rng.standard_normal(cycles)
        rows.append(table)
    return np.concatenate(rows)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """Five engines, with spaces between the numbers and at the ends of the lines."""
    path = tmp_path / "train_FD001.txt"
    lines = [" ".join(f"{value:.4f}" for value in row) + "  \n" for row in lives(5)]
    path.write_text("".join(lines))
    return path


def test_engines_come_from_the_text_file_as_from_the_array(text: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "engines.npz", data=np.round(lives(5), 4))
    units = [(n, "train" if n <= 4 else "valid") for n in range(1, 6)]
    rows = [f"engines.npz,unit{n},cmapss,{split}" for n, split in units]
    (tmp_path / "manifest.csv").write_text("\n".join(["path,key,subset,split", *rows, ""]))
    ours, theirs = TurbofanSources(str(text)), TurbofanSources(str(tmp_path))
    assert ours.sensors == theirs.sensors == VARYING
    for split, names in (("train", [1, 2, 3, 4]), ("valid", [5])):
        assert list(ours.engines(split)) == list(theirs.engines(split)) == names
        for run, other in zip(ours.runs(split), theirs.runs(split), strict=True):
            np.testing.assert_allclose(run, other, atol=1e-5)
    assert ours.engines("valid")[5].shape == (3, 190)
    assert [run.shape[1] for run in ours.runs("train")] == [45, 48, 51, 54]
    together = np.concatenate(ours.runs("train"), axis=1)
    np.testing.assert_allclose(np.median(together, axis=1), 0, atol=1e-6)


@pytest.mark.parametrize(
    ("content", "message"),
    [("1 1 0.5\n1 2 0.5\n", "has 3 columns"), ("unit cycle\n", "can't be read as rows of numbers")],
)
def test_another_text_file_is_told(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "train_FD001.txt"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        _ = TurbofanSources(str(path)).sensors
    with pytest.raises(InputError, match="take shorter ones"):
        np.savetxt(path, lives(5))
        TurbofanSources(str(path), length=200)()


def network(path: Path, channels: int) -> Path:
    """A model file that estimates nothing but 0 where there is much noise: untrained."""
    torch.manual_seed(0)
    stack = DilatedStack(channels, channels=8, hidden=4, layers=1)
    NetworkDenoiser(stack, EDM(), target="edm").save_pretrained(path)
    return path


def test_the_recipe_follows_the_wear_of_engines(
    repository: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Even an untrained denoiser's errors at high noise are distances from the healthy mean."""
    recipe = load(repository / "recipes" / "cmapss_anomaly.py")
    model, output = network(tmp_path / "model.safetensors", 3), tmp_path / "scores"
    threads = torch.get_num_threads()
    try:
        recipe.main(["--data", str(text), "--output", str(output), "--model", str(model)])
    finally:
        torch.set_num_threads(threads)
    with (output / "engine5_scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["time"]) for row in rows] == list(range(1, 191, 5))
    assert list(rows[0])[2:] == [f"{name}_score" for name in VARYING]
    lines = capsys.readouterr().out.splitlines()
    shown = {line.split(" | ")[0].strip("| "): line.split(" | ")[1:] for line in lines[2:]}
    assert len(shown) == 8
    for name in ("denoiser, beside training", "distance from the healthy median, beside training"):
        assert float(shown[name][0]) > 0.95 and float(shown[name][1]) < -0.6


def test_wear_is_measured_by_cycles_to_the_failure(repository: Path) -> None:
    recipe = load(repository / "recipes" / "cmapss_anomaly.py")
    engine = np.zeros((2, 200))
    assert recipe.left(engine, 40)[[0, -1]].tolist() == [197.5, 2.5]
    rising, falling = np.arange(40.0), -np.arange(40.0)
    assert recipe.worn_from_healthy([engine, engine], [rising, rising]) == 1
    assert recipe.worn_from_healthy([engine], [falling]) == 0
    assert recipe.rank_correlations([engine, engine], [rising, falling]).tolist() == [-1, 1]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A short series laid out as in NAB: a daily swing, and a failure in the part to score."""
    begin, rng = datetime(2013, 12, 2, 21, 15), np.random.default_rng(0)
    x = 90 + 5 * np.sin(np.arange(8000) * 2 * math.pi / 288) + rng.standard_normal(8000)
    x[5508:5580] -= 30
    # The stamps go back by an hour once, as they do there.
    stamps = [begin + timedelta(minutes=5 * (n - 12 * (n > 1000))) for n in range(len(x))]
    path = tmp_path / "NAB" / "data" / SERIES
    path.parent.mkdir(parents=True)
    rows = [f"{t},{v:.8f}" for t, v in zip(stamps, x, strict=True)]
    path.write_text("\n".join(["timestamp,value", *rows, ""]))
    window = [f"{stamps[n]}.000000" for n in (5508, 5579)]
    (tmp_path / "NAB" / "labels").mkdir()
    (tmp_path / "NAB" / "labels" / "combined_windows.json").write_text(
        json.dumps({SERIES: [window]})
    )
    return tmp_path / "NAB"


def test_the_machine_is_split_in_time_and_labelled(clone: Path, tmp_path: Path) -> None:
    sources = TemperatureSources(str(clone))
    parts = {split: sources.readings(split) for split in ("train", "valid", "test")}
    assert {split: x.shape for split, x in parts.items()} == {
        "train": (1, 4800),
        "valid": (1, 1200),
        "test": (1, 2000),
    }
    faulty, stamps = sources.faulty("valid"), sources.stamps("valid")
    assert faulty is not None and stamps is not None
    assert np.flatnonzero(faulty).tolist() == list(range(708, 780))
    assert stamps[708] == "2013-12-21 23:15:00"
    np.savez(tmp_path / "machine.npz", train=parts["train"][0], valid=parts["valid"][0])
    rows = [f"machine.npz,{split},nab,{split}" for split in ("train", "valid")]
    (tmp_path / "manifest.csv").write_text("\n".join(["path,key,subset,split", *rows, ""]))
    plain = TemperatureSources(str(tmp_path))
    assert np.array_equal(plain.readings("valid"), parts["valid"])
    assert plain.faulty("valid") is None and plain.stamps("valid") is None
    (clone / "labels" / "combined_windows.json").write_text("{}")
    with pytest.raises(InputError, match="no windows of"):
        sources.faulty("valid")


@pytest.mark.parametrize("labelled", [True, False])
def test_the_recipe_finds_the_machines_failure(
    repository: Path, clone: Path, tmp_path: Path, labelled: bool, capsys
) -> None:
    recipe = load(repository / "recipes" / "nab_anomaly.py")
    if not labelled:
        (clone / "labels" / "combined_windows.json").unlink()
    model, output = network(tmp_path / "model.safetensors", 1), tmp_path / "scores"
    threads = torch.get_num_threads()
    try:
        recipe.main(["--data", str(clone), "--output", str(output), "--model", str(model)])
    finally:
        torch.set_num_threads(threads)
    out = capsys.readouterr().out
    # The failure fills the two windows of three hours from here on.
    assert out.splitlines()[2].startswith(("| 2013-12-22 00:15:00", "| 2013-12-22 03:15:00"))
    assert Image.open(output / "scores.png").width == 1100
    assert ("ROC-AUC" in out) == labelled
    if labelled:
        auc = {
            line.split(" | ")[0]: line.split(" | ")[1] for line in out.splitlines() if "|" in line
        }
        assert float(auc["| denoiser, beside training"]) > 0.95


def test_plain_methods_tell_what_they_are_made_for() -> None:
    rng = np.random.default_rng(0)
    swing = rng.standard_normal(600)
    train = np.stack([swing, 2 * swing]) + 0.01 * rng.standard_normal((2, 600))
    # Against each other the sensors leave the subspace; both far up they stay in it.
    against, far = train[:, :60].copy(), train[:, :60].copy()
    against[1, 20:40] *= -1
    far[:, 20:40] += np.array([[3], [6]])
    apart = anomaly_baselines.subspace([train], 20)
    assert apart(train).shape == (30,)
    assert apart(against)[1] > 20 * apart(against)[[0, 2]].max()
    assert apart(far)[1] < apart(against)[1] / 20
    assert anomaly_baselines.isolation_forest([train], 20)(far).argmax() == 1
    steps = np.repeat([[0.0, 2.0]], [20, 20], axis=1)
    assert anomaly_baselines.distance(20)(steps).tolist() == [0, 4]


def test_scores_are_held_against_labels() -> None:
    labels, scores = np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8])
    assert anomaly_baselines.area(labels, scores) == 0.75
    assert anomaly_baselines.best_f1(labels, scores) == pytest.approx(0.8)
    assert "| mine | 0.750 | 0.800 |" in anomaly_baselines.comparison(labels, {"mine": scores})
    marks = np.repeat([0.0, 1.0, 0.0], [9, 11, 3])
    assert anomaly_baselines.marked(marks, 6).tolist() == [False, True, True, False]
