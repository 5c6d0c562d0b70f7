"""How an estimate sounds beside its reference, by the packages `pesq`, `pystoi` and `speechmos`."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import lru_cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from signal_diffusion.errors import InputError, library
from signal_diffusion.metrics.closeness import Signal, pair_of


def pesq_wb(estimate: Signal, reference: Signal, *, sample_rate: int = 16000) -> Tensor:
    """Wide-band PESQ, a listening score from about 1 (bad) to 4.64 (no difference).

    estimate, reference: (L,) or (B, L) at 16 kHz. Needs the package `pesq`.
    Raises InputError for another rate, for recordings without speech, or without the package.

    ITU-T Recommendation P.862.2 (2007).
    """
    if sample_rate != 16000:
        raise InputError(
            f"sample_rate is {sample_rate} Hz but wide-band PESQ is defined at 16000 Hz; "
            "resample both recordings to 16000 Hz"
        )
    package = library("pesq", "evaluate", of="PESQ")

    def score(estimate: np.ndarray, reference: np.ndarray) -> float:
        try:
            with np.errstate(invalid="ignore"):
                return float(package.pesq(sample_rate, reference, estimate, "wb"))
        except package.PesqError as error:
            raise InputError(f"PESQ cannot score this recording: {_reason(error)}") from error

    return _each(score, estimate, reference)


def estoi(estimate: Signal, reference: Signal, *, sample_rate: int = 16000) -> Tensor:
    """Extended short-time objective intelligibility, from about 0 to 1 (fully intelligible).

    estimate, reference: (L,) or (B, L) at `sample_rate` Hz. Needs the package `pystoi`.
    Raises InputError for recordings with under 0.4 s of speech, or without the package.

    Jensen and Taal (2016), "An algorithm for predicting the intelligibility of speech masked by
    modulated noise maskers", IEEE/ACM TASLP 24(11).
    """
    package = library("pystoi", "evaluate", of="ESTOI")

    def score(estimate: np.ndarray, reference: np.ndarray) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            try:
                return float(package.stoi(reference, estimate, sample_rate, extended=True))
            except RuntimeWarning as warning:
                raise InputError(
                    "ESTOI cannot score this recording: it needs 0.4 s of speech or more"
                ) from warning

    return _each(score, estimate, reference)


def dnsmos(estimate: np.ndarray, *, sample_rate: int = 16000) -> float:
    """Overall DNSMOS P.835, a listening score from 1 to 5 that needs no reference.

    estimate: (L,) at 16 kHz; what is beyond full scale is clipped. Needs the package `speechmos`.
    Raises InputError for another rate, or without the package.

    Reddy, Gopal and Cutler (2022), "DNSMOS P.835: a non-intrusive perceptual objective speech
    quality metric to evaluate noise suppressors", arXiv:2110.01763.
    """
    if sample_rate != 16000:
        raise InputError(
            f"sample_rate is {sample_rate} Hz but DNSMOS is defined at 16000 Hz; resample to it"
        )
    return float(_judge()(np.clip(estimate, -1, 1), sample_rate, False)["ovrl_mos"])


@lru_cache(maxsize=1)
def _judge() -> Callable[[np.ndarray, int, bool], dict[str, float]]:
    """The package's own judge, but in one thread: many wait for each other where cores are few."""
    package = library("speechmos.dnsmos", "dnsmos", of="DNSMOS")
    options = import_module("onnxruntime").SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = partial(package.ort.InferenceSession, sess_options=options)
    folder = Path(str(package.__file__)).parent / "dnsmos_models"
    judge: Any = object.__new__(package.DNSMOS)
    judge.onnx_sess = session(str(folder / "sig_bak_ovr.onnx"))
    judge.p808_onnx_sess = session(str(folder / "model_v8.onnx"))
    return judge


def _reason(error: Exception) -> str:
    reason = error.args[0] if error.args else type(error).__name__
    return reason.decode() if isinstance(reason, bytes) else str(reason)


def _each(
    score: Callable[[np.ndarray, np.ndarray], float], estimate: Signal, reference: Signal
) -> Tensor:
    pair = [x.detach().cpu().numpy() for x in pair_of(estimate, reference)]
    rows = zip(*(np.atleast_2d(x) for x in pair), strict=True)
    scores = [score(one, other) for one, other in rows]
    return torch.tensor(scores, dtype=torch.float64).reshape(pair[0].shape[:-1])
