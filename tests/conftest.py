"""What every test may ask for."""

from collections.abc import Callable
from pathlib import Path

import pytest

from signal_diffusion import cli

Told = tuple[int, str, str]
Command = Callable[..., Told]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the clone."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def samples() -> Path:
    """Real recordings: clean/SPEAKER/, noise/ and pairs/{noisy,clean}/, all mono at 16 kHz."""
    return Path(__file__).resolve().parent / "samples"


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command in this process: exit code, standard output, standard error."""

    def run(*arguments: object) -> Told:
        with pytest.raises(SystemExit) as stopped:
            cli.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return stopped.value.code, out, err

    return run
