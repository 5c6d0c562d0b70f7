"""What happens to voices on their way: bands, rooms, clipping, coding and whispers are as said."""

import numpy as np
import pytest
import torch

from signal_diffusion.data.corpus import Clip, Corpus
from signal_diffusion.data.degradations import (
    CODECS,
    _compressed,
    clipped,
    coded,
    level_steps,
    made_rooms,
    narrow_bands,
    real_rooms,
    whispered,
)

RATE = 16000


def rng(seed=0):
    return np.random.default_rng(seed)


def voice(seconds):
    """Harmonics of a tone of 150 Hz that come and go, (L,)."""
    time = torch.arange(round(seconds * RATE)) / RATE
    tones = sum(torch.sin(2 * torch.pi * 150 * n * time + n * n) / n for n in range(1, 20))
    return 0.1 * tones * (1 + torch.sin(2 * torch.pi * 5 * time))


def test_narrow_bands_pass_what_is_between_their_edges():
    passed = narrow_bands(rng(), 200, bins=8001, rate=RATE)
    assert passed.min() >= 0 and passed.max() <= 1
    assert passed[:, 700:1200].min() > 0.9
    assert 0.3 < (passed[:, 40] < 0.1).float().mean() < 0.9
    assert 0.3 < (passed[:, 7900] < 0.1).float().mean() < 0.9


def test_rooms_begin_with_the_direct_path_and_decay(tmp_path):
    import soundfile

    rooms = made_rooms(rng(), 8, length=4096, rate=RATE)
    assert bool((rooms[:, 0] == 1).all())
    assert bool((rooms[:, 1:].square().sum(dim=1) < 10**-0.29).all())
    response = np.exp(-np.arange(3000) / 500) * rng().standard_normal(3000)
    soundfile.write(tmp_path / "room.wav", 0.3 * response / np.abs(response).max(), RATE)
    corpus = Corpus([Clip(tmp_path / "room.wav", "room")], sample_rate=RATE)
    measured = real_rooms(rng(), corpus, 5, length=2048)
    torch.testing.assert_close(measured.norm(dim=1), torch.ones(5))
    assert bool((measured[:, -1] == 0).all())


def test_clipping_keeps_what_is_below_and_coding_rounds():
    x = torch.from_numpy(rng().standard_normal((4, 3000)).astype(np.float32))
    cut = clipped(rng(), x)
    most = cut.abs().amax(dim=1, keepdim=True)
    assert bool((most < 0.81 * x.abs().amax(dim=1, keepdim=True)).all())
    torch.testing.assert_close(cut, x.clamp(-most, most))


def test_coding_is_by_mu_law_for_some_and_lossy_for_all():
    x = voice(seconds=0.5).expand(24, -1)
    made = coded(rng(), x, rate=RATE)
    assert made.shape == x.shape and len(coded(rng(), x[:0], rate=RATE)) == 0
    levels = [len(row.unique()) <= 256 for row in made]
    assert 2 <= sum(levels) <= 14
    error = (made - x).square().mean(dim=1) / x.square().mean(dim=1)
    assert bool((error < 0.1).all()) and bool((error > 1e-7).all())
    assert torch.equal(made, coded(rng(), x, rate=RATE))


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("length", [4000, 16001])
def test_codecs_keep_length_and_time(codec, length):
    x = voice(seconds=1.1)[:length]
    made = _compressed(rng(), x, codec, rate=RATE)
    assert made.shape == x.shape and made.dtype == x.dtype
    spectra = torch.fft.rfft(torch.stack([made, x]), 2 * length)
    correlation = torch.fft.irfft(spectra[0] * spectra[1].conj())
    assert int(correlation.argmax()) == 0
    assert float(correlation[0] / x.square().sum()) > 0.9
    assert not torch.equal(made, x)


def test_level_steps_are_flat_but_for_a_share():
    gains = level_steps(rng(), 400, length=4800, share=0.25)
    assert gains.shape == (400, 4800)
    uneven = gains.amin(dim=1) < gains.amax(dim=1)
    assert 0.15 < float(uneven.float().mean()) < 0.35
    assert bool((gains[~uneven] == 1).all())
    assert float((gains.amax(dim=1) == 1).float().mean()) > 0.98
    assert float(gains.max()) == 1
    assert 10 ** (-30.01 / 20) < float(gains.min()) < 10 ** (-20 / 20)
    changes = (gains[uneven][:, ::50].diff().abs() > 1e-6).sum(dim=1)
    assert bool((changes >= 1).all()) and bool((changes <= 9).all())
    assert bool((level_steps(rng(), 9, length=480, share=0.0) == 1).all())


def test_whispers_keep_the_level_and_the_times_but_no_pitch():
    time = np.arange(RATE) / RATE
    voice = sum(np.sin(2 * np.pi * 150 * n * time) / n for n in range(1, 20)) * (time < 0.5)
    made = whispered(rng(), voice.astype(np.float32))
    assert np.isclose(np.std(made), np.sqrt(np.mean(voice**2)), rtol=0.02)
    assert np.std(made[RATE * 6 // 10 :]) < 0.01 * np.std(made)
    lags = [np.abs(np.corrcoef(x[107:8000], x[: 8000 - 107])[0, 1]) for x in (voice, made)]
    assert lags[0] > 0.9 and lags[1] < 0.3
