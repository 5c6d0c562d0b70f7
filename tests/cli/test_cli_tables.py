"""Tables of readings through the command: other columns untouched, units kept, models trained."""

import csv
from pathlib import Path

import numpy as np
import pytest
from builders import Command, sensor

from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.nn.stack import DilatedStack
from signal_diffusion.schedules import BrownianBridge


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "sensor.safetensors"
    sensor().save_pretrained(path)
    return path


def table(path: Path, rows: int = 3000) -> np.ndarray:
    """A CSV with a gap, words and a state beside two channels; returns the channels (2, rows)."""
    rng = np.random.default_rng(0)
    x = np.stack([20 + np.sin(np.arange(rows) / 9), 1e5 + 300 * rng.standard_normal(rows)])
    lines = ["time;place;temperature;pressure"]
    for n in range(rows):
        pressure = "" if 100 <= n < 110 else f"{x[1, n]:.1f}"
        lines.append(f"{n / 50:.3f};hall {n % 3};{x[0, n]:.4f};{pressure}")
    path.write_bytes("\r\n".join([*lines, ""]).encode())
    return x


def columns(path: Path) -> dict[str, list[str]]:
    with path.open(newline="") as file:
        rows = list(csv.reader(file, delimiter=";"))
    return {name: [row[at] for row in rows[1:]] for at, name in enumerate(rows[0])}


def test_other_columns_stay_and_channels_keep_their_units(
    tmp_path: Path,
    model: Path,
    command: Command,
) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    x = table(source)
    options = ["--model", model, "--keep-noise", tmp_path / "noise.csv"]
    code, out, err = command("denoise", source, "-o", target, *options)
    line = "columns that change: temperature, pressure; that stay: time (time stamps), place (no "
    assert (code, err) == (0, f"{source}: {line}numbers)\n"), err
    assert "60.00 s at 50 Hz, 2 channels" in out
    before, after = columns(source), columns(target)
    assert after["time"] == before["time"] and after["place"] == before["place"]
    assert list(after) == ["time", "place", "temperature", "pressure", "pressure_filled"]
    assert [int(cell) for cell in after["pressure_filled"]] == [
        int(100 <= n < 110) for n in range(3000)
    ]
    for name, channel in zip(("temperature", "pressure"), x, strict=True):
        cleaned = np.array(after[name], float)
        assert abs(np.median(cleaned) - np.median(channel)) < channel.std()
        assert 0.01 * channel.std() < np.std(cleaned - channel) < 2 * channel.std()
    removed = np.array(columns(tmp_path / "noise.csv")["temperature"], float)
    np.testing.assert_allclose(np.array(after["temperature"], float) + removed, x[0], atol=1e-3)


def test_nothing_changes_at_strength_0(tmp_path: Path, model: Path, command: Command) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    table(source)
    options = ["--model", model, "--strength", 0, "--columns", "temperature"]
    code, _, err = command("denoise", source, "-o", target, *options)
    line = "columns that change: temperature; that stay: time (time stamps), place (not named)"
    assert (code, err) == (0, f"{source}: {line}, pressure (not named)\n")
    assert target.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("suffix", ["csv", "parquet", "npz", "hea"])
def test_the_columns_are_named_before_the_work_begins(tmp_path: Path, suffix: str) -> None:
    from signal_diffusion.tables import opened_table, writing_table
    from signal_diffusion.tasks.denoise_files import denoise_table

    x, source = np.random.default_rng(0).standard_normal(500), tmp_path / f"a.{suffix}"
    np.savez(tmp_path / "in.npz", x=x, flag=np.arange(500) % 2, sample_rate=50)
    with opened_table(tmp_path / "in.npz") as reader, writing_table(source, reader) as writer:
        for block in reader.blocks():
            writer.write(block)
    lines: list[str] = []

    class Late(Halved):
        def forward(self, x_t, t, y=None, cond=None):
            assert len(lines) == 1
            return y / 2

    denoise_table(Late(), source, tmp_path / f"b.{suffix}", announce=lines.append)
    assert lines[0].startswith("columns that change: x; that stay: ")
    assert lines[0].endswith("flag (two values)")


def test_a_folder_of_tables(tmp_path: Path, model: Path, command: Command) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for name in ("a.csv", "deep/b.csv"):
        table(tmp_path / "in" / name, rows=500)
    (tmp_path / "in" / "bad.csv").write_text("time;x\n0;1\n1;word\n")
    where = [tmp_path / "in", "-o", tmp_path / "out"]
    code, out, err = command("denoise", *where, "--model", model)
    assert err.count("columns that change: temperature, pressure;") == 1
    assert code == 1 and "2 files" in out and "1 failed" in out and "bad.csv" in err
    assert (tmp_path / "out" / "deep" / "b.csv").is_file()
    assert not (tmp_path / "out" / "bad.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "speech"], "is a table of readings: use a model of such signals"),
        (["--columns", "humidity"], "humidity"),
        (["--time", "clock"], "clock"),
        (["--rate", 0], "rate is 0"),
    ],
)
def test_mistakes_give_one_line(
    tmp_path: Path,
    model: Path,
    command: Command,
    arguments: list,
    message: str,
) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    table(source, rows=100)
    options = ["--model", model, *arguments]
    code, _, err = command("denoise", source, "-o", target, *options)
    assert code == 2 and message in err and err.count("\n") == 1
    assert not target.exists()


def test_a_folder_of_noisy_tables_trains_a_denoiser(tmp_path: Path) -> None:
    """One command on a folder, and the model takes some of the noise off."""
    from hydra import compose, initialize_config_dir

    from signal_diffusion import Denoiser, denoise
    from signal_diffusion.training.runs import conf_folder, fit

    rng, time = np.random.default_rng(0), np.arange(20_000)
    clean = np.sin(time / 20) + 0.5 * np.sin(time / 7)
    noisy = 300 + 40 * (clean + 0.5 * rng.standard_normal(20_000))
    (tmp_path / "data").mkdir()
    rows = [f"{n},{v:.3f}" for n, v in enumerate(noisy)]
    (tmp_path / "data" / "a.csv").write_text("\n".join(["time,reading", *rows, ""]))
    overrides = [
        "experiment=noisy_only",
        f"data.sources.root={tmp_path / 'data'}",
        f"folder={tmp_path}",
        "trainer.max_time=null",
        "trainer.max_steps=80",
        "trainer.val_check_interval=40",
        "trainer.enable_progress_bar=false",
        "trainer.logger=false",
        "data.sources.length=512",
        "model.denoiser.backbone.channels=32",
        "model.denoiser.backbone.hidden=16",
    ]
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        score = fit(compose("train", overrides))
    assert score > 6
    cleaned = denoise(Denoiser.from_pretrained(tmp_path / "model.safetensors"), noisy)
    before, after = (np.mean((x - 300 - 40 * clean) ** 2) for x in (noisy, cleaned))
    assert 10 * np.log10(before / after) > 4


def test_recordings_of_noise_alone_are_refused(tmp_path: Path) -> None:
    from signal_diffusion.data.white_noise import NoisySources
    from signal_diffusion.errors import InputError

    rows = [f"{n},{v:.3f}" for n, v in enumerate(np.random.default_rng(0).normal(7, 2, 5000))]
    (tmp_path / "a.csv").write_text("\n".join(["time,reading", *rows, ""]))
    with pytest.raises(InputError, match="nothing that exceeds its white noise"):
        NoisySources(str(tmp_path))()


def test_the_name_of_a_record_without_a_suffix_is_taken(tmp_path: Path) -> None:
    wfdb = pytest.importorskip("wfdb")
    from signal_diffusion.tasks.denoise_files import denoise_table
    from signal_diffusion.tasks.jobs import plan

    x = np.cumsum(np.random.default_rng(0).standard_normal((1000, 2)), axis=0)
    wfdb.wrsamp(
        "record100",
        fs=360,
        units=["mV", "mV"],
        sig_name=["I", "II"],
        p_signal=x,
        fmt=["16", "16"],
        write_dir=str(tmp_path),
    )
    jobs = plan([str(tmp_path / "record100")], str(tmp_path / "clean.csv"))
    assert [job.source.name for job in jobs] == ["record100"]
    report = denoise_table(Halved(), tmp_path / "record100", tmp_path / "clean.csv")
    assert (report.channels, report.sample_rate) == (2, 360)
    assert (tmp_path / "clean.csv").read_text().count("\n") == 1001


def test_without_an_output_tables_and_records_lie_beside_the_input(
    tmp_path: Path, model: Path, command: Command
) -> None:
    wfdb = pytest.importorskip("wfdb")
    table(tmp_path / "run.csv")
    x = np.random.default_rng(0).standard_normal((1000, 1))
    form = {"units": ["mV"], "sig_name": ["I"], "fmt": ["16"], "write_dir": str(tmp_path)}
    wfdb.wrsamp("record", fs=50, p_signal=x, **form)
    made = {
        "run.csv": ["run_clean.csv"],
        "record.hea": ["record_clean.dat", "record_clean.hea"],
    }
    for name, names in made.items():
        assert command("denoise", tmp_path / name, "--model", model, "--quiet") == (0, "", "")
        assert sorted(path.name for path in tmp_path.glob("*_clean*")) == names
        for new in names:
            (tmp_path / new).unlink()
    record, target = tmp_path / "record", tmp_path / "record_clean"
    assert command("denoise", record, "--model", model)[0] == 0
    header = target.with_suffix(".hea")
    assert header.read_text().startswith("record_clean 1 50 1000")
    assert f"{header} exists" in command("denoise", record, "--model", model)[2]
    assert "nothing to do" in command("denoise", record, "--resume", "--model", model)[1]
    itself = command("denoise", record, "-o", record, "--force", "--model", model)
    assert itself[0] == 2 and "is the input itself" in itself[2]


class Halved(NetworkDenoiser):
    """x_hat = y / 2."""

    def __init__(self) -> None:
        stack = DilatedStack(1, channels=8, hidden=4, layers=1, paired=True)
        super().__init__(stack, BrownianBridge(), level_db=0.0, offset="kept")

    def forward(self, x_t, t, y=None, cond=None):
        return y / 2
