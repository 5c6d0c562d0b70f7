"""What the README and CONTRIBUTING say is run: their Python, their commands, their files."""

import re
import shlex
from pathlib import Path

import pytest

from signal_diffusion.cli import app
from signal_diffusion.files import artifact

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md")
}
GUIDES = {path.stem: path.read_text(encoding="utf-8") for path in ROOT.glob("docs/*.md")}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


PYTHON = [(name, n) for name, text in PAGES.items() for n, _ in enumerate(blocks(text, "python"))]


@pytest.mark.parametrize(("page", "index"), PYTHON)
def test_python_blocks_run(tmp_path, monkeypatch, page, index):
    block = blocks(PAGES[page], "python")[index]
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    exec(compile(block, f"{page} block {index}", "exec"), {"__name__": "page"})
    assert page != "README.md" or (tmp_path / "clean.wav").is_file()


def test_there_are_as_many_python_blocks_as_ever():
    assert [page for page, _ in PYTHON] == ["README.md"] + ["CONTRIBUTING.md"] * 4
    assert len(blocks(PAGES["README.md"], "python")[0].splitlines()) <= 8


def test_the_readme_is_short_and_has_one_table():
    text = PAGES["README.md"]
    assert len(text.splitlines()) <= 150
    assert len(re.findall(r"^\| *---", text, flags=re.MULTILINE)) == 1


def commands(text: str) -> list[list[str]]:
    """The words of every command of this package in blocks and in the text."""
    lines = "\n".join(blocks(text, "bash")).replace("\\\n", " ").splitlines()
    lines += re.findall(
        r"`(signal-diffusion [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    )
    parts = [part for line in lines for part in re.split(r"&&|\|", line)]
    words = [shlex.split(part, comments=True) for part in parts]
    return [line[1:] for line in words if line[:1] == ["signal-diffusion"]]


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_their_options_exist(page):
    from typer.main import get_command

    known = get_command(app).commands
    assert commands(PAGES[page])
    for name, *words in commands(PAGES[page]):
        assert name in known
        options = {option for parameter in known[name].params for option in parameter.opts}
        if name == "generate":
            options |= {"--instrument", "--pitch"}
        assert {word for word in words if re.match(r"--?[a-z]", word)} <= options, name


def test_there_are_seven_commands_in_the_readme():
    """The main job, and one for each of the six paragraphs on what else there is."""
    names = [name for name, *_ in commands(PAGES["README.md"])]
    assert names == ["denoise", "denoise", "denoise", "generate", "train", "evaluate", "denoise"]


def test_overrides_in_the_commands_compose():
    from hydra import compose, initialize_config_dir

    from signal_diffusion.training.runs import conf_folder

    runs = [words for name, *words in commands(PAGES["README.md"]) if name == "train"]
    assert runs
    for overrides in runs:
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            assert compose("train", overrides).name


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_linked_exist(page):
    targets = [target.partition("#") for target in re.findall(r"\]\(([^)]+)\)", PAGES[page])]
    targets = [(name, anchor) for name, _, anchor in targets if "://" not in name]
    assert [name for name, _ in targets if not (ROOT / name).exists()] == []
    for name, anchor in targets:
        text = (ROOT / name).read_text(encoding="utf-8") if anchor else ""
        headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
        assert not anchor or anchor in {title.lower().replace(" ", "-") for title in headings}


def test_files_that_the_rules_name_exist():
    for name in re.findall(r"`([\w./]+/[\w.]*)`", PAGES["CONTRIBUTING.md"]):
        own = [ROOT / name, ROOT / "signal_diffusion" / name]
        assert name.startswith("conf/") or any(path.exists() for path in own), name


def test_options_in_the_text_exist():
    """Of the README and of the guides."""
    from typer.main import get_command

    options = {"--help", "--version", "--traceback", "--config-dir", "--cfg"}
    options |= {"--class", "--speaker", "--pitch", "--instrument", "--NAME"}
    for command in get_command(app).commands.values():
        options |= {option for parameter in command.params for option in parameter.opts}
    texts = [
        PAGES["README.md"],
        *(GUIDES[name] for name in ("clean", "sensors", "generate", "measure")),
    ]
    text = re.sub(r"```.*?```", "", "\n".join(texts), flags=re.DOTALL)
    codes = [code for code in re.findall(r"`([^`\n]+)`", text) if not code.startswith("python")]
    used = {word for code in codes for word in re.findall(r"(?<![\w-])--[a-zA-Z-]+", code)}
    assert len(used) > 20 and used - options == set()


def test_every_shipped_model_has_results():
    for name in artifact.shipped():
        assert re.search(rf"`?{name}\b", GUIDES["results"]), name
