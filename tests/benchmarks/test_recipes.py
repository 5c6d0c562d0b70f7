"""The arithmetic of benchmarks on small real recordings, and the tables of results."""

import csv
import json
import shutil
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
import torch
from builders import load
from builders import untrained as passing
from PIL import Image
from shared.result_tables import insert_table, table_of

from signal_diffusion.denoiser import Denoiser
from signal_diffusion.errors import InputError
from signal_diffusion.files import artifact

COLUMNS = ["mix", "speech", "speech_start", "noise", "noise_start", "samples", "snr_db"]
MIX = [1, "speech/ls6081/6081-41997-0000.flac", 8000, "noise/rain.flac", 1600, 48000, 5]


@pytest.fixture(scope="module")
def recipe(repository: Path) -> ModuleType:
    return load(repository / "benchmarks" / "evaluate_speech.py")


@pytest.fixture(scope="module")
def data(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    shutil.copytree(samples / "clean", root / "speech")
    shutil.copytree(samples / "noise", root / "noise")
    (root / "pairs").mkdir()
    for kind in ("noisy", "clean"):
        pair = samples / "pairs" / kind / "p287_006.flac"
        shutil.copy(pair, root / "pairs" / f"p287_006_{kind}.flac")
    with (root / "mixes.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, MIX])
    return root


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "untrained.safetensors"
    passing().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def results(recipe: ModuleType, data: Path, untrained: Path) -> dict:
    pytest.importorskip("pesq")
    threads = torch.get_num_threads()
    try:
        return recipe.evaluate(data, str(untrained), [1, 2], listing=data / "mixes.csv")
    finally:
        torch.set_num_threads(threads)


def test_the_listing_has_sixty_mixes_balanced_over_snr(recipe: ModuleType) -> None:
    rows = recipe.read_listing(recipe.MIXES)
    assert list(rows[0]) == COLUMNS and [int(row["mix"]) for row in rows] == list(range(1, 61))
    assert Counter(row["snr_db"] for row in rows) == {"0": 15, "5": 15, "10": 15, "15": 15}
    assert len({tuple(row.values())[1:] for row in rows}) == 60
    assert all(2.5 <= int(row["samples"]) / 16000 <= 6 for row in rows)


def test_a_mix_has_its_listed_snr_and_places(recipe: ModuleType, data: Path) -> None:
    (clip,) = recipe.mixes(data, data / "mixes.csv")
    speech, _ = soundfile.read(data / "speech/ls6081/6081-41997-0000.flac")
    noise, _ = soundfile.read(data / "noise/rain.flac")
    np.testing.assert_allclose(clip.clean, speech[8000:56000], atol=1e-7)
    added = clip.noisy - clip.clean
    assert np.corrcoef(added, noise[1600:49600])[0, 1] == pytest.approx(1, abs=1e-6)
    snr_db = 10 * np.log10(np.mean(clip.clean**2) / np.mean(added**2))
    assert snr_db == pytest.approx(5, abs=1e-3)


def test_a_recording_too_short_for_its_mix_is_told(recipe: ModuleType, data: Path) -> None:
    with pytest.raises(InputError, match=r"rain\.flac is not what the listing says"):
        recipe._read(data / "noise/rain.flac", 60000, 8000)


def test_an_untrained_model_scores_as_its_input(results: dict) -> None:
    rows = {row["method"]: row for row in results["rows"]}
    assert list(rows) == ["input", "noisereduce", "untrained, 1 step", "untrained, 2 steps"]
    for group in ("pairs", "mixes"):
        for metric, tolerance in (("pesq", 0.05), ("estoi", 0.5), ("si_sdr", 0.05)):
            expected = rows["input"][group][metric]
            score = rows["untrained, 1 step"][group][metric]
            assert score == pytest.approx(expected, abs=tolerance)
            assert rows["noisereduce"][group][metric] != pytest.approx(expected, abs=tolerance)
    assert rows["input"]["mixes"]["si_sdr"] == pytest.approx(5, abs=0.1)


def test_the_results_say_what_made_them(results: dict, data: Path) -> None:
    assert json.loads(json.dumps(results)) == results
    assert str(data) not in json.dumps(results)
    assert results["data"]["recordings"] == {"pairs": 1, "mixes": 1}
    assert results["data"]["seconds"] == {"pairs": 3.5, "mixes": 3.0}
    assert len(results["model"]["sha256"]) == 64 and results["versions"]["torch"]


def test_the_table_is_rewritten_in_place(recipe: ModuleType, results: dict, tmp_path: Path) -> None:
    page = tmp_path / "results.md"
    page.write_text("above\n<!-- speech-table -->\n<!-- /speech-table -->\nbelow\n")
    for _ in range(2):
        insert_table(page, "speech", recipe.table(results))
    before, _, after = page.read_text().partition(table_of(page, "speech"))
    assert before.startswith("above\n<!--") and after.endswith("-->\nbelow\n")
    table = table_of(page, "speech")
    assert table == recipe.table(results)
    assert {line.count("|") for line in table.splitlines()} == {9}


def test_a_page_without_markers_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "results.md"
    page.write_text("text")
    with pytest.raises(InputError, match="lacks the markers"):
        insert_table(page, "speech", "| |")
    assert page.read_text() == "text"


def test_the_page_of_results_shows_the_committed_numbers(
    recipe: ModuleType, repository: Path
) -> None:
    results = repository / "results" / "speech.json"
    if not results.exists():
        pytest.skip("results/speech.json is not there yet: run benchmarks/evaluate_speech.py")
    table = table_of(repository / "docs" / "results.md", "speech")
    assert table == recipe.table(json.loads(results.read_text()))


def test_the_picture_is_small(repository: Path, untrained: Path, tmp_path: Path) -> None:
    plot = load(repository / "benchmarks" / "plot_readme.py")
    plot.main(str(untrained), output=tmp_path / "docs" / "picture.png")
    picture = Image.open(tmp_path / "docs" / "picture.png")
    assert picture.width == 900
    assert (tmp_path / "docs" / "picture.png").stat().st_size < 200_000


def test_the_committed_numbers_are_the_shipped_models(recipe: ModuleType, repository: Path) -> None:
    results = repository / "results" / "speech.json"
    if not results.exists():
        pytest.skip("results/speech.json is not there yet: run benchmarks/evaluate_speech.py")
    model = repository / "signal_diffusion" / "models" / "speech.safetensors"
    assert json.loads(results.read_text())["model"]["sha256"] == recipe._digest([model])


def test_shipping_keeps_weights_and_writes_the_card(
    repository: Path, untrained: Path, results: dict, tmp_path: Path, monkeypatch
) -> None:
    ship = load(repository / "recipes" / "ship_model.py")
    monkeypatch.setattr(artifact, "SHIPPED", tmp_path / "models")
    (tmp_path / "models").mkdir()
    (tmp_path / "card.json").write_text(json.dumps({"licence": "CC0", "limits": "untrained"}))
    (tmp_path / "results.json").write_text(json.dumps(results))
    options = ["--card", tmp_path / "card.json", "--results", tmp_path / "results.json"]
    ship.main([str(untrained), "--name", "mine", *map(str, options)])
    shipped, original = Denoiser.from_pretrained("mine"), Denoiser.from_pretrained(untrained)
    for name, value in original.state_dict().items():
        assert torch.equal(shipped.state_dict()[name], value)
    pesq = f"PESQ {results['rows'][0]['pairs']['pesq']:.2f}"
    assert pesq in shipped.card["scores"]["input, 1 VoiceBank-DEMAND pairs of p287"]
    card = (tmp_path / "models" / "mine.md").read_text()
    assert "untrained" in card and pesq in card


def test_the_shipped_model_keeps_its_bars(repository: Path) -> None:
    path = repository / "results" / "speech.json"
    if not path.exists():
        pytest.skip("results/speech.json is not there yet: run benchmarks/evaluate_speech.py")
    measured = json.loads(path.read_text())
    rows = {row["method"]: row for row in measured["rows"]}
    assert measured["model"]["parameters"] <= 3_500_000
    # The network of shared bands does three times the work of the one before it.
    assert rows["speech, 1 step"]["real_time_factor"] <= 0.03
    assert rows["speech, 4 steps"]["real_time_factor"] <= 0.06
    before, after = rows["input"]["mixes"], rows["speech, 1 step"]["mixes"]
    assert after["pesq"] > before["pesq"] + 0.4
    assert after["si_sdr"] > before["si_sdr"] + 4
    for group in ("pairs", "mixes"):
        for metric in ("pesq", "estoi", "si_sdr"):
            assert rows["speech, 1 step"][group][metric] > rows["noisereduce"][group][metric]
