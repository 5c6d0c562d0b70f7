"""The benchmark: what is measured, in which rows, that it goes on, and one line for mistakes.

Times themselves go by what else the machine does: only their structure is tested.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from builders import Command, network
from PIL import Image

from signal_diffusion.data.ecg import without_drift
from signal_diffusion.evaluation import benchmark
from signal_diffusion.evaluation.benchmark import made_noise
from signal_diffusion.evaluation.benchmark_report import table
from signal_diffusion.files import artifact
from signal_diffusion.metrics import prd, si_sdr
from signal_diffusion.streaming.background import quickest, threads

QUICK = ("--calls", "1,4", "--samplers", "ddim,heun", "--seconds", 0.5, "--repeats", 1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A denoiser that changes nothing, whose card names its experiment."""
    path = tmp_path_factory.mktemp("models") / "identity.safetensors"
    denoiser = network()
    denoiser.card["command"] = "signal-diffusion train experiment=smoke"
    denoiser.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pairs of a second of noise in noise, the second at half the rate."""
    folder, rng = tmp_path_factory.mktemp("pairs"), np.random.default_rng(0)
    for name, rate in (("a.wav", 16000), ("b.wav", 8000)):
        clean = 0.1 * rng.standard_normal(rate)
        noisy = clean + 0.05 * rng.standard_normal(rate)
        for kind, samples in (("clean", clean), ("noisy", noisy)):
            (folder / kind).mkdir(exist_ok=True)
            soundfile.write(folder / kind / name, samples, rate, subtype="FLOAT")
    return folder


def figures(folder: Path) -> dict:
    return json.loads((folder / "benchmark.json").read_text())


def test_every_setting_has_a_row_and_a_report(
    model, pairs, tmp_path, command: Command, monkeypatch
) -> None:
    # Two threads on a busy machine wait for each other: what is asked for is looked at instead.
    asked: list[int] = []
    monkeypatch.setattr(benchmark, "threads", lambda count: nullcontext(asked.append(count)))
    out = tmp_path / "report"
    code, told, err = command(
        "benchmark",
        model,
        pairs,
        "-o",
        out,
        *QUICK,
        "--metrics",
        "si_sdr,snr",
        "--threads",
        "2,1",
        "--piece",
        "0.1,0.3",
    )
    assert (code, err) == (0, "") and set(asked) == {1, 2}
    found = figures(out)
    speeds = [row for row in found["rows"] if row["kind"] == "speed"]
    # One call is the same for both; Heun's first step, from the recording, is plain.
    ways = {("every", 1), ("ddim", 4), ("heun", 4)}
    assert {(row["sampler"], row["calls"]) for row in speeds} == ways
    settings = {(row["threads"], row["piece"]) for row in speeds}
    assert settings == {(n, piece) for n in (1, 2) for piece in (0.1, 0.3)}
    assert len(speeds) == 4 * len(ways)
    for row in speeds:
        assert row["real_time_factor"] == pytest.approx(row["taken"] / 0.5) and row["taken"] > 0
        assert row["model"] == artifact.fingerprint(model) and row["seconds"] == 0.5
    assert Image.open(out / "benchmark.png").size[0] > 900
    lines = (out / "benchmark.md").read_text().splitlines()
    assert lines[0].startswith("`signal-diffusion benchmark") and lines[2] in told
    assert "real-time factor, 2 threads, pieces of 0.3 s" in lines[2]


def test_scores_are_those_of_the_metrics_called_directly(
    model, pairs, tmp_path, command: Command
) -> None:
    """The model is the identity, so that all its scores are the input's."""
    code, _, err = command(
        "benchmark",
        model,
        pairs,
        "-o",
        tmp_path / "report",
        *QUICK,
        "--threads",
        1,
        "--metrics",
        "si_sdr",
    )
    assert (code, err) == (0, "")
    rows = [row for row in figures(tmp_path / "report")["rows"] if row["kind"] == "quality"]
    given = rows[0]
    assert given["sampler"] == "input" and given["count"] == 2
    direct = []
    for name in ("a.wav", "b.wav"):
        both = [soundfile.read(pairs / kind / name)[0] for kind in ("noisy", "clean")]
        direct.append(float(si_sdr(*both)))
    # The second is scored at the model's rate.
    assert given["si_sdr"] == pytest.approx(np.mean(direct), abs=0.05)
    assert all(row["si_sdr"] == pytest.approx(given["si_sdr"], abs=0.05) for row in rows[1:])


def test_tables_of_readings_are_scored_by_the_measures_of_their_domain(
    samples: Path, tmp_path, command: Command
) -> None:
    with np.load(samples / "ecg" / "record.npz") as arrays:
        clean, noise = (arrays[name][:3600] * float(arrays["scale_mv"]) for name in ("234", "em"))
    clean, noise = without_drift(clean, 360), noise - noise.mean()
    for kind, readings in (("clean", clean), ("noisy", clean + noise)):
        (tmp_path / "pairs" / kind).mkdir(parents=True)
        lines = [f"{n / 360:.6f},{v:.4f}" for n, v in enumerate(readings)]
        (tmp_path / "pairs" / kind / "a.csv").write_text("\n".join(["time,ecg", *lines, ""]))
    code, _, err = command(
        "benchmark",
        "ecg",
        tmp_path / "pairs",
        "-o",
        tmp_path / "report",
        "--calls",
        1,
        "--samplers",
        "ddim",
        "--seconds",
        0.5,
        "--repeats",
        1,
        "--threads",
        1,
    )
    assert (code, err) == (0, "")
    given, cleaned = [
        row for row in figures(tmp_path / "report")["rows"] if row["kind"] == "quality"
    ]
    assert given["prd"] == pytest.approx(float(prd(clean + noise, clean)), rel=1e-3)
    assert cleaned["cosine"] > given["cosine"] + 0.05 and {"ssd", "mad", "snr"} <= set(cleaned)


def test_a_stopped_run_goes_on(model, tmp_path, command: Command) -> None:
    out, line = tmp_path / "report", ("benchmark", model, *QUICK, "--threads", 1)
    assert command(*line, "-o", out)[0] == 0
    kept = (out / "rows.jsonl").read_text()
    code, _, err = command(*line, "-o", out)
    assert code == 2 and "--resume" in err and err.count("\n") == 1
    (out / "rows.jsonl").write_text("".join(kept.splitlines(keepends=True)[:1]))
    assert command(*line, "-o", out, "--resume")[0] == 0
    again = (out / "rows.jsonl").read_text()
    assert again.splitlines()[0] == kept.splitlines()[0]
    assert again != kept and len(again.splitlines()) == len(kept.splitlines())
    assert command(*line, "-o", out, "--force")[0] == 0
    assert (out / "rows.jsonl").read_text().splitlines()[0] != kept.splitlines()[0]


def test_scores_are_kept_too(model, pairs, tmp_path, command: Command, monkeypatch) -> None:
    """A run that goes on scores nothing again that `evaluate` has scored."""
    out, words = tmp_path / "report", ("--calls", 1, "--samplers", "ddim", "--seconds", 0.1)
    line = ("benchmark", model, pairs, *words, "--repeats", 1, "--threads", 1, "-o", out)
    assert command(*line)[0] == 0
    whole = figures(out)["rows"]
    monkeypatch.setattr("signal_diffusion.evaluation.run.scored", lambda _: 1 / 0)
    assert command(*line, "--resume")[0] == 0
    assert figures(out)["rows"] == whole and [row["kind"] for row in whole].count("quality") == 2


def test_an_interrupted_run_keeps_its_rows(model, tmp_path, command: Command, monkeypatch) -> None:
    def stopped(*_: object) -> list:
        raise KeyboardInterrupt

    monkeypatch.setattr(benchmark, "_trained", stopped)
    out = tmp_path / "report"
    line = ("benchmark", model, "-o", out, *QUICK, "--threads", 1, "--train", "own")
    code, _, err = command(*line)
    assert code == 130 and "--resume does the rest" in err and err.count("\n") == 1
    assert len((out / "rows.jsonl").read_text().splitlines()) == 3
    assert not (out / "benchmark.json").exists()


def test_training_steps_of_the_models_own_experiment_are_timed(
    model, tmp_path, command: Command
) -> None:
    code, told, err = command(
        "benchmark",
        model,
        "-o",
        tmp_path / "report",
        "--calls",
        1,
        "--seconds",
        0.5,
        "--repeats",
        1,
        "--threads",
        1,
        "--train-steps",
        2,
        "--train",
        "own data.batch_size=2 trainer.accelerator=cpu model.denoiser.backbone.channels=8",
    )
    assert (code, err) == (0, "") and "steps a second" in told
    row = figures(tmp_path / "report")["rows"][-1]
    assert row["kind"] == "training" and row["training"].startswith("experiment=smoke ")
    assert (row["batch"], row["timed_steps"], row["threads"]) == (2, 2, 1)
    assert row["steps_per_second"] > 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--calls", "0"), "calls is '0'"),
        (("--threads", "two"), "threads is 'two'"),
        (("--piece", "-1"), "piece is '-1'"),
        (("--samplers", "euler"), "sampler is 'euler'"),
        (("--repeats", "0"), "repeats is 0"),
        (("--metrics", "pesq"), "metrics are for data"),
        (("--train", "'x"), "lacks a quote"),
        (("--train", "experiment=nothing"), "nothing"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(
    model, tmp_path, command: Command, words, told
) -> None:
    out = tmp_path / "report"
    code, _, err = command(
        "benchmark",
        model,
        "-o",
        out,
        "--calls",
        1,
        "--seconds",
        0.1,
        "--repeats",
        1,
        "--threads",
        1,
        *words,
    )
    assert code == 2 and told in err and err.count("\n") == 1
    assert not (out / "benchmark.json").exists()


def test_data_that_does_not_fit_is_told(model, pairs, tmp_path, command: Command) -> None:
    line = ("benchmark", model, "-o", tmp_path / "report", *QUICK)
    code, _, err = command(*line, pairs / "clean")
    assert code == 2 and "has no folders clean/ and noisy/" in err
    code, _, err = command(*line, pairs, "--metrics", "mos")
    assert code == 2 and "metric is 'mos'" in err
    (tmp_path / "pairs" / "clean").mkdir(parents=True)
    (tmp_path / "pairs" / "noisy").mkdir()
    for kind, count in (("clean", 900), ("noisy", 1000)):
        soundfile.write(tmp_path / "pairs" / kind / "a.wav", np.ones(count) / 2, 16000)
    code, _, err = command(*line, tmp_path / "pairs")
    assert code == 2 and "has 1000 samples" in err and "make both the same" in err
    assert not (tmp_path / "report").exists()


def test_noise_has_the_models_rate_and_level() -> None:
    x = made_noise(network(), 1.0)
    assert x.shape == (1, 16000)
    assert 10 * np.log10(np.square(x).mean()) == pytest.approx(-25, abs=0.3)


def test_threads_are_given_back_after_a_failure() -> None:
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError), threads(before + 1):
        _ = 1 / 0
    assert torch.get_num_threads() == before


def test_the_quickest_run_counts_and_the_first_does_not() -> None:
    done: list[int] = []
    taken = quickest(lambda: done.append(1), repeats=3)
    assert len(done) == 4 and 0 <= taken.seconds < 1


def test_the_table_has_a_column_for_each_setting() -> None:
    of = {"kind": "speed", "piece": None, "real_time_factor": 0.01, "budget": 1, "calls": 1}
    rows = [
        {**of, "sampler": "every", "threads": 1},
        {**of, "sampler": "every", "threads": 2},
        {"kind": "quality", "sampler": "input", "calls": 0, "snr": 5.0},
        {"kind": "quality", "sampler": "every", "calls": 1, "budget": 1, "snr": None},
    ]
    assert table(rows, ["snr"]).splitlines() == [
        "|  | calls | SNR dB | real-time factor, 1 thread | real-time factor, 2 threads |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| input |  | 5.0 |  |  |",
        "| every | 1 |  | 0.0100 | 0.0100 |",
    ]
