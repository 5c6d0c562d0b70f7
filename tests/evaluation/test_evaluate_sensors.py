"""Evaluation on tables of readings: units, gaps and containers as `denoise` has them."""

import json
from pathlib import Path

import numpy as np
import pandas
import pytest
import scipy.stats
import torch
from builders import Command, sensor

from signal_diffusion import metrics
from signal_diffusion.audio import Recording, write
from signal_diffusion.denoiser import Denoiser, NetworkDenoiser
from signal_diffusion.errors import InputError
from signal_diffusion.evaluation.measures import metrics_named
from signal_diffusion.evaluation.methods import Command as Outside
from signal_diffusion.evaluation.methods import Filter, Made, Modelled, Untouched
from signal_diffusion.evaluation.outputs import groups_of
from signal_diffusion.evaluation.pairs import folder_pairs, mixes
from signal_diffusion.evaluation.readings import read_readings
from signal_diffusion.evaluation.run import evaluate
from signal_diffusion.evaluation.summary import notes
from signal_diffusion.metrics.alignment import alignment
from signal_diffusion.nn.frames import Patch
from signal_diffusion.nn.stack import DilatedStack
from signal_diffusion.schedules import VarianceExploding
from signal_diffusion.streaming.settings import Settings
from signal_diffusion.tables import opened_table, writing_table
from signal_diffusion.tables.columns import Columns
from signal_diffusion.tasks.denoise import denoise
from signal_diffusion.tasks.denoise_files import denoise_table

RATE = 50
CONTAINERS = ("csv", "tsv", "parquet", "npz", "npy", "hea")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "sensor.safetensors"
    sensor().save_pretrained(path)
    return path


def put(path: Path, x: np.ndarray, names: tuple[str, ...] = ("warm", "press")) -> Path:
    """A table (C, L) with time stamps; NaN is an empty field."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = pandas.DataFrame(
        {"time": np.arange(x.shape[1]) / RATE, **dict(zip(names, x, strict=False))}
    )
    frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


def readings(seed: int = 0, rows: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """Clean and noisy readings (2, rows) in units that differ a thousandfold."""
    rng = np.random.default_rng(seed)
    clean = np.stack([20 + np.sin(np.arange(rows) / 9), 1e5 + 300 * np.cos(np.arange(rows) / 5)])
    return clean, clean + np.array([[0.3], [90]]) * rng.standard_normal((2, rows))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two pairs of tables, clean/ and noisy/."""
    for number in range(2):
        clean, noisy = readings(number)
        put(tmp_path / "data" / "clean" / f"{number}.csv", clean)
        put(tmp_path / "data" / "noisy" / f"{number}.csv", noisy)
    return tmp_path / "data"


def converted(data: Path, suffix: str) -> tuple[Path, Columns]:
    """The same tables in another container, and what must be said of them."""
    pytest.importorskip({"parquet": "pyarrow", "hea": "wfdb"}.get(suffix, "numpy"))
    target = data.parent / suffix
    for path in sorted(data.glob("*/*.csv")):
        (target / path.parent.name).mkdir(parents=True, exist_ok=True)
        place = target / path.parent.name / f"r{path.stem}.{suffix}"
        with opened_table(path) as reader, writing_table(place, reader) as writer:
            writer.write(np.concatenate(list(reader.blocks()), axis=1))
    # Without names, the first column is the time.
    return target, Columns(rate=RATE, skip=("1",)) if suffix == "npy" else Columns()


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_what_is_scored_is_what_denoise_writes(
    suffix: str,
    data: Path,
    model: Path,
    tmp_path: Path,
) -> None:
    folder, said = (data, Columns()) if suffix == "csv" else converted(data, suffix)
    pairs = folder_pairs(folder / "clean", folder / "noisy", columns=said)
    # A record of WFDB is two files.
    words = "sh -c 'cp $(dirname {in})/* $(dirname {out})'" if suffix == "hea" else "cp {in} {out}"
    methods = [Untouched(), Modelled(str(model), Settings()), Outside("copy", words)]
    rows = evaluate(pairs[:1], methods, ["ssd", "mad"], tmp_path)
    assert [row["error"] for row in rows] == [None] * 3
    pair, denoiser = pairs[0], Denoiser.from_pretrained(model)
    clean, noisy = (read_readings(path, said).samples for path in (pair.clean, pair.noisy))
    if suffix == "hea":
        # Which has no room for what the model makes of them.
        made = denoise(denoiser, noisy, sample_rate=RATE)
    else:
        target = tmp_path / f"out.{suffix}"
        denoise_table(denoiser, pair.noisy, target, columns=said)
        made = read_readings(target, said).samples
    for name in ("ssd", "mad"):
        first, ours = (float(getattr(metrics, name)(x, clean).mean()) for x in (noisy, made))
        assert rows[0][name] == rows[2][name] == pytest.approx(first)
        assert rows[1][name] == pytest.approx(ours, rel=1e-9)


def test_missing_readings_are_not_scored(data: Path, model: Path, tmp_path: Path) -> None:
    clean, noisy = readings(0)
    holes = np.zeros_like(clean, bool)
    holes[0, 50:60] = holes[1, 300:340] = True
    lacking = np.where(holes, np.nan, noisy)
    put(data / "noisy" / "0.csv", lacking)
    reference = clean.copy()
    reference[1, 330:350] = np.nan
    put(data / "clean" / "0.csv", reference)
    # And rows that are gone, as the time stamps tell.
    lines = (data / "noisy" / "0.csv").read_text().splitlines()
    (data / "noisy" / "0.csv").write_text("\n".join(lines[:401] + lines[411:]))
    left = holes | np.isnan(reference)
    left[:, 400:410] = True
    pairs = folder_pairs(data / "clean", data / "noisy")
    rows = evaluate(pairs, [Untouched(), Modelled(str(model), Settings())], ["snr"], tmp_path)
    wanted = [float(metrics.snr(noisy[c, ~left[c]], clean[c, ~left[c]])) for c in (0, 1)]
    assert rows[0]["snr"] == pytest.approx(np.mean(wanted), abs=1e-9)
    assert rows[0]["unscored"] == rows[1]["unscored"] == left.sum() == 80
    assert notes(rows)[0] == "80 missing readings in 1 of 2 files are not scored"
    # A method that loses readings is told so.
    put(tmp_path / "made" / "0.csv", np.where(np.arange(600) == 5, np.nan, noisy))
    lost = evaluate(pairs[:1], [Made("made", tmp_path / "made")], ["snr"], tmp_path)
    assert lost[0]["error"].endswith("the estimate lacks 2 readings that are scored")


def test_marks_of_filled_readings_are_no_channels(data: Path, model: Path, tmp_path: Path) -> None:
    _, noisy = readings(0)
    noisy[0, 50:60] = np.nan
    put(data / "noisy" / "0.csv", noisy)
    made = tmp_path / "made"
    made.mkdir()
    for name in ("0.csv", "1.csv"):
        denoise_table(Denoiser.from_pretrained(model), data / "noisy" / name, made / name)
    assert "warm_filled" in (made / "0.csv").read_text().splitlines()[0]
    pairs = folder_pairs(data / "clean", data / "noisy")
    folder = Made("made", made)
    folder.require(pairs)
    rows = evaluate(pairs, [Modelled(str(model), Settings()), folder], ["snr"], tmp_path)
    assert [row["error"] for row in rows] == [None] * 4
    for ours, theirs in zip(rows[::2], rows[1::2], strict=True):
        assert ours["snr"] == pytest.approx(theirs["snr"], abs=1e-9)


def test_mixes_of_readings_have_their_snr_in_every_channel(tmp_path: Path) -> None:
    clean, _ = readings(0)
    put(tmp_path / "clean" / "a.csv", clean)
    rng = np.random.default_rng(1)
    np.savez(tmp_path / "noise.npz", noise=7 + rng.standard_normal((900, 1)), sample_rate=2 * RATE)
    (tmp_path / "noise").mkdir()
    (tmp_path / "noise.npz").rename(tmp_path / "noise" / "n.npz")
    pair = mixes(tmp_path / "clean", [tmp_path / "noise"], [-5])[0]
    # A metric may have the name of what mixes are asked for.
    assert groups_of([pair], ["snr"]) == ["noise", "mix_snr"]
    sound = pair.read()
    assert np.array_equal(sound.clean, read_readings(pair.clean).samples)
    added = sound.noisy - sound.clean
    assert np.abs(added.mean(axis=1)).max() < 1e-9 * 300
    for power, noise in zip(sound.clean.var(axis=1), added.var(axis=1), strict=True):
        assert 10 * np.log10(power / noise) == pytest.approx(-5, abs=1e-6)
    copy = Outside("copy", "cp {in} {out}")
    rows = evaluate([pair], [Untouched(), copy], ["snr"], tmp_path)
    assert rows[1]["snr"] == pytest.approx(rows[0]["snr"], abs=1e-6), rows[1]["error"]


def test_channels_go_by_their_names_and_lengths_must_be_equal(data: Path) -> None:
    clean, noisy = readings(0)
    put(data / "clean" / "0.csv", clean[::-1], ("press", "warm"))
    pairs = folder_pairs(data / "clean", data / "noisy")
    np.testing.assert_allclose(pairs[0].read().clean, clean)
    one = folder_pairs(data / "clean", data / "noisy", columns=Columns(channels=("press",)))
    np.testing.assert_allclose(one[0].read().noisy, noisy[1:])
    assert one[0].key != pairs[0].key
    put(data / "noisy" / "0.csv", noisy[:, :-1])
    with pytest.raises(InputError, match=r"0.csv has 599 samples, but .*0.csv has 600: make both"):
        pairs[0].read()
    put(data / "noisy" / "0.csv", noisy[:1], ("warm",))
    with pytest.raises(InputError, match=r"has 1 channels, but .* has 2"):
        folder_pairs(data / "clean", data / "noisy")


def test_ecg_by_one_command(samples: Path, tmp_path: Path, command: Command) -> None:
    pytest.importorskip("pywt")
    with np.load(samples / "ecg" / "record.npz") as arrays:
        scale = float(arrays["scale_mv"])
        held = {name: arrays[name][:3600] * scale for name in ("234", "118", "em")}
    from signal_diffusion.data.ecg import without_drift

    for name in ("234", "118"):
        clean = without_drift(held[name], 360)
        for kind, x in (("clean", clean), ("noisy", clean + held["em"] - held["em"].mean())):
            (tmp_path / "data" / kind).mkdir(parents=True, exist_ok=True)
            np.save(tmp_path / "data" / kind / f"{name}.npy", x)
    (tmp_path / "groups.csv").write_text("file,patient\n234.npy,a\n118.npy,b\n")
    line = ["evaluate", "ecg", tmp_path / "data", "-o", tmp_path / "out", "--rate", "360"]
    line += ["--against", "bandpass,wavelet", "--groups", tmp_path / "groups.csv"]
    code, told, err = command(*line)
    assert (code, err) == (0, ""), err
    assert "| input | 2 |" in told and "| patient |" in told
    found = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert found["metrics"] == ["ssd", "mad", "prd", "cosine", "snr"]
    snr = {name: row["scores"]["snr"]["mean"] for name, row in found["methods"].items()}
    assert snr["ecg, 1 step"] > snr["bandpass"] > snr["input"]
    frame = pandas.read_csv(tmp_path / "out" / "files.csv")
    assert set(frame.seconds) == {10.0} and set(frame.patient) == {"a", "b"}
    assert set(frame[frame.method == "input"].lag) == {0}


def test_sound_files_are_taken_for_sensors_too(tmp_path: Path, command: Command) -> None:
    rng = np.random.default_rng(0)
    clean = 0.2 * np.sin(np.arange(6000) / 3)
    for name, x in (("clean", clean), ("noisy", clean + 0.1 * rng.standard_normal(6000))):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "a.wav", Recording(x[None].astype("f4"), 12000, "WAV", "FLOAT"))
    code, told, err = command("evaluate", "vibration", tmp_path, "-o", tmp_path / "out")
    assert (code, err) == (0, ""), err
    assert "kurtosis error % | envelope peak error % |" in told


MISTAKES = {
    "against is 'noisereduce', which is for sound": ["--against", "noisereduce"],
    "against is 'bandpass', which is for ecg": ["--against", "bandpass"],
    "metric pesq measures sound": ["--metrics", "pesq"],
    "has no column 'cold'": ["--columns", "cold"],
}


@pytest.mark.parametrize("said", MISTAKES)
def test_mistakes_end_in_one_line(
    said: str,
    data: Path,
    model: Path,
    tmp_path: Path,
    command: Command,
) -> None:
    code, out, err = command("evaluate", model, data, "-o", tmp_path / "out", *MISTAKES[said])
    assert (code, out) == (2, "") and err.startswith("error: ") and err.count("\n") == 1
    assert said in err and not (tmp_path / "out").exists()


def test_models_of_sound_take_no_tables(data: Path, tmp_path: Path, command: Command) -> None:
    code, _, err = command("evaluate", "speech", data, "-o", tmp_path / "out")
    assert code == 2 and "model 'speech' is for speech, but" in err and "table of readings" in err


def test_a_file_that_fails_is_told_once(
    data: Path,
    model: Path,
    tmp_path: Path,
    command: Command,
) -> None:
    put(data / "noisy" / "1.csv", readings(1)[1][:, :500])
    out = tmp_path / "out"
    code, _, err = command("evaluate", model, data, "-o", out, "--metrics", "snr", "--quiet")
    assert code == 1 and err.count("\n") == 1
    assert err.startswith("failed: 1: ") and "has 500 samples, but" in err
    assert pandas.read_csv(out / "files.csv").snr.notna().sum() == 2


def test_metrics_of_readings_are_those_of_their_definition() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 3, 4000))
    kurtosis = [scipy.stats.kurtosis(some, axis=1, fisher=False) for some in (x, y)]
    wanted = 100 * np.abs(kurtosis[0] / kurtosis[1] - 1)
    np.testing.assert_allclose(metrics.kurtosis_error(x, y), wanted)
    blows = (1 + 0.8 * np.cos(2 * np.pi * 87 * np.arange(4000) / 4000)) * rng.standard_normal(4000)
    found = [
        float(metrics.envelope_peak_error(0.5 * blows, blows, sample_rate=4000, frequency=f))
        for f in (None, 87)
    ]
    assert found == pytest.approx([50, 50])
    with pytest.raises(InputError, match="10 samples at 2 Hz show no peak"):
        metrics.envelope_peak_error(x[:, :10], y[:, :10], sample_rate=2)
    assert metrics_named([], domain="ecg", readings=True)[:2] == ["ssd", "mad"]
    assert metrics_named([], domain="tides", readings=True) == ["snr", "prd", "cosine"]


def test_an_offset_hides_no_lag_and_is_told() -> None:
    x = np.random.default_rng(0).standard_normal((1, 500))
    found = alignment(300 + np.roll(x, 2), 290 + x, 1.0)
    assert found["lag"] == 2 and found["gain_db"] == pytest.approx(0, abs=0.1)
    assert found["offset"] == pytest.approx(10 / x.std(), abs=1e-3)
    constant = alignment(np.full((1, 500), 0.1), x, 1.0)
    assert constant["lag"] is constant["offset"] is None


def test_models_of_noisy_readings_are_given_the_deviation(
    data: Path, tmp_path: Path, command: Command
) -> None:
    stack = DilatedStack(1, channels=8, hidden=4, layers=2, frames=Patch(4))
    torch.nn.init.normal_(stack.head.weight, std=0.3)
    denoiser = NetworkDenoiser(stack, VarianceExploding(), target="edm", domain="sensor")
    denoiser.save_pretrained(tmp_path / "m.safetensors")
    line = ["evaluate", tmp_path / "m.safetensors", data, "-o", tmp_path / "out", "--quiet"]
    line += ["--columns", "warm", "--metrics", "mad"]
    code, _, err = command(*line)
    assert code == 2 and "noise_std is None" in err and not (tmp_path / "out").exists()
    assert command(*line, "--noise-std", "0.3") == (0, "", "")
    frame = pandas.read_csv(tmp_path / "out" / "files.csv").set_index(["file", "method"])
    pair = folder_pairs(data / "clean", data / "noisy", columns=Columns(channels=("warm",)))[0]
    held, sound = Denoiser.from_pretrained(tmp_path / "m.safetensors"), pair.read()
    made = denoise(held, sound.noisy, sample_rate=RATE, noise_std=0.3)
    wanted = float(metrics.mad(made, sound.clean).mean())
    assert frame.mad[0, "m, 1 step"] == pytest.approx(wanted, rel=1e-6)


def test_a_band_pass_needs_a_rate(tmp_path: Path, data: Path) -> None:
    pairs = folder_pairs(data / "clean", data / "noisy")
    row = evaluate(pairs[:1], [Filter("bandpass")], ["snr"], tmp_path)[0]
    assert row["error"].startswith("bandpass keeps 0.67 to 40 Hz, more than readings at 50 Hz hold")
