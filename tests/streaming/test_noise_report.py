"""What is said of the noise that was removed is what a recording of known truth makes of it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import Command

from signal_diffusion.data.processes import AutoRegressive
from signal_diffusion.denoiser import Denoiser, NetworkDenoiser
from signal_diffusion.errors import InputError
from signal_diffusion.nn.stack import DilatedStack
from signal_diffusion.schedules import EDM
from signal_diffusion.streaming.gain import Normal
from signal_diffusion.streaming.noise_check import ChannelNoise, Removed, removed_noise
from signal_diffusion.streaming.settings import Settings
from signal_diffusion.tasks.denoise_files import denoise_table

LENGTH = 1 << 16


def filtered(x: np.ndarray, gain: np.ndarray) -> np.ndarray:
    return np.fft.irfft(np.fft.rfft(x) * gain, len(x))


def seen(heard: np.ndarray, estimate: np.ndarray, block: int = 5000, **options) -> ChannelNoise:
    """The report on one channel at 100 Hz, whose noise is of 1 unless told otherwise."""
    removed = Removed(["x"], 100.0, np.array([options.pop("std", 1.0)]), **options)
    for start in range(0, len(heard), block):
        part = slice(start, start + block)
        removed(heard[None, part], estimate[None, None, part])
    return removed.channels()[0]


@pytest.fixture(scope="module")
def known() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An AR(2) process of variance 1, its spectrum, and a recording of it in white noise of 1."""
    process = AutoRegressive(length=LENGTH, std=1.0)
    rng = np.random.default_rng(0)
    clean = process(rng, 1).clean[0, 0].double().numpy()
    return clean, process.spectrum.double().numpy(), clean + rng.standard_normal(LENGTH)


def test_the_best_estimate_is_found_sound_though_its_residual_is_not_white(known) -> None:
    """S_removed = 1 / (S + 1): the noise's variance, less that of the error that is left."""
    clean, spectrum, noisy = known
    best = filtered(noisy, spectrum / (spectrum + 1))
    found = seen(noisy, best)
    left = np.mean((best - clean) ** 2)
    assert found.ratio**2 + left == pytest.approx(1, abs=0.02)
    whole = np.concatenate([spectrum, spectrum[-2:0:-1]])
    assert found.ratio**2 == pytest.approx(np.mean(1 / (whole + 1)), abs=0.01)
    assert found.share == pytest.approx(found.ratio**2 / noisy.var(), rel=1e-6)
    assert not found.exceeds and found.highest_db < 0.5
    weak = np.mean(10 * np.log10(1 + spectrum) < 1)
    assert found.white == pytest.approx(weak, abs=0.1) and 0.5 < found.white < 0.95


def test_removing_the_signal_is_told_with_its_frequency(known) -> None:
    _, spectrum, noisy = known
    found = seen(noisy, np.zeros(LENGTH))
    assert found.exceeds and found.share == 1
    assert found.highest_hz == pytest.approx(10, abs=1), "the resonance of 0.1 cycles a sample"
    assert found.highest_db == pytest.approx(10 * np.log10(1 + spectrum.max()), abs=2)


def test_a_drift_that_was_removed_is_told(known) -> None:
    noise = np.random.default_rng(1).standard_normal(LENGTH)
    drift = 3 * np.sin(2 * np.pi * np.arange(LENGTH) / 20_000)
    kept, lost = seen(drift + noise, drift), seen(drift + noise, 0 * drift)
    assert not kept.exceeds and kept.white == 1 and kept.ratio == pytest.approx(1, abs=0.01)
    assert lost.exceeds and lost.highest_hz < 2


def test_too_little_that_is_removed_is_told(known) -> None:
    noisy = known[2]
    found = seen(noisy, noisy)
    assert (found.share, found.ratio, found.white, found.exceeds) == (0, 0, 0, False)
    assert found.highest_db < -100


@pytest.mark.parametrize("seed", range(20))
def test_white_noise_is_white_however_short_the_recording(seed: int) -> None:
    noise = np.random.default_rng(seed).standard_normal(3000)
    found = seen(noise, 0 * noise, offset=0.0)
    assert found.white >= 0.9 and not found.exceeds


def test_very_short_recordings_have_a_share_alone() -> None:
    noise = np.random.default_rng(0).standard_normal(500)
    found = seen(noise, noise / 2)
    assert found.white is None and found.highest_db is None and not found.exceeds
    assert found.share == pytest.approx(0.25)


def test_a_channel_without_noise_has_none() -> None:
    found = seen(np.full(5000, 7.0), np.full(5000, 7.0), std=0.0)
    assert (found.share, found.ratio, found.white) == (0, None, None)


@pytest.mark.parametrize("block", [1, 100, 7777])
def test_blocks_and_offsets_change_nothing(known, block: int) -> None:
    noisy = known[2][:6000]
    whole = seen(noisy, noisy / 2, block=6000)
    moved = seen(noisy + 1e6, noisy / 2 + 1e6 - 20, block=block, offset=20.0)
    assert moved.share == pytest.approx(whole.share, rel=1e-6)
    assert (moved.white, moved.highest_hz) == (whole.white, whole.highest_hz)
    assert moved.highest_db == pytest.approx(whole.highest_db, abs=0.01)


class Shrunk(NetworkDenoiser):
    """x_hat = a x_t, which goes by the noise."""

    def __init__(self, factor: float = 0.5) -> None:
        torch.manual_seed(0)
        stack = DilatedStack(1, channels=8, hidden=4, layers=1)
        super().__init__(stack, EDM(), offset="kept", noise_std=1.0, domain="sensor")
        self.factor = factor

    def forward(self, x_t, t, y=None, cond=None):
        return self.factor * x_t


def table(path: Path, rows: int = 20_000) -> None:
    """White noise of 3 about 1000, and one of 0.01 on a slow wave."""
    rng, time = np.random.default_rng(0), np.arange(rows) / 50
    x = np.stack(
        [1000 + 3 * rng.standard_normal(rows), np.sin(time / 3) + 0.01 * rng.standard_normal(rows)]
    )
    lines = [f"{t:.2f},{a:.4f},{b:.6f}" for t, a, b in zip(time, *x, strict=True)]
    path.write_text("\n".join(["time (s),flow,level", *lines, ""]))


def test_a_table_is_reported_in_its_units(tmp_path: Path) -> None:
    table(tmp_path / "a.csv")
    report = denoise_table(Shrunk(), tmp_path / "a.csv", tmp_path / "b.csv")
    flow, level = report.noise
    assert (flow.channel, level.channel) == ("flow", "level")
    assert flow.noise_std == pytest.approx(3, rel=0.05) and flow.estimated
    assert level.noise_std == pytest.approx(0.01, rel=0.05)
    assert flow.ratio == pytest.approx(0.5, rel=0.05) and flow.share == pytest.approx(0.25)
    assert not flow.exceeds, "half of the noise is 6 dB under it"
    assert level.exceeds and level.highest_hz < 1, "of the wave itself half was removed"
    given = denoise_table(
        Shrunk(), tmp_path / "a.csv", tmp_path / "c.csv", settings=Settings(noise_std=6.0)
    )
    assert given.noise[0].noise_std == 6 and not given.noise[0].estimated


def test_other_denoisers_and_other_rates_have_no_report() -> None:
    unlike, resampled = Denoiser.from_pretrained("ecg"), Shrunk()
    resampled.sample_rate = 360
    for denoiser in (unlike, resampled):
        assert removed_noise(denoiser, Settings(), Normal(), 100.0, ["x"]) is None


def test_the_command_tells_of_the_noise(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Denoiser, "from_pretrained", staticmethod(lambda *_: Shrunk()))
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        table(tmp_path / "in" / f"{name}.csv", rows=5000)
    code, out, err = command("denoise", tmp_path / "in" / "a.csv", "-o", tmp_path / "a.csv")
    line = "columns that change: flow, level; that stay: time (s) (time stamps)\n"
    assert (code, err) == (0, f"{tmp_path / 'in' / 'a.csv'}: {line}")
    first, second = (line for line in out.splitlines() if line.startswith("noise in "))
    assert first.startswith("noise in flow: 25 % of the variance, 0.5")
    assert first.endswith("nowhere above white noise")
    assert "noise in level: 25 % of the variance" in second and "above white noise at" in second
    code, out, err = command("denoise", tmp_path / "in", "-o", tmp_path / "out")
    assert code == 0 and err.endswith(f": {line}") and err.count("\n") == 1
    assert "noise: 25 to 25 % of the variance of 4 channels, 2 of them with more" in out
    rows = [json.loads(line) for line in (tmp_path / "out" / "report.jsonl").open()]
    assert [noise["channel"] for noise in rows[0]["noise"]] == ["flow", "level"]
    assert rows[0]["noise"][0]["ratio"] == pytest.approx(0.5, rel=0.05)


def test_a_drift_of_any_size_is_led_past_the_network() -> None:
    """The same estimate, on any slow line; means over 1024 samples leave nothing of one."""
    torch.manual_seed(0)
    stack = DilatedStack(1, channels=8, hidden=4, layers=2)
    torch.nn.init.normal_(stack.head.weight, std=0.3)
    denoiser = NetworkDenoiser(stack, EDM(), target="edm", trend=1024)
    x, t = torch.randn(2, 1, 6000), torch.tensor(0.5)
    line = 20 * torch.linspace(-1, 1, 6000)
    with torch.no_grad():
        still, moved = denoiser(x, t), denoiser(x + line, t)
    inner = slice(600, -600)
    # Half of the window lies before a sample, which is not quite its middle.
    slope = float(line[1] - line[0])
    np.testing.assert_allclose((moved - still - line)[..., inner].numpy(), 0, atol=slope + 1e-3)
    before, after = denoiser.context()
    assert before >= 512 and after >= 512
    cut = slice(2000 - before, 3000 + after)
    with torch.no_grad():
        part = denoiser(x[..., cut], t)[..., before : before + 1000]
    np.testing.assert_allclose(part.numpy(), still[..., 2000:3000].numpy(), atol=1e-5)


@pytest.mark.parametrize("trend", [0, 1, 100])
def test_a_trend_that_cannot_be_is_one_line(trend: int) -> None:
    with pytest.raises(InputError, match="power of 2"):
        NetworkDenoiser(DilatedStack(1, channels=8, hidden=4, layers=1), EDM(), trend=trend)
