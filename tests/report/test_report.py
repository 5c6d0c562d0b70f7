"""The report of an evaluation: what it shows, plays and escapes, and how a browser takes it."""

import base64
import io
import json
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from builders import Command, noise, put

from signal_diffusion.errors import InputError
from signal_diffusion.evaluation.measures import METRICS
from signal_diffusion.evaluation.methods import Estimate, Filter, Method, Untouched
from signal_diffusion.evaluation.outputs import write_evaluation
from signal_diffusion.evaluation.pairs import Pair, folder_pairs
from signal_diffusion.evaluation.readings import Sound
from signal_diffusion.evaluation.run import Row, evaluate
from signal_diffusion.report.clips import (
    BYTES,
    HIGH,
    TITLES,
    WIDE,
    Form,
    Stretch,
    form_of,
    players,
    spectrograms,
    stretch_of,
    waveforms,
)
from signal_diffusion.report.examples import Maker, chosen, example_of
from signal_diffusion.report.page import require_report, write_report
from signal_diffusion.report.tables import cell

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")
Image = pytest.importorskip("PIL.Image")

RATE = 16000
#: Windows knows no such names.
NASTY = "0" if sys.platform == "win32" else "<b>&\"0'"
MODEL = '<i>wiener</i> & "co" $x_1$'


class Named(Filter):
    """A filter under another name."""

    @property
    def key(self) -> object:
        return ["named", self.name]

    def __post_init__(self) -> None:
        pass

    def __call__(self, pair: Pair, sound: Sound) -> Estimate:
        return Filter("wiener")(pair, sound)


class Fickle(Named):
    """A method that never does the same twice."""

    def __call__(self, pair: Pair, sound: Sound) -> Estimate:
        return Estimate(sound.noisy * np.random.default_rng().uniform(0.2, 0.8))


def speechlike(seed: int, seconds: float = 1.5) -> np.ndarray:
    """A tone whose level comes and goes, (1, L)."""
    time = np.arange(round(seconds * RATE)) / RATE
    tone = np.sin(2 * np.pi * (300 + 50 * seed) * time) * np.sin(2 * np.pi * 2 * time) ** 2
    return (0.2 * tone).astype(np.float32)[None]


def pairs_in(folder: Path, count: int = 6) -> list[Pair]:
    for number in range(count):
        name = NASTY if number == 0 else str(number)
        clean = speechlike(number)
        put(folder / "clean" / f"{name}.wav", clean, RATE)
        added = 0.01 * (1 + number) * noise(number, clean.shape[1], 1)
        put(folder / "noisy" / f"{name}.wav", clean + added, RATE)
    found = folder_pairs(folder / "clean", folder / "noisy")
    return [
        replace(pair, groups=(("<u>level", str(at)), ("kind", f"{at % 2}<s>")))
        for at, pair in enumerate(found)
    ]


def reported(
    folder: Path, pairs: list[Pair], methods: list[Method], *, domain: str | None = "speech"
) -> tuple[Path, list[Row]]:
    """The page of an evaluation whose first method after the input is the model."""
    folder.mkdir(exist_ok=True)
    rows = evaluate(pairs, methods, ["snr", "lsd"], folder)
    write_evaluation(
        folder,
        rows,
        pairs,
        model=methods[1].name,
        metrics=["snr", "lsd"],
        jobs=1,
        command="signal-diffusion evaluate '<script>alert(1)</script>'",
        evaluated={"name": "model", "sha256_16": "0" * 16, "fingerprint": "x"},
    )
    write_report(folder / "page.html", folder, rows, pairs, methods, domain=domain)
    return folder / "page.html", rows


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[Pair]:
    return pairs_in(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def page(pairs: list[Pair], tmp_path_factory: pytest.TempPathFactory) -> Path:
    methods = [Untouched(), Named(MODEL), Filter("wiener")]
    return reported(tmp_path_factory.mktemp("out") / "o", pairs, methods)[0]


class Elements(HTMLParser):
    """The tags of a page with their attributes, and its words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.words += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def content(uri: str) -> bytes:
    return base64.b64decode(uri.partition(",")[2])


def test_the_page_asks_for_nothing_and_describes_every_picture(page: Path) -> None:
    found = Elements(page.read_text(encoding="utf-8"))
    for _, attributes in found.tags:
        for name in ("src", "srcset", "href"):
            place = attributes.get(name)
            assert place is None or place.startswith(("data:", "#")), place[:80]
    assert "default-src 'none'" in str(found.all("meta"))
    assert all(image["alt"] for image in found.all("img"))
    assert all(sound["aria-label"] for sound in found.all("audio"))
    assert all(title in found.words for title in TITLES)
    assert len(found.all("audio")) == 6 * 4 and len(found.all("details")) == 6 + 3


def test_what_comes_from_files_and_users_is_escaped(page: Path) -> None:
    found = Elements(page.read_text(encoding="utf-8"))
    assert len(found.all("script")) == 1
    assert not {"b", "i", "u", "s"} & {tag for tag, _ in found.tags}
    for name in (NASTY, MODEL, "<u>level: 0", "kind: 1<s>", "<script>alert(1)</script>"):
        assert name in found.words
    labels = [sound["aria-label"] for sound in found.all("audio")]
    assert f"{NASTY}, removed" in labels


def test_tables_and_settings_are_those_of_the_summary(page: Path) -> None:
    words = " ".join(Elements(page.read_text(encoding="utf-8")).words.split())
    told = json.loads((page.parent / "summary.json").read_text())
    for scores in (found["scores"] for found in told["methods"].values()):
        for metric, found in scores.items():
            shown = cell(metric, found)
            assert f"{shown.mean} {shown.ends}" in words
    wanted = [told["machine"], told["date"], told["data"]["sha256"], told["versions"]["numpy"]]
    assert all(word in words for word in [*wanted, "0" * 16])
    # Rows of the groups, which are numbers.
    assert "SNR dB by <u>level" in words and "SNR dB by kind" in words


def test_the_same_results_give_the_same_page(page: Path, pairs: list[Pair]) -> None:
    methods = [Untouched(), Named(MODEL), Filter("wiener")]
    again = page.with_name("again.html")
    rows = evaluate(pairs, methods, ["snr", "lsd"], page.parent)
    write_report(again, page.parent, rows, pairs, methods, domain="speech")
    assert again.read_bytes() == page.read_bytes()


def test_what_is_played_is_what_was_scored(pairs: list[Pair], tmp_path: Path) -> None:
    method = Filter("wiener")
    row = evaluate(pairs[:1], [method], ["snr"], tmp_path)[0]
    stretch = stretch_of(pairs[0], method, "snr", domain="speech", files=1)
    assert stretch.score == row["snr"]
    sound = pairs[0].read()
    made = method(pairs[0], sound).samples
    wanted = [sound.noisy, made, sound.noisy - made, sound.clean]
    sounds, gain = players(stretch)
    heard = [soundfile.read(io.BytesIO(content(uri))) for uri in sounds]
    assert gain == pytest.approx(0.9 / max(np.abs(x).max() for x in wanted))
    for (samples, rate), line in zip(heard, wanted, strict=True):
        assert rate == RATE
        # Whole files of 1.5 s, in words of 16 bits.
        assert np.abs(samples - gain * line[0]).max() <= 1.1 / 2**15


def test_a_result_that_can_not_be_made_again_is_told(pairs: list[Pair], tmp_path: Path) -> None:
    fickle = Fickle("fickle")
    rows = evaluate(pairs[:1], [Untouched(), fickle], ["snr"], tmp_path)
    maker = Maker(fickle, ["snr"], None, 1)
    assert "is not what was scored" in example_of(maker, pairs[0], *rows).trouble
    steady = Maker(Named("steady"), ["snr"], None, 1)
    rows = evaluate(pairs[:1], [Untouched(), steady.method], ["snr"], tmp_path)
    assert example_of(steady, pairs[0], *rows).trouble == ""
    lost = replace(pairs[0], clean=tmp_path / "lost.wav")
    found = example_of(steady, lost, *rows)
    assert "It can't be shown" in found.trouble and not found.clips and found.scores


def test_files_are_ranked_by_their_change_whichever_way_is_better() -> None:
    changes = {str(n): float(change) for n, change in enumerate([3, -1, 7, 0, 5])}
    rows = [{"file": f, "method": "input", "snr": 10.0, "prd": 10.0} for f in changes]
    rows += [
        {"file": f, "method": "model", "snr": 10 + change, "prd": 10 + change}
        for f, change in changes.items()
    ]

    def ranked(rows: list[Row], metric: str) -> list[list[str]]:
        ends = chosen(rows, metric, "model", "input")
        return [[result["file"] for _, result in some] for some in ends]

    assert ranked(rows, "snr") == [["2", "4", "0"], ["1", "3"]]
    assert ranked(rows, "prd") == [["1", "3", "0"], ["2", "4"]]
    rows[0]["snr"] = None
    assert ranked(rows, "snr") == [["2", "4"], ["1", "3"]]
    many = [
        {"file": str(n), "method": m, "snr": float(n * (m == "model"))}
        for n in range(50)
        for m in ("input", "model")
    ]
    assert ranked(many, "snr") == [[str(n) for n in range(49, 39, -1)], [str(n) for n in range(10)]]


def test_a_clip_is_where_most_was_removed(tmp_path: Path) -> None:
    clean = np.tile(speechlike(0), 16)
    burst = np.zeros_like(clean)
    burst[:, 15 * RATE : 18 * RATE] = noise(3, 3 * RATE, 1)
    put(tmp_path / "clean" / "a.wav", clean, RATE)
    put(tmp_path / "noisy" / "a.wav", clean + 0.3 * burst, RATE)
    (pair,) = folder_pairs(tmp_path / "clean", tmp_path / "noisy")
    stretch = stretch_of(pair, Filter("wiener"), "snr", domain=None, files=20)
    assert stretch.begin < 15 and stretch.end > 18 and stretch.seconds == 24
    assert stretch.lines.shape[2] < 5 * RATE


def stretch(lines: np.ndarray, rate: float, container: str = "FLAC") -> Stretch:
    seconds = lines.shape[2] / rate
    return Stretch(lines, rate, 0.0, seconds, score=None, form=Form(container, 10.0))


def test_spectrograms_share_one_scale() -> None:
    tone = np.sin(2 * np.pi * 2000 * np.arange(RATE) / RATE)[None]
    lines = np.stack([0.5 * tone, 0.05 * tone, 0.45 * tone, 0 * tone])
    panels, scale = spectrograms(stretch(lines, RATE))
    pixels = [np.asarray(Image.open(io.BytesIO(content(panel.image)))) for panel in panels]
    height = pixels[0].shape[0]
    for picture in pixels[:3]:
        # 2 of 8 kHz: a quarter from the foot.
        row = int(np.argmax(picture.astype(int).sum(axis=1)))
        assert abs((height - row - 0.5) / height - 0.25) < 1.5 / height
    levels = [int(picture.max()) for picture in pixels]
    # 20 of 60 dB are a third of the 32 colours.
    assert abs(levels[0] - levels[1] - 32 / 3) <= 1 and levels[3] == 0
    assert (scale.low, scale.high, panels[0].top) == ("−65 dB", "−5 dB", "8 kHz")


def test_slow_signals_are_drawn_as_lines_that_keep_their_peaks(
    pairs: list[Pair], tmp_path: Path
) -> None:
    line = np.zeros(5000)
    line[3210] = 1.0
    line[4000:4100] = np.nan
    lines = np.stack([line, 0.5 * line, 0.5 * line, 3 + line])[:, None]
    panels, scale = waveforms(stretch(lines, 360))
    points = [re.findall(r"[ML](\d+) ([\d.]+)", panel.line) for panel in panels]
    top = [min((float(y), int(x)) for x, y in some) for some in points]
    assert abs(top[0][1] - 0.642 * WIDE) <= 3
    heights = [
        max(float(y) for _, y in some) - high for some, (high, _) in zip(points, top, strict=True)
    ]
    assert heights[1] == pytest.approx(heights[0] / 2, abs=0.2) and heights[0] > 0.9 * HIGH
    assert all(panel.line.count("M") == 2 for panel in panels) and "1.05" in scale.label
    assert float(panels[3].top) - float(panels[3].bottom) == pytest.approx(1.05, abs=0.01)
    slow = [
        replace(
            pair,
            clean=put(tmp_path / "c" / f"{n}.wav", noise(n, 900, 1), 360),
            noisy=put(tmp_path / "n" / f"{n}.wav", noise(n + 9, 900, 1), 360),
        )
        for n, pair in enumerate(pairs[:2])
    ]
    path, _ = reported(tmp_path / "out", slow, [Untouched(), Filter("wiener")], domain="ecg")
    found = Elements(path.read_text(encoding="utf-8"))
    assert not found.all("audio") and len(found.all("svg")) == 2 * 4


def test_a_page_of_many_long_files_stays_small() -> None:
    loud = np.stack([noise(n, 10 * 48000) for n in range(4)])
    sound = Sound(loud[0], loud[3], 48000)
    form = form_of(sound, 20)
    assert form.container == "MP3" and form.seconds > 4
    part = loud[:, :, : round(48000 * form.seconds)]
    sounds, _ = players(stretch(part, 48000, "MP3"))
    # White noise is the worst that there is.
    assert 20 * sum(map(len, sounds)) < 1.6 * BYTES
    assert form_of(Sound(loud[0, :1], loud[3, :1], 16000), 6) == Form("FLAC", 10.0)
    samples, rate = soundfile.read(io.BytesIO(content(sounds[0])))
    assert rate == 48000 and abs(len(samples) - part.shape[2]) < 2500


def test_every_metric_is_told_in_words() -> None:
    assert all(metric.explanation for metric in METRICS.values())


def test_a_finished_run_gets_its_page_and_nothing_else_anew(
    pairs: list[Pair], samples: Path, tmp_path: Path, command: Command
) -> None:
    data = samples / "pairs"
    line = ["evaluate", "speech", data, "--metrics", "si_sdr", "-o", tmp_path / "out"]
    assert command(*line, "--quiet")[0] == 0
    rows = (tmp_path / "out" / "rows.jsonl").read_text()
    page = tmp_path / "out" / "page.html"
    assert command(*line, "--resume", "--html", page, "--quiet") == (0, "", "")
    assert (tmp_path / "out" / "rows.jsonl").read_text() == rows
    text = page.read_text(encoding="utf-8")
    assert "p287_006" in text and "not what was scored" not in text


def test_a_page_that_can_not_be_written_is_told_before_the_work(
    samples: Path, tmp_path: Path, command: Command
) -> None:
    line = ["evaluate", "speech", samples / "pairs", "--metrics", "snr", "-o", tmp_path / "out"]
    (tmp_path / "there.html").write_text("mine")
    for path, said in (("none/x.html", "there is no folder"), ("there.html", "exists: pass")):
        code, _, err = command(*line, "--html", tmp_path / path)
        assert code == 2 and said in err and err.count("\n") == 1
    assert (tmp_path / "there.html").read_text() == "mine" and not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="html is for denoisers"):
        require_report(tmp_path / "x.html", tmp_path, [Filter("wiener")], force=False)


# In a browser.

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
TIMEOUT = 20


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium that reaches no network."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("no Chromium or no chromedriver is on the path")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    words = "headless=new no-sandbox disable-dev-shm-usage disable-gpu mute-audio"
    for word in (*words.split(), "proxy-server=127.0.0.1:9", "window-size=1280,900"):
        options.add_argument(f"--{word}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield found
    found.quit()


@pytest.fixture
def opened(browser: Any, page: Path) -> Any:
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.get(page.as_uri())
    return browser


def until(browser: Any, script: str) -> Any:
    """What a script returns, once that is true."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, TIMEOUT, 0.05).until(lambda b: b.execute_script(script))


def test_players_load_and_play_one_at_a_time(opened: Any) -> None:
    opened.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    # All of the first ten files are made ready, so that their lengths show.
    lengths = until(
        opened,
        "const all = [...document.querySelectorAll('audio')].map(a => a.duration);"
        "return all.every(d => d > 0) && all",
    )
    assert lengths == [pytest.approx(1.5, abs=0.05)] * 24
    opened.execute_script("window.all = document.querySelectorAll('audio')")
    for number in (0, 5):
        opened.find_elements("tag name", "audio")[number].send_keys(" ")
        assert until(opened, f"return all[{number}].currentTime > 0 && !all[{number}].error")
        assert opened.execute_script("return [...all].filter(a => !a.paused).length") <= 1
    assert opened.execute_script("return all[0].paused")
    assert opened.get_log("browser") == []


def test_pictures_load(opened: Any) -> None:
    opened.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    widths = until(
        opened,
        "const all = [...document.images]; return all.every(i => i.complete)"
        " && all.map(i => i.naturalWidth)",
    )
    assert len(widths) == 2 + 2 + 2 + 6 * 4 and min(widths) > 50
    assert opened.get_log("browser") == []


def test_the_keyboard_reaches_what_can_be_used(opened: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    opened.execute_script(
        "window.seen = []; document.addEventListener('focusin', e =>"
        " seen.push(`${e.target.tagName} ${e.target.className}`.trim()))"
    )
    opened.switch_to.active_element.send_keys(Keys.TAB * 90)
    seen = opened.execute_script("return seen")
    assert seen[0] == "A skip"
    assert {"SUMMARY", "DIV table", "AUDIO", "PRE"} <= set(seen)
    summary = opened.find_element("css selector", ".example:not([open]) > summary")
    summary.send_keys(Keys.ENTER)
    assert opened.execute_script("return arguments[0].parentElement.open", summary)


@pytest.mark.parametrize("width", [360, 800])
def test_nothing_is_wider_than_the_screen(opened: Any, width: int) -> None:
    opened.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": True},
    )
    opened.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert opened.execute_script("return innerWidth") == width
    wide = opened.execute_script(
        "return [document.documentElement.scrollWidth, document.body.scrollWidth]"
    )
    assert max(wide) <= width
    sizes = opened.execute_script(
        "return [...document.querySelectorAll('p, li, td, summary')]"
        ".map(e => parseFloat(getComputedStyle(e).fontSize))"
    )
    assert min(sizes) >= 14


def test_dark_pages_are_dark(opened: Any) -> None:
    def page_and_chart(scheme: str) -> tuple[str, str]:
        feature = {"name": "prefers-color-scheme", "value": scheme}
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        colour = "return getComputedStyle(document.body).backgroundColor"
        chart = opened.find_element("css selector", ".chart img")
        return opened.execute_script(colour), chart.screenshot_as_base64

    light, dark = page_and_chart("light"), page_and_chart("dark")
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert (light[0], dark[0]) == ("rgb(246, 247, 249)", "rgb(20, 24, 31)")
    assert light[1] != dark[1]
