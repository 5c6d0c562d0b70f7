"""Memorisation: planted copies are found, independent draws pass, and what is reported adds up."""

from __future__ import annotations

import json
import math
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.spatial
import soundfile
import torch
from builders import Command, generator

from signal_diffusion.audio.provenance import read_provenance
from signal_diffusion.errors import InputError
from signal_diffusion.evaluation.memorisation import (
    CHANCE,
    Clips,
    Memorisation,
    compared,
    memorisation,
    p_of_count,
    sped,
)
from signal_diffusion.metrics.likeness import distances, imprints, nearest

RATE, LENGTH = 8000, 4096


def sounds(count: int, seed: int) -> np.ndarray:
    """Signals (n, L) of one law: three tones of random pitch, loudness and place, and noise."""
    rng, time = np.random.default_rng(seed), np.arange(LENGTH) / RATE
    out = 0.003 * rng.standard_normal((count, LENGTH))
    for signal in out:
        for start in rng.uniform(0, 0.3, 3):
            tone = np.sin(2 * np.pi * np.exp(rng.uniform(5, 8)) * time)
            signal += rng.uniform(0.2, 1) * tone * np.exp(-(((time - start - 0.05) / 0.03) ** 2))
    return out.astype(np.float32)


def clips(signals: np.ndarray, name: str) -> Clips:
    return Clips([f"{name}{n}" for n in range(len(signals))], signals.__getitem__)


def shifted(signals: np.ndarray, by: int, gain: float) -> np.ndarray:
    """Later by some samples, with silence before, at another level."""
    silence = np.zeros((len(signals), by), np.float32)
    return gain * np.concatenate([silence, signals[:, : LENGTH - by]], axis=1)


@pytest.fixture(scope="module")
def sets() -> dict[str, np.ndarray]:
    return {"training": sounds(240, 0), "held_out": sounds(120, 1), "drawn": sounds(100, 2)}


def judged(sets: dict[str, np.ndarray], drawn: np.ndarray, **options: Any) -> Any:
    given = [clips(x, "x") for x in (drawn, sets["training"], sets["held_out"])]
    return memorisation(*given, sample_rate=RATE, **options)


def test_independent_draws_pass(sets: dict[str, np.ndarray]) -> None:
    found = judged(sets, sets["drawn"])
    for reference in ("held-out", "training"):
        comparison = found.against(reference)
        assert comparison.passed and comparison.share < 0.06 and comparison.p_nearer > 0.01
    assert found.p_alike > 0.01


@pytest.mark.parametrize(("by", "gain"), [(0, 1.0), (300, 0.05), (64, 3.0)])
def test_a_few_copies_are_found_wherever_they_begin_and_however_loud(
    sets: dict[str, np.ndarray], by: int, gain: float
) -> None:
    drawn = sets["drawn"].copy()
    drawn[:12] = shifted(sets["training"][50:62], by, gain)
    found = judged(sets, drawn)
    assert sorted(found.closest(12)) == list(range(12))
    assert found.neighbours[:12].tolist() == list(range(50, 62))
    assert not found.against("held-out").passed and not found.against("training").passed


def test_three_exact_copies_of_a_hundred_fail(sets: dict[str, np.ndarray]) -> None:
    drawn = sets["drawn"].copy()
    drawn[:3] = sets["training"][:3]
    comparison = judged(sets, drawn).against("training")
    assert comparison.under_all >= 3 and not comparison.passed


def test_copies_at_another_speed_are_found_if_they_are_looked_for(
    sets: dict[str, np.ndarray],
) -> None:
    drawn = sets["drawn"].copy()
    drawn[:20] = sped(sets["training"][:20], 1.06)
    looked = judged(sets, drawn, speeds=(1.0, 1 / 1.06))
    assert not looked.against("held-out").passed
    assert (looked.neighbours[:20] == np.arange(20)).mean() > 0.9
    assert np.median(looked.drawn[:20]) < 0.5 * np.median(judged(sets, drawn).drawn[:20])


def test_clips_of_another_kind_are_no_fair_reference(sets: dict[str, np.ndarray]) -> None:
    other = {**sets, "held_out": np.random.default_rng(0).standard_normal((50, LENGTH))}
    found = judged(other, sets["drawn"])
    assert found.p_alike < 1e-6
    assert not found.against("held-out").passed and found.against("training").passed
    with pytest.raises(InputError, match="choose one of held-out, training"):
        found.against("test")


def test_the_least_distances_are_those_of_all_pairs(
    sets: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    from signal_diffusion.metrics import likeness

    a, b = (imprints(sets[name][:23], sample_rate=RATE) for name in ("drawn", "training"))
    pairs = distances(a, b)
    monkeypatch.setattr(likeness, "ROWS", 7)
    monkeypatch.setattr(likeness, "COLUMNS", 5)
    told: list[tuple[int, int]] = []
    least, place = nearest(a, b, progress=lambda done, total: told.append((done, total)))
    torch.testing.assert_close(least, pairs.min(1).values, atol=2e-3, rtol=0)
    assert torch.equal(place, pairs.argmin(1)) and told[-1] == (23 * 23, 23 * 23)
    others, place = nearest(b, b, itself=True)
    without = distances(b, b).fill_diagonal_(math.inf)
    torch.testing.assert_close(others, without.min(1).values, atol=2e-3, rtol=0)
    assert torch.equal(place, without.argmin(1))


def test_a_distance_is_that_of_the_best_shift() -> None:
    """Against the plain definition, with zeros on both sides."""
    torch.manual_seed(0)
    a, b = torch.rand(12, 3), torch.rand(12, 3)
    padded = torch.nn.functional.pad(a, (0, 0, 12, 12))
    energy = a.square().sum() + b.square().sum()
    shifts = [
        (padded - torch.nn.functional.pad(b, (0, 0, 12 + s, 12 - s))).square().sum() / energy
        for s in range(-3, 4)
    ]
    assert distances(a[None], b[None]).item() == pytest.approx(min(shifts).sqrt().item(), abs=1e-5)


def test_what_has_nothing_in_common_lies_at_one() -> None:
    silent = imprints(np.zeros((2, LENGTH)), sample_rate=RATE)
    assert not silent.any() and distances(silent, silent).tolist() == [[1, 1], [1, 1]]
    time = np.arange(LENGTH) / RATE
    low, high = (np.sin(2 * np.pi * f * time) * np.hanning(LENGTH) for f in (200, 3000))
    apart = distances(*(imprints(x[None], sample_rate=RATE) for x in (low, high)))
    assert apart.item() > 0.95


def test_the_probability_of_a_count_is_that_of_all_orders() -> None:
    drawn, reference, rank = 3, 5, 2
    orders = list(combinations(range(drawn + reference), drawn))
    for count in range(drawn + 1):
        as_many = 0
        for places in orders:
            others = [n for n in range(drawn + reference) if n not in places]
            as_many += sum(place < others[rank - 1] for place in places) >= count
        assert p_of_count(count, rank, drawn, reference) == pytest.approx(as_many / len(orders))


def test_few_draws_of_one_law_fail_by_chance() -> None:
    rng, failed = np.random.default_rng(0), 0
    for _ in range(300):
        drawn, reference = 0.1 + rng.random(80), 0.1 + rng.random(150)
        failed += not compared("held-out", drawn, reference).passed
    assert failed <= 9


def test_training_clips_are_a_reference_without_false_alarms() -> None:
    """Distances to each other come in twos, which a count of all of them takes for more."""
    rng, failed, in_twos = np.random.default_rng(0), 0, 0
    for _ in range(400):
        training, drawn = rng.standard_normal((300, 4)), rng.standard_normal((300, 4))
        tree = scipy.spatial.KDTree(training)
        near, neighbours = tree.query(drawn)
        between, places = tree.query(training, k=2)
        found = Memorisation(
            0.1 + near, near, 0.1 + between[:, 1], neighbours=neighbours, partners=places[:, 1]
        )
        failed += found.against("training").p < CHANCE
        in_twos += compared("training", found.drawn, found.training).p < CHANCE
    assert failed <= 4 < 12 <= in_twos


def test_copies_fail_however_few_the_held_out_clips(sets: dict[str, np.ndarray]) -> None:
    drawn = sets["drawn"].copy()
    drawn[:30] = 0.3 * sets["training"][:30]
    few = {**sets, "held_out": sets["held_out"][:5]}
    found = judged(few, drawn).against("held-out")
    assert found.p > CHANCE and found.copies == 30 and found.verdict == "failed"
    drawn[1:] = sets["drawn"][1:]
    assert "1 within 0.005: copies" in judged(few, drawn).against("held-out").sentence


def test_the_power_of_few_clips_is_told(sets: dict[str, np.ndarray]) -> None:
    drawn = sets["drawn"].copy()
    drawn[:30] = shifted(sets["training"][:30], 300, 0.3)
    found = judged({**sets, "held_out": sets["held_out"][:5]}, drawn)
    verdict = found.against("held-out")
    assert verdict.verdict == "undecided" and not verdict.passed and verdict.under_all >= 30
    # Of one rank, since 1 % of five clips is one; C(105 - k, 5) / C(105, 5) < 0.01.
    least = next(k for k in range(101) if math.comb(105 - k, 5) / math.comb(105, 5) < 0.01)
    assert verdict.least == least
    power, note, *_ = found.notes("held-out")
    assert f"{least} of 100 drawn signals" in power and "too few" in note
    assert found.against("training").verdict == "failed"
    assert compared("held-out", found.drawn[:1], found.held_out).least is None


def test_held_out_clips_that_were_trained_on_are_told(sets: dict[str, np.ndarray]) -> None:
    found = judged({**sets, "held_out": sets["training"][:20]}, sets["drawn"])
    assert any("20 held-out clips are copies" in line for line in found.notes("held-out"))


@pytest.fixture
def folders(tmp_path: Path, sets: dict[str, np.ndarray]) -> dict[str, Path]:
    """Audio of the sets, of which five drawn ones are copies."""
    copied = shifted(sets["training"][:5], 200, 0.3)
    drawn = np.concatenate([copied, sets["drawn"][:20]])
    signals = {"drawn": drawn, "train": sets["training"][:120], "held": sets["held_out"][:40]}
    for name, some in signals.items():
        (tmp_path / name).mkdir()
        for number, x in enumerate(some):
            soundfile.write(tmp_path / name / f"{number:03d}.wav", 0.5 * x / abs(x).max(), RATE)
    np.savez(tmp_path / "drawn.npz", signals=sets["drawn"][:30], sample_rate=RATE)
    return {name: tmp_path / name for name in (*signals, "drawn.npz", "report")}


def test_the_report_tells_the_copies(folders: dict[str, Path], command: Command) -> None:
    words = ["--train", folders["train"], "--held-out", folders["held"], "-o", folders["report"]]
    code, out, _ = command("memorisation", folders["drawn"], *words, "--pairs", 5)
    assert code == 0 and "failed: 20 % of the drawn signals" in out
    figures = json.loads((folders["report"] / "memorisation.json").read_text())
    assert figures["verdict"] == "failed"
    assert {(one["drawn"], one["training"]) for one in figures["closest"]} == {
        (f"{n:03d}.wav", f"{n:03d}.wav") for n in range(5)
    }
    assert (folders["report"] / "histogram.png").read_bytes().startswith(b"\x89PNG")
    pair = folders["report"] / "closest_01.wav"
    told, (samples, rate) = read_provenance(pair), soundfile.read(pair)
    assert told is not None and told["distance"] == figures["closest"][0]["distance"] < 0.1
    assert rate == RATE and len(samples) == 2 * LENGTH + RATE // 4
    again = command("memorisation", folders["drawn"], *words)
    assert again[0] == 2 and "pass --force" in again[2]


def test_an_archive_is_judged(folders: dict[str, Path], command: Command) -> None:
    words = ["--train", folders["train"], "--held-out", folders["held"], "-o", folders["report"]]
    code, out, _ = command("memorisation", folders["drawn.npz"], *words, "--pairs", 0)
    assert code == 0 and "passed" in out
    names = sorted(path.name for path in folders["report"].iterdir())
    assert names == ["histogram.png", "memorisation.json"]


def test_held_out_clips_of_another_kind_are_noted(
    folders: dict[str, Path], command: Command
) -> None:
    rng = np.random.default_rng(0)
    for path in folders["held"].iterdir():
        soundfile.write(path, 0.1 * rng.standard_normal(LENGTH), RATE)
    words = ["--train", folders["train"], "--held-out", folders["held"], "--pairs", 0]
    words += ["--force", "-o", folders["report"]]
    noted = command("memorisation", folders["drawn.npz"], *words)[1]
    assert "failed" in noted and "note: held-out clips lie farther" in noted
    plain = command("memorisation", folders["drawn.npz"], *words, "--against", "training")[1]
    assert "passed" in plain and "note" not in plain


def test_a_model_is_drawn_from_and_compared_with_its_manifest(
    folders: dict[str, Path], command: Command, tmp_path: Path
) -> None:
    generator().save_pretrained(tmp_path / "tiny.safetensors")
    rows = [
        f"{folder}/{number:03d}.wav,digits,{split}"
        for folder, split in (("train", "train"), ("held", "valid"))
        for number in range(30)
    ]
    (tmp_path / "manifest.csv").write_text("\n".join(["path,domain,split", *rows]))
    words = ["--data", tmp_path, "-n", "4", "--steps", "2", "-o", folders["report"], "--quiet"]
    assert command("memorisation", tmp_path / "tiny.safetensors", *words) == (0, "", "")
    figures = json.loads((folders["report"] / "memorisation.json").read_text())
    assert figures["counts"] == {"drawn": 4, "held_out": 30, "training": 30}
    assert figures["model"] == "tiny.safetensors" and figures["steps"] == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give --data DATA, or both"),
        (["--train", "DRAWN"], "give --data DATA, or both"),
        (["--data", "DRAWN", "--train", "DRAWN"], "give --data DATA, or both"),
        (["--data", "DRAWN"], "which rows were trained on"),
        (["--data", "DRAWN", "--where", "digits"], "give COLUMN=VALUE"),
        (["--data", "DRAWN", "--where", "domain=digits"], "no manifest"),
        (["--data", "DRAWN", "--against", "test"], "against is 'test'"),
        (["--data", "DRAWN", "--speed", "2"], "speed is 2"),
        (["--data", "DRAWN", "-n", "0"], "count is 0"),
        (["--train", "DRAWN", "--held-out", "none"], "no folder none"),
        (["--train", "DRAWN", "--held-out", "DRAWN", "-o", "DRAWN/000.wav"], "is no folder"),
    ],
)
def test_mistakes_get_one_line(
    words: list[str], said: str, folders: dict[str, Path], command: Command
) -> None:
    drawn = str(folders["drawn"])
    given = [word.replace("DRAWN", drawn) for word in words]
    output = [] if "-o" in words else ["-o", folders["report"]]
    code, _, told = command("memorisation", drawn, *given, *output)
    assert code == 2 and said in told and told.count("\n") == 1
    assert not folders["report"].exists()


def test_a_file_that_holds_no_signals_is_told(tmp_path: Path, command: Command) -> None:
    path = tmp_path / "a.npz"
    words = ["--train", tmp_path, "--held-out", tmp_path, "-o", tmp_path / "report"]
    for content in (b"not an archive", None):
        np.savez(path, sample_rate=8000) if content is None else path.write_bytes(content)
        code, _, told = command("memorisation", path, *words)
        why = "holds sample_rate: put the array" if content is None else "is no NumPy file"
        assert code == 2 and why in told and told.count("\n") == 1
    np.savez(path, signals=np.full((2, 100), np.nan), sample_rate=8000)
    assert "give finite (n, L)" in command("memorisation", path, *words)[2]
