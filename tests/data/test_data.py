"""Corpora, splits and mixing: what training sees is what was asked for, and named by its seed."""

import csv
import dataclasses

import numpy as np
import pytest
import soundfile
import torch

from signal_diffusion.data.batches import Batches
from signal_diffusion.data.corpus import (
    Clip,
    Corpus,
    clip_weights,
    clips_of,
    list_folder,
    manifest_rows,
    split_by_speaker,
)
from signal_diffusion.data.processes import AutoRegressive
from signal_diffusion.data.speech import FolderSources, ManifestSources, PairSources
from signal_diffusion.data.speech_mixing import Mixer
from signal_diffusion.dsp.levels import level_db
from signal_diffusion.errors import InputError

RATE = 16000


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def speech(samples):
    return Corpus(list_folder(samples / "clean"), sample_rate=RATE)


@pytest.fixture(scope="module")
def noise(samples):
    return Corpus(list_folder(samples / "noise"), sample_rate=RATE)


@pytest.fixture(scope="module")
def mixer(speech, noise):
    return Mixer(speech, noise, noise, length=16384)


def test_corpus_holds_the_files_samples(samples, speech):
    for index, clip in enumerate(speech.clips):
        samples_read, _ = soundfile.read(clip.path, dtype="float32")
        np.testing.assert_allclose(speech.clip(index), samples_read, atol=1 / 65536)


def test_corpus_resamples_and_takes_parts(tmp_path):
    time = np.arange(8000) / 8000
    soundfile.write(tmp_path / "tone.wav", 0.5 * np.sin(2 * np.pi * 440 * time), 8000)
    part = Corpus([Clip(tmp_path / "tone.wav", "s", start=2000, length=4000)], sample_rate=RATE)
    expected = 0.5 * np.sin(2 * np.pi * 440 * (np.arange(8000) / RATE + 0.25))
    assert len(part.clip(0)) == 8000
    np.testing.assert_allclose(part.clip(0)[500:-500], expected[500:-500], atol=1e-3)


def test_cache_gives_the_same_samples_without_the_files(tmp_path, samples, monkeypatch):
    clips = list_folder(samples / "noise")
    first = Corpus(clips, sample_rate=RATE, cache=tmp_path)
    monkeypatch.setattr(soundfile, "read", None)
    second = Corpus(clips, sample_rate=RATE, cache=tmp_path)
    assert isinstance(second.samples, np.memmap)
    np.testing.assert_array_equal(first.samples, second.samples)


def test_crops_lie_in_their_clip(speech):
    clip = speech.clip(1)
    piece = speech.crop(rng(), 1, 1000)
    starts = np.flatnonzero(np.isclose(clip[: len(clip) - 999], piece[0]))
    assert any(np.array_equal(clip[s : s + 1000], piece) for s in starts)
    assert len(speech.crop(rng(), 1, len(clip) + 999)) == len(clip) + 999
    assert len(speech.crop(rng(), 1, 5 * len(clip))) == 5 * len(clip)


def test_manifest_selects_rows(tmp_path):
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "split", "id", "floor_db", "start", "length"])
        writer.writerow(["a.wav", "train", "s1", "40", "", ""])
        writer.writerow(["b.wav", "train", "s2", "20", "100", "50"])
        writer.writerow(["c.wav", "valid", "s3", "", "", ""])
    train = clips_of(tmp_path, manifest_rows(tmp_path, where={"split": ["train"]}))
    assert [(c.path.name, c.speaker, c.start, c.length) for c in train] == [
        ("a.wav", "s1", 0, None),
        ("b.wav", "s2", 100, 50),
    ]
    quiet = manifest_rows(tmp_path, at_least={"floor_db": 30})
    assert [row["path"] for row in quiet] == ["a.wav", "c.wav"]
    with pytest.raises(InputError, match="no row"):
        manifest_rows(tmp_path, where={"split": ["test"]})


def test_split_shares_no_speaker_and_is_stable():
    clips = [Clip(__file__, f"s{i % 40}") for i in range(400)]
    train, valid = split_by_speaker(clips, valid_share=0.25)
    assert not {c.speaker for c in train} & {c.speaker for c in valid}
    assert len(train) + len(valid) == 400
    assert 0.1 < len(valid) / 400 < 0.4
    assert split_by_speaker(clips[::-1], valid_share=0.25)[1][::-1] == valid


def test_batch_is_named_by_seed_and_step(mixer):
    twice = [list(Batches(mixer, 3, seed=5, first=first, count=2)) for first in (0, 1)]
    (_, second), (again, other) = twice
    assert torch.equal(second.noisy, again.noisy)
    assert second.names == again.names
    assert not torch.equal(again.noisy, other.noisy)
    rank = next(iter(Batches(mixer, 3, seed=5, first=1, rank=1)))
    assert not torch.equal(rank.noisy, again.noisy)


@pytest.mark.parametrize("snr", [-5.0, 10.0])
def test_mixes_have_the_snr_and_level_asked_for(mixer, snr):
    plain = dataclasses.replace(
        mixer, snr_db=(snr, snr), noise_only=0, speech_only=0, level_jitter_db=0, level_db=-6.0
    )
    batch = plain(rng(), 16)
    noise = batch.noisy - batch.clean
    frames = batch.clean.unfold(-1, 512, 512).square().mean(-1)
    active = frames >= 1e-3 * frames.amax(-1, keepdim=True)
    power = (frames * active).sum(-1) / active.sum(-1)
    noise_frames = noise.unfold(-1, 512, 512).square().mean(-1)
    loud = noise_frames >= 1e-3 * noise_frames.amax(-1, keepdim=True)
    noise_power = (noise_frames * loud).sum(-1) / loud.sum(-1)
    torch.testing.assert_close(
        10 * torch.log10(power / noise_power), torch.full((16, 1), snr), atol=0.1, rtol=0
    )
    torch.testing.assert_close(level_db(batch.noisy)[..., 0], torch.full((16, 1), -6.0))


def test_some_clips_have_no_speech_or_no_noise(mixer):
    batch = dataclasses.replace(mixer, noise_only=0.5, speech_only=0.5)(rng(), 12)
    silent = batch.clean.abs().amax(dim=(1, 2)) == 0
    untouched = (batch.noisy - batch.clean).abs().amax(dim=(1, 2)) == 0
    assert (silent ^ untouched).all()
    assert silent.any() and untouched.any()


def test_some_clips_are_quiet_and_some_uneven(mixer):
    plain = dataclasses.replace(
        mixer, noise_only=0, speech_only=0, level_jitter_db=0, quiet=0.4, quiet_db=30.0
    )
    levels = level_db(plain(rng(), 48).noisy).flatten()
    quiet = levels < -0.1
    assert 10 <= int(quiet.sum()) <= 28
    torch.testing.assert_close(levels[~quiet], torch.zeros(int((~quiet).sum())), atol=0.02, rtol=0)
    assert -30.1 < float(levels.min()) < -15
    even, uneven = (
        dataclasses.replace(plain, quiet=0.0, uneven=share, shares={"made": 1.0})(rng(), 32)
        for share in (0.0, 1.0)
    )
    assert int((level_db(uneven.noisy).abs() < 0.02).sum()) >= 28, "all but crops of silence"
    gains = uneven.noisy / even.noisy
    gains /= gains.amax(dim=-1, keepdim=True)
    torch.testing.assert_close(
        uneven.clean / uneven.noisy, even.clean / even.noisy, rtol=1e-2, atol=1e-3
    )
    assert int((gains.amin(dim=-1) < 0.9).sum()) > 16


def test_every_option_of_the_mixer_is_named_by_its_seed(speech, noise):
    """The generators of torch and numpy, which are global, play no part."""
    shares = {kind: 1.0 for kind in ("one", "two", "scattered", "babble", "music", "tune", "made")}
    options = ("room", "real_room", "noise_room", "band_limited", "whispered", "clipped", "coded")
    everything = dict.fromkeys((*options, "quiet", "uneven", "usual"), 0.4)
    mixer = Mixer(speech, noise, noise, noise, length=8192, shares=shares, **everything)
    batches = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        batches.append(mixer(rng(7), 8))
    assert torch.equal(batches[0].noisy, batches[1].noisy)
    assert torch.equal(batches[0].clean, batches[1].clean)
    assert batches[0].names == batches[1].names
    assert not torch.equal(batches[0].noisy, mixer(rng(8), 8).noisy)


@pytest.mark.parametrize("kind", ["one", "two", "scattered", "babble", "music", "made"])
def test_every_kind_of_noise_is_finite_and_loud(mixer, kind):
    batch = dataclasses.replace(mixer, shares={kind: 1.0}, speech_only=0.0)(rng(1), 4)
    noise = batch.noisy - batch.clean
    assert torch.isfinite(noise).all()
    assert (noise.square().mean(dim=(1, 2)) > 1e-8).all()


def test_scattering_keeps_the_spectrum_and_loses_the_waveform(mixer):
    piece, _ = mixer._two(rng(3), 32768)
    scattered, _ = mixer._scattered(rng(3), 32768)
    np.testing.assert_allclose(
        np.abs(np.fft.rfft(scattered))[1:-1], np.abs(np.fft.rfft(piece))[1:-1], rtol=1e-2, atol=1e-2
    )
    assert abs(np.corrcoef(scattered, piece)[0, 1]) < 0.2


def test_group_shares_are_probabilities(speech):
    clips = [dataclasses.replace(c, group="a" if i else "b") for i, c in enumerate(speech.clips)]
    corpus = Corpus(clips, sample_rate=RATE)
    weights = clip_weights(corpus, {"b": 0.7})
    assert weights.sum() == pytest.approx(1)
    assert weights[0] == pytest.approx(0.7)
    assert clip_weights(corpus, {"absent": 0.7}).sum() == pytest.approx(1)


def test_folders_hold_out_speakers_and_noises(samples):
    sources = FolderSources(
        speech=str(samples / "clean"),
        noise=str(samples / "noise"),
        mixes=3,
        mixer={"length": 8192},
    )
    train, valid, recordings = sources()
    speakers = [{c.speaker for c in m.speech.clips} for m in (train, valid)]
    noises = [{c.path for c in m.noise.clips} for m in (train, valid)]
    assert speakers[0] and speakers[1] and not speakers[0] & speakers[1]
    assert noises[0] and noises[1] and not noises[0] & noises[1]
    assert len(recordings) == 3
    assert train(rng(), 2).noisy.shape == (2, 1, 8192)


def voicebank(folder, speakers):
    """Folders laid out as VoiceBank-DEMAND: noisy and clean files of the same names."""
    for kind in ("noisy", "clean"):
        (folder / kind).mkdir()
    for speaker in speakers:
        for number in range(2):
            clean = rng(number).standard_normal(20000) * 0.1
            noisy = clean + rng(number + 9).standard_normal(20000) * 0.05
            for kind, x in (("clean", clean), ("noisy", noisy)):
                soundfile.write(folder / kind / f"{speaker}_00{number}.wav", x, RATE)
    return folder


def test_pairs_of_folders_stay_aligned_and_split_by_speaker(tmp_path):
    folder = voicebank(tmp_path, ["p226", "p227", "p228"])
    sources = PairSources(str(folder / "noisy"), str(folder / "clean"), length=8192)
    train, valid, recordings = sources()
    speakers = [{c.path.name[:4] for c in crops.clean.clips} for crops in (train, valid)]
    assert speakers[0] and speakers[1] and not speakers[0] & speakers[1]
    batch = train(rng(), 4)
    residue = batch.noisy - batch.clean
    ratio = batch.clean.square().mean() / residue.square().mean()
    assert ratio.item() == pytest.approx(4, rel=0.1)  # 0.1^2 / 0.05^2 if both lie alike
    clean, noisy, name = recordings[0]
    assert clean.shape == noisy.shape == (1, 20000)
    assert name[:4] in speakers[1]


def test_pairs_match_by_their_path_below_the_folders(tmp_path):
    for kind, gain in (("noisy", 2.0), ("clean", 1.0)):
        for level, speaker in enumerate("abc", start=1):
            (tmp_path / kind / speaker).mkdir(parents=True)
            x = np.full(9000, 0.1 * level * gain)
            soundfile.write(tmp_path / kind / speaker / "001.wav", x, RATE)
    train, _, recordings = PairSources(
        str(tmp_path / "noisy"), str(tmp_path / "clean"), length=8192
    )()
    batch = train(rng(), 8)
    torch.testing.assert_close(batch.noisy, 2 * batch.clean, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(recordings[0][1], 2 * recordings[0][0], atol=1e-3, rtol=1e-3)
    soundfile.write(tmp_path / "noisy" / "a" / "001.wav", np.full(8999, 0.2), RATE)
    soundfile.write(tmp_path / "noisy" / "b" / "001.wav", np.full(8999, 0.2), RATE)
    soundfile.write(tmp_path / "noisy" / "c" / "001.wav", np.full(8999, 0.2), RATE)
    with pytest.raises(InputError, match="not as long as its noisy partner"):
        PairSources(str(tmp_path / "noisy"), str(tmp_path / "clean"))()


def test_rooms_echo_forwards_only(mixer):
    from signal_diffusion.data.speech_mixing import ECHO, OUTPUT, _filtered

    impulse = torch.zeros(4, OUTPUT)
    impulse[:, OUTPUT - 100] = 1.0
    flat = torch.ones(4, OUTPUT // 2 + 1)
    kept = _filtered(impulse, mixer._in_rooms(rng(), flat, 1.0, 0.0))[:, ECHO:]
    assert kept[:, : OUTPUT - 100 - ECHO].abs().max() < 1e-5
    torch.testing.assert_close(kept[:, OUTPUT - 100 - ECHO], torch.ones(4), atol=1e-3, rtol=0)
    with pytest.raises(InputError, match="length is 50000"):
        dataclasses.replace(mixer, length=50000)


def test_balance_draws_sources_by_a_power_of_their_length(speech):
    clips = [
        dataclasses.replace(c, speaker="one" if i else "two") for i, c in enumerate(speech.clips)
    ]
    corpus = Corpus(clips, sample_rate=RATE)
    lengths = corpus.ends - corpus.starts
    share = np.array([lengths[0], lengths[1:].sum()])
    for balance in (1.0, 0.5, 0.0):
        weights = clip_weights(corpus, {}, balance=balance)
        wanted = share**balance / (share**balance).sum()
        np.testing.assert_allclose([weights[0], weights[1:].sum()], wanted)


def test_every_kind_of_noise_and_degradation_is_drawn(mixer):
    kinds = "one", "two", "scattered", "babble", "music", "accompanied", "tune", "made"
    for kind in kinds:
        halves = [
            "room",
            "real_room",
            "noise_room",
            "band_limited",
            "whispered",
            "clipped",
            "coded",
            "usual",
        ]
        shares = {"shares": {kind: 1.0}, "noise_only": 0.0, **dict.fromkeys(halves, 0.5)}
        every = dataclasses.replace(mixer, rooms=mixer.noise, **shares)
        batch = every(rng(), 6)
        assert bool(batch.noisy.isfinite().all()) and bool(batch.clean.isfinite().all())
        assert batch.noisy.shape == (6, 1, 16384)


def test_ratios_are_not_below_the_least_of_a_kind(mixer):
    drawn = dataclasses.replace(
        mixer, snr_db=(-10, 30), usual=0.5, least_snr_db={"babble": 5.0}
    )._snr(rng(), ["babble", "one"] * 500)
    assert drawn[::2].min() >= 5 and drawn[1::2].min() < -8 and drawn.max() > 28
    assert 0.6 < np.mean((drawn[1::2] >= 0) & (drawn[1::2] <= 15)) < 0.8


def test_missing_partner_is_named(tmp_path):
    folder = voicebank(tmp_path, ["p226", "p227"])
    (folder / "clean" / "p226_001.wav").unlink()
    with pytest.raises(InputError, match=r"no p226_001\.wav"):
        PairSources(str(folder / "noisy"), str(folder / "clean"))()


def test_manifest_sources_use_each_split_and_the_pairs(tmp_path, samples):
    rows = [["path", "domain", "split", "id", "label", "floor_db", "subset"]]
    for index, path in enumerate(sorted((samples / "clean").rglob("*.flac"))):
        rows.append([path, "speech", "train" if index else "valid", path.parent.name, "", "50", ""])
    for domain in ("noise", "music"):
        for path, split in zip(
            sorted((samples / "noise").glob("*.flac")), ("train", "valid"), strict=True
        ):
            rows.append([path, domain, split, path.stem, "", "", ""])
    for label in ("noisy", "clean"):
        path = samples / "pairs" / label / "p287_006.flac"
        rows.append([path, "pairs", "valid", "p287", label, "", ""])
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    train, valid, recordings = ManifestSources(str(tmp_path), mixes=30)()
    assert all(clean.abs().max() > 0.01 for clean, *_ in recordings.items)
    assert len(train.speech) == 2 and len(valid.speech) == 1
    assert {c.path for c in train.noise.clips}.isdisjoint({c.path for c in valid.noise.clips})
    assert recordings[0][2] == "p287_006.flac"
    assert len(recordings) == 31
    rows = [row for row in rows if row[1] not in ("music", "pairs")]
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    train, _, recordings = ManifestSources(str(tmp_path), mixes=2)()
    assert train.music is None and len(recordings) == 2


def test_broken_files_and_folders_are_named(tmp_path):
    (tmp_path / "a.wav").write_text("no audio")
    with pytest.raises(InputError, match=r"a\.wav can't be read"):
        Corpus(list_folder(tmp_path), sample_rate=RATE)
    (tmp_path / "a.wav").unlink()
    with pytest.raises(InputError, match="no audio in"):
        list_folder(tmp_path)
    with pytest.raises(InputError, match="no folder"):
        list_folder(tmp_path / "absent")


def test_autoregressive_process_has_its_spectrum_and_recursion():
    process = AutoRegressive(radius=0.9, frequency=0.15, length=256, std=0.5)
    x = process(rng(), 4000).clean.double()
    assert x.std().item() == pytest.approx(0.5, rel=0.02)
    measured = torch.fft.rfft(x, norm="ortho").abs().square().mean(dim=(0, 1))
    torch.testing.assert_close(measured, process.spectrum, rtol=0.12, atol=0)
    a_1, a_2 = 2 * 0.9 * np.cos(2 * np.pi * 0.15), -(0.9**2)
    driven = x - a_1 * x.roll(1, -1) - a_2 * x.roll(2, -1)
    correlation = (driven * driven.roll(1, -1)).mean() / driven.square().mean()
    assert abs(correlation.item()) < 0.01
