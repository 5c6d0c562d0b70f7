"""Which module may import which, and what an import or `--help` costs."""

import ast
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

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


def test_help_loads_no_torch() -> None:
    code = (
        "from signal_diffusion.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as stopped: assert stopped.code == 0\n"
        "pass"
    )
    assert not loaded_after(code) & {*HEAVY, "torch", "numpy", "soundfile"}


def seconds(*arguments: str) -> float:
    """The best of three runs of a fresh interpreter."""

    def once() -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
        return time.perf_counter() - began

    return min(once() for _ in range(3))


def test_help_is_quick() -> None:
    """Half a second; on a busy machine, at most what a few bare interpreters take there."""
    allowed = max(0.5, 12 * seconds("-c", "pass"))
    assert seconds("-m", "signal_diffusion", "--help") < allowed


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
