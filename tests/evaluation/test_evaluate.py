"""Evaluation: scores are the packages' own, mistakes show, kills and order change nothing."""

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas
import pytest
from builders import Command, network, noise, put

from signal_diffusion.audio import read
from signal_diffusion.errors import InputError
from signal_diffusion.evaluation.measures import METRICS, metrics_named
from signal_diffusion.evaluation.methods import Command as Outside
from signal_diffusion.evaluation.methods import Estimate, Filter, Modelled, Untouched
from signal_diffusion.evaluation.outputs import failed_lines
from signal_diffusion.evaluation.pairs import Pair, folder_pairs, mixes, with_groups
from signal_diffusion.evaluation.readings import Sound
from signal_diffusion.evaluation.run import evaluate
from signal_diffusion.evaluation.summary import differences, interval, notes, scores_of, summary
from signal_diffusion.files.journal import value_of
from signal_diffusion.metrics.alignment import alignment
from signal_diffusion.streaming.settings import Settings

RATE = 8000
#: What differs from run to run.
CLOCK = ("taken", "memory")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "identity.safetensors"
    network(rate=RATE).save_pretrained(path)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six stereo pairs, clean/ and noisy/."""
    for number in range(6):
        clean = noise(number)
        put(tmp_path / "data" / "clean" / f"{number}.wav", clean)
        put(tmp_path / "data" / "noisy" / f"{number}.wav", clean + 0.3 * noise(100 + number))
    return tmp_path / "data"


def pairs_of(data: Path) -> list[Pair]:
    return folder_pairs(data / "clean", data / "noisy")


def timeless(rows: list[dict]) -> list[dict]:
    return [{name: value for name, value in row.items() if name not in CLOCK} for row in rows]


def test_scores_are_those_of_the_packages_called_directly(samples: Path, tmp_path: Path) -> None:
    pesq, pystoi = pytest.importorskip("pesq"), pytest.importorskip("pystoi")
    audio = pytest.importorskip("torchmetrics.functional.audio")
    import torch

    pairs = folder_pairs(samples / "pairs/clean", samples / "pairs/noisy")
    pairs += mixes(samples / "clean", [samples / "noise"], [5])[:1]
    rows = evaluate(pairs, [Untouched()], ["pesq", "estoi", "si_sdr"], tmp_path)
    for pair, row in zip(pairs, rows, strict=True):
        sound = pair.read()
        estimate, clean = (x[0].astype(np.float64) for x in (sound.noisy, sound.clean))
        si_sdr = audio.scale_invariant_signal_distortion_ratio(
            torch.from_numpy(estimate), torch.from_numpy(clean), zero_mean=True
        )
        assert row["pesq"] == pytest.approx(pesq.pesq(16000, clean, estimate, "wb"), abs=1e-6)
        assert row["estoi"] == pytest.approx(pystoi.stoi(clean, estimate, 16000, True), abs=1e-6)
        assert row["si_sdr"] == pytest.approx(float(si_sdr), abs=1e-6)


def test_dnsmos_is_that_of_its_package(samples: Path) -> None:
    dnsmos = pytest.importorskip("speechmos.dnsmos", reason="no extra dnsmos")
    noisy = read(next((samples / "pairs/noisy").iterdir())).samples
    wanted = dnsmos.run(noisy[0], 16000)["ovrl_mos"]
    assert METRICS["dnsmos"].measure(noisy, noisy, 16000) == pytest.approx(wanted, abs=1e-6)


def test_planted_mistakes_show(data: Path, model: Path, tmp_path: Path, command: Command) -> None:
    planted = {
        "late": lambda x: np.roll(x, 1, axis=1),
        "swapped": lambda x: x[::-1],
        "quiet": lambda x: 0.5 * x,
        "inverted": lambda x: -x,
    }
    arguments: list[object] = []
    for name, change in planted.items():
        for path in (data / "clean").iterdir():
            put(tmp_path / name / path.name, change(read(path).samples))
        arguments += ["--against-folder", f"{name}={tmp_path / name}"]
    out = tmp_path / "out"
    code, told, _ = command(
        "evaluate", model, data, "-o", out, "--metrics", "si_sdr,snr", *arguments
    )
    assert code == 0
    rows = pandas.read_csv(out / "files.csv", dtype={"channels": str}).groupby("method")
    assert set(rows.get_group("late")["lag"]) == {1}
    assert set(rows.get_group("swapped")["channels"]) == {"2 1"}
    assert set(rows.get_group("quiet")["gain_db"]) == {-6.021}
    assert set(rows.get_group("inverted")["polarity"]) == {-1}
    for name in ("input", "identity, 1 step"):
        fine = rows.get_group(name)
        assert set(fine["lag"]) == {0} and set(fine["channels"]) == {"1 2"}
    for line in (
        "late: late by 1 samples in 6 of 6 files",
        "swapped: channels exchanged in 6 of 6",
        "quiet: gain of -6.0 dB",
        "inverted: upside down in 6 of 6",
    ):
        assert f"Note: {line}" in told
    assert "input: " not in told and "identity, 1 step: " not in told
    assert (out / "summary.md").read_text() in told


@pytest.mark.skipif(sys.platform == "win32", reason="needs sh")
def test_a_killed_run_goes_on(data: Path, model: Path, tmp_path: Path, command: Command) -> None:
    slow = "slow=sh -c 'sleep 0.2; cp {in} {out}'"
    line = ["evaluate", model, data, "--metrics", "si_sdr", "--against-command", slow, "--quiet"]
    out, whole = tmp_path / "killed", tmp_path / "whole"
    words = [sys.executable, "-m", "signal_diffusion", *map(str, line), "-o", str(out)]
    with subprocess.Popen(words) as process:
        file, until = out / "rows.jsonl", time.monotonic() + 240
        while process.poll() is None and time.monotonic() < until:
            if file.exists() and file.read_bytes().count(b"\n") >= 6:
                break
            time.sleep(0.02)
        process.kill()
    kept = file.read_text()
    assert not (out / "summary.json").exists(), "it had ended before it was killed"
    file.write_text(kept + '{"key": "cut sho')
    assert command(*line, "-o", out)[0] == 2
    assert command(*line, "-o", out, "--resume")[0] == 0
    assert command(*line, "-o", whole)[0] == 0
    # What was done before is as it was, to the time that it took.
    assert set(kept.splitlines()) <= set(file.read_text().splitlines())
    frames = [
        pandas.read_csv(folder / "files.csv").drop(columns=[*CLOCK]) for folder in (out, whole)
    ]
    pandas.testing.assert_frame_equal(*frames)
    found = [json.loads((folder / "summary.json").read_text()) for folder in (out, whole)]
    assert found[0]["differences"] == found[1]["differences"]
    assert found[0]["data"] == found[1]["data"] and len(found[0]["data"]["sha256"]) == 64


def test_the_number_of_processes_changes_nothing(data: Path, model: Path, tmp_path: Path) -> None:
    pairs, methods = pairs_of(data), [Untouched(), Modelled(str(model), Settings(steps=2))]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, two = (
        timeless(evaluate(pairs, methods, ["snr", "lsd"], tmp_path / name, jobs=jobs))
        for name, jobs in (("one", 1), ("two", 2))
    )
    assert one == two
    lines = [(tmp_path / n / "rows.jsonl").read_text().splitlines() for n in ("one", "two")]
    assert len(lines[0]) == len(lines[1]) == len(one) == 12


def test_the_order_of_files_changes_nothing(data: Path, tmp_path: Path) -> None:
    pairs, methods = pairs_of(data), [Untouched(), Filter("wiener")]
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    rows = evaluate(pairs, methods, ["snr"], tmp_path / "a")
    turned = evaluate(pairs[::-1], methods, ["snr"], tmp_path / "b")
    by_key = {row["key"]: row for row in timeless(turned)}
    assert timeless(rows) == [by_key[row["key"]] for row in rows]
    assert [row["file"] for row in rows] == [p.name for p in pairs for _ in methods]


def test_rows_are_made_anew_where_what_they_rest_on_changes(data: Path, tmp_path: Path) -> None:
    def keys(pairs: list[Pair], metrics: list[str]) -> set[str]:
        return {row["key"] for row in evaluate(pairs, [Untouched()], metrics, tmp_path)}

    first = keys(pairs_of(data), ["snr"])
    assert keys(pairs_of(data), ["snr"]) == first
    assert not keys(pairs_of(data), ["si_sdr"]) & first
    put(data / "noisy" / "3.wav", noise(999))
    put(data / "noisy" / "3.wav", noise(999, length=4000))
    assert len(keys(pairs_of(data), ["snr"]) & first) == 5


def test_mixes_have_their_snr_and_one_stretch_each(tmp_path: Path) -> None:
    for name in ("a", "b"):
        put(tmp_path / "clean" / f"{name}.wav", noise(1))
    put(tmp_path / "noise" / "hum" / "1.wav", 0.1 * noise(7, 9000))
    found = mixes(tmp_path / "clean", [tmp_path / "noise"], [-5, 20], seed=3)
    stretches = []
    for pair in found:
        sound = pair.read()
        added = sound.noisy - sound.clean
        power = [np.square(x.astype(np.float64)).mean() for x in (sound.clean, added)]
        assert 10 * np.log10(power[0] / power[1]) == pytest.approx(pair.snr, abs=1e-3)
        assert np.abs(sound.noisy).max() <= 0.981
        stretches.append(added / np.abs(added).max())
    assert dict(found[1].groups) == {"noise": "hum", "mix_snr": "20"}
    # The same at each SNR, another for another recording.
    assert np.allclose(stretches[0], stretches[1], atol=1e-3)
    assert not np.allclose(stretches[0], stretches[2], atol=0.1)
    (tmp_path / "clean" / "a.wav").unlink()
    alone = mixes(tmp_path / "clean", [tmp_path / "noise"], [20], seed=3)
    assert np.array_equal(alone[0].read().noisy, found[3].read().noisy)


def test_noise_that_is_too_short_begins_anew(tmp_path: Path) -> None:
    put(tmp_path / "clean" / "a.wav", 0.1 * noise(1, 4000, 1))
    put(tmp_path / "noise" / "n.wav", noise(2, 1000, 1))
    sound = mixes(tmp_path / "clean", [tmp_path / "noise"], [0])[0].read()
    added = (sound.noisy - sound.clean)[0]
    assert np.allclose(added[:3000], added[1000:], atol=1e-6)


def test_groups_of_a_table_have_scores(
    data: Path, model: Path, tmp_path: Path, command: Command
) -> None:
    table = tmp_path / "table.csv"
    rows = [f"{n}.wav,{'low' if n < 2 else 'high'},{n}" for n in range(6)]
    table.write_text("\n".join(["file,voice,number", *rows]))
    out = tmp_path / "out"
    code, told, _ = command(
        "evaluate", model, data, "-o", out, "--groups", table, "--metrics", "snr"
    )
    found = json.loads((out / "summary.json").read_text())
    assert code == 0 and "| low | input |" in told
    frame = pandas.read_csv(out / "files.csv")
    for voice in ("low", "high"):
        wanted = frame[(frame.voice == voice) & (frame.method == "input")].snr
        scores = found["groups"]["voice"][voice]["input"]["snr"]
        assert scores["mean"] == pytest.approx(wanted.mean(), abs=1e-6)
        assert scores["median"] == pytest.approx(wanted.median(), abs=1e-6)
        assert scores["low"] < scores["mean"] < scores["high"]
    # One recording tells nothing of others.
    assert "low" not in found["groups"]["number"]["3"]["input"]["snr"]
    assert found["command"].startswith(f"signal-diffusion evaluate {model}")


def test_an_interval_is_as_wide_as_the_normal_one_and_no_narrower_for_copies() -> None:
    values = np.random.default_rng(0).standard_normal(400)
    units = [str(n) for n in range(400)]
    low, high = interval(values, units) or (0.0, 0.0)
    wanted = 1.96 * values.std() / 20
    assert high - values.mean() == pytest.approx(wanted, rel=0.15)
    assert values.mean() - low == pytest.approx(wanted, rel=0.15)
    ends = interval(np.tile(values, 5), units * 5) or (0.0, 0.0)
    assert ends[1] - ends[0] == pytest.approx(high - low, rel=1e-6)
    assert interval(values, ["one"] * 400) is None


def test_differences_are_paired() -> None:
    spread = np.random.default_rng(0).normal(0, 10, 50)
    first = [{"file": str(n), "recording": str(n), "snr": float(v)} for n, v in enumerate(spread)]
    second = [{**row, "snr": row["snr"] + 1} for row in first[::-1]]
    found = differences(second, [*first, {"file": "x", "recording": "x", "snr": 0.0}], ["snr"])
    assert found["snr"]["low"] == found["snr"]["mean"] == found["snr"]["high"] == 1
    second[0]["snr"] = None
    assert differences(second, first, ["snr"])["snr"]["count"] == 49
    assert scores_of([{**first[0], "snr": None}], ["snr"]) == {}


def test_what_fails_is_a_row_and_stops_no_other(
    data: Path, model: Path, tmp_path: Path, command: Command
) -> None:
    words = f"{sys.executable} -c 'import sys; sys.exit(\"no licence\")' {{in}} {{out}}"
    out = tmp_path / "out"
    line = ["evaluate", model, data, "-o", out, "--metrics", "snr", "--against-command"]
    code, told, err = command(*line, f"bad={words}")
    assert code == 1 and "failed: bad on 0: command bad ended with code 1: no licence" in err
    assert "| bad | 0 |" in told and "Note: bad: 6 of 6 files failed." in told
    frame = pandas.read_csv(out / "files.csv")
    assert frame[frame.method != "bad"].snr.notna().all() and len(frame) == 18
    # What failed is tried again.
    (data / "noisy" / "0.wav").write_bytes((data / "noisy" / "0.wav").read_bytes()[:-100])
    assert "2 of 6" not in command(*line, f"bad={words}", "--resume", "--quiet")[1]


@dataclass(frozen=True)
class Diverged:
    """A method whose estimate of one file has two samples that are no numbers."""

    file: str
    name: str = "diverged"
    key: str = "diverged"

    def __call__(self, pair: Pair, sound: Sound) -> Estimate:
        made = sound.noisy.copy()
        if pair.name == self.file:
            made[0, 100], made[1, 200] = np.nan, np.inf
        return Estimate(made)


def test_an_estimate_that_is_not_finite_is_no_part_of_a_mean(data: Path, tmp_path: Path) -> None:
    rows = evaluate(pairs_of(data), [Untouched(), Diverged("2")], ["snr"], tmp_path)
    bad = next(row for row in rows if row["method"] == "diverged" and row["file"] == "2")
    assert bad["error"] == "the estimate holds 2 NaN or infinite samples of 8000"
    assert bad["snr"] is None and bad["lag"] is None
    found = summary(rows, "input", ["snr"], [])["methods"]
    assert found["diverged"]["failed"] == 1 and found["diverged"]["scores"]["snr"]["count"] == 5
    assert "diverged: 1 of 6 files failed" in notes(rows)
    assert failed_lines(rows) == [f"failed: diverged on 2: {bad['error']}"]


#: File names that a spreadsheet runs, parts into cells, or that are no Unicode.
ODD = (
    b"=cmd|'!A0.wav",
    b"a;=1+1.wav",
    b'@x,"y.wav',
    b"-1+1.wav",
    b"'=1.wav",
    b"\xff.wav",
    b"7.wav",
)


@pytest.mark.skipif(sys.platform != "linux", reason="needs such file names")
def test_no_name_becomes_a_formula(
    data: Path, model: Path, tmp_path: Path, command: Command
) -> None:
    for kind in ("clean", "noisy"):
        (tmp_path / "odd" / kind).mkdir(parents=True)
        for name in ODD:
            shutil.copy(data / kind / "0.wav", tmp_path / "odd" / kind / os.fsdecode(name))
    out = tmp_path / "out"
    line = ["evaluate", model, tmp_path / "odd", "-o", out, "--metrics", "snr", "--quiet"]
    assert command(*line)[0] == 0
    text = (out / "files.csv").read_text()
    cells = [row["file"] for row in csv.DictReader(text.splitlines())]
    assert not [cell for cell in cells if cell[0] in "=+-@"]
    there = {name.removesuffix(b".wav").decode(errors="backslashreplace") for name in ODD}
    # Of the name that is no Unicode, the odd byte is spelt out.
    assert {value_of(cell) for cell in cells} == there - {"\\xff"} | {"\\udcff"}
    # Where semicolons part cells, text stays one cell.
    assert not any(
        cell.startswith("=") for row in csv.reader(text.splitlines(), delimiter=";") for cell in row
    )
    rows = (out / "rows.jsonl").read_text()
    assert command(*line, "--resume")[0] == 0
    assert (out / "rows.jsonl").read_text() == rows and (out / "files.csv").read_text() == text
    # What was written is a table of groups, too.
    for path in (tmp_path / "odd").rglob(os.fsdecode(b"\xff*")):
        path.unlink()
    frame = pandas.read_csv(out / "files.csv", dtype=str, keep_default_na=False)
    frame = frame[frame.method == "input"][["file"]].assign(**{"=kind": "=2"})
    frame.to_csv(tmp_path / "groups.csv", index=False)
    assert command(*line, "--force", "--groups", tmp_path / "groups.csv")[0] == 0
    first, second, *_ = (out / "files.csv").read_text().splitlines()
    assert ",'=kind," in first and ",'=2," in second


def test_a_command_is_scored_on_what_it_wrote(data: Path, tmp_path: Path) -> None:
    copy = f"{sys.executable} -c 'import sys, shutil; shutil.copy(*sys.argv[1:])' {{in}} {{out}}"
    cut = (
        f"{sys.executable} -c 'import sys, wave; i = wave.open(sys.argv[1]); "
        "o = wave.open(sys.argv[2], chr(119) + chr(98)); o.setparams(i.getparams()); "
        "o.writeframes(i.readframes(100))' {in} {out}"
    )
    nothing = f"{sys.executable} -c 0 {{in}} {{out}}"
    methods = [Untouched()]
    methods += [Outside(n, w) for n, w in (("copy", copy), ("cut", cut), ("nothing", nothing))]
    rows = evaluate(pairs_of(data)[:1], methods, ["snr"], tmp_path)
    # 16 bits are far below the noise.
    assert rows[1]["snr"] == pytest.approx(rows[0]["snr"], abs=1e-3)
    assert rows[1]["taken"] > 0
    if sys.platform != "win32":
        assert 5e6 < rows[1]["memory"] < 1e8
    assert "the estimate has 8000 Hz, 2 channels, 100 samples" in rows[2]["error"]
    assert "wrote no file" in rows[3]["error"]


def test_silence_and_short_sound_have_no_scores_but_a_reason(tmp_path: Path) -> None:
    put(tmp_path / "clean" / "a.wav", np.zeros((1, 300), np.float32))
    put(tmp_path / "noisy" / "a.wav", noise(0, 300, 1))
    pairs = folder_pairs(tmp_path / "clean", tmp_path / "noisy")
    row = evaluate(pairs, [Untouched()], ["lsd", "si_sdr"], tmp_path)[0]
    assert row["lsd"] is row["si_sdr"] is row["lag"] is row["error"] is None
    assert row["note"].startswith("lsd: reference has 300 samples but window is 512")
    assert notes([row]) == [f"input: 1 files lack a score ({row['note']})"]


def test_alignment_keeps_channels_that_are_alike() -> None:
    mono = np.repeat(noise(0, channels=1), 2, axis=0)
    assert alignment(mono + 0.01 * noise(1), mono, RATE)["channels"] == "1 2"
    late = np.pad(noise(0), ((0, 0), (37, 0)))[:, :4000]
    assert alignment(late, noise(0), RATE)["lag"] == 37


SPEECH = ("pesq", "estoi", "si_sdr", "voice_lost", "lsd")


def test_metrics_go_by_the_domain() -> None:
    pytest.importorskip("pesq")
    assert metrics_named([], domain="speech") == [*SPEECH]
    assert metrics_named(["snr", "snr"]) == ["snr"]


MISTAKES = {
    "DATA, a folder": [],
    "no folders clean/ and noisy/": ["{tmp}"],
    "metric is 'foo'; choose among pesq": ["{data}", "--metrics", "foo"],
    "steps is '0'": ["{data}", "--steps", "0"],
    "snr is 'x'": ["--clean", "{data}/clean", "--noise", "{data}/noisy", "--snr", "x"],
    "need --snr": ["--clean", "{data}/clean", "--noise", "{data}/noisy"],
    "--noisy FOLDER or --noise FOLDER": ["--clean", "{data}/clean"],
    "there is no such folder": ["--clean", "{data}/clean", "--noisy", "{tmp}/none"],
    "holds no recordings": ["--clean", "{data}/clean", "--noisy", "{tmp}/empty"],
    "against is 'foo'; choose among noisereduce": ["{data}", "--against", "foo"],
    "has no name: give NAME=": ["{data}", "--against-folder", "{data}"],
    "lacks {in} or {out}": ["{data}", "--against-command", "a=cp {in}"],
    "there is no program nosuch": ["{data}", "--against-command", "a=nosuch {in} {out}"],
    "which is for ecg; for these signals there is noisereduce": [
        "{data}",
        "--against",
        "bandpass",
    ],
    "two methods are called 'wiener'": ["{data}", "--against", "wiener,wiener"],
    "needs a column 'file'": ["{data}", "--groups", "{tmp}/bad.csv"],
    "has no row of the file 1": ["{data}", "--groups", "{tmp}/short.csv"],
    "a column of the groups is called lag": ["{data}", "--groups", "{tmp}/taken.csv"],
    "jobs is 0": ["{data}", "--jobs", "0"],
}


@pytest.mark.parametrize("said", MISTAKES)
def test_mistakes_end_in_one_line(
    said: str, data: Path, model: Path, tmp_path: Path, command: Command
) -> None:
    pytest.importorskip("pesq")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.csv").write_text("name,voice\n0,a\n")
    (tmp_path / "short.csv").write_text("file,voice\n0,a\n")
    (tmp_path / "taken.csv").write_text("\n".join(["file,lag", *(f"{n},a" for n in range(6))]))
    places = {"{data}": str(data), "{tmp}": str(tmp_path)}
    words = [*MISTAKES[said]]
    for mark, place in places.items():
        words = [word.replace(mark, place) for word in words]
    code, out, err = command("evaluate", model, *words, "-o", tmp_path / "out", "--quiet")
    assert (code, out) == (2, "") and err.startswith("error: ") and err.count("\n") == 1
    assert said in err
    assert not (tmp_path / "out" / "rows.jsonl").exists()


def test_partners_must_be_there_and_alike(data: Path, tmp_path: Path) -> None:
    put(data / "noisy" / "2.wav", noise(0, 4001))
    with pytest.raises(InputError, match=r"has 4001 samples, but .* has 4000"):
        pairs_of(data)
    put(data / "noisy" / "2.wav", noise(0), rate=16000)
    with pytest.raises(InputError, match=r"has 16000 Hz, but .* has 8000"):
        pairs_of(data)
    put(data / "noisy" / "2.wav", noise(0, channels=1))
    with pytest.raises(InputError, match=r"has 1 channels, but .* has 2"):
        pairs_of(data)
    (data / "noisy" / "2.wav").unlink()
    with pytest.raises(InputError, match=r"clean/2.wav has no partner of its name in .*noisy$"):
        pairs_of(data)
    table = tmp_path / "snr.csv"
    table.write_text("file,mix_snr\n0,1\n")
    mixed = mixes(data / "clean", [data / "noisy"], [0])
    with pytest.raises(InputError, match="a column mix_snr, which mixes have already"):
        with_groups(mixed[:1], table)
