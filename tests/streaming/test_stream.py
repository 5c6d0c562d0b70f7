"""Pieces, streams and iterators give what the whole recording gives, at every rate."""

import numpy as np
import pytest
import torch
from builders import Scaled
from torch import Tensor

from signal_diffusion import (
    Denoiser,
    DenoiseStream,
    Settings,
    denoise,
    denoise_blocks,
    posterior,
    samplers,
)
from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.errors import InputError
from signal_diffusion.nn.frames import CompressedSTFT
from signal_diffusion.nn.stack import DilatedStack
from signal_diffusion.schedules import BrownianBridge, VariancePreserving
from signal_diffusion.tasks.denoise import measured_level

RATE = 16000


@pytest.fixture(scope="module")
def network() -> NetworkDenoiser:
    """Random weights, which change everything and look as far as they may."""
    torch.manual_seed(0)
    stack = DilatedStack(
        130, channels=16, hidden=8, layers=4, dilation_cycle=4, paired=True, complex_pairs=True
    )
    for parameter in stack.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    codec = CompressedSTFT(window=128, hop=64)
    return NetworkDenoiser(stack, BrownianBridge(), codec=codec, sample_rate=RATE, level_db=-25.0)


def recording(channels: int, length: int, seed: int = 3) -> np.ndarray:
    generator = np.random.default_rng(seed)
    loudness = 1 + np.sin(np.arange(length) / 3000)
    return (0.1 * loudness * generator.standard_normal((channels, length))).astype(np.float32)


def cut(signal: np.ndarray, seed: int = 0) -> list[np.ndarray]:
    """Blocks of all sizes, some of them empty."""
    sizes = np.random.default_rng(seed).integers(0, 5000, 10_000)
    ends = np.cumsum(sizes)
    return np.split(signal, ends[ends < signal.shape[-1]], axis=-1)


def streamed(stream: DenoiseStream, signal: np.ndarray, seed: int = 0) -> np.ndarray:
    blocks = [stream.push(block) for block in cut(signal, seed)]
    return np.concatenate([*blocks, stream.flush()], axis=-1)


CASES = [(1, samplers.ddim), (4, samplers.ddim), (4, samplers.ddpm), (4, samplers.few_step)]


@pytest.mark.parametrize("rate", [RATE, 11025, 48000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("steps", "sampler"), CASES)
def test_any_cut_equals_the_whole(network, rate, channels, steps, sampler) -> None:
    signal = recording(channels, 60_001)
    options = {"steps": steps, "sampler": sampler, "seed": 7}
    whole = denoise(network, signal, sample_rate=rate, piece=1e6, **options)
    assert np.abs(whole - signal).max() > 0.01
    for seconds in (0.05, 0.3, 1.0):
        pieces = denoise(network, signal, sample_rate=rate, piece=seconds, **options)
        np.testing.assert_allclose(pieces, whole, atol=1e-5)
    level = measured_level(network, [signal], rate)
    stream = DenoiseStream(network, sample_rate=rate, channels=channels, level=level, **options)
    np.testing.assert_allclose(streamed(stream, signal), whole, atol=1e-5)
    settings = Settings(**options)
    blocks = denoise_blocks(network, cut(signal), sample_rate=rate, settings=settings)
    np.testing.assert_allclose(np.concatenate(list(blocks), axis=1), whole, atol=1e-5)


def test_shots_do_not_depend_on_the_cut(network) -> None:
    signal = recording(2, 30_000)
    whole = posterior(network, signal, sample_rate=RATE, shots=3, steps=2)
    settings = Settings(shots=3, steps=2, piece=0.2)
    blocks = list(denoise_blocks(network, cut(signal), sample_rate=RATE, settings=settings))
    np.testing.assert_allclose(np.concatenate(blocks, axis=1), whole.mean, atol=1e-5)
    assert (whole.low <= whole.mean).all() and (whole.mean <= whole.high).all()
    assert whole.std.min() >= 0 and whole.std.mean() > 1e-3
    first = denoise(network, signal, sample_rate=RATE, steps=2)
    assert np.abs(first - whole.mean).max() > 1e-3


@pytest.mark.parametrize("level", [None, -20.0])
@pytest.mark.parametrize("rate", [8000, RATE, 44100])
@pytest.mark.parametrize("steps", [1, 3])
def test_what_comes_after_the_latency_changes_nothing(network, level, rate, steps) -> None:
    signal = recording(1, 60_000)[0]
    k = 20_000
    results = []
    for change in (0.0, 1.0):
        stream = DenoiseStream(network, sample_rate=rate, steps=steps, level=level)
        assert stream.latency is not None
        changed = signal.copy()
        changed[k + stream.latency + 1 :] += (
            change * recording(1, 60_000, seed=9)[0][k + stream.latency + 1 :]
        )
        results.append(streamed(stream, changed, seed=int(change)))
    np.testing.assert_allclose(results[0][: k + 1], results[1][: k + 1], atol=1e-6)
    assert np.abs(results[0] - results[1]).max() > 0.01


@pytest.mark.parametrize("rate", [8000, RATE, 44100, 48000, 96000])
def test_estimates_come_out_within_the_latency(network, rate) -> None:
    every = 0.05
    stream = DenoiseStream(network, sample_rate=rate, every=every)
    pushed = came = 0
    for block in cut(recording(1, 100_000)[0]):
        pushed, came = pushed + block.size, came + stream.push(block).size
        assert pushed - came <= stream.latency + every * rate + 64 * max(1, rate / RATE)
    assert came + stream.flush().size == pushed


def test_the_latency_is_half_the_receptive_field_a_call_and_one_window(network) -> None:
    field = network.backbone.context[1] * network.codec.hop
    for calls in (1, 4):
        expected = calls * field + network.codec.window - 1
        assert DenoiseStream(network, steps=calls, level=-20.0).latency == expected
        # A running level looks a quarter of a second ahead.
        assert DenoiseStream(network, steps=calls).latency == expected + 8 * 512


def test_a_running_level_comes_close_to_the_one_of_the_file(samples) -> None:
    from signal_diffusion.audio import read

    denoiser = Denoiser.from_pretrained("speech")
    noisy = read(samples / "pairs" / "noisy" / "p287_006.flac").samples[0]
    for scale in (1.0, 0.01):
        whole = denoise(denoiser, noisy * np.float32(scale), sample_rate=RATE)
        running = streamed(DenoiseStream(denoiser, sample_rate=RATE), noisy * np.float32(scale))
        error = np.square(running - whole).sum() / np.square(whole).sum()
        assert 10 * np.log10(error) < -20


def test_a_running_level_makes_no_clicks() -> None:
    """A denoiser that changes nothing gives back what came, however the level moves."""
    signal = recording(2, 200_000) * np.logspace(-3, 0, 200_000, dtype=np.float32)
    stream = DenoiseStream(Scaled(), sample_rate=RATE, channels=2)
    np.testing.assert_allclose(streamed(stream, signal), signal, atol=1e-7)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000, 96000])
@pytest.mark.parametrize("length", [1, 2, 255, 1001, 30_001])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_denoiser_that_changes_nothing_gives_back_the_input(rate, length, dtype) -> None:
    signal = recording(2, length).astype(dtype) if length > 1 else recording(1, 1).astype(dtype)
    np.testing.assert_array_equal(denoise(Scaled(), signal, sample_rate=rate), signal)


def test_strength_goes_from_the_input_to_the_estimate(network) -> None:
    signal = recording(2, 20_000)
    for rate in (RATE, 44100):
        whole = denoise(network, signal, sample_rate=rate)
        half = denoise(network, signal, sample_rate=rate, strength=0.5)
        np.testing.assert_array_equal(
            denoise(network, signal, sample_rate=rate, strength=0.0), signal
        )
        np.testing.assert_allclose(half, (signal + whole) / 2, atol=1e-6)


def power(signal: np.ndarray, low: float, high: float, rate: int) -> float:
    """Mean power between two frequencies."""
    spectrum = np.abs(np.fft.rfft(signal * np.hanning(signal.size))) ** 2
    frequency = np.fft.rfftfreq(signal.size, 1 / rate)
    return float(spectrum[(frequency >= low) & (frequency < high)].mean())


def test_the_band_above_is_turned_down_as_the_top_octave_was() -> None:
    rate = 48000
    signal = recording(1, 5 * rate)[0]
    for gain in (1.0, 0.3, 0.01):
        cleaned = denoise(Scaled(lambda y, gain=gain: gain), signal, sample_rate=rate)
        np.testing.assert_allclose(cleaned, gain * signal, atol=0.003 * np.abs(signal).max())
        seam = power(cleaned, 7900, 8100, rate) / power(signal, 7900, 8100, rate)
        assert seam == pytest.approx(gain**2, rel=0.1)
    cleaned = denoise(Scaled(lambda y: 0.3), signal, sample_rate=rate, band="model")
    assert power(cleaned, 8500, 24000, rate) < 1e-8 * power(signal, 8500, 24000, rate)
    louder = denoise(Scaled(lambda y: 2.0), signal, sample_rate=rate)
    assert power(louder, 9000, 20000, rate) == pytest.approx(
        power(signal, 9000, 20000, rate), rel=1e-3
    )


def test_the_band_above_follows_time() -> None:
    """Turned down where the denoiser turns down, kept where it keeps, with a smooth way between."""
    rate, signal = 48000, recording(1, 4 * 48000)[0]

    def later(y: Tensor) -> Tensor:
        return torch.where(torch.arange(y.shape[-1]) < 2 * RATE, 0.01, 1.0)

    cleaned = denoise(Scaled(later), signal, sample_rate=rate, piece=10.0)
    first, last = slice(0, int(1.8 * rate)), slice(int(2.2 * rate), None)
    assert power(cleaned[first], 9e3, 20e3, rate) < 1e-3 * power(signal[first], 9e3, 20e3, rate)
    np.testing.assert_allclose(cleaned[last], signal[last], atol=1e-4)


def test_the_band_above_is_kept_where_the_top_octave_is_empty() -> None:
    """A band-limited voice with a bat above it: nothing says that the bat is noise."""
    rate = 96000
    time = np.arange(3 * rate) / rate
    voice, bat = 0.3 * np.sin(2 * np.pi * 900 * time), 0.1 * np.sin(2 * np.pi * 30000 * time)
    cleaned = denoise(Scaled(lambda y: 0.1), voice + bat, sample_rate=rate)
    middle = slice(rate // 2, -rate // 2)
    np.testing.assert_allclose(cleaned[middle], (0.1 * voice + bat)[middle], atol=2e-3)


def test_digital_silence_stays_silent_wherever_it_lies(network) -> None:
    signal = recording(2, 40_000)
    signal[:, 10_000:20_000] = 0
    signal[1, 30_000:] = 0
    for rate in (RATE, 44100):
        cleaned = denoise(network, signal, sample_rate=rate)
        assert not cleaned[:, 10_000:20_000].any()
        assert not cleaned[1, 30_000:].any()
        assert cleaned[0, 30_000:].all()


def test_half_a_second_of_zeros_is_no_more_than_that(network) -> None:
    assert not denoise(network, np.zeros((2, 8000)), sample_rate=RATE).any()
    assert not streamed(DenoiseStream(network, channels=2), np.zeros((2, 8000), np.float32)).any()


def test_an_iterator_is_read_once(network) -> None:
    signal = recording(1, 40_000)
    level = measured_level(network, [signal], RATE)
    whole = denoise(network, signal, sample_rate=RATE)
    settings = Settings(level=level)
    once = denoise_blocks(network, iter(cut(signal)), sample_rate=RATE, settings=settings)
    np.testing.assert_allclose(np.concatenate(list(once), axis=1), whole, atol=1e-5)
    assert list(denoise_blocks(network, [], sample_rate=RATE)) == []


def test_an_unpaired_stream_needs_its_level() -> None:
    oracle = Scaled(schedule=VariancePreserving())
    with pytest.raises(InputError, match="level is missing"):
        DenoiseStream(oracle, noise_std=0.1)
    assert DenoiseStream(oracle, noise_std=0.1, level=-20.0).flush().size == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": 1.5}, "strength is 1.5"),
        ({"strength": float("nan")}, "strength is nan"),
        ({"band": "upper"}, "band is 'upper'"),
        ({"level": 1000.0}, "level is 1000.0 dB"),
        ({"channels": 0}, "channels is 0"),
        ({"every": 0.0}, "every is 0.0 s"),
        ({"steps": 0}, "steps is 0"),
        ({"sample_rate": -1}, "sample_rate is -1 Hz"),
        ({"noise_std": 0.1}, "noise_std is 0.1, but BrownianBridge"),
    ],
)
def test_mistakes_in_options_are_told(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        DenoiseStream(Scaled(), **options)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (np.zeros((100, 2), np.float32), r"\(100, 2\); this stream takes \(2, n\): pass block.T"),
        (np.zeros(100, np.float32), r"takes \(2, n\)"),
        (np.zeros((2, 100), np.int16), "int16; pass a numpy array of floats"),
        ([0.0, 1.0], "list"),
        (np.full((2, 10), np.nan), "NaN"),
    ],
)
def test_mistakes_in_blocks_are_told(block: object, message: str) -> None:
    stream = DenoiseStream(Scaled(), channels=2)
    with pytest.raises(InputError, match=message):
        stream.push(block)


def test_a_flushed_stream_is_over() -> None:
    stream = DenoiseStream(Scaled())
    stream.push(np.ones(10, np.float32))
    assert stream.flush().size == 10
    assert stream.flush().size == 0
    with pytest.raises(InputError, match="flushed"):
        stream.push(np.ones(10, np.float32))


def test_one_shot_has_no_spread_and_one_step_no_shots() -> None:
    with pytest.raises(InputError, match="shots is 1"):
        posterior(Scaled(), recording(1, 100), shots=1)
    with pytest.raises(InputError, match="one step gives the same mean"):
        posterior(Scaled(), recording(1, 100), shots=4, steps=1)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([np.zeros(100, np.int16)], "int16; pass a numpy array of floats"),
        ([np.zeros((1000, 2), np.float32)], r"\(1000, 2\).*pass block.T"),
        ([np.zeros((2, 9), np.float32), np.zeros((1, 9), np.float32)], r"takes \(2, n\)"),
        ([torch.zeros(9)], "float32; pass a numpy array"),
        ([np.zeros((2, 2, 9))], r"\(n,\) or \(C, n\)"),
    ],
)
def test_mistakes_in_recordings_of_blocks_are_told(network, blocks, message) -> None:
    with pytest.raises(InputError, match=message):
        list(denoise_blocks(network, blocks))


@pytest.mark.parametrize(
    "options",
    [
        {"strength": "1"},
        {"level": "a"},
        {"piece": "3"},
        {"piece": 1e306},
        {"sampler": 3},
        {"steps": 2.5},
        {"shots": True},
    ],
)
def test_settings_of_the_wrong_kind_are_told(options) -> None:
    with pytest.raises(InputError, match=f"{next(iter(options))} is"):
        Settings(**options)
    assert Settings(steps=np.int64(3), seed=np.int64(1)).times == 3


def test_blocks_may_be_of_one_dimension_or_empty(network) -> None:
    assert (
        np.concatenate(list(denoise_blocks(network, [np.zeros(9), np.zeros(0)])), axis=1).size == 9
    )
    assert not [block.size for block in denoise_blocks(network, [np.zeros((2, 0))]) if block.size]


def test_many_rows_do_not_need_more_memory(network) -> None:
    """Draws of many channels are cut into short pieces, not held whole; too many are refused."""
    from signal_diffusion.streaming.pieces import LARGEST_ESTIMATE, Pieces, Sampling

    for channels, shots, steps in ((200, 1, 1), (64, 16, 16), (256, 16, 4)):
        sampling = Sampling(network, torch.linspace(1, 0.1, steps), samplers.ddim, 0, shots)
        pieces = Pieces(sampling, channels=channels)
        assert pieces.most * channels * shots <= LARGEST_ESTIMATE + network.hop * channels * shots
    with pytest.raises(InputError, match="pass shots=1 to 2048"):
        list(denoise_blocks(network, [np.ones((2, 9))], settings=Settings(shots=5000, steps=2)))


def test_several_rows_are_denoised_in_turn_and_not_in_shorter_pieces() -> None:
    """The context is not paid for again and again, and no batch is larger than that of one row."""
    from signal_diffusion.streaming.pieces import Pieces, Sampling

    batches = []
    denoiser = Scaled(lambda y: batches.append(y.shape[0] * y.shape[-1]) or 0.5)
    sampling = Sampling(denoiser, torch.ones(1), samplers.ddim, 0)
    assert {Pieces(sampling, channels=rows).most for rows in (1, 2, 8)} == {sampling.budget}
    signal = recording(8, 3 * sampling.budget)
    np.testing.assert_allclose(denoise(denoiser, signal), 0.5 * signal, atol=1e-6)
    assert max(batches) == sampling.budget and len(batches) == 3 * 8


def test_the_gain_of_a_stream_falls_before_a_voice_begins() -> None:
    """After a faint beginning the first half second is denoised as the rest, not overdriven."""
    seen = []
    voice = recording(1, 3 * RATE)[0]
    faint = 1e-4 * np.random.default_rng(0).standard_normal(4 * RATE).astype(np.float32)
    stream = DenoiseStream(Scaled(lambda y: seen.append(y) or 1.0), sample_rate=RATE)
    streamed(stream, np.concatenate([faint, voice]))
    heard = torch.cat([block[0, 0] for block in seen])[4 * RATE :]
    first, rest = heard[: RATE // 2].std(), heard[RATE:].std()
    assert 20 * torch.log10(first / rest) < 6
