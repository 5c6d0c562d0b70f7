"""The command: what it writes, what it says, and one line and no file for every mistake."""

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from builders import Command, Outcome, network

from signal_diffusion import errors
from signal_diffusion.audio import Recording, read, write
from signal_diffusion.audio.pipes import PipeReader
from signal_diffusion.audio.provenance import write_generated
from signal_diffusion.cli.options import RAW_FORMATS
from signal_diffusion.errors import InputError
from signal_diffusion.files import artifact
from signal_diffusion.model_facts import macs
from signal_diffusion.samplers import SAMPLERS


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "identity.safetensors"
    network().save_pretrained(path)
    return path


def speechlike(channels: int, length: int) -> np.ndarray:
    generator = np.random.default_rng(5)
    return generator.uniform(-0.5, 0.5, (channels, length)).astype(np.float32)


@pytest.fixture
def noisy(tmp_path: Path) -> Path:
    path = tmp_path / "noisy.wav"
    write(path, Recording(speechlike(1, 8000), 16000))
    return path


@pytest.mark.parametrize(
    ("suffix", "subtype", "channels"),
    [(".wav", "PCM_16", 2), (".flac", "PCM_24", 1), (".wav", "FLOAT", 3), (".flac", "PCM_16", 1)],
)
def test_denoise_gives_back_the_form_that_it_got(
    tmp_path: Path, model: Path, command: Command, suffix: str, subtype: str, channels: int
) -> None:
    source, target = tmp_path / f"noisy{suffix}", tmp_path / f"clean{suffix}"
    write(source, Recording(speechlike(channels, 9001), 16000, subtype=subtype))
    code, out, err = command("denoise", source, "--model", model, "-o", target)
    assert (code, err) == (0, "")
    before, after = read(source), read(target)
    assert (after.sample_rate, after.container, after.subtype) == (
        before.sample_rate,
        before.container,
        before.subtype,
    )
    np.testing.assert_allclose(after.samples, before.samples, atol=2e-3)
    for word in (str(model), "16000 Hz", "0.56 s", f"{channels} channel", "real-time factor"):
        assert word in out


@pytest.mark.parametrize("band", ["full", "model"])
def test_denoise_keeps_another_rate_and_says_what_is_lost(
    tmp_path: Path, model: Path, command: Command, band: str
) -> None:
    time = np.arange(22051) / 44100
    tone = 0.3 * np.sin(2 * np.pi * 700 * time) * np.hanning(len(time))
    write(tmp_path / "a.flac", Recording(tone[None].astype(np.float32), 44100))
    line = ("denoise", tmp_path / "a.flac", "--model", model, "--output", tmp_path / "b.flac")
    code, out, _ = command(*line, "--band", band)
    cleaned = read(tmp_path / "b.flac")
    assert (code, cleaned.sample_rate, cleaned.samples.shape) == (0, 44100, (1, 22051))
    np.testing.assert_allclose(cleaned.samples[0], tone, atol=2e-3)
    assert ("nothing above its 8000 Hz" in out) == (band == "model")


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_runs_and_a_seed_names_its_result(
    tmp_path: Path, model: Path, noisy: Path, command: Command, sampler: str
) -> None:
    options = ("denoise", noisy, "--model", model, "--steps", 3, "--sampler", sampler, "--seed", 4)
    for name in ("first.wav", "second.wav"):
        assert command(*options, "-o", tmp_path / name)[0] == 0
    assert (tmp_path / "first.wav").read_bytes() == (tmp_path / "second.wav").read_bytes()


def test_force_replaces_the_output(
    tmp_path: Path, model: Path, noisy: Path, command: Command
) -> None:
    target = tmp_path / "clean.wav"
    target.write_bytes(b"mine")
    code, _, err = command("denoise", noisy, "--model", model, "-o", target)
    assert (code, target.read_bytes()) == (2, b"mine")
    assert "--force" in err
    assert command("denoise", noisy, "--model", model, "-o", target, "--force")[0] == 0
    assert read(target).samples.shape == (1, 8000)


def told_words(path: Path, model: Path, command: Command, *options: object) -> str:
    """What the command says of a recording, once it is done."""
    code, out, err = command(
        "denoise", path, "--model", model, "-o", path.with_name("out.wav"), *options
    )
    assert (code, err) == (0, "")
    return out


def test_no_strength_gives_the_recording_back(
    tmp_path: Path, noisy: Path, command: Command
) -> None:
    """With the shipped model, which changes it otherwise."""
    options = ("--strength", 0, "--keep-noise", tmp_path / "n.wav")
    told_words(noisy, Path("speech"), command, *options)
    np.testing.assert_array_equal(read(tmp_path / "out.wav").samples, read(noisy).samples)
    assert not read(tmp_path / "n.wav").samples.any()


def test_the_highest_attenuation_is_that_of_noise_alone(
    tmp_path: Path, noisy: Path, command: Command
) -> None:
    """White noise, which the shipped model takes away, is turned down by that many dB."""
    told_words(noisy, Path("speech"), command, "--max-attenuation", 12)
    power = [np.square(read(path).samples).mean() for path in (noisy, tmp_path / "out.wav")]
    assert 10 * np.log10(power[0] / power[1]) == pytest.approx(12, abs=0.5)


def test_channels_are_mixed_on_demand(tmp_path: Path, model: Path, command: Command) -> None:
    path = tmp_path / "stereo.wav"
    write(path, Recording(speechlike(2, 4000), 16000))
    assert "1 channel," in told_words(path, model, command, "--channels", "mix")
    mixed = read(path).samples.mean(axis=0, keepdims=True)
    np.testing.assert_allclose(read(tmp_path / "out.wav").samples, mixed, atol=2e-3)


def test_shots_are_told_and_their_spread_is_kept(
    tmp_path: Path, model: Path, noisy: Path, command: Command
) -> None:
    options = ("--shots", 2, "--steps", 2, "--uncertainty", tmp_path / "u.npz")
    assert "2 steps of ddim, 2 shots" in told_words(noisy, model, command, *options)
    with np.load(tmp_path / "u.npz") as arrays:
        assert arrays["std"].shape == (1, 8000)


def test_quiet_says_nothing(model: Path, noisy: Path, command: Command) -> None:
    assert told_words(noisy, model, command, "--quiet") == ""


def test_what_is_not_kept_is_told(tmp_path: Path, model: Path, command: Command) -> None:
    path = tmp_path / "six.wav"
    write(path, Recording(speechlike(6, 3000), 16000))
    code, out, _ = command("denoise", path, "--model", model, "-o", tmp_path / "six.mp3")
    assert code == 0
    assert "note: " in out and "MP3 can't hold 6 channels" in out
    assert read(tmp_path / "six.flac").samples.shape == (6, 3000)


def test_one_file_into_a_folder_keeps_its_name(
    tmp_path: Path, model: Path, noisy: Path, command: Command
) -> None:
    assert command("denoise", noisy, "--model", model, "-o", f"{tmp_path}/new/")[0] == 0
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["noisy.wav"]
    told = command("denoise", noisy, "--model", model, "-o", tmp_path / "new")
    assert_one_line(told, "exists")
    code, out, _ = command("denoise", noisy, "--model", model, "-o", tmp_path / "new", "--resume")
    assert (code, "nothing to do" in out) == (0, True)


class Pipe:
    """Stands in for standard input or output, bytes behind text."""

    def __init__(self, content: bytes = b"") -> None:
        self.buffer = io.BytesIO(content)

    def isatty(self) -> bool:
        return False

    def flush(self) -> None:
        """Nothing waits."""


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch, command: Command) -> Callable[..., bytes]:
    """Runs the command with something on standard input: what comes out of it."""

    def run(content: bytes, *arguments: object) -> bytes:
        out = Pipe()
        monkeypatch.setattr(sys, "stdin", Pipe(content))
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", out)
            code, _, err = command("denoise", *arguments)
        assert code == 0, err
        assert "real-time factor" in err
        return out.buffer.getvalue()

    return run


def test_a_pipe_gives_what_a_file_gives(
    tmp_path: Path, model: Path, noisy: Path, command: Command, piped: Callable[..., bytes]
) -> None:
    options = ("--model", model, "--level", -10)
    assert command("denoise", noisy, *options, "-o", tmp_path / "a.wav")[0] == 0
    expected = read(tmp_path / "a.wav").samples
    for source, content in ((noisy, b""), ("-", noisy.read_bytes())):
        (tmp_path / "b.wav").write_bytes(piped(content, source, *options, "-o", "-"))
        np.testing.assert_array_equal(read(tmp_path / "b.wav").samples, expected)


def test_raw_pcm_comes_out_as_it_went_in(model: Path, piped: Callable[..., bytes]) -> None:
    samples = np.rint(speechlike(1, 6000)[0] * 32767).astype("<i2").reshape(-1, 2)
    form = ("--rate", 16000, "--format", "s16le", "--channels", 2)
    cleaned = piped(samples.tobytes(), "-", "-o", "-", "--model", model, *form)
    difference = np.frombuffer(cleaned, "<i2").reshape(-1, 2).astype(int) - samples
    assert np.abs(difference).max() < 80


def test_the_formats_of_raw_pcm_are_those_of_the_pipes() -> None:
    from signal_diffusion.audio import pipes

    assert tuple(pipes.RAW_FORMATS) == RAW_FORMATS


def test_standard_input_into_a_file(
    tmp_path: Path, model: Path, noisy: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out.flac"
    monkeypatch.setattr(sys, "stdin", Pipe(noisy.read_bytes()))
    code, out, err = command("denoise", "-", "--model", model, "-o", target)
    assert (code, err) == (0, "")
    assert f"{target}: 0.50 s" in out
    assert read(target).samples.shape == (1, 8000)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-", "-"), "takes one input"),
        (("-", "a.wav"), "takes one input"),
        (("-", "--jobs", 2), "jobs is for files"),
        (("-", "--resume"), "resume is for files"),
        (("-", "--plot", "a.png"), "plot is for files"),
        (("-", "--rate", 8000), "both --rate and --format"),
        (("-", "--rate", 0, "--format", "u8"), "rate is 0 Hz"),
        (("-", "--rate", 8000, "--format", "s8"), "choose one of u8"),
        (("-",), "a pipe takes WAV"),
        (("-", "-o", "{folder}/"), "is a folder: name the file"),
        (("-", "-o", "{folder}/there.wav"), "exists: pass --force to replace it"),
    ],
)
def test_bad_pipes(
    tmp_path: Path,
    model: Path,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[object, ...],
    message: str,
) -> None:
    monkeypatch.setattr(sys, "stdin", Pipe(b"this is no sound " * 9))
    (tmp_path / "there.wav").touch()
    given = [str(option).format(folder=tmp_path) for option in options]
    line = ("denoise", "-o", "-", "--model", model, *given)
    assert_one_line(command(*line), message)


@pytest.mark.parametrize("name", ["stdin", "stdout"])
def test_a_closed_stream_is_no_pipe(
    noisy: Path, command: Command, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, name, None)
        told = command("denoise", "-" if name == "stdin" else noisy, "-o", "-")
    assert_one_line(told, "is closed")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is full")
def test_a_summary_that_no_one_takes_is_no_failure(
    tmp_path: Path, model: Path, noisy: Path
) -> None:
    target = tmp_path / "clean.wav"
    line = [sys.executable, "-m", "signal_diffusion", "denoise", noisy, "--model", model]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*line, "-o", target], stdout=full, stderr=subprocess.PIPE, text=True, timeout=120
        )
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    assert "note: standard output can't be written" in done.stderr
    assert read(target).samples.shape == (1, 8000)


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        (("-", "-o", "-"), "holds a part of the recording"),
        (("{noisy}", "-o", "{noisy}.wav"), "nothing was written"),
        (("{noisy}", "{noisy}", "-o", "out"), "--resume does the rest"),
    ],
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_an_interrupted_run_leaves_is_told(
    noisy: Path,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    arguments: tuple[str, ...],
    kept: str,
    number: signal.Signals,
) -> None:
    tidied: list[bool] = []

    def interrupting(*_: object) -> None:
        try:
            signal.raise_signal(number)
        finally:
            # A second one is not heard.
            signal.raise_signal(number)
            tidied.append(True)

    # It may be ignored, as under nohup.
    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    inherited, before = signal.signal(number, usual), usual
    request.addfinalizer(lambda: signal.signal(number, inherited))
    for name in ("denoise_run.denoise_files", "denoise_run.denoise_piped"):
        monkeypatch.setattr(f"signal_diffusion.cli.{name}", interrupting)
    code, out, err = command("denoise", *(word.format(noisy=noisy) for word in arguments))
    assert (code, out, err.count("\n"), tidied) == (128 + number, "", 1, [True])
    assert kept in err
    assert signal.getsignal(number) is before


def test_control_characters_in_names_are_spelt_out(
    tmp_path: Path, model: Path, noisy: Path, command: Command
) -> None:
    target = tmp_path / "a\x1b[2J\nb.wav"
    code, out, _ = command("denoise", noisy, "--model", model, "-o", target)
    assert (code, out.count("\n")) == (0, 2)
    assert "a\\x1b[2J\\nb.wav: 0.50 s" in out


def test_a_terminal_is_no_pipe(
    noisy: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("stdin", "stdout"):
        monkeypatch.setattr(Pipe, "isatty", lambda _: True)
        with monkeypatch.context() as patch:
            patch.setattr(sys, name, Pipe())
            told = command("denoise", "-" if name == "stdin" else noisy, "-o", "-")
        assert_one_line(told, "is a terminal")


def bad_inputs(folder: Path) -> dict[str, tuple[Path, str]]:
    (folder / "text.wav").write_text("this is no sound\n" * 50)
    (folder / "empty.wav").touch()
    write(folder / "nothing.wav", Recording(np.zeros((1, 0), np.float32), 8000))
    soundfile.write(folder / "nan.wav", np.array([0.0, np.nan, 0.0]), 8000, "FLOAT")
    write(folder / "whole.flac", Recording(speechlike(1, 50000), 16000))
    content = (folder / "whole.flac").read_bytes()
    (folder / "cut.flac").write_bytes(content[: len(content) // 2])
    (folder / "folder").mkdir()
    return {
        "missing file": (folder / "none.wav", "no such file"),
        "folder": (folder / "folder", "holds no recordings"),
        "text renamed .wav": (folder / "text.wav", "no audio file"),
        "empty file": (folder / "empty.wav", "empty"),
        "zero-length audio": (folder / "nothing.wav", "no samples"),
        "NaN samples": (folder / "nan.wav", "NaN"),
        "truncated FLAC": (folder / "cut.flac", "cut short"),
    }


def assert_one_line(told: Outcome, message: str) -> None:
    code, out, err = told
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("error: ")
    assert message in err


def test_bad_recordings(tmp_path: Path, model: Path, command: Command) -> None:
    cases = bad_inputs(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for path, message in cases.values():
        told = command("denoise", path, "--model", model, "-o", tmp_path / "clean.wav")
        assert_one_line(told, message)
        assert path.name in told[2]
    assert sorted(tmp_path.rglob("*")) == before


def bad_models(folder: Path, good: Path) -> dict[str, tuple[object, str]]:
    (folder / "text.safetensors").write_text("no model")
    content = good.read_bytes()
    (folder / "cut.safetensors").write_bytes(content[: len(content) // 2])
    network(domain="ecg", rate=360).save_pretrained(folder / "ecg.safetensors")
    return {
        "unknown model": ("melody", "no model 'melody'"),
        "missing model": (folder / "none.safetensors", "no model"),
        "wrong file": (folder / "text.safetensors", "no model file"),
        "truncated": (folder / "cut.safetensors", "truncated"),
        "other domain": (folder / "ecg.safetensors", "ecg signals at 360 Hz"),
    }


def test_bad_models(tmp_path: Path, model: Path, noisy: Path, command: Command) -> None:
    cases = bad_models(tmp_path, model)
    before = sorted(tmp_path.rglob("*"))
    for name, message in cases.values():
        told = command("denoise", noisy, "--model", name, "-o", tmp_path / "clean.wav")
        assert_one_line(told, message)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_unknown_model_is_answered_with_the_shipped_names(
    noisy: Path, command: Command, monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    monkeypatch.setattr(artifact, "shipped", lambda: {"speech": model, "ecg": model})
    told = command("denoise", noisy, "--model", "spech", "-o", noisy.with_name("clean.wav"))
    assert_one_line(told, "speech, ecg")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--steps", 0), "steps is 0"),
        (("--steps", -3), "steps is -3"),
        (("--seed", -1), "seed is -1"),
        (("--sampler", "euler"), "choose one of ddim"),
        (("--sampler", "os.path"), "is no sampler"),
        (("--sampler", "os.system"), "is no sampler"),
        (("--sampler", "math.sqrt"), "is no sampler"),
        (("--sampler", "..ddim"), "can't be imported"),
        (("-o", "{folder}/" + 260 * "x" + ".wav"), "name too long"),
        (
            ("-o", "{folder}/clean.wav", "--keep-noise", "{folder}/" + 260 * "x" + ".wav"),
            "too long",
        ),
        (("--device", "abacus"), "this machine has: auto"),
        (("-o", "{folder}/none/clean.wav"), "no folder"),
        (("-o", "{folder}/clean.xyz"), "use one of .wav"),
        (("-o", "{folder}"), "is the input itself"),
        (("-o", "{folder}/noisy.wav"), "is the input itself"),
        (("--strength", 2), "strength is 2.0"),
        (("--strength", 1, "--max-attenuation", 9), "give one of them"),
        (("--max-attenuation", -1), "0 or more"),
        (("--band", "half"), "choose one of full, model"),
        (("--level", 300), "level is 300.0 dB"),
        (("--piece", 0), "piece is 0.0 s"),
        (("--shots", 4, "--steps", 1), "pass steps"),
        (("--noise-std", 0.1), "starts at the recording"),
        (("--uncertainty", "{folder}/u.npz"), "add --shots"),
        (("--shots", 4, "--uncertainty", "{folder}/u.wav"), "ends in .npz"),
        (("--plot", "{folder}/p.jpg"), "ends in .png"),
        (("--keep-noise", "{folder}/none/n.wav"), "no folder"),
        (("--keep-noise", "{folder}/clean.wav"), "two outputs of"),
        (("--keep-noise", "{folder}/noisy.wav", "--force"), "is the input itself"),
        (("--jobs", 0), "jobs is 0"),
        (("--force", "--resume"), "give one of the two"),
        (("--report", "{folder}/noisy.wav"), "is an input or an output"),
        (("--report", "{folder}/link.wav"), "is no report"),
        (("--report", "{folder}"), "is a folder"),
        (("--rate", 8000, "--format", "s16le"), "give - as the only input"),
        (("--channels", 2), "choose each or mix"),
        (("--channels", "both"), "give each, mix or"),
        (("--channels", "mix", "--channels", "each"), "choose one"),
        (("-o", "{folder}/noisy.wav", "--force"), "is the input itself"),
        (("-o", "{folder}/link.wav", "--force"), "is the input itself"),
    ],
)
def test_bad_options(
    tmp_path: Path, model: Path, noisy: Path, command: Command, options: tuple, message: str
) -> None:
    os.link(noisy, tmp_path / "link.wav")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    given = [str(option).format(folder=tmp_path) for option in options]
    output = () if "-o" in given else ("-o", tmp_path / "clean.wav")
    assert_one_line(command("denoise", noisy, "--model", model, *output, *given), message)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that nobody can fill")
def test_an_unwritable_folder_is_noticed_before_the_model_is_loaded(
    noisy: Path, command: Command
) -> None:
    told = command("denoise", noisy, "--model", "never looked at", "-o", "/proc/clean.wav")
    assert_one_line(told, "can't be written")


@pytest.mark.parametrize("arguments", [("denoise",), ("denoise", "a", "--stepz", "1"), ("dance",)])
def test_usage_errors_exit_2(command: Command, arguments: tuple[str, ...]) -> None:
    assert command(*arguments)[0] == 2


def test_an_unexpected_failure_is_one_line_and_its_traceback_on_demand(
    tmp_path: Path, model: Path, noisy: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise RuntimeError("the disk\nis on fire")

    monkeypatch.setattr("signal_diffusion.tasks.denoise_files.denoise_file", failing)
    line = ("denoise", noisy, "--model", model, "-o", tmp_path / "clean.wav")
    code, _, err = command(*line)
    assert (code, err) == (
        1,
        "error: RuntimeError: the disk is on fire (--traceback shows where)\n",
    )
    code, _, err = command(*line, "--traceback")
    assert code == 1
    assert "Traceback" in err
    assert not (tmp_path / "clean.wav").exists()


def test_a_mistake_wrapped_by_a_configuration_is_still_a_mistake(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrapping(*_: object) -> None:
        try:
            raise InputError("rate is 0 Hz; it must be positive")
        except InputError as error:
            raise RuntimeError("in building 'data'") from error

    monkeypatch.setattr("signal_diffusion.training.runs.run", wrapping)
    assert_one_line(command("train"), "rate is 0 Hz")


def test_train_hands_the_overrides_on(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []
    home = "signal_diffusion.training.runs.run"
    monkeypatch.setattr(home, lambda overrides: given.extend(overrides))
    overrides = [
        "experiment=speech_denoise",
        "trainer.max_time=00:00:05:00",
        "~resume",
        "+a.b=[1,2]",
    ]
    assert command("train", *overrides)[0] == 0
    assert given == overrides


@pytest.mark.parametrize("override", ["experiment=nothing", "nothing=1", "trainer..=", "trainer"])
def test_overrides_that_fit_no_configuration(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch, override: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_one_line(command("train", override), override.split("=")[0].rstrip("."))
    assert not list(tmp_path.iterdir())


def test_info_tells_what_a_file_holds(model: Path, command: Command) -> None:
    code, out, err = command("info", model)
    facts = {line[:16].strip(): line[16:].strip() for line in out.splitlines()}
    assert (code, err) == (0, "")
    denoiser = network()
    parameters = sum(p.numel() for p in denoiser.parameters())
    assert facts["parameters"] == f"{parameters:,}"
    assert facts["rate"] == "16000 Hz"
    assert facts["domain"] == "speech"
    # 7 frames back and 7 ahead at hop 256, and the windows that they read and write.
    reach = 7 * 256 + 511
    assert facts["receptive field"].startswith(f"{(1 + 2 * reach) / 16:.0f} ms")
    assert facts["latency"].startswith(f"{reach / 16:.0f} ms at 1 call")
    assert facts["compute"].startswith(f"{macs(denoiser) / 1e9:.3g} GMAC per 1000 ms")
    assert facts["licence"] == "CC-BY-4.0"
    assert facts["training data"] == "a, b"
    assert facts["scores"] == "PESQ 2.5"


def test_texts_of_files_move_no_cursor(tmp_path: Path, noisy: Path, command: Command) -> None:
    """Neither those that `info` shows, nor those in errors and their tracebacks."""
    denoiser, deep = network(), []
    for _ in range(20):
        deep = [deep]
    denoiser.card = {"licence": "MIT \u202egpj.exe", "deep": deep}
    denoiser.save_pretrained(tmp_path / "model.safetensors")
    code, out, err = command("info", tmp_path / "model.safetensors")
    assert (code, err) == (0, "") and "MIT \\u202egpj.exe" in out and "deep  " in out
    origin = {"synthetic": True, "ar\x1b]0;pwned\x07tist": "\x1b[2J"}
    write_generated(tmp_path / "made.wav", np.zeros((1, 800), np.float32), 8000, origin)
    code, out, err = command("info", tmp_path / "made.wav")
    assert (code, err) == (0, "") and "ar\\x1b]0;pwned\\x07tist  \\x1b[2J" in out
    evil = tmp_path / "no\x1b[2Jne.safetensors"
    evil.write_bytes(b"")
    for words in ([], ["--traceback"]):
        code, out, err = command("info", evil, *words)
        assert (code, out) == (2, "") and "no\\x1b[2Jne" in err and "\x1b" not in err


def test_compute_is_counted_on_one_second() -> None:
    """Every weight matrix once per frame (63.5 frames a second, 64 with the last, filled up)."""
    denoiser = network()
    stack = denoiser.backbone
    per_frame = sum(m.weight.numel() for m in stack.modules() if isinstance(m, torch.nn.Linear))
    once = sum(m.weight.numel() for m in stack.embedding.modules() if hasattr(m, "weight"))
    once += sum(block.time.weight.numel() for block in stack.blocks)
    assert macs(denoiser) == 64 * (per_frame - once) + once


def test_info_without_a_model_lists_the_shipped_ones(
    model: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (artifact, sys.modules["signal_diffusion.model_facts"]):
        monkeypatch.setattr(module, "shipped", lambda: {"speech": model})
    code, out, _ = command("info")
    assert code == 0
    assert out.splitlines()[1].split()[:4] == ["speech", "speech", "16000", "Hz"]


def test_info_of_what_is_no_model(tmp_path: Path, command: Command) -> None:
    assert_one_line(command("info", tmp_path / "none"), "no model")


def test_the_module_is_the_command(tmp_path: Path, model: Path, noisy: Path) -> None:
    target = tmp_path / "clean.wav"
    line = [sys.executable, "-m", "signal_diffusion", "denoise", noisy, "--model", model]
    done = subprocess.run([*line, "-o", target], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert read(target).samples.shape == (1, 8000)
    again = subprocess.run([*line, "-o", target], capture_output=True, text=True, timeout=120)
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("source", "target"),
    [("talk.wav", "talk_clean.wav"), ("takes", "takes_clean"), ("a.b.wav", "a.b_clean.wav")],
)
def test_without_an_output_the_result_lies_beside_the_input(
    tmp_path: Path, model: Path, command: Command, source: str, target: str
) -> None:
    samples = Recording(speechlike(1, 4000), 16000)
    path = tmp_path / source
    if not path.suffix:
        path.mkdir()
    write(path if path.suffix else path / "one.flac", samples)
    line = ("denoise", path, "--model", model)
    code, out, err = command(*line)
    assert (code, err) == (0, "")
    assert str(tmp_path / target) in out
    made = tmp_path / target if path.suffix else tmp_path / target / "one.flac"
    assert read(made).samples.shape == (1, 4000)
    content = made.read_bytes()
    assert_one_line(command(*line), "exist")
    assert made.read_bytes() == content
    assert command(*line, "--force")[0] == 0


def test_an_existing_output_names_both_ways_out(
    tmp_path: Path, model: Path, noisy: Path, command: Command
) -> None:
    (tmp_path / "noisy_clean.wav").write_bytes(b"mine")
    told = command("denoise", noisy, "--model", model)
    assert_one_line(told, "noisy_clean.wav exists: pass --force to replace it, or -o for another")
    assert (tmp_path / "noisy_clean.wav").read_bytes() == b"mine"


def test_without_an_output_several_inputs_need_a_folder(noisy: Path, command: Command) -> None:
    for inputs in ((noisy, noisy), (noisy.parent / "*.wav",)):
        assert_one_line(command("denoise", *inputs), "add -o FOLDER")


def test_a_pipe_without_an_output_goes_on_to_a_pipe(
    model: Path, noisy: Path, piped: Callable[..., bytes]
) -> None:
    assert piped(noisy.read_bytes(), "-", "--model", model).startswith(b"RIFF")


def test_the_version_is_one_line(command: Command) -> None:
    import signal_diffusion

    assert command("--version") == (0, f"signal-diffusion {signal_diffusion.__version__}\n", "")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("denoise", "missing argument 'INPUTS' (see signal-diffusion denoise --help)"),
        ("denoise a.wav --fast", "no such option: --fast"),
        ("denoise a.wav -o", "'-o' requires an argument"),
        ("denoise a.wav --steps many", "invalid value for '--steps'"),
        ("clean a.wav", "no such command 'clean'"),
        ("info a b", "extra argument"),
        ("train --fast", "no such option: --fast"),
        ("train experiment", "experiment"),
        ("train experiment=none", "none"),
        ("train trainer.speed=1", "speed"),
        ("score", "missing argument 'TABLE'"),
        ("generate", "missing argument 'MODEL'"),
        ("vocode a.npy", "missing option '-o' / '--output'"),
        ("evaluate", "missing argument"),
        ("benchmark", "missing argument"),
        ("memorisation", "missing argument"),
    ],
)
def test_every_mistake_of_usage_is_one_line(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [*sys.argv])
    told = command(*line.split())
    assert_one_line(told, "")
    assert message.lower() in told[2].lower()
    assert list(tmp_path.iterdir()) == []


def test_no_argument_shows_the_help(command: Command) -> None:
    code, out, err = command()
    assert (code, err) == (0, "")
    assert "denoise" in out and "--version" in out


def test_the_help_of_train_lists_the_experiments(command: Command, repository: Path) -> None:
    code, out, _ = command("train", "--help")
    assert code == 0
    for path in (repository / "conf/experiment").glob("*.yaml"):
        lines = [line for line in out.splitlines() if line.split()[:1] == [path.stem]]
        assert len(lines) == 1 and len(lines[0].split()) > 3, path.stem


def test_what_installs_an_extra_fits_a_clone_and_an_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert errors.install("plot") == 'pip install -e ".[plot]"'
    monkeypatch.setattr(errors, "__file__", str(tmp_path / "signal_diffusion" / "errors.py"))
    assert errors.install("plot") == 'pip install "signal-diffusion[plot]"'


def test_a_wav_whose_header_was_never_finished_is_read_to_its_end(
    tmp_path: Path, model: Path, noisy: Path, command: Command
) -> None:
    content = bytearray(noisy.read_bytes())
    data = content.index(b"data")
    for sizes in (0, 36):
        content[4:8] = sizes.to_bytes(4, "little")
        content[data + 4 : data + 8] = bytes(4)
        (tmp_path / "cut.wav").write_bytes(content + b"\1")
        code, out, err = command("denoise", tmp_path / "cut.wav", "--model", model, "--force")
        assert (code, err) == (0, "")
        assert "note: its header was never finished: the file was read to its end" in out
        np.testing.assert_array_equal(read(tmp_path / "cut.wav").samples, read(noisy).samples)
        assert read(tmp_path / "cut_clean.wav").samples.shape == (1, 8000)
    assert command("denoise", tmp_path / "cut.wav", "--dry-run", "--model", model)[0] in (0, 2)


def test_rf64_and_aiff_whose_headers_were_never_finished_are_read_to_their_end(
    tmp_path: Path, model: Path, noisy: Path, command: Command
) -> None:
    x = read(noisy).samples
    for name, chunk, first in (("a.rf64", b"ds64", 8), ("a.aiff", b"SSND", 4)):
        write(tmp_path / name, Recording(x, 16000))
        content = bytearray((tmp_path / name).read_bytes())
        at = content.index(chunk) + first
        content[at : at + 4] = (8).to_bytes(4, "big") if chunk == b"SSND" else bytes(4)
        if chunk == b"SSND":
            frames = content.index(b"COMM") + 10
            content[4:8] = content[frames : frames + 4] = bytes(4)
        else:
            content[at + 4 : at + 24] = bytes(20)
        (tmp_path / name).write_bytes(content)
        code, out, _ = command("denoise", tmp_path / name, "--model", model)
        assert code == 0 and "its header was never finished" in out
        np.testing.assert_array_equal(read(tmp_path / name).samples, x)


def test_several_chunks_of_samples_are_refused_from_files_and_pipes(
    tmp_path: Path, model: Path, noisy: Path, command: Command
) -> None:
    content = noisy.read_bytes()
    start = content.index(b"data")
    twice = content + content[start:]
    for name, bad in (("chunks.wav", twice), ("cat.wav", content + content)):
        (tmp_path / name).write_bytes(bad)
        told = command("denoise", tmp_path / name, "--model", model)
        assert_one_line(told, "holds samples in several chunks, or several recordings")
        with pytest.raises(errors.InputError, match="standard input holds samples in several"):
            list(PipeReader(io.BytesIO(bad)).blocks())
    (tmp_path / "tail.wav").write_bytes(content + b"TAG" + 125 * b"a")
    assert command("denoise", tmp_path / "tail.wav", "--model", model)[0] == 0


def test_channels_that_cancel_each_other_are_told(
    tmp_path: Path, model: Path, command: Command
) -> None:
    x = speechlike(1, 8000)
    for name, second in (("against.wav", -0.99 * x), ("apart.wav", speechlike(2, 8000)[1:])):
        write(tmp_path / name, Recording(np.concatenate([x, second]), 16000))
        code, out, _ = command("denoise", tmp_path / name, "--model", model, "--channels", "mix")
        assert code == 0
        assert ("cancel each other" in out) == (name == "against.wav")


def test_nan_samples_are_counted_and_placed(tmp_path: Path, model: Path, command: Command) -> None:
    x = speechlike(2, 200_000)
    x[1, 4000:4003] = x[0, -1] = np.nan
    soundfile.write(tmp_path / "a.wav", x.T, 16000, "FLOAT")
    told = command("denoise", tmp_path / "a.wav", "--model", model)
    assert_one_line(told, "NaN or infinite samples: 4, the first at 0.2500 s")
    assert "channel 2" in told[2]


@pytest.mark.parametrize("name", ["voice.m4a", "voice.wav"])
def test_a_format_that_is_not_read_names_the_pipe_that_is(
    tmp_path: Path, command: Command, name: str
) -> None:
    (tmp_path / name).write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    assert_one_line(command("denoise", tmp_path / name), f"ffmpeg -i {tmp_path / name} -f wav - |")
