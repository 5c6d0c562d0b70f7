"""Pictures of readings show the right samples, with units, of recordings of any length."""

import importlib.util
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from builders import Command
from PIL import Image

from signal_diffusion.denoiser import Denoiser
from signal_diffusion.errors import InputError
from signal_diffusion.plots.curves import Curves
from signal_diffusion.plots.spectrograms import Spectrograms, saving
from signal_diffusion.plots.window import Window, window_of
from signal_diffusion.tasks.denoise_files import denoise_table


def noise(channels: int, length: int) -> np.ndarray:
    return np.random.default_rng(9).normal(0, 1, (channels, length))


def made(count: int = 1, rate: float = 100, **options: object) -> Curves:
    names = ["costs $5 and \\alpha", "温度\nII", "c", "d", "e", "f"][:count]
    return Curves(names, ["mV", "m/s^2", "", "g", "g", "g"][:count], rate, **options)  # type: ignore[arg-type]


def pushed(curves: Curves, heard: np.ndarray, draws: np.ndarray, block: int = 1000) -> Curves:
    for start in range(0, heard.shape[1], block):
        curves.push(heard[:, start : start + block], draws[:, :, start : start + block])
    return curves


def chosen(curves: Curves, heard: np.ndarray, result: np.ndarray, block: int) -> tuple[int, int]:
    """First sample, and how many, of what would be drawn; it is what was pushed."""
    first, lines = pushed(curves, heard, result[:, None], block)._chosen.finish()
    last = first + lines.shape[2]
    np.testing.assert_array_equal(lines[0], heard[:, first:last])
    np.testing.assert_array_equal(lines[1], result[:, first:last])
    return first, last - first


@pytest.mark.parametrize("block", [1, 777, 30_000])
def test_the_window_is_where_most_was_removed(block: int) -> None:
    heard = noise(1, 30_000 if block > 1 else 9000)
    removed = np.zeros_like(heard)
    removed[:, 5500:7000] = noise(1, 1500) + 0.1
    first, length = chosen(made(), heard, heard - removed, block)
    assert length == 2000
    assert first <= 5500 and first + length >= 7000


def test_an_offset_that_was_removed_counts_for_nothing() -> None:
    heard = noise(1, 9000)
    removed = np.where(np.arange(9000) < 4000, 50.0, 0.1 * noise(1, 9000) * (heard > 0))
    first, _ = chosen(made(), heard, heard - removed, 100)
    # The step between the two is removed, too: it is in the window, and the offset alone is not.
    assert first < 4000 < first + 2000


def test_channels_count_alike_whatever_their_units() -> None:
    heard = noise(2, 20_000)
    removed = noise(2, 20_000) * 0.1
    removed[0, 4000:6000] *= 5
    removed[1, 14_000:16_000] *= 20
    scaled = np.array([[1e6], [1e-6]])
    places = [chosen(made(2), heard * s, (heard - removed) * s, 500)[0] for s in (1, scaled)]
    assert places[0] == places[1] == 14_000


@pytest.mark.parametrize(("rate", "length"), [(1, 2000), (360, 3600), (48_000, 10_000)])
def test_a_window_is_ten_seconds_within_limits(rate: float, length: int) -> None:
    heard = noise(1, 15_000)
    assert chosen(made(rate=rate), heard, heard / 2, 999)[1] == length
    assert chosen(made(rate=rate), heard[:, :500], heard[:, :500] / 2, 999) == (0, 500)


@pytest.mark.parametrize("block", [1, 13, 5000])
def test_a_window_that_is_asked_for_is_drawn(block: int) -> None:
    heard = noise(2, 5000)
    assert chosen(made(2, window=Window(2.0, 3.5)), heard, heard / 2, block) == (200, 150)
    assert chosen(made(2, window=Window(49.0, 90.0)), heard, heard / 2, block) == (4900, 100)
    assert chosen(made(2, window=Window(2.0, None)), heard, heard / 2, block) == (200, 2000)


@pytest.mark.parametrize(
    "window",
    [
        (-1, 1),
        (2, 2),
        (3, 2),
        (0, float("inf")),
        (10, 11),
        (0, 2e5),
        (-1, None),
        (10, None),
        (float("nan"), None),
        (0, float("nan")),
    ],
)
def test_a_window_that_cannot_be_is_one_line(window: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="window"):
        made(frames=1000 if window[0] == 10 else None, window=Window(*window))


@pytest.mark.parametrize(
    "text", ["", ":", "1:", ":2", "1:2:3", "noon", "3:2", "-1", "nan", "0:inf", f"{'9' * 400}rows"]
)
def test_a_window_that_cannot_be_read_is_one_line(text: str) -> None:
    with pytest.raises(InputError, match="window is"):
        window_of(text)


def test_a_window_behind_the_end_is_one_line(tmp_path: Path) -> None:
    heard = noise(1, 100)
    curves = pushed(made(window=Window(10, 11)), heard, heard[:, None])
    with pytest.raises(InputError, match="begins at sample 1000 of 100"):
        curves.save(tmp_path / "a.png")


def test_lines_are_the_mean_and_the_quantiles_of_the_draws() -> None:
    heard, draws = noise(2, 50), noise(40, 50).reshape(2, 20, 50)
    _, lines = pushed(made(2), heard, draws, 7)._chosen.finish()
    expected = [heard, draws.mean(axis=1), *np.quantile(draws, [0.05, 0.95], axis=1)]
    np.testing.assert_allclose(lines, expected)


def test_the_level_of_white_noise_is_where_its_spectrum_lies() -> None:
    heard = 3 * noise(2, 10_000)
    curves = pushed(
        made(2, noise_std=np.array([3.0, 0.0]), window=Window(0, 100)), heard, 0 * heard[:, None]
    )
    axes = curves._drawn(*curves._chosen.finish()).axes
    *_, removed, white = axes[2].lines
    assert np.nanmean(removed.get_ydata()) == pytest.approx(white.get_ydata()[0], rel=0.05)
    assert white.get_label() == "white noise of 3 mV"
    assert len(axes[5].lines) == 3, "a channel without noise has no such line"


def test_axes_have_units_and_lines_the_readings() -> None:
    heard, draws = noise(2, 3000), noise(2 * 8, 3000).reshape(2, 8, 3000)
    curves = pushed(made(2, rate=1000, window=Window(1, 2)), heard, draws)
    figure = curves._drawn(*curves._chosen.finish())
    upper, lower, spectra, *others = figure.axes
    assert upper.get_title(loc="left") == "costs $5 and \\alpha"
    assert others[0].get_title(loc="left") == "温度 II"
    assert [axes.get_ylabel() for axes in (upper, lower)] == ["mV", "removed,\nmV"]
    assert (lower.get_xlabel(), spectra.get_xlabel()) == ("time, s", "frequency, Hz")
    assert spectra.get_ylabel() == "power density, mV²/Hz"
    assert others[2].get_ylabel() == "power density, (m/s^2)²/Hz"
    given, result = upper.lines
    np.testing.assert_allclose(given.get_xdata(), np.arange(1000, 2000) / 1000)
    np.testing.assert_allclose(given.get_ydata(), heard[0, 1000:2000])
    np.testing.assert_allclose(result.get_ydata(), draws[0].mean(axis=0)[1000:2000])
    np.testing.assert_allclose(lower.lines[0].get_ydata(), given.get_ydata() - result.get_ydata())
    assert [text.get_text() for text in upper.get_legend().get_texts()] == [
        "5 % to 95 % of the draws",
        "input",
        "result",
    ]


def test_the_spectrum_holds_the_power_that_was_removed() -> None:
    """Parseval: a sine of amplitude 3 has the power 4.5, at its frequency."""
    removed = 3 * np.sin(2 * np.pi * 50 * np.arange(4000) / 400)[None]
    curves = pushed(made(rate=400), removed, 0 * removed[:, None])
    line = curves._drawn(*curves._chosen.finish()).axes[2].lines[2]
    frequencies, powers = line.get_xdata(), np.nan_to_num(line.get_ydata())
    assert frequencies[powers.argmax()] == pytest.approx(50, abs=0.3)
    assert powers.sum() * (frequencies[1] - frequencies[0]) == pytest.approx(4.5, rel=0.01)


@pytest.mark.parametrize(
    ("rate", "length", "unit"),
    [
        (1 / 600, 2000, "days"),
        (0.1, 2000, "h"),
        (1, 2000, "min"),
        (1e6, 3000, "ms"),
        (1e9, 2000, "µs"),
    ],
)
def test_the_unit_of_time_fits(rate: float, length: int, unit: str) -> None:
    heard = noise(1, length)
    curves = pushed(made(rate=rate), heard, heard[:, None] / 2)
    assert curves._drawn(*curves._chosen.finish()).axes[1].get_xlabel() == f"time, {unit}"


def test_the_title_tells_what_is_left_out() -> None:
    heard = noise(6, 3000)
    curves = pushed(made(6), heard, heard[:, None] / 2)
    figure = curves._drawn(*curves._chosen.finish())
    assert figure.get_suptitle().endswith(
        "s of the recording, where most was removed; the first 4 of 6 channels"
    )
    assert len(figure.axes) == 12


@pytest.mark.parametrize("length", [1, 2, 3, 4, 50])
@pytest.mark.parametrize("scale", [0, 1e-30, 1e36])
@pytest.mark.filterwarnings("error")
def test_short_recordings_of_any_level_are_drawn(tmp_path: Path, length: int, scale: float) -> None:
    heard = scale * noise(2, length)
    pushed(made(2), heard, heard[:, None] / 2).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (1100, 730)


def test_memory_does_not_grow_with_the_recording() -> None:
    heard = noise(2, 1 << 14)
    draws = heard[:, None] / 2
    curves = made(2, rate=1000)
    tracemalloc.start()
    for _ in range(30):
        curves.push(heard, draws)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


def test_a_missing_matplotlib_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install .*\[plot\]"):
        made()


def test_a_picture_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with pytest.raises(InputError, match="no samples to draw"):
        made().save(path)
    with pytest.raises(RuntimeError), saving(made(), path, False) as curves:
        curves.push(noise(1, 100), noise(1, 100)[:, None])
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    with saving(made(), path, False) as curves:
        curves.push(noise(1, 100), noise(1, 100)[:, None])
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(InputError, match="exists"):
        curves.save(path)
    with pytest.raises(InputError, match="exists"), saving(made(), path, False):
        raise AssertionError("what can't be written is told before anything is computed")


@pytest.mark.parametrize("name", ["a.jpg", "a", "missing/a.png"])
def test_what_cannot_be_written_is_one_line(tmp_path: Path, name: str) -> None:
    curves = pushed(made(), noise(1, 100), noise(1, 100)[:, None])
    with pytest.raises(InputError):
        curves.save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def lead(path: Path) -> Path:
    """A table of 400 readings at 360 Hz."""
    rows = (f"{n / 360:.6f},{np.sin(n / 20):.4f}" for n in range(400))
    path.write_text("\n".join(["time (s),lead (mV)", *rows]) + "\n")
    return path


def test_a_table_is_drawn_with_its_result(tmp_path: Path) -> None:
    source = lead(tmp_path / "a.csv")
    denoise_table(
        Denoiser.from_pretrained("ecg"), source, tmp_path / "b.csv", plot=tmp_path / "b.png"
    )
    with Image.open(tmp_path / "b.png") as image:
        assert image.size == (1100, 390)


def test_the_command_draws_the_window_that_is_asked_for(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(Curves, "_title", lambda *given: seen.append(given[1:]) or "title")
    given = ["denoise", lead(tmp_path / "a.csv"), "-o", tmp_path / "b.csv", "--model", "ecg"]
    code, _, err = command(*given, "--plot", tmp_path / "b.png", "--window", "0.5:0.75")
    assert code == 0 and "error" not in err
    code, _, err = command(
        *given, "--plot", tmp_path / "c.png", "--window", "180:270rows", "--force"
    )
    assert code == 0 and "error" not in err
    assert [(first, x.shape[2]) for first, x in seen] == [(180, 90)] * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--plot", "c.png", "--window", "2"],
            "window begins at 2 s, but the recording ends at 1.1",
        ),
        (["--plot", "c.png", "--window", "1:0"], "window is 1 to 0 s"),
        (["--plot", "c.png", "--window", "400rows"], "begins at 400 rows, but the recording ends"),
        (["--plot", "c.png", "--window", "9:3rows"], "window is 9 to 3 rows"),
        (["--plot", "c.png", "--window", "1.5:3rows"], "or in rows, e.g. 100:200rows"),
        (["--plot", "c.png", "--window", "12:00:00"], "give START or START:END in s"),
        (["--window", "0:1"], "add --plot"),
    ],
)
def test_a_wrong_window_leaves_nothing_behind(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch, options: list, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = command(
        "denoise", lead(Path("a.csv")), "-o", "b.csv", "--model", "ecg", *options
    )
    last = err.splitlines()[-1]
    assert code == 2 and message in last and err.count("error:") == 1
    assert sorted(tmp_path.iterdir()) == [tmp_path / "a.csv"]


def test_a_window_of_sound_is_refused(tmp_path: Path, command: Command, samples: Path) -> None:
    source = next((samples / "pairs" / "noisy").iterdir())
    options = ["-o", tmp_path / "b.wav", "--plot", tmp_path / "b.png", "--window", 1]
    code, _, err = command("denoise", source, *options)
    assert code == 2 and "is sound, which is drawn whole" in err
    assert not list(tmp_path.iterdir())


def test_a_picture_names_its_file(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch, samples: Path
) -> None:
    titles: list[str] = []

    def drawn(self: Spectrograms) -> bytes:
        titles.extend(self.titles)
        return b"picture"

    monkeypatch.setattr(Spectrograms, "_png", drawn)
    source = next((samples / "pairs" / "noisy").iterdir())
    options = ["-o", tmp_path / "b.wav", "--plot", tmp_path / "b.png"]
    assert command("denoise", source, *options)[0] == 0
    assert titles == [f"{source.name}: before", "after", "removed"]
    curves = pushed(made(source="pump.csv"), np.zeros((1, 100)), np.zeros((1, 1, 100)))
    assert curves._title(0, np.zeros((4, 1, 100))) == "From 0 to 1 s of pump.csv"
