"""Turn files of mel spectrograms into speech, and speech into them."""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from signal_diffusion import samplers
from signal_diffusion.audio import read
from signal_diffusion.audio.provenance import provenance, write_generated
from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.dsp import Array
from signal_diffusion.dsp.resampling import resample
from signal_diffusion.errors import InputError
from signal_diffusion.files.atomic import require_writable
from signal_diffusion.files.npz import writing_npz
from signal_diffusion.nn.mel import Mel, padded
from signal_diffusion.samplers import Progress
from signal_diffusion.tasks.vocode import STEPS, checked_frames, require_vocoder, vocode

ARRAYS = (".npy", ".npz")
#: What a mel spectrogram and its settings are called in an NPZ.
FRAMES, SETTINGS = "log_mel", "mel"


@dataclass(frozen=True)
class VocodedReport:
    """What was written: seconds of sound, and how many it took."""

    path: str
    output: str
    seconds: float
    taken: float


def vocode_file(
    denoiser: NetworkDenoiser,
    source: Path,
    target: Path,
    *,
    model: str,
    steps: int = STEPS,
    sampler: Callable[..., Tensor] = samplers.ddim,
    seed: int = 0,
    force: bool = False,
    progress: Progress | None = None,
) -> VocodedReport:
    """Sound of a mel spectrogram, or of that of a recording's first channel, and its origin.

    Args:
        denoiser: a vocoder.
        source: NPY (bands, N), NPZ with `log_mel` and, if it is known, `mel` (JSON of the
            settings), or a recording.
        target: audio file; from a recording also an NPZ for its mel spectrogram.
        model: name or path, for the provenance.
        steps, sampler, seed, progress: see `tasks.vocode.vocode`.
        force: replace files that exist.

    Raises:
        InputError: a file can't be read or written, or is of another kind.
    """
    began = time.perf_counter()
    mel, _ = require_vocoder(denoiser)
    require_writable(target, force=force)
    if source.suffix.lower() in ARRAYS:
        frames, length = frames_of(source, mel), None
    else:
        frames, length = _analysed(source, mel)
    if target.suffix.lower() == ".npz":
        write_frames(target, frames, mel, force=force)
        seconds = mel.hop * (frames.shape[-1] - 1) / mel.sample_rate
        return VocodedReport(str(source), str(target), seconds, time.perf_counter() - began)
    sound = vocode(denoiser, frames, steps=steps, sampler=sampler, seed=seed, progress=progress)
    sound = sound[:length]
    told = provenance(
        model, source=source.name, seed=seed, steps=steps, sampler=sampler.__name__
    )  # fmt: skip
    # What is louder than full scale would be cut off.
    sound = sound / max(1.0, float(np.abs(sound).max(initial=0)))
    write_generated(target, sound[None], mel.sample_rate, told, force=force)
    taken = time.perf_counter() - began
    return VocodedReport(str(source), str(target), len(sound) / mel.sample_rate, taken)


def frames_of(path: Path, mel: Mel) -> Array:
    """Log-mel frames (bands, N) of an NPY or NPZ.

    Raises:
        InputError: there is no such file, or it holds something else, or other settings.
    """
    try:
        held = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is no NumPy file of numbers, or is damaged: {error}") from error
    if not isinstance(held, np.ndarray):
        if FRAMES not in held:
            has = ", ".join(held) or "nothing"
            raise InputError(f"{path} holds {has}: put the frames there as {FRAMES} (bands, N)")
        _require_settings(path, held, mel)
        held = held[FRAMES]
    if held.dtype.kind != "f":
        raise InputError(f"{path} holds {held.dtype}; a mel spectrogram has floats, {mel.told}")
    try:
        checked_frames(held, mel)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return held


def write_frames(path: Path, frames: Array, mel: Mel, *, force: bool = False) -> None:
    """Write log-mel frames (bands, N) and their settings to an NPZ, as `frames_of` reads it."""
    with writing_npz(path, [], 1, force=force) as arrays:
        arrays.put(FRAMES, frames)
        arrays.put(SETTINGS, json.dumps(asdict(mel)))


def _require_settings(path: Path, held: Any, mel: Mel) -> None:
    if SETTINGS not in held:
        return
    own = asdict(mel)
    try:
        found = dict(json.loads(str(held[SETTINGS])))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: its settings '{SETTINGS}' are no JSON object") from error
    other = {name: found.get(name) for name in own}
    wrong = [name for name, value in other.items() if value != own[name]]
    if wrong:
        told = ", ".join(f"{name} {other[name]} (the vocoder's: {own[name]})" for name in wrong)
        raise InputError(f"{path} has other settings than this vocoder: {told}")


def _analysed(path: Path, mel: Mel) -> tuple[Array, int]:
    """Log-mel frames of a recording's first channel and its length, at the vocoder's rate."""
    recording = read(path)
    x = recording.samples[:1]
    if recording.sample_rate != mel.sample_rate:
        x = resample(x, recording.sample_rate, mel.sample_rate)
    frames = mel(padded(torch.from_numpy(np.ascontiguousarray(x, np.float32)), mel))[0]
    if frames.shape[-1] < 2:
        raise InputError(f"{path} is too short: a vocoder needs {mel.hop} samples or more")
    return frames.numpy(), x.shape[-1]
