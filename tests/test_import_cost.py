"""Which module may import which, and what an import or `--help` costs."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from signal_diffusion.cli import app

PACKAGE = Path(__file__).resolve().parents[1] / "signal_diffusion"

#: A room, or a file of the root, imports only from those before it and from itself.
ORDER = [
    "errors",
    "dsp",
    "schedules",
    "targets",
    "conditions",
    "calibration",
    "noise",
    "files",
    "audio",
    "tables",
    "nn",
    "metrics",
    "plots",
    "denoiser",
    "gaussian",
    "guidance",
    "samplers",
    "model_facts",
    "streaming",
    "tasks",
    "data",
    "training",
    "evaluation",
    "report",
    "cli",
    "__main__",
]
ROW = {name: row for row, name in enumerate(ORDER)}
COMMANDS = sorted(command.name or command.callback.__name__ for command in app.registered_commands)
HEAVY = {"lightning", "pytorch_lightning", "hydra", "omegaconf", "torchaudio", "librosa", "sklearn"}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def part(path: Path) -> str:
    """The name in the table: of the module, or of the sub-package that it lies in."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path: Path) -> Iterator[str]:
    """The parts of this package that a file imports, at its top or in a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno}: imports are absolute here"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("signal_diffusion."))


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_upwards(path: Path) -> None:
    own = part(path)
    assert own in ROW, f"{own} has no row: give it one in ORDER"
    for other in set(imported(path)) - {own}:
        assert other in ROW, f"{path.name} imports {other}, which is no module but an attribute"
        assert ROW[other] < ROW[own], f"{path.name} imports {other}, which is not before it"


def test_the_documentation_lists_the_order() -> None:
    page = (PACKAGE.parent / "docs" / "design.md").read_text(encoding="utf-8")
    assert re.findall(r"^\d+\. `(\w+)`: \S", page, flags=re.MULTILINE) == ORDER


def loaded_after(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter holds after some code."""
    report = "; import sys, json; sys.stderr.write(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, check=True)
    return {name.split(".")[0] for name in json.loads(done.stderr)}


def test_importing_the_package_loads_nothing() -> None:
    assert not loaded_after("import signal_diffusion") & {*HEAVY, "torch", "numpy", "scipy"}


def test_the_public_names_load_torch_and_nothing_heavier() -> None:
    loaded = loaded_after("from signal_diffusion import *")
    assert "torch" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_loads_nothing_heavy(command: str) -> None:
    """Which is what makes it quick."""
    code = (
        "from signal_diffusion.cli import main\n"
        f"try: main({[*command.split(), '--help']})\n"
        "except SystemExit as stopped: assert stopped.code == 0\n"
        "pass"
    )
    assert not loaded_after(code) & {*HEAVY, "torch", "numpy", "scipy", "pandas", "soundfile"}


def test_the_version_is_the_one_of_the_project() -> None:
    import signal_diffusion

    project = (PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8")
    assert f'version = "{signal_diffusion.__version__}"' in project


def test_what_the_package_lacks_is_an_attribute_error() -> None:
    import signal_diffusion

    assert set(signal_diffusion.__all__) <= set(dir(signal_diffusion))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = signal_diffusion.nothing


def test_loading_a_model_does_not_import_the_compiler() -> None:
    """Drawing numbers on torch's meta device would: a second, and 100 MB."""
    code = (
        "import sys\nfrom signal_diffusion import Denoiser\n"
        "Denoiser.from_pretrained('speech')\n"
        "assert 'torch._dynamo' not in sys.modules\n"
        "pass"
    )
    loaded_after(code)
