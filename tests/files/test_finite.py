"""What is not finite gets no file of sound or arrays."""

from pathlib import Path

import numpy as np
import pytest

from signal_diffusion.audio import Recording, write
from signal_diffusion.errors import InputError
from signal_diffusion.files.npz import writing_npz


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_recording_that_is_not_finite_gets_no_file(
    tmp_path: Path, suffix: str, bad: float
) -> None:
    samples = np.zeros((1, 8000), np.float32)
    samples[0, 77] = bad
    with pytest.raises(InputError, match="the result holds 1 NaN or infinite samples of 8000"):
        write(tmp_path / f"x{suffix}", Recording(samples, 16000))
    assert not list(tmp_path.iterdir())


def test_arrays_that_are_not_finite_get_no_file(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match="2 NaN"),
        writing_npz(tmp_path / "x.npz", ["std"], channels=1) as arrays,
    ):
        arrays.write("std", np.array([[0.0, np.nan, -np.inf]]))
    assert not list(tmp_path.iterdir())
