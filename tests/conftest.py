"""What every test may ask for."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the clone."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def samples() -> Path:
    """Real recordings: clean/SPEAKER/, noise/ and pairs/{noisy,clean}/, all mono at 16 kHz."""
    return Path(__file__).resolve().parent / "samples"
