"""LJSpeech and Speech Commands as torchaudio lists them, in tiny folders of the same layout."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hydra import compose, initialize_config_dir

from signal_diffusion import Denoiser
from signal_diffusion.conditions import Names
from signal_diffusion.data.corpus import Corpus
from signal_diffusion.data.sets.speech_sets import (
    FrameCrops,
    LjSpeechSources,
    SpeechCommandsSources,
    lj_speech,
    speech_commands,
)
from signal_diffusion.errors import InputError
from signal_diffusion.nn.mel import UnitMel
from signal_diffusion.tasks.diffwave_checkpoint import diffwave
from signal_diffusion.training.runs import conf_folder

Command = Callable[..., tuple[int, str, str]]

WORDS = ("zero", "seven")
QUICK = [
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "trainer.max_steps=3",
    "trainer.val_check_interval=3",
    "trainer.enable_progress_bar=false",
    "data.batch_size=2",
    "data.valid_batches=1",
    "data.sources.recordings=2",
]


def write(path: Path, seconds: float, rate: int, *, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    x = 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate))
    soundfile.write(path, x, rate)


@pytest.fixture(scope="module")
def lj(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of three chapters, one of them too short, and bars in the text as there are."""
    root = tmp_path_factory.mktemp("lj")
    names = ["LJ001-0001", "LJ002-0001", "LJ003-0001", "LJ003-0002", "LJ004-0001"]
    for seed, name in enumerate(names):
        seconds = 0.3 if name == "LJ003-0002" else 0.9
        write(root / "LJSpeech-1.1" / "wavs" / f"{name}.wav", seconds, 22050, seed=seed)
    rows = [f'{name}|He said "twenty 20|He said "twenty twenty\n' for name in names]
    (root / "LJSpeech-1.1" / "metadata.csv").write_text("".join(rows))
    return root


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three speakers, one each for training, validation and test; another word; noise."""
    root = tmp_path_factory.mktemp("commands")
    folder = root / "SpeechCommands" / "speech_commands_v0.02"
    for word in (*WORDS, "marvin"):
        for seed, speaker in enumerate(("0a7c2a8d", "1b4c9b89", "2c6d3924")):
            write(folder / word / f"{speaker}_nohash_0.wav", 0.9, 16000, seed=seed)
        (folder / "validation_list.txt").open("a").write(f"{word}/1b4c9b89_nohash_0.wav\n")
        (folder / "testing_list.txt").open("a").write(f"{word}/2c6d3924_nohash_0.wav\n")
    write(folder / "_background_noise_" / "pink_noise.wav", 2, 16000)
    return root


def test_corpora_name_the_extra_that_they_need(lj: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchaudio", None)
    with pytest.raises(InputError, match=r"needs the package torchaudio: pip install .*\[train\]"):
        lj_speech(str(lj))


def test_lj_speech_is_listed_by_torchaudio(lj: Path) -> None:
    clips = lj_speech(str(lj))
    assert [clip.name for clip in clips][:2] == ["LJ001-0001.wav", "LJ002-0001.wav"]
    assert [clip.speaker for clip in clips] == ["LJ001", "LJ002", "LJ003", "LJ003", "LJ004"]
    assert all(clip.path.is_file() for clip in clips)


def test_two_chapters_are_held_out(lj: Path) -> None:
    train, valid, recordings = LjSpeechSources(str(lj), recordings=3)()
    rng = np.random.default_rng(0)
    assert set(train(rng, 30).names) == {"LJ003-0001.wav", "LJ004-0001.wav"}
    assert set(valid(rng, 30).names) == {"LJ001-0001.wav", "LJ002-0001.wav"}
    assert len(recordings) == 3 and recordings[0][0].shape == (1, 62 * 256)


def test_pieces_and_their_frames_are_those_of_the_recording(lj: Path) -> None:
    """A piece lies in its recording from a whole frame on, and its frames are those from there."""
    corpus, mel = Corpus(lj_speech(str(lj))[:1], sample_rate=22050), UnitMel()
    batch = FrameCrops(corpus, mel)(np.random.default_rng(1), 20)
    whole = torch.from_numpy(corpus.clip(0))
    frames, found = mel(whole[None])[0], set()
    assert batch.cond is not None and batch.cond.shape == (20, 80, 62)
    for piece, cond in zip(batch.clean[:, 0], batch.cond, strict=True):
        (first,) = (
            n for n, x in enumerate(whole.unfold(0, 62 * 256, 256)) if torch.equal(x, piece)
        )
        torch.testing.assert_close(cond, frames[:, first : first + 62], atol=1e-5, rtol=0)
        found.add(first)
    assert min(found) == 0 and max(found) == len(whole) // 256 - 62


def test_speech_commands_go_by_their_own_lists(commands: Path) -> None:
    splits = {split: speech_commands(str(commands), split, WORDS) for split in ("train", "test")}
    assert [(c.speaker, c.group) for c in splits["train"]] == [
        ("0a7c2a8d", w) for w in ("seven", "zero")
    ]
    assert {c.speaker for c in splits["test"]} == {"2c6d3924"}
    with pytest.raises(InputError, match="no train clip of bird"):
        speech_commands(str(commands), "train", ["bird"])


def test_words_are_conditions(commands: Path) -> None:
    sources = SpeechCommandsSources(
        str(commands), [Names("class", WORDS)], clips={"length": 16000, "free": 0.0}
    )
    batch = sources.split("valid")(np.random.default_rng(0), 8)
    assert batch.clean.shape == (8, 1, 16000) and batch.cond is not None
    assert set(batch.names) == {"1b4c9b89_nohash_0.wav"}
    assert batch.cond[:, 0, 0].unique().tolist() == [0, 1]
    assert torch.equal(batch.cond.sum(dim=1), torch.ones(8, 1))


def test_a_folder_without_the_corpus_is_told(tmp_path: Path) -> None:
    words = [Names("class", WORDS)]
    for root, said in ((tmp_path, "data.sources.download=true"), (tmp_path / "none", "no folder")):
        for sources in (LjSpeechSources(str(root)), SpeechCommandsSources(str(root), words)):
            with pytest.raises(InputError, match=said) as told:
                sources()
            assert str(root) in str(told.value) and "\n" not in str(told.value)


def test_recordings_without_a_whole_piece_are_told(lj: Path) -> None:
    with pytest.raises(InputError, match="no recording of 200 mel frames"):
        LjSpeechSources(str(lj), frames=200)()
    with pytest.raises(InputError, match="held out are none"):
        LjSpeechSources(str(lj), held_out=())()


def test_diffwave_is_trained_by_the_command(lj: Path, tmp_path: Path, command: Command) -> None:
    words = [f"model.denoiser.backbone.{word}" for word in ("channels=8", "layers=2")]
    code, _, err = command(
        "train",
        "experiment=diffwave",
        f"data.sources.root={lj}",
        f"hydra.run.dir={tmp_path}",
        *words,
        *QUICK,
    )
    assert code == 0, err
    denoiser = Denoiser.from_pretrained(tmp_path)
    assert (denoiser.sample_rate, denoiser.target) == (22050, "noise")
    assert diffwave(denoiser, torch.rand(80, 4)).shape == (1024,)


def test_sc09_is_trained_and_drawn_from_by_the_commands(
    commands: Path, tmp_path: Path, command: Command
) -> None:
    words = [f"model.denoiser.backbone.{word}" for word in ("channels=16", "hidden=8", "layers=2")]
    code, _, err = command(
        "train",
        "experiment=sc09",
        f"data.sources.root={commands}",
        f"hydra.run.dir={tmp_path}",
        *words,
        *QUICK,
    )
    assert code == 0, err
    for number, asked in enumerate((["--class", "seven"], [])):
        path = tmp_path / f"{number}.wav"
        assert command("generate", tmp_path, *asked, "--steps", "2", "-o", path)[0] == 0
        info = soundfile.info(path)
        assert (info.samplerate, info.frames) == (16000, 16000)


def test_the_published_settings_are_kept() -> None:
    """Kong and others 2021, table 6 and appendix; the package's `params` for crops and batches."""
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = compose("train", ["experiment=diffwave"])
    backbone, schedule = config.model.denoiser.backbone, config.model.denoiser.schedule
    assert (backbone.channels, backbone.layers, backbone.dilation_cycle) == (64, 30, 10)
    assert (backbone.mels, backbone.steps, schedule.steps) == (80, 50, 50)
    assert (schedule.beta_start, schedule.beta_end) == (1e-4, 0.05)
    assert (config.data.batch_size, config.data.sources.frames) == (16, 62)
    assert (config.module.optimizer.lr, config.module.ema_decay) == (2e-4, 0)
