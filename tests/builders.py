"""What tests of several folders build: small denoisers, signals and files."""

from __future__ import annotations

import csv
import importlib.util
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType

import numpy as np
import soundfile
import torch
from torch import Tensor, nn

from signal_diffusion import NetworkDenoiser, cli, schedules
from signal_diffusion.audio import Recording, write
from signal_diffusion.conditions import Names, Number
from signal_diffusion.denoiser import Denoiser
from signal_diffusion.nn.frames import CompressedSTFT, Patch
from signal_diffusion.nn.magnitudes import LogMel, Magnitudes
from signal_diffusion.nn.mel import Mel
from signal_diffusion.nn.stack import DilatedStack
from signal_diffusion.schedules import BrownianBridge, Schedule

SAMPLES = Path(__file__).resolve().parent / "samples"
#: A recording of speech at 16 kHz.
SPEECH = sorted((SAMPLES / "clean").rglob("*.flac"))[0]

#: Exit code, standard output, standard error.
Outcome = tuple[int, str, str]
Command = Callable[..., Outcome]
#: Starts the command with these words in a process of its own.
Start = Callable[..., BaseProcess]

#: What is imported once, in the process that those of the commands are forked from.
WARM = [
    "torch._dynamo",
    "torch._refs",
    "soxr",
    "signal_diffusion.cli.denoise_run",
    "signal_diffusion.tasks.denoise_files",
]

DIGITS = Names("class", ("zero", "one", "two"))
PITCH = Number("pitch", 40, 80, knots=5)

#: Of the synthetic digits: sample rate in Hz, samples, and who is in the training set.
DIGIT_RATE, DIGIT_LENGTH = 8000, 2048
SPEAKERS = ("ann", "bob")


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """One of the ways in which files go wrong, most of them in the header."""
    broken = bytearray(data)
    kind = rng.integers(6)
    head = min(len(broken), 120)
    if kind == 0:
        return bytes(broken[: int(rng.integers(len(broken)))])
    if kind == 1:
        for _ in range(int(rng.integers(1, 12))):
            broken[int(rng.integers(len(broken)))] ^= 1 << int(rng.integers(8))
    elif kind == 2:
        for _ in range(int(rng.integers(1, 4))):
            broken[int(rng.integers(head))] = int(rng.integers(256))
    elif kind == 3:
        at = int(rng.integers(head - 4))
        extreme = (
            b"\xff\xff\xff\xff",
            b"\0\0\0\0",
            b"\xff\xff\xff\x7f",
            b"\0\0\0\x80",
            b"\1\0\0\0",
        )
        broken[at : at + 4] = extreme[int(rng.integers(len(extreme)))]
    elif kind == 4:
        start, size = int(rng.integers(len(broken))), int(rng.integers(1, 400))
        broken[start : start + size] = rng.bytes(min(size, len(broken) - start))
    else:
        start, size = int(rng.integers(len(broken))), int(rng.integers(1, 400))
        del broken[start : start + size]
    return bytes(broken)


def load(path: Path) -> ModuleType:
    """A script of benchmarks/ or recipes/ as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def run_command(line: list[str], errors: Path | None = None) -> None:
    """Run the command with the usual signals, even where they are ignored, as under nohup.

    Its standard error goes to a file, if one is given.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    if errors:
        os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT), 2)
        sys.stderr = os.fdopen(2, "w", closefd=False)
    cli.main(line)


class Pointwise(Denoiser):
    """x_hat = shape(y): what a task does to y is all there is to see."""

    def __init__(
        self,
        shape=lambda y: y,
        *,
        schedule: Schedule | None = None,
        sample_rate: int | None = None,
        level_db: float | None = None,
    ) -> None:
        super().__init__()
        self.shape, self.schedule = shape, schedule or BrownianBridge()
        self.sample_rate, self.level_db = sample_rate, level_db

    def forward(
        self, x_t: Tensor, t: Tensor, y: Tensor | None = None, cond: Tensor | None = None
    ) -> Tensor:
        return self.shape(y)


class State(Pointwise):
    """x_hat = x_t, which shows the fresh noise."""

    def forward(
        self, x_t: Tensor, t: Tensor, y: Tensor | None = None, cond: Tensor | None = None
    ) -> Tensor:
        return x_t


class Scaled(Denoiser):
    """x_hat = gain(y) y, on the samples themselves, at 16 kHz."""

    def __init__(self, gain=lambda y: 1.0, *, schedule: Schedule | None = None) -> None:
        super().__init__()
        self.gain, self.schedule = gain, schedule or BrownianBridge()
        self.sample_rate, self.level_db = 16000, -25.0

    def context(self, calls: int = 1) -> tuple[int, int]:
        return 0, 0

    def forward(
        self, x_t: Tensor, t: Tensor, y: Tensor | None = None, cond: Tensor | None = None
    ) -> Tensor:
        y = x_t if y is None else y
        return self.gain(y) * y


def network(*, domain: str | None = "speech", rate: int = 16000) -> NetworkDenoiser:
    """Untrained, which is the identity: the head's gain starts at 1 and its residual at 0."""
    backbone = DilatedStack(
        514, channels=8, hidden=4, layers=3, paired=True, complex_pairs=True, dilation_cycle=3
    )
    return NetworkDenoiser(
        backbone,
        BrownianBridge(),
        codec=CompressedSTFT(),
        sample_rate=rate,
        domain=domain,
        level_db=-25.0,
        card={"licence": "CC-BY-4.0", "training_data": ["a", "b"], "scores": {"PESQ": 2.5}},
    )


def untrained() -> NetworkDenoiser:
    """A tiny model of speech whose head still passes the noisy recording through."""
    torch.manual_seed(0)
    codec = CompressedSTFT(window=512, hop=256)
    backbone = DilatedStack(
        codec.state_channels(1), channels=8, hidden=4, layers=2, paired=True, complex_pairs=True
    )
    return NetworkDenoiser(
        backbone, BrownianBridge(), codec=codec, sample_rate=16000, domain="speech", level_db=-25.0
    )


def sensor() -> NetworkDenoiser:
    """Random weights for sensors of any rate, which change everything."""
    torch.manual_seed(0)
    stack = DilatedStack(1, channels=8, hidden=4, layers=2, paired=True, frames=Patch(4))
    torch.nn.init.normal_(stack.head.weight, std=0.3)
    return NetworkDenoiser(stack, BrownianBridge(), domain="sensor", level_db=0.0, offset="kept")


def generator(seed: int = 0) -> NetworkDenoiser:
    """A generator with random weights whose conditions matter."""
    torch.manual_seed(seed)
    codec = LogMel(Mel(sample_rate=8000, window=256, hop=128, bands=12), iterations=4)
    width = DIGITS.width + PITCH.width
    backbone = DilatedStack(12, channels=16, hidden=8, layers=2, cond_channels=width)
    for parameter in backbone.parameters():
        nn.init.normal_(parameter, std=0.2)
    return NetworkDenoiser(
        backbone,
        schedules.RectifiedFlow(),
        target="flow",
        codec=codec,
        sample_rate=8000,
        domain="digits",
        length=2048,
        conditions=[DIGITS, PITCH],
    ).eval()


def digits_generator(words: tuple[str, ...]) -> NetworkDenoiser:
    """An untrained generator of words by the speakers of the synthetic digits."""
    torch.manual_seed(0)
    codec = LogMel(Mel(sample_rate=DIGIT_RATE, window=256, hop=128, bands=12), iterations=4)
    backbone = DilatedStack(
        12, channels=16, hidden=8, layers=2, cond_channels=len(words) + len(SPEAKERS)
    )
    return NetworkDenoiser(
        backbone,
        schedules.RectifiedFlow(),
        target="flow",
        codec=codec,
        sample_rate=DIGIT_RATE,
        length=DIGIT_LENGTH,
        conditions=[Names("class", words), Names("speaker", SPEAKERS)],
    ).eval()


def vocoder(*, trained: bool = False) -> NetworkDenoiser:
    """A vocoder that gives back the pseudo-inverse, or one with random weights."""
    torch.manual_seed(0)
    backbone = DilatedStack(513, channels=16, hidden=8, layers=3, paired=True, cond_channels=80)
    if trained:
        for parameter in backbone.parameters():
            nn.init.normal_(parameter, std=0.02)
    return NetworkDenoiser(
        backbone,
        schedules.BrownianBridge(0.3),
        codec=Magnitudes(iterations=4),
        mel=Mel(),
        sample_rate=16000,
        domain="speech",
    ).eval()


def speech(count: int = 48000) -> Tensor:
    """The first samples of SPEECH (1, count)."""
    samples, _ = soundfile.read(SPEECH, dtype="float32")
    return torch.from_numpy(samples[None, :count])


def noise(seed: int, length: int = 4000, channels: int = 2) -> np.ndarray:
    """White noise (channels, length), uniform within 0.4."""
    return np.random.default_rng(seed).uniform(-0.4, 0.4, (channels, length)).astype(np.float32)


def put(path: Path, samples: np.ndarray, rate: int = 8000) -> Path:
    """Writes a WAV of floats, over what is there and in a folder that need not be there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, Recording(samples, rate, "WAV", "FLOAT"), force=True)
    return path


def spoken_digit(rng: np.random.Generator, place: int, speaker: int) -> np.ndarray:
    """A tone whose pitch tells a class, and how its noise sounds a speaker; at any level."""
    time = np.arange(DIGIT_LENGTH) / DIGIT_RATE
    pitch = 200 * 1.32**place * rng.uniform(0.98, 1.02)
    tone = np.sin(2 * np.pi * pitch * time) * np.hanning(DIGIT_LENGTH) ** rng.uniform(0.5, 2)
    white = rng.standard_normal(DIGIT_LENGTH + 1)
    hiss = white[1:] + (-1) ** speaker * white[:-1]
    return (rng.uniform(0.05, 0.9) * (tone + 0.02 * hiss)).astype(np.float32)


def manifest(folder: Path, ecg: dict[str, np.ndarray]) -> None:
    """A data folder of electrocardiograms laid out as the real one."""
    rows = [
        ("ecg.npz", name, "ecg", split, "MLII")
        for name, split in (("234", "train"), ("118", "valid"))
    ]
    leads = {name: (ecg[name] / 0.005).astype(np.int16) for name in ("234", "118")}
    np.savez(folder / "ecg.npz", **leads, scale_mv=np.float32(0.005))
    noises = {}
    for kind in ("bw", "em", "ma"):
        for split in ("train", "valid"):
            noises[f"{kind}_{split}"] = (ecg["em"] / 0.005).astype(np.int16)
            rows.append(("noise.npz", f"{kind}_{split}", "ecg_noise", split, kind))
        noises[f"{kind}_scale_mv"] = np.float32(0.005)
    np.savez(folder / "noise.npz", **noises)
    with (folder / "manifest.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "key", "domain", "split", "label", "sample_rate"])
        table.writerows([*row, 360] for row in rows)
