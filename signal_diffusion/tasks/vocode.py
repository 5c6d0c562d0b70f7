"""Turn mel spectrograms into sound, and files of them into speech."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from signal_diffusion import samplers
from signal_diffusion.audio import read
from signal_diffusion.audio.provenance import provenance, write_generated
from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.dsp import Array
from signal_diffusion.dsp.buffer import overlapping
from signal_diffusion.dsp.resampling import resample
from signal_diffusion.errors import InputError
from signal_diffusion.files.atomic import require_writable
from signal_diffusion.files.npz import read_arrays, writing_npz
from signal_diffusion.nn.frames import signals_of
from signal_diffusion.nn.magnitudes import Magnitudes
from signal_diffusion.nn.mel import Mel, conditioner, padded, scale_of
from signal_diffusion.noise import Noise
from signal_diffusion.samplers import Progress
from signal_diffusion.schedules import power_grid
from signal_diffusion.streaming.pieces import part_of
from signal_diffusion.streaming.settings import Settings, require_whole

#: Calls of the network: more change little.
STEPS = 1
#: Frames that are turned into sound at once: eight seconds, and their context.
PIECE = 512
#: Frames that stand for all, where a sampler doesn't tell what it depends on.
FAR = 1 << 40
#: Natural logarithm of a power that no recording in [-1, 1] has.
MOST = 30.0


def vocode(
    denoiser: NetworkDenoiser,
    log_mel: NDArray[np.floating] | Tensor,
    *,
    steps: int = STEPS,
    sampler: Callable[..., Tensor] | str = samplers.ddim,
    seed: int = 0,
    progress: Progress | None = None,
) -> Array:
    """Sound (hop (N - 1),) of log-mel frames (bands, N), as `denoiser.mel` makes them.

    The magnitudes by the pseudo-inverse are what a bridge of magnitudes starts from; phases are
    found by `phases.griffin_lim`. Loudness is free: `vocode(log_mel + c)` is `exp(c / 2)` times as
    loud. Long spectrograms are turned into sound piece by piece, which changes nothing else.

    Args:
        denoiser: a vocoder, such as the shipped `vocoder`.
        log_mel: natural logarithms of the power in mel bands, see `mel.Mel`.
        steps: times of the grid; with `ddim`, calls of the network.
        sampler: a function of `samplers`, its name, or a function of the same form.
        seed: of fresh noise, which a bridge needs in several steps.
        progress: called as progress(done calls, all calls).

    Raises:
        InputError: the model is no vocoder, or the frames are not of its kind.

    >>> import torch
    >>> from signal_diffusion import Denoiser
    >>> vocoder = Denoiser.from_pretrained("vocoder")
    >>> sound = 0.1 * torch.randn(1, 16000)
    >>> vocode(vocoder, vocoder.mel(sound)[0]).shape
    (15872,)
    """
    sampler = samplers.sampler_named(sampler)
    mel, codec = require_vocoder(denoiser)
    require_whole("steps", steps, least=1)
    require_whole("seed", seed, least=0)
    frames = checked_frames(log_mel, mel)
    shift = scale_of(frames)
    frames = (frames - shift).to(next(denoiser.parameters()).device)
    times, channels = power_grid(denoiser.schedule, steps), mel.window // 2 + 1
    noise = Noise(seed, rows=[(0, 0)], channels=channels)
    calls = samplers.network_calls(sampler, steps)
    context = (None if calls is None else denoiser.context(calls)) or (FAR, FAR)
    past, future = (-(-n // mel.hop) for n in context)
    count = frames.shape[-1]
    parts: list[Array] = []
    held = frames[0].cpu().numpy()
    for first, before, piece in overlapping([held], size=PIECE, before=past, after=future):
        own = torch.from_numpy(piece)[None].to(frames)
        y, c = codec.compressed(mel.magnitudes(own)), conditioner(own)
        low, report = first - before, part_of(progress, len(parts), -(-count // PIECE))
        shared: dict[str, Any] = {"y": y, "noise": noise, "start": low}
        with torch.no_grad():
            x = samplers.initial_state(denoiser.schedule, times[0], length=y.shape[-1], **shared)
            state = sampler(denoiser, x, times, cond=c, progress=report, **shared)
            sound = signals_of(codec, state, mel.hop * (y.shape[-1] - 1), start=low)[0]
        parts.append(sound[before * mel.hop : (before + PIECE) * mel.hop])
    sound = np.concatenate(parts)[: mel.hop * (count - 1)]
    sound *= np.float32(math.exp(float(shift) / 2))
    return sound


def require_vocoder(denoiser: NetworkDenoiser) -> tuple[Mel, Magnitudes]:
    """The settings of the frames that a vocoder takes, and its codec.

    Raises:
        InputError: the model is none.
    """
    if denoiser.kind != "vocoder" or not isinstance(denoiser.codec, Magnitudes):
        raise InputError("this model is no vocoder: use one that takes mel frames, e.g. vocoder")
    return cast(Mel, denoiser.mel), denoiser.codec


def checked_frames(log_mel: NDArray[np.floating] | Tensor, mel: Mel) -> Tensor:
    """Log-mel frames as (1, bands, N), once they are known to be of that kind.

    Raises:
        InputError: they are not; tells the shape and the settings that are meant.
    """
    frames = torch.as_tensor(log_mel).float()
    frames = frames[0] if frames.ndim == 3 and len(frames) == 1 else frames
    if frames.ndim != 2 or frames.shape[0] != mel.bands or frames.shape[1] < 2:
        turned = ": pass it turned (.T)" if frames.shape[-1:] == (mel.bands,) else ""
        raise InputError(
            f"the mel spectrogram has the shape {tuple(frames.shape)}{turned}; this vocoder takes "
            f"(bands, frames) = ({mel.bands}, 2 or more), {mel.description}"
        )
    if not torch.isfinite(frames).all():
        raise InputError("the mel spectrogram holds NaN or infinite values: replace them first")
    if frames.min() >= 0 or frames.max() > MOST:
        raise InputError(
            f"the mel spectrogram spans {frames.min():.3g} to {frames.max():.3g}, which is no "
            f"natural logarithm of power; this vocoder takes {mel.description}"
        )
    return frames[None]


#: Of the algorithm of Griffin and Lim in `librosa`.
ITERATIONS = 64


def frames_of(x: Array, mel: Mel) -> torch.Tensor:
    """The log-mel frames (bands, N) of sound (L,), with zeros up to whole hops."""
    return mel(padded(torch.from_numpy(np.ascontiguousarray(x, np.float32))[None], mel))[0]


def resynthesised(denoiser: NetworkDenoiser, sound: Array, settings: Settings) -> Array:
    """What a vocoder makes of the mel frames of sound (C, L) at its rate, channel by channel.

    Raises:
        InputError: the model is no vocoder, or the sound is too short.
    """
    mel, _ = require_vocoder(denoiser)
    made = [
        vocode(
            denoiser,
            frames_of(x, mel),
            steps=settings.times,
            sampler=settings.sampler,
            seed=settings.seed,
        )
        for x in sound
    ]
    return np.stack(made)[:, : sound.shape[1]]


def by_librosa(sound: Array, mel: Mel) -> Array:
    """What librosa makes of the mel frames of sound (C, L), channel by channel.

    Non-negative least squares, and `ITERATIONS` of Griffin and Lim (1984), "Signal estimation from
    modified short-time Fourier transform", IEEE TASSP 32(2).
    """
    import librosa

    made = []
    for x in sound:
        power = frames_of(x, mel).exp().numpy()
        magnitude = librosa.feature.inverse.mel_to_stft(
            power, sr=mel.sample_rate, n_fft=mel.window, fmin=mel.low, fmax=mel.high
        )
        wave = librosa.griffinlim(
            magnitude,
            n_iter=ITERATIONS,
            hop_length=mel.hop,
            n_fft=mel.window,
            length=mel.hop * (power.shape[1] - 1),
            random_state=0,
        )
        made.append(wave)
    return np.stack(made)[:, : sound.shape[1]]


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
        frames, length = read_frames(source, mel), None
    else:
        frames, length = _analysed(source, mel)
    if target.suffix.lower() == ".npz":
        write_frames(target, frames, mel, force=force)
        seconds = mel.hop * (frames.shape[-1] - 1) / mel.sample_rate
        return VocodedReport(str(source), str(target), seconds, time.perf_counter() - began)
    sound = vocode(denoiser, frames, steps=steps, sampler=sampler, seed=seed, progress=progress)
    sound = sound[:length]
    origin = provenance(model, source=source.name, seed=seed, steps=steps, sampler=sampler.__name__)
    # What is louder than full scale would be cut off.
    sound = sound / max(1.0, float(np.abs(sound).max(initial=0)))
    write_generated(target, sound[None], mel.sample_rate, origin, force=force)
    taken = time.perf_counter() - began
    return VocodedReport(str(source), str(target), len(sound) / mel.sample_rate, taken)


def read_frames(path: Path, mel: Mel) -> Array:
    """Log-mel frames (bands, N) of an NPY or NPZ.

    Raises:
        InputError: there is no such file, or it holds something else, or other settings.
    """
    arrays = read_arrays(path, FRAMES, [SETTINGS])
    held = arrays[FRAMES]
    if SETTINGS in arrays:
        _require_settings(path, arrays[SETTINGS], mel)
    if held.dtype.kind != "f":
        raise InputError(
            f"{path} holds {held.dtype}; a mel spectrogram has floats, {mel.description}"
        )
    with np.errstate(over="ignore"):
        return _checked(path, held.astype(np.float32), mel)


def _checked(path: Path, frames: Array, mel: Mel) -> Array:
    try:
        checked_frames(frames, mel)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return frames


def write_frames(path: Path, frames: Array, mel: Mel, *, force: bool = False) -> None:
    """Write log-mel frames (bands, N) and their settings to an NPZ, as `read_frames` reads it."""
    with writing_npz(path, [], 1, force=force) as arrays:
        arrays.put(FRAMES, frames)
        arrays.put(SETTINGS, json.dumps(asdict(mel)))


def _require_settings(path: Path, settings: Array, mel: Mel) -> None:
    own = asdict(mel)
    try:
        found = dict(json.loads(str(settings)))
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: its settings '{SETTINGS}' are no JSON object") from error
    other = {name: found.get(name) for name in own}
    wrong = [name for name, value in other.items() if value != own[name]]
    if wrong:
        differences = ", ".join(
            f"{name} {other[name]} (the vocoder's: {own[name]})" for name in wrong
        )
        raise InputError(f"{path} has other settings than this vocoder: {differences}")


def _analysed(path: Path, mel: Mel) -> tuple[Array, int]:
    """Log-mel frames of a recording's first channel and its length, at the vocoder's rate."""
    recording = read(path)
    x = recording.samples[:1]
    if recording.sample_rate != mel.sample_rate:
        x = resample(x, recording.sample_rate, mel.sample_rate)
    frames = frames_of(x[0], mel)
    if frames.shape[-1] < 2:
        raise InputError(f"{path} is too short: a vocoder needs {mel.hop} samples or more")
    return _checked(path, frames.numpy(), mel), x.shape[-1]
