"""Anomaly scores: a planted fault stands out, however the readings are cut, beside its time."""

import csv
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import Command

from signal_diffusion.data.crops import RunCrops
from signal_diffusion.data.sets.sensor_series import SkabSources
from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.dsp.buffer import overlapping
from signal_diffusion.dsp.robust import Scale
from signal_diffusion.nn.stack import DilatedStack
from signal_diffusion.schedules import EDM
from signal_diffusion.tables.columns import Columns
from signal_diffusion.tasks.anomaly import FEWEST, learn_usual, score_table
from signal_diffusion.tasks.window_errors import LEVELS, Usual, window_errors
from signal_diffusion.training.objectives import LevelErrors

ROWS, FAULT = 20, 22


def readings(rows: int, *, seed: int) -> np.ndarray:
    """Two sensors (2, rows) that swing together, with some noise."""
    rng = np.random.default_rng(seed)
    swing = np.sin(np.arange(rows) / 3 + rng.uniform(0, 6))
    noise = 0.1 * rng.standard_normal((2, rows))
    return np.stack([swing, 0.8 * swing]) + noise


def standard(x: np.ndarray) -> np.ndarray:
    return Scale.of(x)(x)


def network(channels: int) -> NetworkDenoiser:
    torch.manual_seed(0)
    stack = DilatedStack(channels, channels=24, hidden=16, layers=4, dilation_cycle=4)
    return NetworkDenoiser(stack, EDM(), target="edm", domain="pump")


@pytest.fixture(scope="module")
def model() -> NetworkDenoiser:
    """Trained for some seconds, and knowing its errors on the training data."""
    denoiser, objective = network(2), LevelErrors(least=0.2)
    runs = [standard(readings(2000, seed=1))]
    crops, rng = RunCrops(runs, 64), np.random.default_rng(0)
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(denoiser.parameters(), 5e-3)
    for _ in range(150):
        optimizer.zero_grad()
        objective.terms(denoiser, crops(rng, 8), generator)["squared_error"].backward()
        optimizer.step()
    denoiser.eval()
    learn_usual(denoiser, runs, ["inlet", "outlet"], rows=ROWS)
    return denoiser


@pytest.fixture(scope="module")
def file(model: NetworkDenoiser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "pump.safetensors"
    model.save_pretrained(path)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Readings in which the sensors swing against each other for one window, as large as ever."""
    x = readings(1000, seed=2)
    x[1, FAULT * ROWS : (FAULT + 1) * ROWS] *= -1
    # A row is missing in window 10, and the two sensors have units of their own.
    lines = ["t;inlet;outlet"]
    lines += [f"{n / 2:.1f};{5 * a + 40:.5f};{100 * b:.5f}" for n, (a, b) in enumerate(x.T)]
    del lines[1 + 10 * ROWS + 3]
    path = tmp_path / "readings.csv"
    path.write_text("\n".join([*lines, ""]))
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as opened:
        return list(csv.DictReader(opened))


def test_a_planted_fault_scores_highest(source: Path, file: Path, command: Command) -> None:
    target = source.with_name("scores.csv")
    code, out, err = command("score", source, "-o", target, "--model", file)
    assert (code, err) == (0, "")
    rows = rows_of(target)
    assert list(rows[0]) == ["time", "score", "inlet_score", "outlet_score"] and len(rows) == 50
    # Each stamp is that of the window's first row, after a missing one too.
    assert [float(row["time"]) for row in rows] == [n * ROWS / 2 for n in range(50)]
    scores = np.array([float(row["score"]) for row in rows])
    assert scores.argmax() == FAULT and scores[FAULT] > 3 * np.delete(scores, FAULT).max()
    assert abs(np.median(scores)) < 1, "the model knows what is usual"
    assert f"at {FAULT * ROWS / 2:.1f}" in out and "20 rows (10 s)" in out and "note" not in out
    channels = np.array(
        [[float(row[f"{name}_score"]) for name in ("inlet", "outlet")] for row in rows]
    )
    np.testing.assert_allclose(channels.mean(axis=1), scores, atol=1e-4)


def test_the_file_itself_tells_what_is_usual(source: Path, file: Path, command: Command) -> None:
    """For windows of another length than the model knows."""
    target = source.with_name("scores.csv")
    code, out, _ = command("score", source, "-o", target, "--model", file, "--window", "5")
    scores = np.array([float(row["score"]) for row in rows_of(target)])
    assert code == 0 and "note: scores are relative to this file" in out
    assert len(scores) == 100 and scores.argmax() // 2 == FAULT and abs(np.median(scores)) < 0.5


def test_a_baseline_tells_what_is_usual(source: Path, file: Path, command: Command) -> None:
    """Both the readings' scale and the usual errors are those of the first seconds, and no more."""
    table = np.loadtxt(source, delimiter=";", skiprows=1)
    filled = np.arange(1000) / 2
    x = np.stack([np.interp(filled, table[:, 0], column) for column in table.T[1:]])
    # From the middle on the sensors lie higher: seen from the beginning that is unusual.
    x[:, 500:] += np.array([[10], [200]])
    lines = [f"{t:.1f};{a!r};{b!r}" for t, a, b in zip(filled.tolist(), *x.tolist(), strict=True)]
    source.write_text("\n".join(["t;inlet;outlet", *lines, ""]))
    target = source.with_name("scores.csv")
    code, out, _ = command("score", source, "-o", target, "--model", file, "--baseline", "199")
    assert code == 0 and "relative to the first 199 s of this file" in out and "note" not in out
    scores = np.array([float(row["score"]) for row in rows_of(target)])
    scaled = Scale.of(x[:, :398])(x)
    saved = NetworkDenoiser.from_pretrained(file)
    errors = np.stack(list(window_errors(saved, [scaled], 2, ROWS)))
    expected = Usual.of(errors[: 398 // ROWS]).scores(errors).mean(axis=1)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-3)
    assert scores[25:].min() > 10 > abs(np.median(scores[: 398 // ROWS]))
    report = score_table(saved, source, target, baseline=FEWEST * ROWS / 2, force=True)
    assert report.measured and report.baseline == FEWEST * ROWS / 2


def test_a_model_of_one_machine_knows_its_scale(model: NetworkDenoiser, tmp_path: Path) -> None:
    """A file in which all readings are shifted is unusual for it, and usual by itself."""
    known, x = network(2), readings(1000, seed=4)
    known.load_state_dict(model.state_dict())
    learn_usual(known, [standard(x)], ["inlet", "outlet"], rows=ROWS, scale=Scale.of(x))
    known.save_pretrained(tmp_path / "pump.safetensors")
    known = NetworkDenoiser.from_pretrained(tmp_path / "pump.safetensors")
    found = []
    for name, shift in (("same", 0.0), ("shifted", 8.0)):
        rows = [f"{a};{b}" for a, b in (x + shift).T]
        (tmp_path / f"{name}.csv").write_text("\n".join(["inlet;outlet", *rows, ""]))
        for denoiser in (known, model):
            target = tmp_path / "scores.csv"
            columns = Columns(rate=1.0)
            score_table(denoiser, tmp_path / f"{name}.csv", target, columns=columns, force=True)
            found.append(np.median([float(row["score"]) for row in rows_of(target)]))
    assert abs(found[0]) < 0.5 and found[2] > 20
    assert found[3] == pytest.approx(found[1], abs=1e-3)


def test_what_is_missing_has_no_score(source: Path, file: Path, command: Command) -> None:
    """One sensor's alone, and of windows without any reading their own."""
    lines, target = source.read_text().splitlines(), source.with_name("scores.csv")
    assert command("score", source, "-o", target, "--model", file)[0] == 0
    before = rows_of(target)
    for row in range(5 * ROWS, 6 * ROWS + 9):
        time, _, outlet = lines[1 + row].split(";")
        lines[1 + row] = f"{time};;{outlet}"
    missing = {f"{row / 2:.1f}" for row in range(30 * ROWS, 32 * ROWS)}
    left = [line for line in lines if line.split(";")[0] not in missing]
    source.write_text("\n".join([*left, ""]))
    code, out, err = command("score", source, "-o", target, "--model", file, "--force")
    assert (code, err) == (0, "") and "note: 2 windows without a score" in out
    rows = rows_of(target)
    assert len(rows) == len(before) == 50
    assert [n for n, row in enumerate(rows) if not row["inlet_score"]] == [5, 30, 31]
    assert [n for n, row in enumerate(rows) if not row["score"]] == [30, 31]
    assert rows[5]["score"] == rows[5]["outlet_score"]
    scores = np.array([float(row["score"] or "nan") for row in rows])
    assert np.nanargmax(scores) == FAULT
    # Nor is what was filled in told as usual.
    far = [n for n in range(50) if min(abs(n - k) for k in (5, 6, 30, 31, FAULT)) > 3]
    expected = [float(before[n]["score"]) for n in far]
    np.testing.assert_allclose(scores[far], expected, atol=0.3)


def test_a_baseline_needs_readings(source: Path, file: Path, command: Command) -> None:
    header, *lines = source.read_text().splitlines()
    for row in range(5 * ROWS, 10 * ROWS):
        time, _, outlet = lines[row].split(";")
        lines[row] = f"{time};;{outlet}"
    source.write_text("\n".join([header, *lines, ""]))
    target = source.with_name("scores.csv")
    given = ["score", source, "-o", target, "--model", file, "--baseline"]
    code, _, err = command(*given, 120)
    assert code == 2 and "too few readings of inlet: 8 windows of 20 rows" in err
    assert err.count("\n") == 1 and not target.exists()
    assert command(*given, 130)[0] == 0


def test_where_most_is_missing_nothing_is_written(
    source: Path, file: Path, command: Command
) -> None:
    header, *lines = source.read_text().splitlines()
    sparse = [line if n % 3 == 0 else line.split(";")[0] + ";;" for n, line in enumerate(lines)]
    source.write_text("\n".join([header, *sparse, ""]))
    target = source.with_name("scores.csv")
    code, _, err = command("score", source, "-o", target, "--model", file)
    assert code == 2 and "every window of 20 rows lacks more than half" in err
    assert err.count("\n") == 1 and list(source.parent.iterdir()) == [source]


def cut(x: np.ndarray, *ends: int) -> Iterator[np.ndarray]:
    return iter(np.split(x, ends, axis=1))


@pytest.mark.parametrize("channels", [1, 2])
def test_scores_do_not_depend_on_blocks_or_pieces(model: NetworkDenoiser, channels: int) -> None:
    denoiser = model if channels == 2 else network(1)
    if channels == 1:
        head = denoiser.get_parameter("backbone.head.weight")
        torch.nn.init.normal_(head, std=0.3)
    x = standard(readings(1013, seed=3))
    whole = np.stack(list(window_errors(denoiser, [x], 2, ROWS)))
    assert whole.shape == (51, len(LEVELS), 2)
    blocks = np.stack(list(window_errors(denoiser, cut(x, 1, 90, 700), 2, ROWS)))
    assert np.array_equal(whole, blocks)
    pieces = np.stack(list(window_errors(denoiser, cut(x, 512), 2, ROWS, piece=100)))
    np.testing.assert_allclose(pieces, whole, rtol=1e-4)
    mask = np.zeros(x.shape, bool)
    mask[0, 45:69] = mask[1, 1010:] = True
    ends = 1, 90, 700
    marked = window_errors(denoiser, cut(x, *ends), 2, ROWS, missing=cut(mask, *ends), piece=100)
    found = np.stack(list(marked))
    assert np.argwhere(np.isnan(found[:, 0])).tolist() == [[2, 0]]
    np.testing.assert_allclose(found[4:50], whole[4:50], rtol=1e-4)
    assert not np.allclose(found[3, :, 0], whole[3, :, 0], rtol=1e-4)


def test_pieces_hold_everything_once_with_what_is_around() -> None:
    x = np.arange(103)[None]
    kept: list[int] = []
    for start, past, piece in overlapping(cut(x, 3, 50), size=8, before=5, after=3):
        assert piece[0, 0] == start - past and past == min(5, start)
        assert np.array_equal(piece, x[:, start - past : start + 8 + 3])
        kept.extend(piece[0, past : past + 8])
    assert kept == list(range(103))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--window", "soon"], "window is 'soon'; give seconds"),
        (["--window", "0"], "window is '0'"),
        (["--window", "5000"], "shorter than half a window of 10000 rows"),
        (["--window", "1e9"], "it goes from 1 to 65536"),
        (["--baseline", "0"], "baseline is 0 s; give the seconds"),
        (["--baseline", "nan"], "baseline is nan s; give the seconds"),
        (["--baseline", "501"], "is 500 s long: give fewer"),
        (["--baseline", "79"], "8 windows of 20 rows are 80 s"),
        (["--baseline", "80", "--window", "21rows"], "8 windows of 21 rows are 84 s"),
        (["--columns", "inlet"], "takes 2: name them"),
        (["--columns", "depth"], "depth"),
        (["--model", "speech"], "scores need one of an unpaired schedule"),
        (["--seed", "-1"], "seed is -1"),
        (["--model", "none.safetensors"], "no model 'none.safetensors'"),
        (["-o", "scores.parquet"], "ends in .csv"),
    ],
)
def test_mistakes_are_told_in_one_line(
    source: Path, file: Path, command: Command, options: list, message: str
) -> None:
    target = source.with_name("scores.csv")
    code, _, err = command("score", source, "-o", target, "--model", file, *options)
    assert code == 2 and message in err and err.count("\n") == 1, err
    assert not target.exists()


def test_files_are_kept_unless_forced(source: Path, file: Path, command: Command) -> None:
    before = source.read_bytes()
    code, _, err = command("score", source, "-o", source, "--model", file, "--force")
    assert code == 2 and "the input itself" in err and source.read_bytes() == before
    target = source.with_name("scores.csv")
    target.write_text("mine")
    code, _, err = command("score", source, "-o", target, "--model", file)
    assert code == 2 and "--force" in err and target.read_text() == "mine"
    assert command("score", source, "-o", target, "--model", file, "--force")[0] == 0


def test_the_experiment_trains_on_runs_before_their_faults(tmp_path: Path) -> None:
    """Two steps of `experiment=skab`, on all channels at once."""
    from hydra import compose, initialize_config_dir

    from signal_diffusion.training.runs import conf_folder, fit

    rng = np.random.default_rng(0)
    runs = {
        name: rng.standard_normal((500, 8)) for name in ("anomaly-free_0", "valve_0", "valve_1")
    }
    columns = np.array(list("abcdefgh"))
    np.savez(tmp_path / "runs.npz", allow_pickle=False, columns=columns, **runs)
    rows = [f"runs.npz,{name},skab,{'valid' if name == 'valve_1' else 'train'}" for name in runs]
    (tmp_path / "manifest.csv").write_text("\n".join(["path,key,subset,split", *rows, ""]))
    sources = SkabSources(str(tmp_path))
    assert {key: x.shape for key, x in sources.runs("train").items()} == {
        "anomaly-free_0": (8, 500),
        "valve_0": (8, 400),
    }
    overrides = [
        "experiment=skab",
        f"data.sources.root={tmp_path}",
        "trainer.max_steps=2",
        "trainer.val_check_interval=2",
        "trainer.enable_progress_bar=false",
        "trainer.accelerator=cpu",
        "data.batch_size=2",
        "trainer.logger=false",
        f"folder={tmp_path / 'out'}",
    ]
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        score = fit(compose("train", overrides))
    assert math.isfinite(score) and (tmp_path / "out" / "model.safetensors").is_file()
