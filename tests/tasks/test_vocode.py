"""Vocoders: what they are given, pieces that equal the whole, and files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from builders import SPEECH, speech, vocoder
from torch import Tensor

from signal_diffusion import Denoiser, samplers
from signal_diffusion.audio.provenance import read_provenance
from signal_diffusion.cli import main
from signal_diffusion.data.batches import Batch
from signal_diffusion.errors import InputError
from signal_diffusion.nn.mel import Mel, padded, scale_of
from signal_diffusion.tasks import vocode as module
from signal_diffusion.tasks.vocode import vocode
from signal_diffusion.training.losses import MagnitudeError
from signal_diffusion.training.objectives import Held, Vocoding

MEL = Mel()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    vocoder().save_pretrained(path)
    return path


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in arguments])
    return int(stopped.value.code or 0)


def test_the_pseudo_inverse_has_the_bands_and_no_negative_power() -> None:
    log_mel = MEL(speech())
    magnitudes = MEL.magnitudes(log_mel)
    assert magnitudes.min() >= 0
    loud = log_mel > log_mel.max() - 8
    error = (MEL.bands_of(magnitudes).clamp_min(1e-10).log() - log_mel)[loud]
    assert error.abs().mean() < 0.1


def test_an_untrained_vocoder_gives_the_frames_back_roughly() -> None:
    log_mel = MEL(speech())[0]
    sound = vocode(vocoder(), log_mel)
    assert sound.shape == (256 * (log_mel.shape[1] - 1),)
    again = MEL(torch.from_numpy(sound)[None])[0]
    loud = log_mel > log_mel.max() - 6
    assert (again - log_mel)[loud].abs().mean() < 0.5


@pytest.mark.parametrize("sampler", [samplers.ddim, samplers.ddpm])
@pytest.mark.parametrize("steps", [1, 3])
def test_pieces_equal_the_whole(
    steps: int, sampler: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    denoiser, log_mel = vocoder(trained=True), MEL(speech())[0]
    whole = vocode(denoiser, log_mel, steps=steps, sampler=sampler)  # type: ignore[arg-type]
    for size in (31, 100):
        monkeypatch.setattr(module, "PIECE", size)
        cut = vocode(denoiser, log_mel, steps=steps, sampler=sampler)  # type: ignore[arg-type]
        np.testing.assert_allclose(cut, whole, atol=1e-5)


def test_loudness_is_free() -> None:
    denoiser, log_mel = vocoder(trained=True), MEL(speech(16000))[0]
    louder = vocode(denoiser, log_mel + 2 * np.log(3))
    np.testing.assert_allclose(louder, 3 * vocode(denoiser, log_mel), rtol=1e-3, atol=1e-4)
    assert float(scale_of(log_mel[None] + 1.5) - scale_of(log_mel[None])) == pytest.approx(1.5)


def test_a_vocoder_learns() -> None:
    """A few steps of training lower the loss on what was learnt."""
    torch.manual_seed(0)
    denoiser = vocoder()
    clean = padded(speech(32768), MEL)[:, None]
    batch = Batch(clean, clean, ["speech"])
    objective = Vocoding(MagnitudeError(), last_time=1.0)
    optimizer = torch.optim.Adam(denoiser.parameters(), 1e-2)

    def loss() -> Tensor:
        terms = objective.terms(denoiser, batch, torch.Generator().manual_seed(1))
        return torch.stack(list(terms.values())).sum()

    before = float(loss())
    for _ in range(60):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
    assert float(loss()) < 0.93 * before
    assert np.isfinite(float(objective.score(denoiser, Held(clean[0], clean[0]))))


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        (np.zeros((40, 9)), r"shape \(40, 9\).*\(80, 2 or more\).*window 1024, hop 256"),
        (np.zeros((9, 80)), r"pass it turned"),
        (np.full((80, 9), np.nan), "NaN"),
        (np.ones((80, 9)), "no natural logarithm"),
        (np.full((80, 9), -40.0) + 99, "no natural"),
        (-np.ones((80, 1)), "2 or more"),
    ],
)
def test_frames_of_another_kind_are_refused(frames: np.ndarray, said: str) -> None:
    with pytest.raises(InputError, match=said):
        vocode(vocoder(), frames)


def test_a_denoiser_is_no_vocoder() -> None:
    with pytest.raises(InputError, match="no vocoder"):
        vocode(Denoiser.from_pretrained("speech"), np.zeros((80, 9)))


def test_speech_goes_through_frames_and_back(model: Path, tmp_path: Path) -> None:
    frames, direct, indirect = (tmp_path / name for name in ("mel.npz", "a.wav", "b.flac"))
    assert run("vocode", SPEECH, "-o", direct, "--model", model) == 0
    assert run("vocode", SPEECH, "-o", frames, "--model", model) == 0
    assert run("vocode", frames, "-o", indirect, "--model", model) == 0
    first, rate = soundfile.read(direct)
    assert rate == 16000 and len(first) == soundfile.info(SPEECH).frames
    second, _ = soundfile.read(indirect)
    np.testing.assert_allclose(second[: len(first)], first[: len(second)], atol=1e-4)
    told = read_provenance(direct)
    assert told is not None and told["synthetic"] and told["source"] == SPEECH.name


def test_settings_are_compared(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mel.npz"
    other = {"sample_rate": 22050, "window": 1024, "hop": 256, "bands": 80, "low": 0.0}
    np.savez(path, log_mel=-np.ones((80, 9)), mel=json.dumps(other))
    assert run("vocode", path, "-o", tmp_path / "a.wav", "--model", model) == 2
    assert "sample_rate 22050 (the vocoder's: 16000)" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"not numpy", b"\x93NUMPY\x01\x00v\x00{'descr'"])
def test_damaged_files_get_one_line(
    content: bytes, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mel.npy"
    path.write_bytes(content)
    assert run("vocode", path, "-o", tmp_path / "a.wav", "--model", model) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and told.count("\n") == 1
    assert not (tmp_path / "a.wav").exists()


def test_what_is_missing_is_told(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "other.npz", something=np.zeros(3))
    np.save(tmp_path / "whole.npy", np.zeros((80, 9), int))
    for name, said in (
        ("none.npy", "no such file"),
        ("none.wav", "none.wav"),
        ("other.npz", "holds something"),
        ("whole.npy", "holds int64"),
    ):
        assert run("vocode", tmp_path / name, "-o", tmp_path / "a.wav", "--model", model) == 2
        assert said in capsys.readouterr().err
