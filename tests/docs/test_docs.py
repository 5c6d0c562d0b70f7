"""What the documentation says is run, its Python, commands and errors; and its site is built."""

import ast
import doctest
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

import signal_diffusion
from signal_diffusion.cli import app
from signal_diffusion.files import artifact
from signal_diffusion.training import runs

ROOT = Path(__file__).resolve().parents[2]
PAGES = {page.stem: page.read_text(encoding="utf-8") for page in sorted(ROOT.glob("docs/*.md"))}
#: Options of Hydra, which `train` hands on.
OF_HYDRA = {"--config-dir", "--cfg"}
LOOSE = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def blocks(page: str, languages: str) -> list[tuple[str, str, str]]:
    """Language, title and text of a page's blocks of code."""
    pattern = rf'^```({languages})(?: title="([^"]*)")?\n(.*?)^```$'
    return re.findall(pattern, PAGES[page], flags=re.DOTALL | re.MULTILINE)


def having(languages: str) -> list[str]:
    """Pages with blocks of these languages."""
    return [page for page in PAGES if blocks(page, languages)]


def told(page: str) -> list[tuple[str, str]]:
    """Commands of a page, with what they say."""
    text = "\n".join(block for _, _, block in blocks(page, "console"))
    parts = [part.partition("\n") for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]]
    return [(line, answer) for line, _, answer in parts]


def commands(page: str) -> list[list[str]]:
    """Every command of this package in a page's blocks, as words."""
    lines = [line for line, _ in told(page)]
    for _, _, block in blocks(page, "bash"):
        lines += block.replace("\\\n", " ").splitlines()
    parts = [part for line in lines for part in re.split(r"&&|\||[<>]", line)]
    words = [shlex.split(part, comments=True) for part in parts]
    return [some[1:] for some in words if some[:1] == ["signal-diffusion"]]


def table(path: Path, times: np.ndarray | None, readings: list[str]) -> None:
    """A CSV of one lead, with time stamps or without."""
    if times is None:
        rows = ["lead", *readings]
    else:
        rows = ["time,lead", *(f"{t:.6f},{x}" for t, x in zip(times, readings, strict=True))]
    path.write_text("\n".join(rows) + "\n")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the pages speak of."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("examples", "tests"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("archive/monday.flac", "archive/day1/tuesday.flac"):
        for folder in (name, name.replace("archive", "finished")):
            Path(folder).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / "examples" / "noisy_speech.flac", folder)
    noisy, rate = soundfile.read("examples/noisy_speech.flac")
    for name in ("noisy.wav", "done.wav"):
        soundfile.write(name, noisy[:rate], rate)
    Path("cut.wav").write_bytes(Path("noisy.wav").read_bytes()[:9001])
    Path("letter.wav").write_text("Dear reader, " * 50)
    times = np.arange(1800) / 360
    readings = [f"{x:.4f}" for x in np.random.default_rng(0).normal(size=1800)]
    table(Path("holter.csv"), times, readings)
    table(Path("bare.csv"), None, readings)
    table(Path("back.csv"), np.where(times < 3, times, times - 2), readings)
    table(Path("text.csv"), times, [*readings[:5], "off", *readings[6:]])
    return tmp_path


@pytest.mark.parametrize("page", having("python|pycon"))
def test_python_blocks_run(page: str, place: Path) -> None:
    """One after the other, as a reader would; those with a title are files."""
    names: dict[str, object] = {"__name__": page}
    for language, title, text in blocks(page, "python|pycon|yaml"):
        if title:
            Path(title).parent.mkdir(parents=True, exist_ok=True)
            Path(title).write_text(text)
        elif language == "python":
            exec(compile(text, f"docs/{page}.md", "exec"), names)
        elif language == "pycon":
            test = doctest.DocTestParser().get_doctest(text, names, page, None, None)
            runner = doctest.DocTestRunner(optionflags=LOOSE)
            runner.run(test, clear_globs=False)
            assert not runner.failures
            names = test.globs
    sys.modules.pop("mine", None)


@pytest.mark.parametrize("page", having("console"))
def test_commands_say_what_the_page_shows(page: str, place: Path, command) -> None:
    checker = doctest.OutputChecker()
    for line, answer in told(page):
        code, out, err = command(*shlex.split(line)[1:])
        assert (code != 0) == answer.startswith("error: "), f"{line}: {err}"
        assert checker.check_output(answer, out + err, LOOSE), f"{line}: {out}{err}"


@pytest.mark.parametrize("page", having("bash|console"))
def test_commands_and_their_options_exist(page: str) -> None:
    from typer.main import get_command

    known = get_command(app).commands
    for name, *words in commands(page):
        assert name in known
        options = {option for parameter in known[name].params for option in parameter.opts}
        if name == "generate":
            options |= {"--class", "--speaker", "--pitch", "--instrument"}
        used = {word for word in words if re.match(r"--?[a-z]", word)}
        assert used <= options | (OF_HYDRA if name == "train" else set()), name


def training() -> list[str]:
    """Pages with trainings."""
    return [page for page in PAGES if any(words[0] == "train" for words in commands(page))]


@pytest.mark.parametrize("page", training())
def test_trainings_compose(page: str, place: Path) -> None:
    from hydra import compose, initialize_config_dir

    for _, title, text in blocks(page, "yaml"):
        Path(title).parent.mkdir(parents=True, exist_ok=True)
        Path(title).write_text(text)
    for _, *words in (c for c in commands(page) if c[0] == "train"):
        if "--config-dir" in words:
            at = words.index("--config-dir")
            words[at : at + 2] = [f"hydra.searchpath=[file://{Path(words[at + 1]).resolve()}]"]
        with initialize_config_dir(str(runs.conf_folder()), version_base="1.3"):
            assert compose("train", words).name


def test_a_domain_of_ones_own_trains(place: Path) -> None:
    """The page's source and configuration come to a model that the page's words describe."""
    from hydra import compose, initialize_config_dir
    from hydra.utils import instantiate

    for _, title, text in blocks("domains", "python|yaml"):
        if title:
            Path(title).parent.mkdir(parents=True, exist_ok=True)
            Path(title).write_text(text)
    with initialize_config_dir(str(runs.conf_folder()), version_base="1.3"):
        config = compose("train", ["experiment=beeps", f"hydra.searchpath=[file://{place}/conf]"])
    denoiser = instantiate(config.model.denoiser)
    train, _, recordings = instantiate(config.data.sources)()
    module = instantiate(config.module, denoiser=denoiser)
    terms = module.terms(denoiser, train(np.random.default_rng(0), 2), draw=0)
    assert denoiser.domain == "beeps" and len(recordings) == 4
    assert all(term.isfinite() for term in terms.values())
    sys.modules.pop("mine", None)


def test_scripts_exist_and_take_the_options() -> None:
    text = "\n".join(block for page in PAGES for _, _, block in blocks(page, "bash"))
    lines = re.findall(r"python ((?:recipes|benchmarks)/\w+\.py)(.*)", text)
    assert lines
    for script, rest in lines:
        source = (ROOT / script).read_text(encoding="utf-8")
        assert all(f'"{option}"' in source for option in re.findall(r"--[a-z-]+", rest)), script


def messages() -> list[re.Pattern[str]]:
    """Every message of an `InputError` in the source, with anything for what it fills in.

    Those that a function makes are what it returns.
    """
    found = []
    for path in sorted(ROOT.glob("signal_diffusion/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "InputError":
                found += [_pattern(argument) for argument in node.args]
            elif isinstance(node, ast.Return) and isinstance(node.value, ast.JoinedStr):
                found.append(_pattern(node.value))
    return [re.compile(pattern) for pattern in found if len(pattern.replace(".*", "")) > 12]


def _pattern(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return re.escape(str(node.value))
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_pattern, node.values))
    return ".*"


def test_quoted_errors_are_in_the_source() -> None:
    page = PAGES["troubleshooting"]
    quoted = re.findall(r"^> (.*)$", page, flags=re.MULTILINE)
    quoted += re.findall(
        r"^(?:error|signal_diffusion\.errors\.InputError): (.*)$", page, flags=re.MULTILINE
    )
    known = messages()
    assert len(quoted) >= 20
    assert [line for line in quoted if not any(p.fullmatch(line) for p in known)] == []


def test_every_public_name_is_in_the_reference() -> None:
    shown = re.findall(r"^::: ([\w.]+)", PAGES["api"], flags=re.MULTILINE)
    for name in {*signal_diffusion.__all__, "SignalDenoiser"}:
        home = getattr(signal_diffusion, name)
        whole = getattr(home, "__name__", name)
        if not isinstance(home, ModuleType):
            whole = f"{home.__module__}.{whole}"
        assert any(f"{one}.".startswith(f"{whole}.") for one in shown), whole


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_recipe_is_told_with_command_time_and_table(hooks: ModuleType) -> None:
    page = hooks.recipes()
    sections = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", page, re.DOTALL | re.MULTILINE))
    assert set(sections) == {path.stem for path in hooks.scripts()} and len(sections) > 20
    for name, text in sections.items():
        assert re.search(rf"    python (recipes|benchmarks)/{name}\.py", text), name
        assert re.search(r"\b(seconds?|minutes?|hours?)\b", text), name
    results = dict(
        re.findall(r"^##+ ([^\n]+)\n(.*?)(?=^##|\Z)", PAGES["results"], re.DOTALL | re.MULTILINE)
    )
    for heading, name in (("Speech", "speech"), ("Vocoder", "vocoder")):
        assert f"[{heading}](results.md#{name})" in sections[f"evaluate_{name}"]
        assert f"| {name}, 1 step |" in results[heading]


def test_every_experiment_is_told_with_its_command(hooks: ModuleType) -> None:
    page = hooks.experiments()
    for path in ROOT.glob("conf/experiment/*.yaml"):
        section = page.partition(f"\n## {path.stem}\n")[2].partition("\n## ")[0]
        assert f"experiment={path.stem}" in section.partition("???")[0], path.stem


def test_models_have_their_cards(hooks: ModuleType) -> None:
    assert {f"models/{name}.md" for name in artifact.shipped()} <= set(hooks.pages())


def test_doctests_become_blocks(hooks: ModuleType) -> None:
    assert hooks.fenced("So:\n\n>>> 1\n1\n\nAnd") == "So:\n\n```pycon\n>>> 1\n1\n```\n\nAnd"
    assert hooks.fenced("```pycon\n>>> 1\n1\n```") == "```pycon\n>>> 1\n1\n```"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs", reason='the site needs pip install -e ".[docs]"')
    pytest.importorskip("mkdocstrings", reason='the site needs pip install -e ".[docs]"')
    folder = tmp_path_factory.mktemp("docs") / "site"
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_has_all_pages(site: Path) -> None:
    made = {str(page.relative_to(site).with_suffix("")) for page in site.rglob("*.html")}
    assert {*PAGES, "recipes", "experiments", "models/speech"} <= made
    assert not list(site.rglob("*.py"))


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    tags = "script|link|img|iframe|source|audio|video"
    loads = rf"<(?:{tags})\b[^>]*?(?:src|href)=[\"']?(?:https?:)?//[^>]*>"
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert re.findall(loads, text) == [], page
        assert 'class="mermaid"' not in text, "mermaid is loaded from a CDN"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", sheet.read_text()), sheet


def test_references_show_doctests_as_code(site: Path) -> None:
    text = (site / "api.html").read_text(encoding="utf-8")
    assert "<blockquote>" not in text
    assert "signal_diffusion.tasks.denoise.denoise" in text and "Raises" in text
