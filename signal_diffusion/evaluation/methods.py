"""Methods that are compared: the input itself, a model, filters, commands, folders of estimates."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np

from signal_diffusion.audio import Recording, write
from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError, library
from signal_diffusion.evaluation.baselines import FILTERS
from signal_diffusion.evaluation.pairs import Pair, by_name, files_of, require_partners
from signal_diffusion.evaluation.readings import Sound, require_alike
from signal_diffusion.files import artifact
from signal_diffusion.nn.mel import Mel
from signal_diffusion.streaming.settings import Settings
from signal_diffusion.tables import opened_table, writing_table
from signal_diffusion.tasks.denoise import denoise
from signal_diffusion.tasks.vocode import ITERATIONS, by_librosa, resynthesised

#: Runs a command and tells exit code, seconds and peak memory. In a small process of its own, since
#: a system counts for a new process what the one that it is forked from held.
RUNNER = """
import json, subprocess, sys, time
try: import resource
except ImportError: resource = None
began = time.perf_counter()
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
taken = time.perf_counter() - began
peak = resource and resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps([code, taken, peak]))
"""
#: Samples of what methods are warmed up with, at the least.
LEAST = 1024


@dataclass(frozen=True)
class Estimate:
    """The estimate of a recording by a method.

    Attributes:
        samples: (C, L).
        taken: seconds of a processor, or of a GPU; None where the work was done elsewhere.
        memory: peak of the process, in bytes, where it had one of its own.
    """

    samples: Array
    taken: float | None = None
    memory: int | None = None


class Method(Protocol):
    """Something that denoises; can be sent to other processes."""

    @property
    def name(self) -> str: ...

    @property
    def key(self) -> object:
        """Plain value of all that the estimate depends on besides the pair."""

    def __call__(self, pair: Pair, sound: Sound) -> Estimate:
        """The estimate; raises an InputError where there is none."""


@dataclass(frozen=True)
class Untouched:
    """The noisy recording itself."""

    name: str = "input"

    @property
    def key(self) -> object:
        return "input"

    def __call__(self, pair: Pair, sound: Sound) -> Estimate:
        return Estimate(sound.noisy)


@dataclass(frozen=True)
class Modelled:
    """A model of this package: its name or file, on a device, and how it denoises, or vocodes.

    The label is the name of its row; without one that is the model's name and number of steps.
    """

    model: str
    settings: Settings
    device: str = "cpu"
    label: str = ""

    @property
    def name(self) -> str:
        if self.label:
            return self.label
        steps = self.settings.times
        return f"{artifact.resolve(self.model).stem}, {steps} step{'s' * (steps > 1)}"

    @property
    def key(self) -> object:
        given = self.settings
        sampler = [given.sampler.__module__, given.sampler.__qualname__]
        run = [given.times, *sampler, given.seed, given.noise_std]
        return [artifact.fingerprint(self.model), self.device, *run]

    def __call__(self, pair: Pair, sound: Sound) -> Estimate:
        denoiser, given = loaded(self.model, self.device), self.settings

        def work(noisy: Array, rate: float) -> Array:
            if denoiser.kind == "vocoder":
                return resynthesised(denoiser, noisy, given)
            # What warms it up has no gaps.
            missing = sound.missing if noisy is sound.noisy else None
            return denoise(
                denoiser,
                noisy,
                sample_rate=rate,
                steps=given.times,
                sampler=given.sampler,
                seed=given.seed,
                noise_std=given.noise_std,
                missing=missing,
            )

        # A processor waits while a GPU works.
        clock = time.process_time if self.device == "cpu" else time.perf_counter
        return timed(f"{self.name} {self.device}", work, sound, clock=clock)


@dataclass(frozen=True)
class GriffinLim:
    """The algorithm of Griffin and Lim, by `librosa`, on the mel frames that a vocoder takes."""

    mel: Mel
    name: str = "griffin_lim"

    @property
    def key(self) -> object:
        return ["griffin_lim", ITERATIONS, asdict(self.mel)]

    def __call__(self, pair: Pair, sound: Sound) -> Estimate:
        return timed(self.name, lambda x, _: by_librosa(x, self.mel), sound)


@dataclass(frozen=True)
class Filter:
    """One of `baselines.FILTERS`."""

    name: str

    def __post_init__(self) -> None:
        if self.name not in FILTERS:
            raise InputError(
                f"against is '{self.name}'; choose among {', '.join(FILTERS)}, or use "
                "--against-command or --against-folder"
            )
        built = FILTERS[self.name]
        if built.needs is not None:
            library(*built.needs, of=self.name)
        if built.ready is not None:
            built.ready(0)

    @property
    def key(self) -> object:
        return ["filter", self.name]

    def __call__(self, pair: Pair, sound: Sound) -> Estimate:
        built = FILTERS[self.name]
        return timed(self.name, built.work, sound, ready=built.ready)


def timed(
    name: str,
    work: Callable[[Array, float], Array],
    sound: Sound,
    *,
    ready: Callable[[int], None] | None = None,
    clock: Callable[[], float] = time.process_time,
) -> Estimate:
    """An estimate and the seconds that it took, loading and first-time work apart.

    Seconds of the processor, so that what else runs on the machine doesn't count.
    """
    if (name, sound.sample_rate) not in _warmed:
        length = max(round(sound.sample_rate), LEAST)
        noise = np.random.default_rng(0).standard_normal((1, length)).astype(np.float32)
        work(0.1 * noise, sound.sample_rate)
        _warmed.add((name, sound.sample_rate))
    if ready is not None:
        ready(len(sound.noisy))
    began = clock()
    samples = work(sound.noisy, sound.sample_rate)
    return Estimate(samples, clock() - began)


_warmed: set[tuple[str, float]] = set()


@lru_cache(maxsize=1)
def loaded(model: str, device: str) -> NetworkDenoiser:
    return NetworkDenoiser.from_pretrained(model).to(device)


@dataclass(frozen=True)
class Command:
    """A command line with {in}, a file that it reads, and {out}, one that it writes.

    Sound is a WAV file; tables of readings keep their container, as do what is written. It is no
    shell's: words are parted as a shell would, and nothing else.
    """

    name: str
    line: str

    def __post_init__(self) -> None:
        try:
            words = shlex.split(self.line)
        except ValueError as error:
            raise InputError(f"command {self.name} can't be parted into words: {error}") from error
        if not all(any(mark in word for word in words) for mark in ("{in}", "{out}")):
            raise InputError(f"command {self.name} lacks {{in}} or {{out}}: it is '{self.line}'")
        if shutil.which(words[0]) is None:
            raise InputError(f"command {self.name} can't be run: there is no program {words[0]}")

    @property
    def key(self) -> object:
        return ["command", self.line]

    def __call__(self, pair: Pair, sound: Sound) -> Estimate:
        with tempfile.TemporaryDirectory(prefix="signal-diffusion-") as folder:
            source, target = _given(pair, sound, Path(folder))
            taken, memory = self._run(
                word.replace("{in}", str(source)).replace("{out}", str(target))
                for word in shlex.split(self.line)
            )
            if not target.is_file():
                raise InputError(f"command {self.name} wrote no file for {pair.name}")
            made = pair.held(target)
        sound.require_form(f"command {self.name} for {pair.name}", made)
        return Estimate(made.samples, taken, memory)

    def _run(self, words: Iterable[str]) -> tuple[float, int | None]:
        """Seconds and, where the system tells it, peak memory in bytes."""
        with tempfile.TemporaryFile() as messages:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", RUNNER, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=messages,
                start_new_session=True,
            )
            try:
                printed = process.communicate()[0]
            finally:
                if process.returncode is None and hasattr(os, "killpg"):
                    os.killpg(process.pid, signal.SIGKILL)
                elif process.returncode is None:
                    process.kill()
            messages.seek(0)
            last = messages.read()[-2000:].decode(errors="replace").strip().splitlines()[-1:]
        found = json.loads(printed) if printed else (process.returncode or 1, 0.0, None)
        code, taken, memory = found
        if code:
            raise InputError(": ".join([f"command {self.name} ended with code {code}", *last]))
        unit = 1 if sys.platform == "darwin" else 1024
        return taken, None if memory is None else memory * unit


@dataclass(frozen=True)
class Made:
    """A folder of estimates, whose files are named as the recordings are."""

    name: str
    folder: Path

    def require(self, pairs: Sequence[Pair]) -> None:
        """Raise an InputError unless there is an estimate of the right form for every pair."""
        there = by_name(self.folder)
        require_partners({pair.name: pair.clean for pair in pairs}, there, self.folder)
        # Of others the rate is free, and the length is known once they are brought to one.
        for pair in (pair for pair in pairs if pair.sample_rate is None):
            require_alike(pair.noisy or pair.clean, there[pair.name], columns=pair.columns)

    @property
    def key(self) -> object:
        files = _files(self.folder).values()
        stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        return ["folder", str(self.folder.resolve()), stats]

    def __call__(self, pair: Pair, sound: Sound) -> Estimate:
        made = pair.held(_files(self.folder)[pair.name])
        sound.require_form(f"{self.folder} for {pair.name}", made)
        return Estimate(made.samples)


def _given(pair: Pair, sound: Sound, folder: Path) -> tuple[Path, Path]:
    """Paths of the input file of a command, which is written, and of its output file.

    Of tables the noisy one as it is, or the clean one with the readings of the mix. It keeps its
    name, by which the parts of a WFDB record know each other.
    """
    if not pair.table:
        source = folder / "in.wav"
        # As most programs take it; samples beyond full scale need floats.
        subtype = "PCM_16" if np.abs(sound.noisy).max() <= 1 else "FLOAT"
        write(source, Recording(sound.noisy, round(sound.sample_rate), "WAV", subtype))
        return source, folder / "out.wav"
    held = pair.noisy or pair.clean
    source, target = (folder / name / held.name for name in ("in", "out"))
    for path in (source, target):
        path.parent.mkdir()
    if pair.noisy is not None:
        for file in files_of(held):
            shutil.copyfile(file, source.parent / file.name)
        return source, target
    with (
        opened_table(held, pair.columns) as reader,
        writing_table(source, reader, mask=False) as writer,
    ):
        writer.write(sound.noisy)
    return source, target


_files = lru_cache(maxsize=8)(by_name)
