"""Evaluation of generators: draws beside halves of real recordings, copies and collapse show."""

import json
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from builders import Command, generator, network

from signal_diffusion.audio import Recording, write
from signal_diffusion.errors import InputError
from signal_diffusion.evaluation.generators import (
    REAL,
    Recordings,
    evaluate_draws,
    halves,
    scores_of_set,
)
from signal_diffusion.metrics.likeness import imprints, nearest
from signal_diffusion.streaming.settings import Settings
from signal_diffusion.tasks.generate import generate

RATE, LENGTH = 8000, 2048


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    generator().save_pretrained(path)
    return path


def known(count: int = 12, seed: int = 0) -> Recordings:
    """Tones of two kinds, each at a pitch of its own, in noise."""
    rng, time = np.random.default_rng(seed), np.arange(LENGTH) / RATE
    pitches = np.where(np.arange(count) % 2, 400, 1600) * rng.uniform(0.8, 1.25, count)
    signals = np.sin(2 * np.pi * pitches[:, None] * time) + 0.1 * rng.standard_normal(
        (count, LENGTH)
    )
    asked = [{"class": ("zero", "one")[n % 2]} for n in range(count)]
    return Recordings(signals.astype(np.float32), [f"{n}" for n in range(count)], asked)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    real = known()
    for signal, name, asked in zip(real.signals, real.names, real.values, strict=True):
        path = tmp_path / "real" / str(asked["class"]) / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, Recording(signal[None] / 2, RATE, "WAV", "FLOAT"))
    return tmp_path / "real"


def test_halves_are_disjoint_and_have_all_kinds() -> None:
    real = known(21)
    first, second = halves(real)
    assert sorted([*first.names, *second.names], key=int) == list(real.names)
    assert len(second.names) == 10 and sorted(set(second.kinds)) == sorted(set(real.kinds))
    assert halves(real)[1].names == second.names != halves(real, seed=1)[1].names
    assert len(halves(real, count=4)[1].names) == 4
    for count in (1, 11):
        with pytest.raises(InputError, match=r"of 21 recordings 10 are left .* give 2 to 10"):
            halves(real, count=count)


def test_copies_and_collapse_show() -> None:
    first, second = halves(known(40))
    real = scores_of_set(second, first, RATE)
    same = scores_of_set(first, first, RATE)
    assert same["frechet"] == pytest.approx(0, abs=1e-6) and same["diversity"] == 1
    one = Recordings(
        first.signals[first.kinds.index(first.kinds[0])][None].repeat(9, axis=0),
        first.names[:9],
        first.values[:1] * 9,
    )
    collapsed = scores_of_set(one, first, RATE)
    assert collapsed["diversity"] < 1e-2 < 0.7 < real["diversity"]
    assert collapsed["frechet"] > 3 * real["frechet"]
    copies = nearest(
        imprints(first.signals[:3], sample_rate=RATE), imprints(first.signals, sample_rate=RATE)
    )
    assert copies[0].max() < 1e-2 and copies[1].tolist() == [0, 1, 2]


def test_draws_are_those_of_generate_for_what_the_other_half_is() -> None:
    torch.manual_seed(0)
    denoiser, real = generator(), known()
    denoiser.sample_rate = RATE
    real = Recordings(real.signals[:, : denoiser.length], real.names, real.values)
    rows, told = evaluate_draws(denoiser, real, {"ours": Settings(steps=2, seed=3)}, seed=5)
    first, second = halves(real, seed=5)
    drawn = generate(denoiser, requested=second.values, steps=2, seed=3)
    near, place = nearest(
        imprints(drawn, sample_rate=RATE), imprints(first.signals, sample_rate=RATE)
    )
    ours = [row for row in rows if row["method"] == "ours"]
    assert [row["nearest"] for row in ours] == pytest.approx(near.tolist(), abs=1e-5)
    assert [row["nearest_file"] for row in ours] == [first.names[int(n)] for n in place]
    assert [row["file"] for row in rows if row["method"] == REAL] == second.names
    drawn_known = Recordings(drawn, second.names, second.values)
    wanted = scores_of_set(drawn_known, first, RATE)
    for name, value in wanted.items():
        assert told["methods"]["ours"]["scores"][name]["mean"] == pytest.approx(value, abs=1e-5)
    assert told["methods"]["ours"]["scores"]["nearest"]["low"] < near.mean()


def test_a_generator_by_one_command(
    folder: Path,
    model: Path,
    tmp_path: Path,
    command: Command,
) -> None:
    line = ["evaluate", model, folder, "-o", tmp_path / "out", "--steps", "1,2", "--count", "4"]
    code, told, err = command(*line)
    assert (code, err) == (0, ""), err
    assert "| real, other half | 4 |" in told and "| tiny, 2 steps | 4 |" in told
    found = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert found["metrics"] == ["frechet", "diversity", "nearest"]
    assert found["data"]["files"] == 12 and found["evaluated"]["name"] == model.name
    frame = pandas.read_csv(tmp_path / "out" / "files.csv")
    assert list(frame.groupby("method").size()) == [4, 4, 4]
    assert set(frame["class"]) == {"zero", "one"} and frame.nearest.notna().all()
    assert command(*line)[0] == 2
    assert command(*line, "--force", "--quiet") == (0, "", "")
    again = pandas.read_csv(tmp_path / "out" / "files.csv")
    pandas.testing.assert_frame_equal(frame.drop(columns="taken"), again.drop(columns="taken"))


def test_a_table_tells_what_recordings_are(
    folder: Path,
    model: Path,
    tmp_path: Path,
    command: Command,
) -> None:
    table = tmp_path / "told.csv"
    names = sorted(path.relative_to(folder) for path in folder.glob("*/*.wav"))
    table.write_text("\n".join(["file,class,pitch", *(f"{name},two,60" for name in names)]))
    line = ["evaluate", model, folder, "-o", tmp_path / "out", "--steps", "1", "--groups", table]
    assert command(*line, "--quiet") == (0, "", "")
    frame = pandas.read_csv(tmp_path / "out" / "files.csv")
    assert set(frame["class"]) == {"two"} and set(frame.pitch) == {60}


MISTAKES = {
    "against is for denoisers and vocoders": ["--against", "wiener"],
    "metrics is for denoisers and vocoders": ["--metrics", "snr"],
    "resume is for denoisers and vocoders": ["--resume"],
    "html is for denoisers and vocoders": ["--html", "{tmp}/a.html"],
    "count is 100, but of 12 recordings 6": ["--count", "100"],
}


@pytest.mark.parametrize("said", MISTAKES)
def test_mistakes_end_in_one_line(
    said: str,
    folder: Path,
    model: Path,
    tmp_path: Path,
    command: Command,
) -> None:
    words = [word.replace("{tmp}", str(tmp_path)) for word in MISTAKES[said]]
    code, out, err = command("evaluate", model, folder, "-o", tmp_path / "out", *words)
    assert (code, out) == (2, "") and said in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_only_generators_draw(folder: Path, tmp_path: Path, command: Command) -> None:
    network(rate=RATE).save_pretrained(tmp_path / "denoiser.safetensors")
    (tmp_path / "clean").symlink_to(folder)
    (tmp_path / "noisy").symlink_to(folder)
    line = ["evaluate", tmp_path / "denoiser.safetensors", tmp_path, "-o", tmp_path / "out"]
    code, _, err = command(*line, "--count", "3")
    assert code == 2 and "count is 3, but only generators draw" in err
