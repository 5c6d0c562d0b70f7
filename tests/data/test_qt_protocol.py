"""The published protocol of ECG denoising, on small records laid out as PhysioNet's databases."""

import json
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import pywt
import scipy.signal
import torch
import wfdb
from builders import Command, load
from shared.ecg_filters import fir_bandpass

from signal_diffusion import Denoiser, denoise
from signal_diffusion.data.sets import qt as qt_set
from signal_diffusion.data.sets.qt import BeatMixer, QtSources
from signal_diffusion.dsp.levels import level_db
from signal_diffusion.errors import InputError
from signal_diffusion.evaluation.baselines import bandpass, wavelet

TRAIN = [f"sel{number}" for number in range(100, 109)]
#: Samples from P wave to P wave, at 250 Hz; the last but one is too long for a window.
GAPS = (200, 230, 210, 190, 360, 220)
NOISE = 24_001


def heart(rng: np.random.Generator, places: np.ndarray, length: int) -> np.ndarray:
    """P waves from the places on, with QRS and T, in a drift; (length,) in mV."""
    time = np.arange(length)
    x = 0.3 * np.sin(time / 400 + rng.uniform(0, 6))
    for height, after, width in ((0.15, 15, 6), (-0.1, 38, 2), (1.2, 42, 2.5), (0.3, 95, 14)):
        for place in places:
            x += height * rng.uniform(0.8, 1.2) * np.exp(-(((time - place - after) / width) ** 2))
    return x


def write_record(folder: Path, name: str, rng: np.random.Generator, *, missed: bool) -> None:
    """A record of two leads with the marks of waves; a missed P wave joins two beats."""
    places = 60 + np.cumsum((0, *GAPS))
    leads = np.stack([heart(rng, places, 1700) for _ in range(2)], axis=1)
    wfdb.wrsamp(
        name,
        fs=250,
        units=["mV"] * 2,
        sig_name=["V2", "V5"],
        p_signal=leads,
        fmt=["212"] * 2,
        write_dir=str(folder),
    )
    marks = []
    for number, place in enumerate(places):
        if not (missed and number == 2):
            marks += [(place, "("), (place + 15, "p"), (place + 25, ")")]
        marks += [(place + 35, "("), (place + 42, "N"), (place + 50, ")"), (place + 95, "t")]
    write_marks(folder, name, marks)


def write_marks(folder: Path, name: str, marks: list[tuple[int, str]]) -> None:
    at, symbols = zip(*marks, strict=True)
    wfdb.wrann(name, "pu", np.array(at), list(symbols), fs=250, write_dir=str(folder))
    # The library writes no figures in a suffix, but reads them.
    (folder / f"{name}.pu").rename(folder / f"{name}.pu1")


@pytest.fixture(scope="module")
def qt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("qtdb")
    rng = np.random.default_rng(0)
    for name in (*TRAIN, *qt_set.TEST_RECORDS):
        write_record(folder, name, rng, missed=name in ("sel100", "sel123"))
    return folder


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nstdb")
    wander = np.cumsum(np.random.default_rng(1).standard_normal((NOISE, 2)), axis=0) / 100
    wfdb.wrsamp(
        "bw",
        fs=360,
        units=["mV"] * 2,
        sig_name=["noise1", "noise2"],
        p_signal=wander,
        fmt=["212"] * 2,
        write_dir=str(folder),
    )
    return folder


@pytest.fixture(scope="module")
def recipe(repository: Path) -> ModuleType:
    return load(repository / "benchmarks" / "ecg_qt_protocol.py")


def recorded(folder: Path, name: str) -> np.ndarray:
    return wfdb.rdsamp(str(folder / name))[0]


@pytest.mark.parametrize("name", ["sel101", "sel123"])
def test_beats_are_cut_resampled_and_padded_as_published(qt: Path, name: str) -> None:
    """Beat by beat: from 40 ms before a P wave to the next, at 360 Hz, from sample 16 on."""
    found = dict(qt_set.beats(qt))[name]
    lead = recorded(qt, name)[:, 0]
    # Without the one of 360 samples (519 at 360 Hz), and the two that a missed P wave joins.
    kept = (0, 1, 2, 3, 5) if name == "sel101" else (0, 3, 5)
    assert len(found) == len(kept)
    for window, number in zip(found, kept, strict=True):
        start = 60 + sum(GAPS[:number]) - 10
        beat = lead[start : start + GAPS[number]]
        length = math.ceil(len(beat) * 360 / 250)
        mirrored = [*beat[::-1], *beat, *beat[::-1]]
        wanted = scipy.signal.resample_poly(mirrored, 360, 250)[length - 1 : 2 * length - 1]
        wanted = wanted - (wanted[0] + wanted[-1]) / 2
        np.testing.assert_allclose(window[16 : 16 + length], wanted, atol=1e-12)
        assert not window[:16].any() and not window[16 + length :].any()
        assert window[16] == pytest.approx(-window[15 + length])


def test_a_beat_with_two_complexes_is_left_out_and_one_without_is_kept(
    tmp_path: Path, qt: Path
) -> None:
    for suffix in (".hea", ".dat"):
        (tmp_path / f"a{suffix}").write_bytes(
            (qt / f"sel101{suffix}").read_bytes().replace(b"sel101", b"a")
        )
    starts = (100, 300, 500, 700)
    for complexes, count in (((150, 350, 550), 3), ((150, 250, 550), 2), ((150,), 3)):
        marks = [(n, "(") for n in starts] + [(n + 15, "p") for n in starts]
        write_marks(tmp_path, "a", sorted([*marks, *((n, "N") for n in complexes)]))
        assert len(qt_set.cut(tmp_path / "a")) == count


@pytest.mark.parametrize("version", [1, 2])
def test_no_record_and_no_noise_is_in_both_splits(qt: Path, noise: Path, version: int) -> None:
    signals, middle = recorded(noise, "bw"), NOISE // 2
    train, test = qt_set.wander(noise, version)
    np.testing.assert_array_equal(train, signals[:middle, version - 1])
    np.testing.assert_array_equal(test, signals[middle:-1, 2 - version])
    source, valid, recordings = QtSources(str(qt), str(noise), version=version, recordings=4)()
    assert isinstance(source, BeatMixer) and isinstance(valid, BeatMixer)
    names = [set(mixer.names) for mixer in (source, valid)]
    assert not names[0] & names[1] and names[0] | names[1] == set(TRAIN)
    assert {name.split("[")[0] for _, _, name in recordings} <= names[1]
    np.testing.assert_array_equal(np.concatenate([source.noise, valid.noise]), train)


def test_the_test_noise_has_the_spans_that_were_drawn(
    qt: Path, noise: Path, recipe: ModuleType
) -> None:
    """Seed 1234, hundredths after those of the training beats, windows of noise in turn."""
    one, two = recipe.held_out(qt, noise)
    assert one.trained == 8 * 5 + 3 and len(one.clean) == 13 * 5 + 3
    rng = np.random.RandomState(1234)
    rng.randint(low=20, high=200, size=one.trained)
    drawn = rng.randint(low=20, high=200, size=len(one.clean)) / 100
    for some, channel in ((one, 1), (two, 0)):
        np.testing.assert_array_equal(some.ratios, drawn)
        added = some.noisy - some.clean
        np.testing.assert_allclose(np.ptp(added, axis=1) / np.ptp(some.clean, axis=1), drawn)
        half = recorded(noise, "bw")[NOISE // 2 : -1, channel]
        at = 0
        for row in added:
            piece = half[at : at + 512]
            np.testing.assert_allclose(row * np.ptp(piece) / np.ptp(row), piece, atol=1e-9)
            at = 0 if at + 512 > len(half) - 512 else at + 512
    np.testing.assert_array_equal(one.clean, two.clean)


def test_training_beats_have_the_level_and_the_spans_that_were_drawn(qt: Path, noise: Path) -> None:
    source = QtSources(str(qt), str(noise), recordings=1)()[0]
    batch = source(np.random.default_rng(3), 500)
    again = source(np.random.default_rng(3), 500)
    assert torch.equal(batch.noisy, again.noisy) and batch.clean.shape == (500, 1, 512)
    assert level_db(batch.noisy).abs().max() < 1e-4, "as the denoiser will see it"
    assert np.abs(np.median(batch.noisy.numpy(), axis=-1)).max() < 1e-6
    assert not batch.clean[..., :16].any(), "the clean beat stays where it is"
    added = (batch.noisy - batch.clean).numpy()[:, 0]
    ratios = np.ptp(added, axis=1) / np.ptp(batch.clean.numpy()[:, 0], axis=1)
    rng = np.random.default_rng(3)
    rng.integers(len(source.clean), size=500)
    rng.integers(len(source.noise) - 511, size=500)
    np.testing.assert_allclose(ratios, rng.uniform(0.2, 2, 500), rtol=1e-4)


def test_scores_are_the_published_formulas_over_both_versions(recipe: ModuleType) -> None:
    rng = np.random.default_rng(0)
    ratios = np.array([0.2, 0.6, 0.61, 1.5, 1.99])
    versions = [
        recipe.HeldOut(*rng.standard_normal((2, 5, 512)), ratios, trained=1) for _ in range(2)
    ]
    found = recipe.scores(versions, [lambda x: 0.5 * x, lambda x: 0.25 * x])
    rows = []
    for some, factor in zip(versions, (0.5, 0.25), strict=True):
        for y, x in zip(some.clean, factor * some.noisy, strict=True):
            error = np.sum((x - y) ** 2)
            rows.append(
                [
                    error,
                    np.max(np.abs(x - y)),
                    100 * np.sqrt(error / np.sum((x - some.clean.mean()) ** 2)),
                    100 * np.sqrt(error / np.sum((y - y.mean()) ** 2)),
                    np.dot(x, y) / np.linalg.norm(x) / np.linalg.norm(y),
                ]
            )
    bins = {
        "0.2 to 0.6": (0, 1),
        "0.6 to 1": (1, 2),
        "1 to 1.5": (3,),
        "1.5 to 2": (3, 4),
        "all": range(5),
    }
    assert list(found) == list(bins)
    for group, at in bins.items():
        wanted = np.mean([rows[n + version] for n in at for version in (0, 5)], axis=0)
        values = [found[group][k] for k in ("ssd", "mad", "prd_published", "prd", "cosine")]
        np.testing.assert_allclose(values, wanted, atol=6e-5)


def test_a_model_is_trained_and_scored(
    qt: Path,
    noise: Path,
    recipe: ModuleType,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    folders = [f"data.sources.qt={qt}", f"data.sources.noise={noise}"]
    quick = [
        "hydra/job_logging=disabled",
        "hydra/hydra_logging=disabled",
        f"hydra.run.dir={tmp_path}",
        "trainer.max_steps=4",
        "trainer.max_time=null",
        "trainer.val_check_interval=4",
        "trainer.precision=32-true",
        "trainer.accelerator=cpu",
        "trainer.logger=false",
        "trainer.enable_progress_bar=false",
        "data.batch_size=8",
        "+data.sources.recordings=4",
        "model.denoiser.backbone.channels=16",
        "model.denoiser.backbone.hidden=8",
        "model.denoiser.backbone.layers=3",
    ]
    code, _, err = command("train", "experiment=ecg_qt", *folders, *quick)
    assert code == 0, err
    model = tmp_path / "model.safetensors"
    assert Denoiser.from_pretrained(model).sample_rate == 360
    beats = recipe.held_out(qt, noise)[0].noisy
    np.testing.assert_allclose(
        recipe.by_model(str(model), recipe.Settings())(beats),
        denoise(Denoiser.from_pretrained(model), beats, sample_rate=360),
        atol=1e-6,
    )
    output, threads = tmp_path / "results.json", torch.get_num_threads()
    options = ["--qt", qt, "--noise", noise, "--model", model, "--shots", 2, "--steps", 2]
    try:
        recipe.main([str(option) for option in (*options, "--output", output)])
    finally:
        torch.set_num_threads(threads)
    whole = json.loads(output.read_text())
    assert whole["test_beats"] == 68 and whole["training_beats"] == 43
    results = whole["results"]
    assert list(results)[-2:] == ["model, 1 step", "model, 2 shots (4 calls)"]
    for name in ("IIR band-pass", "shipped ecg (not held out), 1 step"):
        assert results[name]["all"]["cosine"] > results["input"]["all"]["cosine"]
    assert results["model, 1 step"] != results["model, 2 shots (4 calls)"]
    table = recipe.table(results).splitlines()
    assert len(table) == 2 + len(results) and len({row.count("|") for row in table}) == 1


def test_what_is_missing_is_told_in_one_line(
    qt: Path,
    noise: Path,
    recipe: ModuleType,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    partly = tmp_path / "partly"
    partly.mkdir()

    def told(qt: Path, noise: Path, *, train: bool = False) -> str:
        with pytest.raises(InputError) as caught:
            QtSources(str(qt), str(noise))() if train else recipe.held_out(qt, noise)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "no such folder" in told(tmp_path / "nothing", noise)
    assert "no such folder" in told(qt, tmp_path / "nothing", train=True)
    assert "has no record bw" in told(qt, partly)
    assert "has no WFDB records" in told(partly, noise)
    for suffix in ("hea", "dat", "pu1"):
        (partly / f"sel32.{suffix}").write_bytes((qt / f"sel32.{suffix}").read_bytes())
    missing = told(partly, noise)
    assert "sel49" in missing and "sel32" not in missing
    assert "too few training records" in told(partly, noise, train=True)
    (partly / "sel32.pu1").unlink()
    assert "sel32.pu1 can't be read" in told(partly, noise)
    header = (noise / "bw.hea").read_text()
    (partly / "bw.hea").write_text(header.replace(" 360 ", " 250 "))
    (partly / "bw.dat").write_bytes((noise / "bw.dat").read_bytes())
    assert "bw has 250 Hz, not 360" in told(qt, partly)
    wfdb.wrsamp(
        "bw",
        fs=360,
        units=["mV"],
        sig_name=["a"],
        p_signal=np.ones((3000, 1)),
        fmt=["16"],
        write_dir=str(partly),
    )
    assert "needs two channels" in told(qt, partly, train=True)
    with pytest.raises(InputError, match="version is 3"):
        qt_set.wander(noise, 3)
    with pytest.raises(InputError, match="--model has 3 names"):
        recipe.main(["--qt", str(qt), "--noise", str(noise), "--model", "a", "b", "c"])
    with pytest.raises(InputError, match="steps"):
        recipe.main(["--qt", "a", "--noise", "b", "--model", "ecg", "--shots", "3", "--steps", "1"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv)
    quiet = ["hydra/job_logging=disabled", "hydra/hydra_logging=disabled"]
    chosen = ["data.sources.qt=nothing", f"data.sources.noise={noise}", "trainer.logger=false"]
    code, _, err = command("train", "experiment=ecg_qt", *chosen, *quiet)
    assert code != 0 and err.strip().splitlines()[-1].count("no such folder") == 1


def test_the_filters_take_rows_and_are_those_of_the_libraries() -> None:
    rng = np.random.default_rng(0)
    rows = np.cumsum(rng.standard_normal((3, 512)), axis=1)
    methods = (
        lambda x: bandpass(x, 360),
        lambda x: fir_bandpass(x, 360),
        wavelet,
    )
    for method in methods:
        single = np.stack([method(row) for row in rows])
        np.testing.assert_allclose(method(rows), single, atol=1e-9)
    long = rng.standard_normal(5000)
    coarse, *fine = pywt.wavedec(long, "sym8", level=6)
    threshold = np.median(np.abs(fine[-1])) / 0.6745 * np.sqrt(2 * np.log(5000))
    kept = [pywt.threshold(c, threshold, "soft") for c in fine]
    wanted = pywt.waverec([coarse, *kept], "sym8")[:5000]
    np.testing.assert_allclose(wavelet(long), wanted, atol=1e-12)
