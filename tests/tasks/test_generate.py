"""Generators: conditions, guidance, what is drawn, and the files that it goes to."""

from __future__ import annotations

import json
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
import torch
from builders import DIGITS, PITCH, SAMPLES, generator
from torch import Tensor, nn

from signal_diffusion import NetworkDenoiser, schedules
from signal_diffusion.audio.provenance import read_provenance
from signal_diffusion.cli import main
from signal_diffusion.conditions import Names, encoded
from signal_diffusion.denoiser import Denoiser
from signal_diffusion.errors import InputError
from signal_diffusion.guidance import ClassifierFree
from signal_diffusion.nn.magnitudes import LogMel, Magnitudes, Phaseless
from signal_diffusion.nn.mel import Mel
from signal_diffusion.nn.phases import griffin_lim, reach, stft
from signal_diffusion.nn.stack import DilatedStack
from signal_diffusion.tasks import generate as module
from signal_diffusion.tasks.generate import combinations, generate

SPEECH = SAMPLES / "clean"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    generator().save_pretrained(path)
    return path


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in arguments])
    return int(stopped.value.code or 0)


def test_numbers_between_knots_are_told_linearly() -> None:
    row = PITCH.row(52.5)
    assert torch.allclose(row, torch.tensor([0, 0.75, 0.25, 0, 0]))
    assert all(float(PITCH.row(n).sum()) == pytest.approx(1) for n in (40, 47.3, 80))


def test_conditions_lie_side_by_side_and_zeros_ask_for_nothing() -> None:
    cond = encoded([DIGITS, PITCH], [{"class": "two", "pitch": 40}, {}])
    assert cond is not None and cond.shape == (2, 8, 1)
    assert cond[0, :, 0].tolist() == [0, 0, 1, 1, 0, 0, 0, 0] and not cond[1].any()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"klass": "one"}, "no condition 'klass'"),
        ({"class": "ten"}, "zero, one, two"),
        ({"pitch": 90}, "from 40 to 80"),
        ({"pitch": "high"}, "from 40 to 80"),
    ],
)
def test_what_cant_be_asked_for_is_told(asked: dict[str, str | float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        encoded([DIGITS, PITCH], [asked])


def test_lists_and_ranges() -> None:
    assert PITCH.values("60..62,70") == [60, 61, 62, 70]
    assert DIGITS.values("all") == ["zero", "one", "two"] == DIGITS.values("0..2")
    asked, draws = combinations({"class": ["one", "two"], "pitch": [60, 61]}, 2)
    assert len(asked) == 8 and draws == [0, 1] * 4
    assert asked[2] == {"class": "one", "pitch": 61}


class Told(Denoiser):
    """An estimate that is the condition's first channel everywhere."""

    schedule = schedules.RectifiedFlow()

    def forward(
        self, x_t: Tensor, t: Tensor, y: Tensor | None = None, cond: Tensor | None = None
    ) -> Tensor:
        assert cond is not None
        return 0.5 + cond[:, :1].expand_as(x_t)


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
def test_guidance_is_the_published_line(scale: float) -> None:
    x, cond = torch.zeros(2, 1, 4), torch.tensor([[[1.0]], [[3.0]]])
    guided = ClassifierFree(Told(), scale)(x, torch.tensor(0.5), None, cond)
    assert torch.allclose(guided, 0.5 + scale * cond.expand_as(x))


class Shrunk(nn.Module):
    """The best estimate of white noise of deviation `std`, for the target "clean"."""

    context = (0, 0)

    def __init__(self, std: float = 0.1) -> None:
        super().__init__()
        self.std = std
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(
        self, x: Tensor, t: Tensor, y: Tensor | None = None, cond: Tensor | None = None
    ) -> Tensor:
        alpha, sigma = 1 - t[:, None, None], t[:, None, None]
        c_in = ((alpha * self.std) ** 2 + sigma**2).rsqrt()
        return alpha * self.std**2 / ((alpha * self.std) ** 2 + sigma**2) * x / c_in


def test_signals_have_the_deviation_of_the_training_data() -> None:
    """Of a Gaussian whose best denoiser is known, what is drawn has the right moments."""
    denoiser = NetworkDenoiser(
        Shrunk(), schedules.RectifiedFlow(), sigma_data=0.1, sample_rate=8000, length=20000
    )
    drawn = generate(denoiser, requested=[{}], steps=200, guidance=1.0, seed=3)
    assert drawn.std() == pytest.approx(0.1, rel=0.02)
    assert abs(drawn.mean()) < 0.003


def test_a_signal_depends_on_its_draw_and_not_on_the_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    denoiser, asked = generator(), [{"class": "one"}] * 5
    whole = generate(denoiser, requested=asked, steps=3, seed=7)
    assert np.abs(whole[0] - whole[1]).max() > 1e-3
    alone = generate(denoiser, requested=asked[:1], draws=[3], steps=3, seed=7)
    np.testing.assert_array_equal(alone[0], whole[3])
    monkeypatch.setattr(module, "BATCH", 2)
    np.testing.assert_allclose(
        generate(denoiser, requested=asked, steps=3, seed=7), whole, atol=1e-5
    )


def test_what_is_asked_for_matters() -> None:
    one, two, none = generate(
        generator(), requested=[{"class": "one"}, {"class": "two"}, {}], draws=[0, 0, 0], steps=2
    )
    assert min(np.abs(one - two).max(), np.abs(one - none).max()) > 1e-3


def test_conditions_need_their_place_in_the_network() -> None:
    backbone = DilatedStack(1, channels=4, hidden=4, layers=1, cond_channels=2)
    with pytest.raises(InputError, match="cond_channels=3"):
        NetworkDenoiser(backbone, schedules.RectifiedFlow(), conditions=[DIGITS])


def test_denoisers_draw_nothing() -> None:
    with pytest.raises(InputError, match="choose a generator"):
        generate(Denoiser.from_pretrained("speech"))


def speech() -> Tensor:
    samples, rate = soundfile.read(next(iter(sorted(SPEECH.rglob("*.flac")))), dtype="float32")
    assert rate == 16000
    return torch.from_numpy(samples[None, : len(samples) // 256 * 256])


def test_mel_is_librosas() -> None:
    x = speech()[:, :16000]
    power = librosa.feature.melspectrogram(
        y=x[0].numpy(), sr=16000, n_fft=1024, hop_length=256, n_mels=80, pad_mode="constant"
    )
    np.testing.assert_allclose(Mel()(x)[0].exp(), power, rtol=1e-3, atol=1e-6)


def magnitudes(x: Tensor) -> Tensor:
    return stft(x, window=1024, hop=256).abs()


def test_griffin_lim_comes_near_the_magnitudes_and_nearer_with_iterations() -> None:
    wanted = magnitudes(speech()[:, :32768])

    def distance(iterations: int) -> float:
        y = griffin_lim(wanted, window=1024, hop=256, iterations=iterations)
        return float((magnitudes(y) - wanted).norm() / wanted.norm())

    assert distance(32) < 0.75 * distance(4) < 0.5 * distance(0)


def test_griffin_lim_of_a_piece_is_that_of_the_whole() -> None:
    wanted, context = magnitudes(speech()[:, :32768]), reach(window=1024, hop=256, iterations=3)
    whole = griffin_lim(wanted, window=1024, hop=256, iterations=3)
    first, last = 50, 80
    low, high = first - context, last + context
    part = griffin_lim(wanted[..., low:high], window=1024, hop=256, iterations=3, start=low)
    cut = part[:, context * 256 : (context + last - first) * 256]
    torch.testing.assert_close(cut, whole[:, first * 256 : last * 256], atol=1e-5, rtol=0)


@pytest.mark.parametrize("codec", [Magnitudes(), LogMel(Mel())], ids=["magnitudes", "log-mel"])
def test_codecs_without_phases_give_back_their_frames(codec: Phaseless) -> None:
    x = speech()[:, None, :32768]
    state = codec.encode(x / x.abs().max())
    back = codec.decode(state, 32768)
    assert back.shape == x.shape
    error = (codec.encode(back) - state).abs().mean()
    assert error < 0.1 * state.std() or error < 0.05


def test_magnitudes_are_kept_by_the_state() -> None:
    codec, x = Magnitudes(), speech()[:, None, :32768]
    kept = codec.magnitudes(codec.encode(x))
    torch.testing.assert_close(kept, magnitudes(x[:, 0]), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("format", ["wav", "flac", "ogg", "opus", "mp3"])
def test_files_tell_where_they_come_from(format: str, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    words = ["--class", "one", "--seed", "5", "--steps", "2", "--format", format, "--quiet"]
    assert run("generate", model, *words, "-o", folder) == 0
    path = folder / f"one_000.{format}"
    told = read_provenance(path)
    assert told == json.loads(path.with_suffix(".json").read_text())
    assert told is not None and told["synthetic"] and told["condition"] == {"class": "one"}
    assert (told["seed"], told["steps"], told["model"]) == (5, 2, "tiny.safetensors")


def test_info_tells_what_can_be_asked_for_and_where_a_file_comes_from(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("info", model) == 0
    told = capsys.readouterr().out
    assert "--class" in told and "zero, one, two" in told and "a number from 40 to 80" in told
    path = tmp_path / "one.wav"
    assert run("generate", model, "--class", "two", "--steps", "2", "-o", path) == 0
    assert run("info", path) == 0
    told = capsys.readouterr().out
    assert "condition        class two" in told and "True" in told and "0.256 s" in told
    assert run("info", SPEECH / "none.wav") == 2


def test_the_same_command_makes_the_same_files_and_resume_keeps_them(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["generate", model, "--class=zero,one", "--pitch=60..61", "-n", "2", "--steps", "2"]
    for name in ("first", "second"):
        assert run(*words, "-o", tmp_path / name) == 0
    files = sorted((tmp_path / "first").glob("*.wav"))
    assert [path.stem for path in files[:2]] == ["one_60_000", "one_60_001"] and len(files) == 8
    for path in files:
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()
    kept = files[0].stat().st_mtime_ns
    files[1].unlink()
    assert run(*words, "-o", tmp_path / "first", "--resume") == 0
    assert files[0].stat().st_mtime_ns == kept and files[1].exists()
    assert "7 existed already" in capsys.readouterr().out
    assert files[1].read_bytes() == (tmp_path / "second" / files[1].name).read_bytes()


def test_names_of_conditions_do_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    denoiser = generator()
    names = ("../../evil", "/etc/x", "tom tom")
    denoiser.conditions = [Names("class", names), PITCH]
    denoiser.save_pretrained(tmp_path / "tiny.safetensors")
    out = tmp_path / "a" / "b" / "out"
    words = ["--class=all", "--steps", "2"]
    assert run("generate", tmp_path / "tiny.safetensors", *words, "-o", out) == 0
    files = {path.name for path in tmp_path.rglob("*.wav")}
    assert files == {path.name for path in out.glob("*.wav")} and len(files) == 3
    assert "tom tom_000.wav" in files


def test_one_archive_for_all(model: Path, tmp_path: Path) -> None:
    path, plot = tmp_path / "all.npz", tmp_path / "look.png"
    words = ["--class=all", "-n", "3", "--steps", "2", "--length", "0.2", "--plot", plot]
    assert run("generate", model, *words, "-o", path) == 0
    held = np.load(path)
    assert held["signals"].shape == (9, 1600) and held["sample_rate"] == 8000
    assert held["class"].tolist() == ["zero"] * 3 + ["one"] * 3 + ["two"] * 3
    assert json.loads(str(held["provenance"]))["synthetic"]
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--klass", "one"], "no option --klass; this model has --class, --pitch"),
        (["--class", "ten"], "class is 'ten'"),
        (["--class"], "--class lacks its value"),
        (["stray"], "'stray' is no option"),
        (["-n", "0"], "count is 0"),
        (["--format", "txt"], "format is 'txt'"),
        (["--length", "0"], "length is 0"),
        (["--guidance", "nan"], "guidance is nan"),
        (["--plot", "a.jpg"], "ends in .png"),
    ],
)
def test_mistakes_get_one_line(
    words: list[str], said: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("generate", model, *words, "-o", tmp_path / "out") == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1 and not (tmp_path / "out").exists()


def test_outputs_that_exist_are_kept(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "one.wav"
    path.write_bytes(b"mine")
    assert run("generate", model, "-o", path) == 2
    assert "pass --force" in capsys.readouterr().err and path.read_bytes() == b"mine"
    assert run("generate", model, "-n", "2", "-o", path) == 2
    assert "2 signals are asked for" in capsys.readouterr().err
    assert run("generate", model, "-o", path, "--force", "--steps", "2") == 0
    assert read_provenance(path) is not None
