"""Quality against network calls: what is measured, that it goes on, the defaults it justifies."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest
import torch
from builders import SPEECH, digits_generator, load, untrained, vocoder
from PIL import Image
from shared.result_tables import table_of

from signal_diffusion import samplers, schedules
from signal_diffusion.errors import InputError
from signal_diffusion.evaluation.benchmark import SAMPLERS, points
from signal_diffusion.files import artifact
from signal_diffusion.samplers import network_calls
from signal_diffusion.tasks.generate import GUIDANCE, STEPS

NAMES = (
    "evaluate_digits",
    "evaluate_speech",
    "evaluate_vocoder",
    "plot_samplers",
    "sampling_steps",
)
DEFAULTS = {
    "digits": {"sampler": "ddim", "calls": 4, "guidance": 1.5},
    "vocoder": {"sampler": "ddim", "calls": 1},
    "speech": {"sampler": "ddim", "calls": 1},
}


@pytest.fixture(scope="module")
def recipe(repository: Path) -> ModuleType:
    """The recipe, which imports the others."""
    return [load(repository / "benchmarks" / f"{name}.py") for name in NAMES][-1]


@pytest.mark.parametrize("schedule", [schedules.RectifiedFlow(), schedules.BrownianBridge()])
def test_every_sampler_has_as_many_calls_as_fit(schedule) -> None:
    same = 1 + schedule.paired
    found = list(points(schedule, (1, 2, 4, 8)))
    assert [row["sampler"] for row, *_ in found].count("every") == same
    for row, sampler, steps in found:
        assert row["calls"] == network_calls(sampler, steps, schedule) <= row["budget"]
        assert network_calls(sampler, steps + 1, schedule) > row["budget"]
        assert (steps <= same) == (row["sampler"] == "every")
    calls = [row["calls"] for row, sampler, _ in found if sampler is samplers.heun]
    assert calls == ([4, 8] if schedule.paired else [3, 7])


def test_samplers_of_ones_own_must_state_their_calls() -> None:
    def renoise(denoiser, x, times, *, y=None, cond=None, noise=None, start=0, progress=None):
        return denoiser(x, times[-1], y, cond)

    with pytest.raises(InputError, match="renoise does not state its calls"):
        list(points(schedules.RectifiedFlow(), (1, 2), [renoise]))
    renoise.stages = 1  # type: ignore[attr-defined]
    found = list(points(schedules.RectifiedFlow(), (1, 2), [renoise]))
    assert [row["calls"] for row, *_ in found] == [1, 2]


def test_two_calls_of_a_bridge_are_the_same_for_every_sampler() -> None:
    """Which is why they are measured once."""
    from signal_diffusion.gaussian import GaussianDenoiser
    from signal_diffusion.noise import Noise

    oracle = GaussianDenoiser(
        schedules.BrownianBridge(), variance=torch.full((9,), 0.5), noise_variance=torch.ones(9)
    )
    y, times = torch.randn(1, 1, 16), schedules.power_grid(oracle.schedule, 2)
    noise = Noise(0, rows=[(0, 0)], channels=1)
    first, *others = (sampler(oracle, y, times, y=y, noise=noise) for sampler in SAMPLERS)
    assert all(torch.equal(first, other) for other in others)


def test_a_stopped_run_goes_on(recipe, tmp_path: Path) -> None:
    kept, asked = tmp_path / "folder" / "rows.jsonl", []

    def job(number: int, *, fails: bool = False) -> tuple:
        def run() -> dict[str, float]:
            if fails:
                raise KeyboardInterrupt
            asked.append(number)
            return {"score": number / 3}

        return {"task": "a", "calls": number}, run

    with pytest.raises(KeyboardInterrupt):
        recipe.measured([job(1), job(2), job(3, fails=True)], kept)
    rows = recipe.measured([job(1), job(2), job(3), job(2)], kept)
    assert asked == [1, 2, 3]
    assert rows == [{"score": n / 3, "task": "a", "calls": n} for n in (1, 2, 3)]
    assert [json.loads(line) for line in kept.read_text().splitlines()] == rows
    recipe.measured([({"task": "a", "calls": 1, "model": "other"}, lambda: {"score": 7})], kept)
    assert len(kept.read_text().splitlines()) == 4 and len(list(kept.parent.iterdir())) == 1


def test_digits_are_drawn_and_judged_by_every_sampler(recipe, digits, tmp_path) -> None:
    model = tmp_path / "tiny.safetensors"
    digits_generator(recipe.evaluate_digits.WORDS).save_pretrained(model)
    drawn = recipe.DrawnDigits(str(digits), str(model), count=2, epochs=2)
    jobs = list(drawn.jobs((1, 3), (1.0, GUIDANCE)))
    assert len(jobs) == 1 + 1 + len(SAMPLERS) + 2
    real, once, *rest = recipe.measured([jobs[0], *jobs[3:]], tmp_path / "rows.jsonl")
    assert real["sampler"] == "real" and once["count"] == 40 and once["recognised"] < 0.4
    assert real["frechet_log_mel"] < once["frechet_log_mel"]
    assert [row["calls"] for row in rest] == [3] * 5 and {r["guidance"] for r in rest} == {1.5}
    # The same noise, but other ways: no two samplers give the same.
    assert len({row["frechet_log_mel"] for row in rest}) == len(SAMPLERS)
    assert once.items() >= drawn.drawn(samplers.heun, 1).items()


def test_recordings_are_scored_by_every_sampler(recipe, repository, tmp_path) -> None:
    """One that passes on what it is given scores alike whatever the sampler does."""
    pytest.importorskip("pesq")
    (tmp_path / "a.flac").write_bytes(SPEECH.read_bytes())
    (tmp_path / "manifest.csv").write_text(
        "path,domain,split,id,subset,floor_db\na.flac,speech,valid,ann,x,40\n"
    )
    passing = tmp_path / "untrained.safetensors"
    untrained().save_pretrained(passing)
    vocoder().save_pretrained(tmp_path / "tiny.safetensors")
    listing = tmp_path / "mixes.csv"
    listing.write_text(
        "speech,speech_start,noise,noise_start,samples,snr_db\na.flac,0,a.flac,8000,32000,5\n"
    )
    model = str(tmp_path / "tiny.safetensors")
    jobs = [
        *recipe.vocoder_jobs(str(tmp_path), model, (1,), clips=1),
        *recipe.speech_jobs(str(tmp_path), str(passing), (1, 2), listing=listing),
    ]
    vocoded, *rows = recipe.measured(jobs, tmp_path / "rows.jsonl")
    assert vocoded["task"] == "vocoder" and 1 < vocoded["pesq"] < 4.5 and vocoded["estoi"] > 50
    assert [(row["sampler"], row["calls"]) for row in rows] == [("every", 1), ("every", 2)]
    assert rows[0]["si_sdr"] == pytest.approx(5, abs=0.2)
    assert all("elapsed" not in row and "real_time_factor" not in row for row in (vocoded, *rows))


def made_up() -> list[dict]:
    """Rows in which DDIM is best at digits and the default guidance, and others elsewhere."""
    names = ("ddim", "ddpm", "few_step", "heun", "dpmpp_2m")
    scores = {
        "digits": ("frechet_features", "frechet_log_mel", "recognised"),
        "vocoder": ("pesq", "estoi"),
        "speech": ("pesq", "si_sdr"),
    }
    rows = []
    for task, measures in scores.items():
        guidance = {"guidance": 1.5, "diversity_features": 3.0} if task == "digits" else {}
        for budget in (1, 2, 4):
            for place, name in enumerate(names if budget > 1 else ["every"]):
                told = {"task": task, "sampler": name, "budget": budget, "calls": budget}
                found = {measure: (1 + place) / budget for measure in measures}
                rows.append({**told, **guidance, **found})
    other = next(row for row in rows if row["sampler"] == "ddim" and row["budget"] == 4)
    real = {measure: 0.125 for measure in (*scores["digits"], "diversity_features")}
    rows.append({**other, "guidance": 2.0, "frechet_features": 9.0})
    return [*rows, {"task": "digits", "sampler": "real", **real}]


def test_the_table_names_the_best_and_marks_the_default(recipe) -> None:
    whole, guidance = recipe.plot_samplers.table(made_up(), DEFAULTS).split("\n\n")
    lines = whole.splitlines()
    assert lines[0] == "| best of the samplers at | 1 call | 2 calls | 4 calls |"
    assert "| digits: Fréchet distance, features | 1.0 | 0.5 ddim | **0.2 ddim** |" in lines
    assert "| vocoder: PESQ | **1.00** | 2.50 dpmpp_2m | 1.25 dpmpp_2m |" in lines
    assert "| recognised | 100.0% | 250.0% dpmpp_2m | 125.0% dpmpp_2m, **25.0% ddim** |" in lines
    heads, _, features, *_ = guidance.splitlines()
    assert heads == "| digits by guidance | **1.5** | 2 | real, unseen |"
    assert features == "| Fréchet distance, features | 0.2 | 9.0 | 0.1 |"


def test_the_picture_has_a_panel_for_each_task(recipe, tmp_path: Path) -> None:
    results, plot = tmp_path / "samplers.json", tmp_path / "samplers.png"
    page = tmp_path / "results.md"
    page.write_text("<!-- samplers-table -->\n<!-- /samplers-table -->\n")
    results.write_text(json.dumps({"rows": made_up(), "defaults": DEFAULTS}))
    recipe.plot_samplers.main(["--results", str(results), "--plot", str(plot), "--page", str(page)])
    assert Image.open(plot).size == (900, 320) and plot.stat().st_size < 100_000
    assert table_of(page, "samplers") == recipe.plot_samplers.table(made_up(), DEFAULTS)


@pytest.fixture(scope="module")
def results(repository: Path) -> dict:
    path = repository / "results" / "samplers.json"
    if not path.exists():
        pytest.skip("results/samplers.json is not there yet: run benchmarks/sampling_steps.py")
    return json.loads(path.read_text())


def test_the_page_of_results_shows_the_committed_numbers(
    recipe, repository: Path, results: dict
) -> None:
    table = recipe.plot_samplers.table(results["rows"], results["defaults"])
    assert table_of(repository / "docs" / "results.md", "samplers") == table
    assert results["defaults"] == recipe.DEFAULTS


@pytest.mark.parametrize("name", ["digits", "vocoder", "speech"])
def test_the_numbers_are_of_the_shipped_models(results: dict, name: str) -> None:
    if name not in artifact.shipped():
        pytest.skip(f"the model {name} is not shipped yet")
    found = {row["model"] for row in results["rows"] if row["task"] == name}
    assert found == {artifact.fingerprint(name)}


def test_the_defaults_are_justified(recipe, results: dict) -> None:
    """One call is within 0.02 of the best PESQ; no sampler draws better in half the calls."""
    rows = {
        task: recipe.plot_samplers.at_default_guidance(results["rows"], task, recipe.DEFAULTS)
        for task in recipe.DEFAULTS
    }
    usual = {
        task: recipe.plot_samplers.usual_of(some, recipe.DEFAULTS[task])
        for task, some in rows.items()
    }
    for task in ("vocoder", "speech"):
        assert usual[task]["pesq"] > max(row["pesq"] for row in rows[task]) - 0.02
    quick = [row for row in rows["digits"] if 2 * row["calls"] <= STEPS]
    best = min(row["frechet_features"] for row in quick)
    # By more than two hundred draws are uncertain by, that is.
    assert usual["digits"]["frechet_features"] < 1.15 * best
