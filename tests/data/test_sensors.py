"""Electrocardiograms and noisy recordings alone: mixing, levels, objectives, the shipped model."""

import numpy as np
import pytest
import torch
from builders import manifest
from scipy.signal import firwin, oaconvolve, welch

from signal_diffusion import Denoiser, GaussianDenoiser, denoise, metrics
from signal_diffusion.data.ecg import EcgSources, without_drift
from signal_diffusion.data.processes import AutoRegressive
from signal_diffusion.data.white_noise import Channel, NoisyCrops, signal_bands, within
from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.dsp.levels import LevelMeter
from signal_diffusion.errors import InputError
from signal_diffusion.nn.frames import Patch
from signal_diffusion.nn.stack import DilatedStack
from signal_diffusion.schedules import EDM, BrownianBridge
from signal_diffusion.training.losses import Prediction, RelativeError
from signal_diffusion.training.noisy_only import NoisyOnly, time_of
from signal_diffusion.training.objectives import Held


@pytest.mark.parametrize("lead", ["234", "118"])
@pytest.mark.parametrize("kind", ["em", "ma"])
def test_the_shipped_model_cleans_held_out_leads(ecg, lead, kind) -> None:
    clean, noise = without_drift(ecg[lead], 360), ecg[kind] - ecg[kind].mean()
    noisy = ecg[lead] + noise * np.sqrt(np.mean(clean**2) / np.mean(noise**2)) * 10 ** (-3 / 20)
    cleaned = denoise(Denoiser.from_pretrained("ecg"), noisy, sample_rate=360)
    assert metrics.snr(cleaned, clean) > metrics.snr(noisy - np.median(noisy), clean) + 6
    assert metrics.cosine_similarity(cleaned, clean) > 0.9
    # In other units, upside down, at another rate, and beside a lead of another size.
    both = np.stack([1000 * noisy + 5e4, -noisy])
    again = denoise(Denoiser.from_pretrained("ecg"), both, sample_rate=360)
    np.testing.assert_allclose(again[0] / 1000, cleaned, atol=1e-4)
    assert metrics.snr(-again[1], clean) > 6


def test_an_offset_is_kept_or_dropped() -> None:
    signal = np.random.default_rng(0).standard_normal((2, 5000)) + np.array([[1000.0], [-3.0]])
    backbone = DilatedStack(1, channels=8, hidden=4, layers=2, paired=True, frames=Patch(4))
    for offset, wanted in (
        ("kept", signal),
        ("dropped", signal - np.median(signal, axis=1)[:, None]),
    ):
        denoiser = NetworkDenoiser(
            backbone, BrownianBridge(), sample_rate=100, level_db=0.0, offset=offset
        )
        for rate in (100, 250):
            cleaned = denoise(denoiser, signal, sample_rate=rate)
            np.testing.assert_allclose(cleaned, wanted, atol=0.05)
            whole = denoise(denoiser, signal, sample_rate=rate, strength=0.0)
            np.testing.assert_array_equal(whole, signal)
    with pytest.raises(InputError, match="offset is 'lost'"):
        NetworkDenoiser(backbone, BrownianBridge(), offset="lost")


def test_a_constant_channel_stays_as_it_is() -> None:
    signal = np.stack([np.full(3000, 7.5), np.random.default_rng(0).standard_normal(3000)])
    backbone = DilatedStack(1, channels=8, hidden=4, layers=2, paired=True, frames=Patch(4))
    denoiser = NetworkDenoiser(backbone, BrownianBridge(), level_db=0.0, offset="kept")
    torch.nn.init.normal_(backbone.head.weight)
    cleaned = denoise(denoiser, signal)
    np.testing.assert_array_equal(cleaned[0], signal[0])
    assert np.abs(cleaned[1] - signal[1]).max() > 0.1


def test_the_mixer_draws_what_it_says(tmp_path, ecg) -> None:
    manifest(tmp_path, ecg)
    options = {"made": 0.0, "clean_only": 0.0, "snr_db": (3.0, 3.0), "turned": 0.5}
    train, _, recordings = EcgSources(str(tmp_path), mixer=options, recordings=4)()
    one, again = (train(np.random.default_rng(7), 6) for _ in range(2))
    assert torch.equal(one.noisy, again.noisy) and one.clean.shape == (6, 1, 4096)
    assert not torch.equal(one.noisy, train(np.random.default_rng(8), 6).noisy)
    assert all(name.startswith("234[") for name in one.names)
    assert all(name.startswith("118[") for _, _, name in recordings)
    assert torch.median(one.noisy, dim=-1).values.abs().max() < 0.05
    added = one.noisy - one.clean
    snr = 10 * torch.log10(
        one.clean.square().mean(-1) / (added - added.mean(-1, True)).square().mean(-1)
    )
    assert snr.max() < 3.6 and snr.max() > 2, "the lead's own drift comes on top"
    (tmp_path / "manifest.csv").write_text("path,key,domain,split\n")
    with pytest.raises(InputError, match="no row of"):
        EcgSources(str(tmp_path))()


def test_relative_error_is_a_tenth_of_the_snr() -> None:
    signal = torch.randn(3, 1, 500)
    noise = torch.randn(3, 1, 500) * 0.1
    prediction = Prediction(signal + noise, signal, signal, torch.ones(3, 1, 1), Linear(1.0))
    terms = RelativeError(floor=0.0)(prediction)
    snr = metrics.snr((signal + noise)[:, 0], signal[:, 0]).mean()
    assert -10 * terms["relative_error"].item() == pytest.approx(snr.item(), abs=1e-4)


@pytest.mark.parametrize("std", [0.01, 1.0, 300.0])
def test_white_noise_is_estimated_through_signal_steps_and_offset(std: float) -> None:
    rng, time = np.random.default_rng(0), np.arange(50_000)
    signal = 10 * std * (np.sin(time / 40) + (time // 7000 % 2)) + 1e4 * std
    meter = LevelMeter(1, centred=True)
    for block in np.split(signal + std * rng.standard_normal(50_000), 10):
        meter.push(block[None])
    assert meter.noise_std[0] == pytest.approx(std, rel=0.05)
    assert meter.offsets[0, 0] == pytest.approx(np.median(signal), abs=11 * std)


class Linear(NetworkDenoiser):
    """x_hat = a x_t, whose errors are known in closed form."""

    def __init__(self, factor: float) -> None:
        super().__init__(DilatedStack(1, channels=8, hidden=4, layers=1), EDM())
        self.factor = factor

    def forward(self, x_t, t, y=None, cond=None):
        return self.factor * x_t


EVERYTHING = torch.ones(1, 1, 1)
LOW = firwin(101, 0.3).astype(np.float32)


@pytest.mark.parametrize("bands", [np.float32([1.0]), LOW])
@pytest.mark.parametrize("factor", [0.0, 0.5, 0.8, 1.0])
def test_steins_risk_is_the_error_that_needs_the_clean_signal(factor, bands) -> None:
    """Crops of 512, of which what the bands pass was made with what lies around them."""
    rng = np.random.default_rng(0)
    x = oaconvolve(2 * rng.standard_normal(1 << 18), bands, "same")
    heard, true = (Channel.of(part, bands) for part in (x + rng.standard_normal(len(x)), x))
    # The same generators cut the same stretches.
    (noisy, passed), (_, clean) = (
        torch.from_numpy(
            np.stack([each.crop(np.random.default_rng(n), 512) for n in range(500)], axis=1)
        )
        for each in (heard, true)
    )
    risk = (
        NoisyOnly()
        .risk(
            Linear(factor),
            noisy[:, None],
            torch.Generator().manual_seed(0),
            passed=passed[:, None],
            bands=torch.from_numpy(heard.twice).expand(len(clean), 1, -1),
        )
        .mean()
    )
    expected = (factor * noisy - clean).square().mean().item()
    assert risk.item() == pytest.approx(expected, abs=0.02)


def test_the_score_is_the_snr_and_ranks_what_it_can_hardly_tell() -> None:
    """The risk of an estimate that is right is as often negative."""
    torch.manual_seed(0)
    x = 3 * torch.randn(1, 100_000)
    y = x + torch.randn_like(x)
    score = NoisyOnly().score(Linear(0.9), Held(y, y))
    expected = metrics.snr(0.9 * y.numpy()[0], x.numpy()[0])
    assert score.item() == pytest.approx(float(expected), abs=0.1)

    class Nearly(Linear):
        def forward(self, x_t, t, y=None, cond=None):
            # The divergence is that of a constant: none.
            return (10 * torch.sin(torch.arange(x_t.shape[-1])) * self.factor).expand_as(x_t)

    objective, bands = NoisyOnly(), torch.ones(1, 1, 1)
    for seed in range(4):
        # Noise that happens to be a little weak, so that right estimates have negative risks.
        noise = 0.95 * torch.randn(1, 2000, generator=torch.Generator().manual_seed(seed))
        y, some = 10 * torch.sin(torch.arange(2000)) + noise, torch.Generator()
        estimates = [Nearly(factor) for factor in (1.0, 0.99, 0.98, 0.8)]
        risks = [objective.risk(d, y[None], some, passed=y[None], bands=bands) for d in estimates]
        assert max(risks[:2]) < 0
        scores = [objective.score(denoiser, Held(y, y)).item() for denoiser in estimates]
        assert scores == sorted(scores, reverse=True) and len(set(scores)) == 4


def test_above_the_recordings_noise_the_exact_denoiser_is_best() -> None:
    """With the oracle's E[x | x_t], which comes from clean signals: nothing else does better."""
    torch.manual_seed(0)
    flat = torch.ones(257)
    oracle = GaussianDenoiser(EDM(), variance=4 * flat)
    y = 2 * torch.randn(256, 1, 512) + torch.randn(256, 1, 512)

    class Turned(NetworkDenoiser):
        def __init__(self, factor: float) -> None:
            super().__init__(DilatedStack(1, channels=8, hidden=4, layers=1), EDM())
            self.factor = factor

        def forward(self, x_t, t, y=None, cond=None):
            # The oracle takes one time: clip by clip.
            rows = [oracle(x, s.double()) for x, s in zip(x_t[:, None], t.reshape(-1), strict=True)]
            return self.factor * torch.cat(rows).float()

    objective = NoisyOnly(above=1.0)
    terms = {
        factor: objective.terms(Turned(factor), _batch(y), torch.Generator().manual_seed(1))[
            "recorrupted"
        ].item()
        for factor in (0.9, 1.0, 1.1)
    }
    assert terms[1.0] < terms[0.9] and terms[1.0] < terms[1.1]


@pytest.mark.parametrize("size", [1, 2, 4])
def test_batches_of_any_size_learn_the_recordings_own_noise(size: int) -> None:
    y = torch.randn(size, 1, 64)
    terms = NoisyOnly().terms(Linear(0.5), _batch(y), torch.Generator().manual_seed(0))
    assert "sure" in terms and ("recorrupted" in terms) == (size > 1)


def _batch(y: torch.Tensor):
    from signal_diffusion.data.batches import Batch

    return Batch(y, y, [""] * len(y), bands=EVERYTHING.expand(len(y), -1, -1))


def test_the_time_of_a_noise_has_that_noise() -> None:
    denoiser = Linear(1.0)
    for sigma in (0.5, 1.0, 6.0):
        alpha, _, found = denoiser.schedule(time_of(denoiser, torch.tensor(sigma).double()))
        assert (found / alpha).item() == pytest.approx(sigma, rel=1e-4)


def test_crops_come_from_the_channels_and_from_what_their_bands_pass() -> None:
    ramps = [np.arange(3000, dtype=np.float32), -np.arange(5000, dtype=np.float32)]
    channels = [Channel.of(x, np.float32([1.0])) for x in ramps]
    batch = NoisyCrops(channels, length=100)(np.random.default_rng(0), 20)
    assert batch.noisy.shape == batch.clean.shape == (20, 1, 100)
    assert (batch.noisy.diff(dim=-1).abs() == 1).all()
    torch.testing.assert_close(batch.clean, batch.noisy)


def test_the_noise_beside_the_bands_is_drawn_anew_and_the_whole_stays_white() -> None:
    rng = np.random.default_rng(0)
    channel = Channel.of(rng.standard_normal(100_000).astype(np.float32), LOW)
    crops = np.stack([channel.crop(rng, 2000) for _ in range(200)])
    spectra = welch(crops[:, 0], nperseg=256, fs=2.0, detrend=False)[1]
    power = spectra.mean(axis=0)[1:-1]
    np.testing.assert_allclose(power, 1, atol=0.15)
    np.testing.assert_allclose(crops[:, 1].var(), (LOW**2).sum(), rtol=0.03)
    source = NoisyCrops([Channel.of(channel.passed[:2002], LOW)], length=2000)
    twice = [source(np.random.default_rng(seed), 1) for seed in range(40)]
    alike = [(a, b) for a in twice for b in twice if torch.equal(a.clean, b.clean) and a is not b]
    assert alike and not any(torch.equal(a.noisy, b.noisy) for a, b in alike)


def test_responses_of_several_lengths_pass_what_each_passes() -> None:
    """What a crop and its target share of a noise is what the bands pass twice of it."""
    rng = np.random.default_rng(0)
    responses = [firwin(11, 0.3), firwin(21, 0.6)]
    made = [Channel.of(rng.standard_normal(3000), np.float32(r)) for r in responses]
    batch = NoisyCrops(made, length=500)(rng, 8)
    impulse = torch.zeros(8, 1, 99)
    impulse[..., 49] = 1
    for name, given in zip(batch.names, within(impulse, batch.bands), strict=True):
        response = responses[int(name.removeprefix("channel "))]
        twice = np.convolve(response, response)
        middle = slice(49 - len(twice) // 2, 50 + len(twice) // 2)
        np.testing.assert_allclose(given[0, middle], twice, atol=1e-6)
        assert given.square().sum().item() == pytest.approx((twice**2).sum(), rel=1e-4)


def test_bands_lose_little_of_a_wide_signal_and_pass_no_noise() -> None:
    rng = np.random.default_rng(0)
    length, noise = 50_000, rng.standard_normal(50_000)
    assert not signal_bands(noise).any()
    clean = AutoRegressive(length=length)(rng, 1).clean[0, 0].numpy()
    clean *= 10**0.25 / clean.std()
    power = welch(clean, nperseg=256, fs=2.0)[1]
    best = oaconvolve(clean + noise, np.fft.fftshift(np.fft.irfft(power / (power + 1)))[1:], "same")
    passed = oaconvolve(best, signal_bands(clean + noise), "same")
    assert metrics.snr(passed, clean) > metrics.snr(best, clean) - 0.1


def test_a_denoiser_that_goes_by_noise_takes_it_given_or_estimated() -> None:
    """The gain brings the noise to 1: the network sees the same recording in any unit."""
    seen = []

    class Ear(Linear):
        def forward(self, x_t, t, y=None, cond=None):
            seen.append((x_t, t))
            return x_t

    denoiser = Ear(1.0)
    denoiser.offset, denoiser.noise_std = "kept", 1.0
    rng, time = np.random.default_rng(0), np.arange(20_000)
    signal = 5 * np.sin(time / 30) + rng.standard_normal(20_000)
    for given in (None, 250.0):
        denoise(denoiser, 250 * signal + 1e5, noise_std=given)
    for x_t, t in seen:
        difference = np.diff(x_t[0, 0].numpy(), n=4)
        assert difference.std() / np.sqrt(70) == pytest.approx(1, rel=0.05)
        assert float(t) == pytest.approx(float(time_of(denoiser, torch.ones(()))))
    with pytest.raises(InputError, match="noise_std goes with offset"):
        NetworkDenoiser(denoiser.backbone, EDM(), noise_std=1.0)
