"""The wheel, in an environment of its own and away from the clone, denoises and trains."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
import soundfile
from safetensors.torch import load_file

from signal_diffusion.metrics import si_sdr

SITE_PACKAGES = "import sysconfig; print(sysconfig.get_path('purelib'))"


def run(*command: str | Path, cwd: Path) -> str:
    """Standard output and error of a command that must succeed, without the clone on its path."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder]
    run(*build, repository, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the commands of a new environment that holds the wheel and sees our packages."""
    root = tmp_path_factory.mktemp("environment")
    venv.create(root, with_pip=True)
    scripts = root / ("Scripts" if os.name == "nt" else "bin")
    install = ["-m", "pip", "install", "--no-deps", "--no-index", "--disable-pip-version-check"]
    run(scripts / "python", *install, wheel, cwd=root)
    # A path added by a .pth file has its own .pth files ignored: an editable install stays unseen.
    ours = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    where = run(scripts / "python", "-c", SITE_PACKAGES, cwd=root).strip()
    (Path(where) / "dependencies.pth").write_text("\n".join(sorted(ours)))
    return scripts


def test_the_wheel_holds_configs_models_cards_and_templates(wheel: Path, repository: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    configs = [path.relative_to(repository) for path in (repository / "conf").rglob("*.yaml")]
    folders = [repository / "signal_diffusion" / name for name in ("models", "report/templates")]
    files = [path for folder in folders for path in folder.iterdir() if path.is_file()]
    wanted = {f"signal_diffusion/{path.as_posix()}" for path in configs}
    wanted |= {path.relative_to(repository).as_posix() for path in files}
    assert configs and wanted | {"signal_diffusion/py.typed"} <= names
    own = ("signal_diffusion/", "signal_diffusion-")
    assert not [name for name in names if not name.startswith(own)]


def test_the_wheel_asks_for_a_bounded_torch_and_names_its_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        files = {Path(name).name: name for name in archive.namelist() if ".dist-info/" in name}
        metadata = archive.read(files["METADATA"]).decode()
        entry_points = archive.read(files["entry_points.txt"]).decode()
        assert "Apache License" in archive.read(files["LICENSE"]).decode()
    assert "Requires-Dist: torch<2.14,>=2.4" in metadata
    assert "Requires-Python: <3.14,>=3.10" in metadata
    assert "signal-diffusion = signal_diffusion.cli:main" in entry_points


def test_the_package_in_use_is_the_wheels(scripts: Path, tmp_path: Path) -> None:
    code = "import signal_diffusion; print(signal_diffusion.__file__)"
    found = Path(run(scripts / "python", "-c", code, cwd=tmp_path).strip())
    assert found.is_relative_to(scripts.parent)


def test_the_wheel_denoises_a_recording(
    scripts: Path, samples: Path, repository: Path, tmp_path: Path
) -> None:
    if not (repository / "signal_diffusion" / "models" / "speech.safetensors").exists():
        pytest.skip("the shipped model speech.safetensors is not in the tree yet")
    noisy = samples / "pairs" / "noisy" / "p287_006.flac"
    cleaned = tmp_path / "clean.wav"
    run(scripts / "signal-diffusion", "denoise", noisy, "-o", cleaned, cwd=tmp_path)
    reference, _ = soundfile.read(samples / "pairs" / "clean" / "p287_006.flac")
    (before, rate_before), (after, rate_after) = soundfile.read(noisy), soundfile.read(cleaned)
    assert (after.shape, rate_after) == (before.shape, rate_before)
    assert si_sdr(after, reference) > si_sdr(before, reference) + 2


def test_the_wheel_trains_and_exports_a_model(scripts: Path, tmp_path: Path) -> None:
    run(scripts / "signal-diffusion", "train", "experiment=smoke", cwd=tmp_path)
    (model,) = tmp_path.rglob("*.safetensors")
    told = run(scripts / "signal-diffusion", "info", model, cwd=tmp_path)
    parameters = sum(tensor.numel() for tensor in load_file(model).values())
    assert f"{parameters:,}" in told
