"""Windows of bearing vibration, a generator of them, and the recipe that trains a classifier."""

import csv
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from builders import load
from shared.bearing_sets import Windows, varied, windows_of, write_windows
from shared.result_tables import table_of

from signal_diffusion.conditions import Names, Number
from signal_diffusion.data.sets.cwru import BearingSources, BearingWindows, record_values
from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.errors import InputError
from signal_diffusion.tasks.generate import generate
from signal_diffusion.training.runs import trained

CONDITIONS = (Names("class", ("ball", "inner", "outer")), Number("rpm", 1730, 1797, knots=4))
#: Hz of what stands for a fault.
TONES = {"B": 700.0, "IR": 1900.0, "OR@6": 3400.0}
SPEEDS = ("1797", "1772", "1750", "1730")


def tone(hertz: float, length: int, rng: np.random.Generator) -> np.ndarray:
    angle = 2 * np.pi * (hertz * np.arange(length) / 12000 + rng.random())
    return np.sin(angle) + 0.3 * rng.standard_normal(length)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three faults at four speeds, two of the faults held out with another diameter."""
    folder, rng, rows, arrays = (
        tmp_path_factory.mktemp("bearings"),
        np.random.default_rng(0),
        [],
        {},
    )
    for speed in SPEEDS:
        for name, hertz in TONES.items():
            for diameter, split in ((7, "train"), (28, "valid")):
                key = f"{name}_{diameter}_{speed}"
                if (name, split) == ("OR@6", "valid"):
                    continue
                arrays[key] = (1000 * tone(hertz, 3 * 4096 + 100, rng)).astype(np.int16)
                rows.append(["a.npz", key, "vibration", split, f"{name}_{diameter}", speed])
    np.savez(folder / "a.npz", **arrays)
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "key", "domain", "split", "label", "rpm"], *rows])
    return folder


@pytest.fixture(scope="module")
def windows(data: Path) -> Windows:
    return windows_of(BearingSources(str(data), (), 4096), "train", classes=["ball", "inner"])


@pytest.fixture(scope="module")
def recipe(repository: Path) -> ModuleType:
    return load(repository / "benchmarks" / "bearing_synthetic.py")


def test_labels_tell_class_diameter_and_speed() -> None:
    assert record_values({"label": "Normal_0", "rpm": "1797"}) == {
        "class": "normal",
        "diameter": 0.0,
        "rpm": 1797.0,
    }
    for label in ("cage_7", "IR", "OR@6_big"):
        with pytest.raises(InputError, match=f"label is '{label}'.*IR"):
            record_values({"label": label, "rpm": "1797"})


def test_batches_are_levelled_and_hold_the_classes_as_often() -> None:
    rng = np.random.default_rng(0)
    records = [np.float32(n + 1) * rng.standard_normal(900).astype(np.float32) for n in range(5)]
    asked = [{"class": c, "rpm": 1797.0, "diameter": 7.0} for c in ["ball"] * 4 + ["outer"]]
    batch = BearingWindows(records, asked, CONDITIONS, 512, free=0.2)(rng, 2000)
    assert batch.clean.shape == (2000, 1, 512) and batch.cond.shape == (2000, 7, 1)
    assert batch.clean.mean(2).abs().max() < 1e-5
    torch.testing.assert_close(batch.clean.std(2, correction=0), torch.ones(2000, 1))
    shares = batch.cond[:, :, 0].mean(0)
    # Four standard deviations of a share of 2000.
    assert shares[0] == pytest.approx(0.4, abs=0.045) and shares[1] == 0
    assert shares[2] == pytest.approx(0.4, abs=0.045)
    assert shares[-1] == pytest.approx(0.8, abs=0.036), "the others are free"


def test_what_can_not_be_taken_is_said(data: Path) -> None:
    with pytest.raises(InputError, match=r"no train record at rpm .1500.*1730, 1750, 1772, 1797"):
        BearingSources(str(data), (), 4096, rpm=[1500]).records("train")
    with pytest.raises(InputError, match="windows are 20000 samples, but a record has 12388"):
        BearingSources(str(data), (), 20000)()
    found = BearingSources(str(data), (), 4096, rpm=[1750]).records("train")
    assert [one["rpm"] for one, _ in found] == [1750.0] * 3


def test_few_windows_are_part_of_more(windows: Windows) -> None:
    mixed = windows.shuffled(np.random.default_rng(0))
    two, five = mixed.few(2), mixed.few(5)
    assert two.classes == ["ball"] * 2 + ["inner"] * 2
    np.testing.assert_array_equal(two.signals[:2], five.signals[:2])
    twice = two.repeated(5)
    assert twice.classes == ["ball"] * 5 + ["inner"] * 5
    np.testing.assert_array_equal(twice.signals[[0, 1, 4]], two.signals[[0, 1, 0]])
    assert {one["rpm"] for one in windows.at([1750.0, 1730.0]).values} == {1750.0, 1730.0}
    with pytest.raises(InputError, match="13 windows are asked for, but ball has 12"):
        windows.few(13)


def test_variants_keep_their_class(windows: Windows) -> None:
    some = varied(windows, np.random.default_rng(0))
    assert some.classes == windows.classes and some.signals.dtype == np.float32
    loudest = np.abs(np.fft.rfft(some.signals)).argmax(1) * 12000 / 4096
    wanted = np.array([700 if name == "ball" else 1900 for name in some.classes])
    assert np.abs(loudest - wanted).max() < 6
    levels = 20 * np.log10(some.signals.std(axis=1))
    assert levels.min() > -6.1 and levels.max() < 6.6 and levels.std() > 2
    # A mixture with a window of the other class would have a second tone.
    spectra = np.abs(np.fft.rfft(some.signals * np.hanning(4096)))
    other = spectra[np.arange(len(wanted)), np.round((2600 - wanted) * 4096 / 12000).astype(int)]
    assert (other < 0.1 * spectra.max(axis=1)).all()


def test_windows_come_back_from_the_folder_they_are_written_to(
    windows: Windows, tmp_path: Path
) -> None:
    write_windows(tmp_path, windows)
    sources = BearingSources(str(tmp_path), (), 4096)
    for split in ("train", "valid"):
        again = windows_of(sources, split, classes=["ball", "inner"])
        assert again.values == windows.values
        np.testing.assert_allclose(again.signals, windows.signals, atol=1e-5)


def test_the_experiment_trains_and_draws(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["pytest"])
    model = trained(
        [
            "experiment=bearing_faults",
            f"data.sources.root={data}",
            "trainer.max_steps=2",
            "trainer.val_check_interval=2",
            "data.batch_size=2",
            "data.sources.recordings=1",
            "+data.valid_batches=1",
            "trainer.max_time=null",
            "trainer.precision=32-true",
            "trainer.enable_progress_bar=false",
        ]
    )
    assert isinstance(model, NetworkDenoiser) and model.sample_rate == 12000
    asked = [{"class": "inner", "diameter": 7, "rpm": 1761}, {"class": "normal", "diameter": 0}]
    assert generate(model, requested=asked, steps=1).shape == (2, 4096)
    with pytest.raises(InputError, match="rpm is '3000'"):
        generate(model, requested=[{"rpm": 3000}], steps=1)


def test_scores_are_those_of_a_known_table(recipe: ModuleType) -> None:
    class Judge:
        classes = recipe.FAULTS

        def probabilities(self, signals: np.ndarray) -> torch.Tensor:
            return torch.eye(3)[torch.tensor([0, 0, 1, 2])]

    tested = Windows(np.zeros((4, 8)), [{"class": c} for c in ("ball", "ball", "ball", "inner")])
    # Of ball: 2 hits, 3 there, 2 found; of inner none. Outer is not there, and does not count.
    assert recipe.scores(Judge(), tested) == {"accuracy": 50.0, "f1": 40.0}


def test_the_recipe_goes_on_where_it_ended(
    recipe: ModuleType, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr("sys.argv", ["pytest"])
    monkeypatch.setattr(recipe, "ROWS", 4)
    monkeypatch.setitem(recipe.SETTINGS, "epochs", 20)
    seen = []
    monkeypatch.setattr(recipe, "generator", lambda some, **_: seen.append(some))
    monkeypatch.setattr(recipe, "drawn", lambda model, like, seed: like)
    path = tmp_path / "found.json"
    run = ["--data", str(data), "--output", str(path), "--windows", "1"]
    recipe.main([*run, "--seeds", "0"])
    first = json.loads(path.read_text())
    assert [row["windows"] for row in first["rows"]] == [1]
    assert first["settings"] == recipe.SETTINGS
    sizes, speeds = [len(some.values) for some in seen], {one["rpm"] for one in seen[0].values}
    assert sizes == [18, 3] and speeds == {1797.0, 1772.0}, "no tested load is trained on"
    for row in first["rows"]:
        for arm in recipe.ARMS:
            assert row["scores"][arm]["loads"]["f1"] > 90, "tones are easy"
    recipe.main([*run, "--seeds", "0", "1"])
    again = json.loads(path.read_text())
    assert again["rows"][:1] == first["rows"] and len(again["rows"]) == 2 and len(seen) == 4
    assert recipe.table(again["rows"]) in capsys.readouterr().out
    monkeypatch.setitem(recipe.SETTINGS, "few", 7)
    with pytest.raises(InputError, match="has other settings"):
        recipe.main(run)


def test_the_gain_and_its_spread_are_over_the_seeds(recipe: ModuleType) -> None:
    rows = []
    for seed, gain in enumerate((1.0, 3.0, -1.0)):
        by = {
            arm: {t: {"f1": 60.0 + seed, "accuracy": 70.0} for t in recipe.TESTS}
            for arm in recipe.ARMS
        }
        by[recipe.OWN]["loads"] = {"f1": 60.0 + seed + gain, "accuracy": 71.0}
        rows.append({"seed": seed, "windows": 2, "scores": by})
    found = recipe.summary(rows)["loads"]["2"][recipe.OWN]
    assert found == {
        "f1": 62.0,
        "accuracy": 71.0,
        "gain": 1.0,
        "gain_std": 2.0,
        "seeds_better": 2,
        "seeds": 3,
    }
    assert "| 62.0 (+1.0 ± 2.0) |" in recipe.table(rows)


def test_the_page_of_results_has_the_committed_numbers(
    repository: Path, recipe: ModuleType
) -> None:
    results = json.loads((repository / "results" / "bearing_synthetic.json").read_text())
    assert table_of(repository / "docs" / "results.md", "bearing") == recipe.table(results["rows"])
    for counts in results["summary"].values():
        for arms in counts.values():
            assert min(found["seeds"] for found in arms.values()) >= 5
