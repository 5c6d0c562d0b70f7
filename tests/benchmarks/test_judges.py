"""Judges of generators: Fréchet distance, diversity, the classifier, and the recipe on digits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import DIGIT_LENGTH as LENGTH
from builders import DIGIT_RATE as RATE
from builders import SPEAKERS, digits_generator, load, spoken_digit
from shared.classifier import train_classifier
from shared.result_tables import table_of

from signal_diffusion.errors import InputError
from signal_diffusion.files import artifact
from signal_diffusion.metrics import diversity, frechet_distance
from signal_diffusion.metrics.likeness import distances, imprints


def whitened(rng: np.random.Generator, count: int, width: int) -> np.ndarray:
    """Points (count, width) with a mean of exactly 0 and a covariance of exactly 1."""
    x = rng.standard_normal((count, width))
    x -= x.mean(0)
    return x @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T


def test_the_frechet_distance_of_normal_laws_that_dont_commute() -> None:
    """Against the root of the product of the covariances, which is not symmetric."""
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, 4, 4))
    shift = np.array([1.0, -2.0, 0.5, 0.0])
    a, b = whitened(rng, 60, 4) @ first.T, whitened(rng, 80, 4) @ second.T + shift
    cov_a, cov_b = first @ first.T, second @ second.T
    exact = shift @ shift + np.trace(cov_a + cov_b - 2 * sqrtm(cov_a @ cov_b).real)
    assert frechet_distance(a, b) == pytest.approx(exact, rel=1e-8)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-8)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-8)


def test_the_frechet_distance_of_fewer_points_than_numbers_is_finite() -> None:
    x = np.random.default_rng(0).standard_normal((6, 20))
    assert frechet_distance(x, x + 1) == pytest.approx(20, rel=1e-6)
    with pytest.raises(InputError, match="not alike"):
        frechet_distance(x, x[:, :3])
    with pytest.raises(InputError, match="2 or more"):
        frechet_distance(x[:1], x)


def test_diversity_is_that_within_groups() -> None:
    x = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    groups = [n % 2 for n in range(400)]
    apart = x + 100 * torch.tensor(groups)[:, None]
    assert diversity(apart, groups) == pytest.approx(diversity(x, groups), rel=1e-4)
    # The distance of two normal points in three dimensions: sqrt(2) times the mean of chi_3.
    assert diversity(x, groups) == pytest.approx(2**0.5 * (8 / np.pi) ** 0.5, rel=0.05)
    assert diversity(0.5 * x, groups) == pytest.approx(0.5 * diversity(x, groups))
    with pytest.raises(InputError, match="two points"):
        diversity(x[:2], [0, 1])
    with pytest.raises(InputError, match="2 points, but 1 groups"):
        diversity(x[:2], [0])


def test_a_classifier_learns_and_leaves_torch_as_it_was() -> None:
    rng, classes = np.random.default_rng(0), ("a", "b", "c", "d")
    labels = [classes[n % 4] for n in range(200)]
    signals = np.stack([spoken_digit(rng, 3 * (n % 4), n % 3) for n in range(200)])
    before = torch.random.get_rng_state()
    judge = train_classifier(
        signals[:120], labels[:120], sample_rate=RATE, epochs=12, speed=0.05, seed=1
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    assert judge.accuracy(signals[120:], labels[120:]) > 0.95
    assert judge.accuracy(signals[120:], labels[121:] + labels[:1]) < 0.05
    features = judge.features(signals[120:])
    assert features.shape == (80, 64)
    torch.testing.assert_close(judge.features(0.01 * signals[120:]), features, atol=1e-2, rtol=0)
    assert judge.probabilities(signals[:5]).sum(1).tolist() == pytest.approx([1] * 5)
    with pytest.raises(InputError, match="no class 'e'"):
        judge.accuracy(signals[:1], ["e"])


@pytest.mark.parametrize(
    ("labels", "length", "told"),
    [(["a"], 2048, "1 labels"), (["a", "a"], 2048, "1 classes"), (["a", "b"], 100, "100 samples")],
)
def test_what_cant_be_learnt_is_told(labels: list[str], length: int, told: str) -> None:
    with pytest.raises(InputError, match=told):
        train_classifier(np.zeros((2, length), np.float32), labels, sample_rate=RATE)


def test_the_digits_recipe_judges_a_model(repository: Path, digits: Path, tmp_path: Path) -> None:
    recipe = load(repository / "benchmarks" / "evaluate_digits.py")
    model, page = tmp_path / "tiny.safetensors", tmp_path / "results.md"
    digits_generator(recipe.WORDS).save_pretrained(model)
    page.write_text("<!-- digits-table -->\n<!-- /digits-table -->\n")
    output = tmp_path / "digits.json"
    recipe.main(
        [
            "--data",
            str(digits),
            "--model",
            str(model),
            "--count",
            "40",
            "--steps",
            "1",
            "--epochs",
            "12",
            "--output",
            str(output),
            "--page",
            str(page),
        ]
    )
    found = json.loads(output.read_text())
    results, drawn = found["results"], found["results"]["tiny, 1 step"]
    assert results[recipe.UNSEEN]["recognised"] > 0.6, "real digits are learnt"
    assert drawn["recognised"] < 0.4, "what an untrained model draws is none"
    assert drawn["frechet_log_mel"] > 5 * results[recipe.UNSEEN]["frechet_log_mel"]
    assert results[recipe.SEEN]["frechet_log_mel"] == pytest.approx(0, abs=1e-4)
    assert results[recipe.UNSEEN]["diversity_log_mel_ratio"] == 1
    assert drawn["real_time_factor"] > 0
    assert table_of(page, "digits") == recipe.table(results)
    assert found["model"] == artifact.fingerprint(model)


def test_repeated_digits_have_no_diversity(repository: Path, digits: Path) -> None:
    recipe = load(repository / "benchmarks" / "evaluate_digits.py")
    real = recipe.real(str(digits), "train", sample_rate=RATE, length=LENGTH)
    most, rest = recipe.parted(real)
    assert len(most.signals) + len(rest.signals) == len(real.signals) == 160
    assert {group: rest.groups.count(group) for group in rest.groups} == {
        (word, speaker): 2 for word in recipe.WORDS for speaker in SPEAKERS
    }
    collapsed = rest.chosen([rest.groups.index(group) for group in rest.groups])
    spread = [
        diversity(imprints(x.signals, sample_rate=RATE), x.groups, distances=distances)
        for x in (rest, collapsed)
    ]
    assert spread[1] < 0.02 < 0.1 < spread[0]


def test_what_draws_no_digits_is_told(repository: Path, digits: Path) -> None:
    recipe = load(repository / "benchmarks" / "evaluate_digits.py")
    with pytest.raises(InputError, match="speech draws no digits"):
        recipe.main(["--data", str(digits), "--model", "speech"])
    with pytest.raises(InputError, match="draw two of each class or more \\(20\\)"):
        recipe.drawn(digits_generator(recipe.WORDS), 19, steps=1, guidance=1.0)


def test_the_page_of_results_shows_the_judged_digits(repository: Path) -> None:
    path = repository / "results" / "digits.json"
    if not path.exists():
        pytest.skip("results/digits.json is not there yet: run benchmarks/evaluate_digits.py")
    recipe = load(repository / "benchmarks" / "evaluate_digits.py")
    found = json.loads(path.read_text())
    assert table_of(repository / "docs" / "results.md", "digits") == recipe.table(found["results"])
    assert found["model"] == artifact.fingerprint("digits")
    drawn = next(row for name, row in found["results"].items() if name.startswith("digits,"))
    assert drawn["recognised"] >= 0.9 and drawn["real_time_factor"] <= 0.5
    assert min(drawn["diversity_log_mel_ratio"], drawn["diversity_features_ratio"]) >= 0.8
