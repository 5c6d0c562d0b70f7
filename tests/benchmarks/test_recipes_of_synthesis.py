"""The vocoder's numbers: on the page of results, of the shipped model, and above their bars."""

import json

import pytest
from builders import load, speech
from shared.result_tables import table_of

from signal_diffusion.files import artifact


@pytest.fixture(scope="module")
def results(repository):
    return json.loads((repository / "results" / "vocoder.json").read_text())


def test_the_page_of_results_and_the_shipped_vocoder_are_of_the_committed_numbers(
    repository, results
):
    recipe = load(repository / "benchmarks" / "evaluate_vocoder.py")
    assert table_of(repository / "docs" / "results.md", "vocoder") == recipe.table(
        results["results"]
    )
    assert results["model"] == artifact.fingerprint("vocoder")


def test_the_vocoder_keeps_its_bars(results):
    rows = {name: groups["all"] for name, groups in results["results"].items()}
    yardstick = rows["Griffin-Lim by librosa, 64 iterations"]
    for steps in ("1 step", "2 steps", "4 steps", "8 steps"):
        ours = rows[f"vocoder, {steps}"]
        assert ours["pesq"] > max(3.2, yardstick["pesq"]) and ours["estoi"] > yardstick["estoi"]
        for name in ("log_spectral_distance", "multi_resolution"):
            assert ours[name] < yardstick[name]
    assert rows["vocoder, 8 steps"]["real_time_factor"] <= 0.12


def test_the_recipe_scores_resyntheses(repository):
    pytest.importorskip("pesq")
    recipe = load(repository / "benchmarks" / "evaluate_vocoder.py")
    clips = [speech()[0].numpy()[: 48000 // 256 * 256]]
    perfect = recipe.scores(lambda x: x, clips)
    assert perfect["pesq"] > 4.6 and perfect["multi_resolution"] == 0
    methods = recipe.methods("vocoder", [1])
    ours = recipe.scores(methods["vocoder, 1 step"], clips)
    start = recipe.scores(methods["pseudo-inverse and 32 iterations"], clips)
    assert (
        ours["pesq"] > start["pesq"] + 0.2 and ours["multi_resolution"] < start["multi_resolution"]
    )
