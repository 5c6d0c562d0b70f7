"""External methods: commands, and folders of estimates."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

import numpy as np

from signal_diffusion.audio import Recording, write
from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError
from signal_diffusion.evaluation.methods import Estimate
from signal_diffusion.evaluation.pairs import Pair, Sound, by_name, files_of, require_partners
from signal_diffusion.evaluation.readings import Readings, is_same_rate, require_alike
from signal_diffusion.tables import opened_table, writing_table

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
            places = {"{in}": str(source), "{out}": str(target)}
            taken, memory = self._run([_filled(word, places) for word in shlex.split(self.line)])
            if not target.is_file():
                raise InputError(f"command {self.name} wrote no file for {pair.name}")
            made = pair.held(target)
        _require_form(f"command {self.name} for {pair.name}", made, sound)
        return Estimate(made.samples, taken, memory)

    def _run(self, words: Sequence[str]) -> tuple[float, int | None]:
        """Seconds and, where the system tells it, peak memory in bytes."""
        with tempfile.TemporaryFile() as messages:
            code, taken, memory = _ended(
                [sys.executable, "-I", "-S", "-c", RUNNER, *words], messages
            )
            messages.seek(0)
            last = messages.read()[-2000:].decode(errors="replace").strip().splitlines()[-1:]
        if code:
            raise InputError(": ".join([f"command {self.name} ended with code {code}", *last]))
        return taken, memory


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
        _require_form(f"{self.folder} for {pair.name}", made, sound)
        return Estimate(made.samples)


def _filled(word: str, places: Mapping[str, str]) -> str:
    for mark, place in places.items():
        word = word.replace(mark, place)
    return word


def _ended(words: Sequence[str], messages: IO[bytes]) -> tuple[int, float, int | None]:
    """Exit code, seconds and peak memory in bytes of what `RUNNER` runs."""
    process = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=messages,
        start_new_session=True,
    )
    try:
        printed = process.communicate()[0]
    finally:
        if process.returncode is None:
            _end(process)
    if not printed:
        return process.returncode or 1, 0.0, None
    code, taken, memory = json.loads(printed)
    unit = 1 if sys.platform == "darwin" else 1024
    return code, taken, None if memory is None else memory * unit


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it runs."""
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def _given(pair: Pair, sound: Sound, folder: Path) -> tuple[Path, Path]:
    """Paths of the input file of a command, which is written, and of its output file."""
    if pair.table:
        return _given_table(pair, sound, folder)
    source = folder / "in.wav"
    # As most programs take it; samples beyond full scale need floats.
    subtype = "PCM_16" if np.abs(sound.noisy).max() <= 1 else "FLOAT"
    write(source, Recording(sound.noisy, round(sound.sample_rate), "WAV", subtype))
    return source, folder / "out.wav"


def _given_table(pair: Pair, sound: Sound, folder: Path) -> tuple[Path, Path]:
    """The noisy table as it is, or the clean one with the readings of the mix.

    It keeps its name, by which the parts of a WFDB record know each other.
    """
    held = pair.noisy or pair.clean
    for name in ("in", "out"):
        (folder / name).mkdir()
    source, target = (folder / name / held.name for name in ("in", "out"))
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


def _require_form(what: str, made: Readings, sound: Sound) -> None:
    wanted, found = sound.clean.shape, made.samples.shape
    if found != wanted or not is_same_rate(made.sample_rate, sound.sample_rate):
        forms = [
            "{:.12g} Hz, {} channels, {} samples".format(rate, *shape)
            for rate, shape in ((made.sample_rate, found), (sound.sample_rate, wanted))
        ]
        raise InputError(f"{what}: the estimate has {forms[0]}, but the recording {forms[1]}")
    if made.missing is not None and (lost := _lost(made.missing, sound)):
        raise InputError(f"{what}: the estimate lacks {lost} readings that are scored")


def _lost(missing: Array, sound: Sound) -> int:
    """Number of readings that the estimate lacks and the reference has."""
    scored = missing if sound.unscored is None else missing & ~sound.unscored
    return int(scored.sum())


@lru_cache(maxsize=8)
def _files(folder: Path) -> dict[str, Path]:
    return by_name(folder)
