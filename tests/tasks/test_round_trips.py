"""A file comes back in the form that it had: rate, channels, length, place and samples."""

import numpy as np
import pytest
import soundfile
from builders import Scaled, State

from signal_diffusion.audio import read
from signal_diffusion.streaming.settings import Settings
from signal_diffusion.tasks.denoise_files import denoise_file

LOSSLESS = [
    (".wav", "WAV", "PCM_U8"),
    (".wav", "WAV", "PCM_16"),
    (".wav", "WAV", "PCM_24"),
    (".wav", "WAV", "PCM_32"),
    (".wav", "WAV", "FLOAT"),
    (".wav", "WAV", "DOUBLE"),
    (".wav", "WAVEX", "PCM_24"),
    (".wav", "RF64", "PCM_16"),
    (".flac", "FLAC", "PCM_16"),
    (".flac", "FLAC", "PCM_24"),
    (".aiff", "AIFF", "PCM_16"),
    (".aiff", "AIFF", "PCM_24"),
    (".au", "AU", "FLOAT"),
    (".caf", "CAF", "PCM_24"),
    (".w64", "W64", "PCM_32"),
]
LOSSY = [
    (".ogg", "OGG", "VORBIS", (8000, 11025, 16000, 22050, 44100, 48000, 96000), (1, 2, 6)),
    (".opus", "OGG", "OPUS", (8000, 16000, 48000), (1, 2, 6)),
    (".mp3", "MP3", "MPEG_LAYER_III", (8000, 11025, 16000, 22050, 44100, 48000), (1, 2)),
]
RATES = (8000, 11025, 16000, 22050, 44100, 48000, 96000)


def noise(length: int, channels: int) -> np.ndarray:
    """Frames (L, C) of low-passed noise, each channel its own."""
    white = np.random.default_rng(length).standard_normal((length + 20, channels))
    smooth = np.apply_along_axis(np.convolve, 0, white, np.hanning(21) / 6, mode="valid")
    return (0.2 * smooth).clip(-1, 1)[:length]


@pytest.mark.parametrize(("suffix", "container", "subtype"), LOSSLESS)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_lossless_files_come_back_as_they_were(
    tmp_path, suffix, container, subtype, channels
) -> None:
    lengths = (1, 2, 255, 1001)
    for index, rate in enumerate(RATES):
        length = lengths[index % len(lengths)]
        source = tmp_path / f"{rate}{suffix}"
        soundfile.write(source, noise(length, channels), rate, subtype, format=container)
        for name, settings in (("off", Settings(strength=0.0)), ("on", Settings())):
            target = tmp_path / f"{rate}-{name}{suffix}"
            report = denoise_file(Scaled(), source, target, settings=settings)
            before, after = soundfile.info(source), soundfile.info(target)
            for field in ("samplerate", "channels", "frames", "format", "subtype"):
                assert getattr(before, field) == getattr(after, field), (field, rate, name)
            assert report.note is None
            np.testing.assert_array_equal(
                soundfile.read(source, dtype="float64")[0],
                soundfile.read(target, dtype="float64")[0],
            )


@pytest.mark.parametrize(("suffix", "container", "subtype", "rates", "channels"), LOSSY)
def test_lossy_files_keep_length_and_place(
    tmp_path, suffix, container, subtype, rates, channels
) -> None:
    for rate in rates:
        for count in channels:
            for length in (1, 777, 12_345):
                source = tmp_path / f"{rate}-{count}-{length}{suffix}"
                target = tmp_path / f"{rate}-{count}-{length}-out{suffix}"
                soundfile.write(source, noise(length, count), rate, subtype, format=container)
                denoise_file(Scaled(), source, target)
                first, second = read(source), read(target)
                assert first.samples.shape == second.samples.shape == (count, length)
                assert (first.form, first.sample_rate) == (second.form, rate)
                if length > 1000:
                    for one, other in zip(first.samples, second.samples, strict=True):
                        assert lag(one, other) == 0, (rate, count, length)


def lag(first: np.ndarray, second: np.ndarray) -> int:
    """Samples that the second signal (L,) comes later than the first, by cross-correlation."""
    size = 2 * len(first)
    product = np.conj(np.fft.rfft(first, size)) * np.fft.rfft(second, size)
    shift = int(np.argmax(np.fft.irfft(product)))
    return shift if shift < len(first) else shift - size


def test_the_lag_is_seen() -> None:
    signal = noise(1000, 1)[:, 0]
    assert [lag(signal, np.roll(signal, n)) for n in (0, 3, -5)] == [0, 3, -5]


def test_what_a_container_cannot_hold_becomes_flac_with_a_line(tmp_path) -> None:
    source = tmp_path / "six.wav"
    soundfile.write(source, noise(1000, 6), 48000, "PCM_16")
    report = denoise_file(Scaled(), source, tmp_path / "six.mp3")
    assert report.note is not None and "six.flac is written instead" in report.note
    assert not (tmp_path / "six.mp3").exists()
    np.testing.assert_array_equal(
        soundfile.read(source)[0], soundfile.read(tmp_path / "six.flac")[0]
    )
    assert report.output == str(tmp_path / "six.flac")


def test_mixing_gives_one_channel(tmp_path) -> None:
    source = tmp_path / "two.wav"
    soundfile.write(source, noise(1000, 2), 16000, "FLOAT")
    denoise_file(Scaled(), source, tmp_path / "one.wav", mix=True)
    mixed = soundfile.read(tmp_path / "one.wav")[0]
    np.testing.assert_allclose(mixed, soundfile.read(source)[0].mean(axis=1), atol=1e-7)


def test_what_was_removed_and_what_is_left_add_up(tmp_path) -> None:
    source, rate = tmp_path / "in.wav", 44100
    soundfile.write(source, noise(30_000, 2), rate, "FLOAT")
    denoiser = Scaled(lambda y: 0.25)
    denoise_file(denoiser, source, tmp_path / "out.wav", keep_noise=tmp_path / "noise.wav")
    parts = [soundfile.read(tmp_path / name)[0] for name in ("in.wav", "out.wav", "noise.wav")]
    np.testing.assert_allclose(parts[1] + parts[2], parts[0], atol=1e-6)
    assert np.abs(parts[2]).max() > 0.1


def test_the_spread_of_the_draws_is_written_beside(tmp_path) -> None:
    source = tmp_path / "in.wav"
    soundfile.write(source, noise(5000, 2), 16000, "FLOAT")
    settings = Settings(shots=8, steps=2)
    denoise_file(
        State(sample_rate=16000),
        source,
        tmp_path / "out.wav",
        settings=settings,
        uncertainty=tmp_path / "spread.npz",
    )
    with np.load(tmp_path / "spread.npz") as arrays:
        assert int(arrays["sample_rate"]) == 16000
        assert arrays["std"].shape == arrays["low"].shape == arrays["high"].shape == (2, 5000)
        assert (arrays["low"] <= arrays["high"]).all() and arrays["std"].mean() > 0.1
        mean = soundfile.read(tmp_path / "out.wav")[0].T
        inside = (arrays["low"] <= mean) & (mean <= arrays["high"])
        assert inside.mean() > 0.99


def test_the_target_is_there_only_when_all_else_is(tmp_path, monkeypatch) -> None:
    """A resumed run takes an output for done: the rest must be done before it."""
    source = tmp_path / "in.wav"
    soundfile.write(source, noise(5000, 1), 16000)
    (tmp_path / "taken.wav").write_bytes(b"kept")
    with pytest.raises(ValueError, match=r"taken\.wav exists"):
        denoise_file(Scaled(), source, tmp_path / "out.wav", keep_noise=tmp_path / "taken.wav")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.wav", "taken.wav"]
    assert (tmp_path / "taken.wav").read_bytes() == b"kept"
