"""Drums and notes: clips told with their pitch, varied clips, and the recipe that judges models."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from builders import load
from shared.judging import Sounds, parted
from shared.pitch import cents_off, pitch_scores
from shared.result_tables import table_of

from signal_diffusion import NetworkDenoiser, schedules
from signal_diffusion.conditions import Names, Pitch, Value
from signal_diffusion.data.batches import Batch
from signal_diffusion.data.corpus import Clip, Corpus
from signal_diffusion.data.labels import LabelledClips, LabelledSources, tilted
from signal_diffusion.errors import InputError
from signal_diffusion.files import artifact
from signal_diffusion.nn.magnitudes import LogMel
from signal_diffusion.nn.mel import Mel
from signal_diffusion.nn.stack import DilatedStack

RATE, LENGTH = 16000, 8192
PITCH = Pitch("pitch", 60, 84, knots=25, partials=4)
INSTRUMENT = Names("instrument", ("reed", "bell", "pluck"))


def note(instrument: str, pitch: float, length: int = LENGTH) -> np.ndarray:
    """A short note: many partials that are held, one that decays, or many that decay fast."""
    partials, decay = {"reed": (range(1, 8), 0.5), "bell": ((1,), 9), "pluck": (range(1, 8), 30)}[
        instrument
    ]
    time = np.arange(length) / RATE
    tones = [np.sin(2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * k * time) / k for k in partials]
    x = np.sum(tones, axis=0) * np.exp(-decay * time)
    return (0.5 * x / np.abs(x).max()).astype(np.float32)


def told(batch: Batch) -> tuple[list[int], list[float]]:
    """Of each clip, the number of the instrument, and the pitch, that are told."""
    assert batch.cond is not None
    names, knots = batch.cond[:, :3, 0], batch.cond[:, 3:28, 0]
    return names.argmax(1).tolist(), (knots @ torch.arange(60.0, 85.0)).tolist()


def corpus(folder: Path, signals: Sequence[np.ndarray]) -> Corpus:
    clips = [Clip(folder / f"{number}.wav", speaker="") for number in range(len(signals))]
    for clip, x in zip(clips, signals, strict=True):
        soundfile.write(clip.path, x, RATE, subtype="PCM_16")
    return Corpus(clips, sample_rate=RATE)


def test_a_pitch_is_told_with_its_partials() -> None:
    row, octave_up = PITCH.row(60.25), PITCH.row(72.25)
    assert len(row) == PITCH.width == 25 + 25 + 24
    assert row[:25].tolist() == [0.75, 0.25] + [0] * 23
    # Partials 1 to 4: the octave, the twelfth at 19.02 semitones, the double octave.
    assert row[25:].nonzero()[:, 0].tolist() == [0, 1, 12, 13, 19, 20, 24, 25]
    assert torch.allclose(row[25 + 12 : 25 + 14], octave_up[25 + 12 : 25 + 14])
    assert torch.allclose(row[25 + 24 : 25 + 26], octave_up[25 + 24 : 25 + 26])
    with pytest.raises(InputError, match="from 60 to 84"):
        PITCH.row(90)


@pytest.mark.parametrize("semitones", [-1.5, 0, 2])
def test_a_clip_that_is_sped_up_is_told_with_the_pitch_that_it_has(
    tmp_path: Path, semitones: float
) -> None:
    speed = 2 ** (semitones / 12)
    asked: list[Mapping[str, Value]] = [{"instrument": "reed", "pitch": 69.0}]
    clips = LabelledClips(
        corpus(tmp_path, [note("reed", 69, 2 * LENGTH)]),
        [INSTRUMENT, PITCH],
        asked,
        LENGTH,
        speeds=(speed, speed),
        free=0.0,
        raised="pitch",
    )
    batch = clips(np.random.default_rng(0), 2)
    names, pitches = told(batch)
    assert pitches == pytest.approx([69 + semitones] * 2, abs=1e-4) and names == [0, 0]
    assert np.abs(cents_off(batch.clean[:, 0].numpy(), pitches, sample_rate=RATE)).max() < 5


def test_a_pitch_beyond_the_conditions_range_is_not_told(tmp_path: Path) -> None:
    asked: list[Mapping[str, Value]] = [{"instrument": "bell", "pitch": 84.0}]
    clips = LabelledClips(
        corpus(tmp_path, [note("bell", 84)]),
        [INSTRUMENT, PITCH],
        asked,
        LENGTH,
        speeds=(1.1, 1.1),
        free=0.0,
        raised="pitch",
    )
    cond = clips(np.random.default_rng(0), 1).cond
    assert cond is not None
    assert cond[0, :3, 0].tolist() == [0, 1, 0] and not cond[0, 3:].any()
    with pytest.raises(InputError, match="raised is 'key'; the conditions are instrument"):
        LabelledClips(clips.corpus, [INSTRUMENT], asked, LENGTH, raised="key")


def test_only_clips_of_a_kind_are_laid_over_each_other(tmp_path: Path) -> None:
    places, labels = [100, 300, 500], ["bell", "bell", "reed"]
    clicks = [np.eye(1, 1000, place, dtype=np.float32)[0] for place in places]
    asked: list[Mapping[str, Value]] = [{"instrument": label} for label in labels]
    clips = LabelledClips(
        corpus(tmp_path, clicks), [INSTRUMENT], asked, 1000, free=0.0, layered=1.0
    )
    batch = clips(np.random.default_rng(0), 64)
    found = (batch.clean[:, 0, places] > 0.01).int().tolist()
    assert batch.cond is not None
    kinds = batch.cond[:, :, 0].argmax(1).tolist()
    both = [some for some, kind in zip(found, kinds, strict=True) if kind == 1]
    assert [1, 1, 0] in both and all(some[2] == 0 for some in both)
    assert all(some == [0, 0, 1] for some, kind in zip(found, kinds, strict=True) if kind == 0)


def test_a_tilt_is_in_db_an_octave() -> None:
    click = np.eye(1, 4096, 2048, dtype=np.float32)[0]
    level = 20 * np.log10(np.abs(np.fft.rfft(tilted(click, 3.0))))
    bins = 64 * 2 ** np.arange(6)
    assert np.diff(level[bins]) == pytest.approx(3.0, abs=1e-3)
    assert level[256] == pytest.approx(0, abs=1e-3)


def test_pitches_are_heard_from_the_lowest_to_the_highest() -> None:
    pitches = [28, 40, 52, 64, 76, 88, 96]
    notes = np.stack([note("pluck" if p < 60 else "bell", p, 2 * LENGTH) for p in pitches])
    assert np.abs(cents_off(notes, pitches, sample_rate=RATE)).max() < 8
    shifted = cents_off(notes, [p - 0.7 for p in pitches], sample_rate=RATE)
    assert shifted == pytest.approx(70, abs=8)
    scores = pitch_scores(cents_off(notes[:4], [40, 40, 52, 65], sample_rate=RATE))
    assert scores["octave_errors"] == 0.25 and scores["within_50_cents"] == 0.75


def test_parts_share_the_sounds_out_within_groups() -> None:
    labels = ["a"] * 9 + ["b"] * 4 + ["c"]
    some = Sounds(np.arange(14.0)[:, None], labels, labels)
    taken = [parted(some, parts=4, part=part)[1] for part in range(4)]
    assert sorted(float(x) for part in taken for x in part.signals[:, 0]) == list(range(13))
    assert [part.labels.count("b") for part in taken] == [1, 1, 1, 1]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Notes of three instruments, with every fourth pitch held out."""
    root = tmp_path_factory.mktemp("data")
    rows = ["path,domain,subset,split,label,pitch"]
    for name in INSTRUMENT.names:
        for pitch in range(60, 84, 2):
            split = "valid" if pitch % 8 == 6 else "train"
            soundfile.write(root / f"{name}{pitch}.wav", note(name, pitch), RATE)
            rows.append(f"{name}{pitch}.wav,music,notes,{split},{name},{pitch}")
    (root / "manifest.csv").write_text("\n".join(rows))
    return root


def untrained() -> NetworkDenoiser:
    torch.manual_seed(0)
    codec = LogMel(Mel(sample_rate=RATE, window=512, hop=256, bands=24), iterations=4)
    width = INSTRUMENT.width + PITCH.width
    backbone = DilatedStack(24, channels=16, hidden=8, layers=2, cond_channels=width)
    return NetworkDenoiser(
        backbone,
        schedules.RectifiedFlow(),
        target="flow",
        codec=codec,
        sample_rate=RATE,
        length=LENGTH,
        conditions=[INSTRUMENT, PITCH],
    ).eval()


def test_notes_of_a_manifest_come_with_instrument_and_pitch(data: Path) -> None:
    sources = LabelledSources(
        str(data),
        {"subset": ["notes"]},
        [INSTRUMENT, PITCH],
        RATE,
        columns={"instrument": "label"},
        clips={"length": LENGTH, "free": 0.0, "raised": "pitch"},
    )
    train, valid, recordings = sources()
    assert isinstance(train, LabelledClips) and isinstance(valid, LabelledClips)
    assert {one["pitch"] for one in valid.values} == {62.0, 70.0, 78.0}
    assert len(train.values) == 27 and len(recordings) == 64
    batch = train(np.random.default_rng(0), 8)
    those = zip(*told(batch), strict=True)
    assert [f"{INSTRUMENT.names[i]}{p:.0f}.wav" for i, p in those] == list(batch.names)


def test_the_recipe_judges_a_model(
    repository: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load(repository / "benchmarks" / "evaluate_sounds.py")
    monkeypatch.setattr(recipe, "PARTS", 2)
    model, page = tmp_path / "tiny.safetensors", tmp_path / "results.md"
    untrained().save_pretrained(model)
    page.write_text("<!-- notes-table -->\n<!-- /notes-table -->\n")
    output = tmp_path / "notes.json"
    recipe.main(
        [
            "--kind",
            "notes",
            "--data",
            str(data),
            "--model",
            str(model),
            "--count",
            "27",
            "--steps",
            "1",
            "--epochs",
            "40",
            "--output",
            str(output),
            "--page",
            str(page),
        ]
    )
    found = json.loads(output.read_text())
    real, drawn = found["results"]["real"], found["results"]["tiny, 1 step"]
    for group in (recipe.TRAINED, recipe.HELD_OUT):
        assert real[group]["recognised"] > 0.7, "real notes are learnt"
        assert real[group]["recognised_low"] < real[group]["recognised"]
        assert real[group]["pitch_error_cents"] < 8 and real[group]["within_50_cents"] == 1
        assert drawn[group]["recognised"] < 0.6, "what an untrained model draws is none"
        assert drawn[group]["pitch_error_cents"] > 50
        assert drawn[group]["frechet_log_mel"] > 5 * real[group]["frechet_log_mel"]
        assert drawn[group]["nearer_than_training"] == 0
        assert real[group]["diversity_log_mel_ratio"] == 1
    assert table_of(page, "notes") == recipe.table(found["results"])
    assert found["model"] == artifact.fingerprint(model)


def test_what_repeats_its_training_clips_is_found_out(repository: Path, data: Path) -> None:
    recipe = load(repository / "benchmarks" / "evaluate_sounds.py")
    train, held_out = (recipe.real(str(data), "notes", s, untrained()) for s in ("train", "valid"))
    assert len(train.values) == 27 and held_out.values[0] == {"instrument": "reed", "pitch": 62.0}
    copied = recipe.remembered([train.sounds], train.sounds, held_out.sounds, RATE)
    assert copied["nearer_than_training"] == copied["nearer_than_held_out"] == 1
    assert copied["nearer_than_training_p"] < 1e-6
    unseen = recipe.remembered([held_out.sounds], train.sounds, held_out.sounds, RATE)
    assert unseen["nearer_than_held_out"] == 0 and unseen["nearer_than_held_out_p"] == 1


def test_what_draws_nothing_by_name_is_told(repository: Path, data: Path) -> None:
    recipe = load(repository / "benchmarks" / "evaluate_sounds.py")
    with pytest.raises(InputError, match="experiment=drums or notes"):
        recipe.main(["--kind", "drums", "--data", str(data), "--model", "speech"])


@pytest.mark.parametrize("kind", ["drums", "notes"])
def test_the_page_of_results_shows_the_judged_sounds(repository: Path, kind: str) -> None:
    path = repository / "results" / f"{kind}.json"
    if not path.exists():
        pytest.skip(f"results/{kind}.json is not there yet: run benchmarks/evaluate_sounds.py")
    recipe = load(repository / "benchmarks" / "evaluate_sounds.py")
    found = json.loads(path.read_text())
    assert table_of(repository / "docs" / "results.md", kind) == recipe.table(found["results"])
    assert found["model"] == artifact.fingerprint(kind)
    drawn = next(groups for name, groups in found["results"].items() if name.startswith(kind))
    assert all(row["real_time_factor"] <= 0.5 for row in drawn.values())
    assert all(math.isfinite(value) for row in drawn.values() for value in row.values())
    assert "TO BE" not in (repository / "recipes" / f"{kind}_card.json").read_text()


@pytest.mark.parametrize("name", ["drums", "notes"])
def test_the_experiments_fit_together(name: str) -> None:
    """Their conditions have a place in the network, and the model is small enough to ship."""
    from hydra import compose, initialize_config_dir
    from hydra.utils import instantiate

    from signal_diffusion.training.runs import conf_folder

    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = compose("train", [f"experiment={name}", "data.sources.root=DATA"])
    denoiser = instantiate(config.model.denoiser)
    assert 2 * sum(p.numel() for p in denoiser.parameters()) < 12e6
    sources = instantiate(config.data.sources)
    assert [c.name for c in sources.conditions] == [c.name for c in denoiser.conditions]
    assert denoiser.codec.encode(torch.zeros(1, 1, denoiser.length)).shape[1] >= 96
