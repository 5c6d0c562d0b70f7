"""Evaluation of vocoders: recordings through their mel frames and back, beside Griffin and Lim."""

import json
from pathlib import Path

import numpy as np
import pandas
import pytest
from builders import Command

from signal_diffusion.audio import Recording, read, write
from signal_diffusion.denoiser import Denoiser
from signal_diffusion.dsp.resampling import resample
from signal_diffusion.evaluation.methods import Command as Outside
from signal_diffusion.evaluation.methods import Made
from signal_diffusion.evaluation.pairs import originals
from signal_diffusion.evaluation.run import evaluate
from signal_diffusion.metrics import log_spectral_distance
from signal_diffusion.streaming.settings import Settings
from signal_diffusion.tasks.vocode import by_librosa, frames_of, resynthesised, vocode


@pytest.fixture(scope="module")
def speech(samples: Path) -> np.ndarray:
    """Half a second of speech (1, L) that is no whole hops long."""
    return read(sorted((samples / "clean").glob("*/*.flac"))[0]).samples[:, 8000:16001]


@pytest.fixture
def folder(speech: np.ndarray, tmp_path: Path) -> Path:
    (tmp_path / "voices" / "a").mkdir(parents=True)
    for name, rate in (("own.wav", 16000), ("high.wav", 48000)):
        x = resample(speech, 16000, rate).astype(np.float32)
        write(tmp_path / "voices" / "a" / name, Recording(x, rate, "WAV", "FLOAT"))
    return tmp_path / "voices"


def test_a_vocoder_is_scored_at_its_own_rate_beside_griffin_and_lim(
    folder: Path, speech: np.ndarray, tmp_path: Path, command: Command
) -> None:
    out = tmp_path / "out"
    line = ["evaluate", "vocoder", folder, "-o", out, "--metrics", "lsd", "--steps", "1,2"]
    code, _, err = command(*line, "--against", "griffin_lim", "--quiet")
    assert (code, err) == (0, ""), err
    found = json.loads((out / "summary.json").read_text())
    assert list(found["methods"]) == ["vocoder, 1 step", "vocoder, 2 steps", "griffin_lim"]
    frame = pandas.read_csv(out / "files.csv")
    # Phases are free: where the wave lies says nothing.
    assert frame.lag.isna().all() and found["notes"] == []
    assert frame.error.isna().all() and (frame.taken > 0).all()
    vocoder = Denoiser.from_pretrained("vocoder")
    made = vocode(vocoder, frames_of(speech[0], vocoder.mel))[: speech.shape[1]]
    rows = frame[frame.method == "vocoder, 1 step"].set_index("file").lsd
    assert rows["a/own"] == pytest.approx(float(log_spectral_distance(made, speech[0])), rel=1e-6)
    assert rows["a/high"] == pytest.approx(rows["a/own"], abs=0.3)
    scores = {name: row["scores"]["lsd"]["mean"] for name, row in found["methods"].items()}
    assert scores["vocoder, 1 step"] < scores["griffin_lim"] < 15


def test_what_is_made_again_is_as_long_as_it_was_in_every_channel(speech: np.ndarray) -> None:
    vocoder = Denoiser.from_pretrained("vocoder")
    both = np.concatenate([speech, 0.1 * speech[:, ::-1]])
    made = resynthesised(vocoder, both, Settings())
    assert made.shape == both.shape
    assert np.array_equal(made[:1], resynthesised(vocoder, speech, Settings()))
    assert by_librosa(speech[:, :5000], vocoder.mel).shape == (1, 5000)


def test_recordings_alone_are_brought_to_the_rate(folder: Path) -> None:
    pairs = originals(folder, sample_rate=16000)
    sounds = [pair.read() for pair in pairs]
    assert [pair.name for pair in pairs] == ["a/high", "a/own"]
    assert {sound.sample_rate for sound in sounds} == {16000}
    assert sounds[0].clean.shape == sounds[1].clean.shape
    assert pairs[0].key != originals(folder, sample_rate=8000)[0].key


def test_what_others_made_again_may_have_another_rate(folder: Path, tmp_path: Path) -> None:
    pair = originals(folder, sample_rate=16000)[1]
    (tmp_path / "made" / "a").mkdir(parents=True)
    high = resample(pair.read().clean, 16000, 48000)
    write(tmp_path / "made" / "a" / "own.wav", Recording(high, 48000, "WAV", "FLOAT"))
    made = Made("made", tmp_path / "made")
    made.require([pair])
    rows = evaluate([pair], [made, Outside("copy", "cp {in} {out}")], ["mad"], tmp_path)
    peak = float(np.abs(high).max())
    assert rows[0]["mad"] < 0.2 * peak and rows[1]["mad"] < 1e-4, rows


MISTAKES = {
    "against is 'wavelet', but vocoders are compared with griffin_lim": ["--against", "wavelet"],
    "a folder of them, alone": ["--noise", "{data}", "--snr", "5"],
}


@pytest.mark.parametrize("said", MISTAKES)
def test_mistakes_end_in_one_line(
    said: str, folder: Path, tmp_path: Path, command: Command
) -> None:
    pytest.importorskip("pesq")
    words = [word.replace("{data}", str(folder)) for word in MISTAKES[said]]
    code, out, err = command("evaluate", "vocoder", folder, "-o", tmp_path / "out", *words)
    assert (code, out) == (2, "") and said in err and err.count("\n") == 1
