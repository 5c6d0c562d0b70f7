"""What the README says is run: its Python, its commands, its files."""

import re
import shlex

import pytest

from signal_diffusion.cli import app
from signal_diffusion.files import artifact


@pytest.fixture(scope="module")
def readme(repository):
    return (repository / "README.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.mark.parametrize("index", range(5))
def test_python_blocks_run(readme, repository, tmp_path, monkeypatch, index):
    block = blocks(readme, "python")[index]
    if "from_pretrained" in block and "speech" not in artifact.shipped():
        pytest.skip("the speech model is not shipped")
    (tmp_path / "examples").symlink_to(repository / "examples")
    monkeypatch.chdir(tmp_path)
    exec(compile(block, f"README block {index}", "exec"), {"__name__": "readme"})
    assert (index != 0) or (tmp_path / "clean.wav").is_file()


def test_there_are_no_more_python_blocks(readme):
    assert len(blocks(readme, "python")) == 5


def test_commands_exist(readme):
    known = {command.name or command.callback.__name__ for command in app.registered_commands}
    lines = "\n".join(blocks(readme, "bash")).replace("\\\n", " ").splitlines()
    parts = [part for line in lines for part in re.split(r"&&|\|", line) if "signal-d" in part]
    assert parts and {shlex.split(part)[1] for part in parts} <= known


def test_overrides_in_the_commands_compose(readme):
    from hydra import compose, initialize_config_dir

    from signal_diffusion.training.runs import conf_folder

    text = "\n".join(blocks(readme, "bash")).replace("\\\n", " ")
    runs = [shlex.split(line, comments=True)[2:] for line in text.splitlines() if " train " in line]
    assert len(runs) == 5
    for overrides in runs:
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            assert compose("train", overrides).name


def test_files_that_are_linked_exist(readme, repository):
    targets = re.findall(r"\]\(([^)#]+)\)", readme)
    missing = [t for t in targets if "://" not in t and not (repository / t).exists()]
    if "speech" not in artifact.shipped():
        missing = [t for t in missing if "models/" not in t and "before_after" not in t]
    assert missing == []


def test_options_in_the_commands_and_in_the_text_exist(readme):
    from typer.main import get_command

    commands = get_command(app).commands
    options = {
        name: {option for parameter in command.params for option in parameter.opts}
        for name, command in commands.items()
    }
    lines = "\n".join(blocks(readme, "bash")).splitlines()
    lines = [line.split("#")[0] for line in lines if "signal-diffusion denoise" in line]
    used = {word for line in lines for word in re.findall(r"(?<=\s)--[a-z-]+", line)}
    assert used <= options["denoise"]
    section = readme[readme.index("## Clean files") : readme.index("## Train")]
    used |= {word for code in re.findall(r"`([^`\n]+)`", section)
             for word in re.findall(r"--[a-z-]+", code)}  # fmt: skip
    assert len(used) > 8 and used <= set().union({"--help"}, *options.values())
