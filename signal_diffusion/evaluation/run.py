"""Score methods on pairs of recordings, in several processes, so that a killed run can go on."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext
from pathlib import Path

import numpy as np
import torch

from signal_diffusion.errors import InputError, reason
from signal_diffusion.evaluation.measures import measured
from signal_diffusion.evaluation.methods import Estimate, Method
from signal_diffusion.evaluation.pairs import Pair, digest_of
from signal_diffusion.evaluation.readings import Sound
from signal_diffusion.files.journal import Journal, Row
from signal_diffusion.metrics.alignment import ALIGNMENT, alignment
from signal_diffusion.samplers import Progress
from signal_diffusion.streaming.background import threads

#: Version of the rows: those of other versions are computed again.
VERSION = 2
ROWS = "rows.jsonl"
#: Columns about the work: seconds of sound, seconds of work, bytes, number of missing readings,
#: which are not scored, and the reason why a score is missing.
WORK = ("seconds", "taken", "memory", "unscored", "note")


@dataclass(frozen=True)
class Work:
    """One pair, and the methods that are still to be scored on it, with the keys of their rows."""

    pair: Pair
    methods: tuple[Method, ...]
    keys: tuple[str, ...]
    metrics: tuple[str, ...]


def evaluate(
    pairs: Sequence[Pair],
    methods: Sequence[Method],
    metrics: Sequence[str],
    folder: Path,
    *,
    jobs: int = 1,
    progress: Progress | None = None,
) -> list[Row]:
    """Score every method on every pair; rows go to `rows.jsonl` as they come.

    What that file holds already, of the same sound, method, settings and metrics, is not done
    again, but for what failed. Every process computes in one thread, so that scores don't depend
    on `jobs`; real-time factors are those of one thread.

    Args:
        pairs: what to denoise.
        methods: what is compared; names must differ.
        metrics: names of `measures.METRICS`.
        folder: where the rows go; it must exist.
        jobs: processes.
        progress: called as progress(done pairs, all pairs).

    Returns:
        A row for each pair and method, in their order: `file`, `recording`, `method`, the metrics,
        those of `alignment`, `seconds`, `taken`, `memory`, `unscored`, `note`, `error`.

    Raises:
        InputError: two methods have one name, or the rows can't be read or written.
    """
    require_distinct(methods)
    wanted = _keys(pairs, methods, metrics)
    every = {key for keys in wanted for key in keys}

    def whole(row: Row) -> bool:
        # A file that was damaged may still hold lines of JSON.
        scores = (row.get(name, "") for name in (*metrics, "seconds", "taken"))
        numbers = all(isinstance(score, (int, float, type(None))) for score in scores)
        return numbers and {*ALIGNMENT, *WORK} <= row.keys()

    kept = Journal(
        folder / ROWS,
        lambda row: row.get("key"),
        keep=lambda row: row.get("key") in every and row.get("error") is None and whole(row),
    )
    pending = []
    for pair, keys in zip(pairs, wanted, strict=True):
        left = [at for at, key in enumerate(keys) if key not in kept.rows]
        if left:
            chosen = tuple(methods[at] for at in left), tuple(keys[at] for at in left)
            pending.append(Work(pair, *chosen, tuple(metrics)))
    with kept, closing(_results(pending, jobs)) as results:
        for done, made in enumerate(results, start=len(pairs) - len(pending) + 1):
            kept.add(made)
            if progress is not None:
                progress(done, len(pairs))
    return [
        kept.rows[key] | _names(pair, method)
        for pair, keys in zip(pairs, wanted, strict=True)
        for method, key in zip(methods, keys, strict=True)
    ]


def require_distinct(methods: Sequence[Method]) -> None:
    """Raise an InputError where two methods have one name."""
    names = [method.name for method in methods]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two methods are called '{name}': give one of them another name")


def _keys(
    pairs: Sequence[Pair], methods: Sequence[Method], metrics: Sequence[str]
) -> list[tuple[str, ...]]:
    """For each pair, the keys of its rows: digests of all that they depend on."""
    settings = [[VERSION, method.name, digest_of(method.key), *metrics] for method in methods]
    return [
        tuple(digest_of([key, *chosen]) for chosen in settings)
        for key in (pair.key for pair in pairs)
    ]


def _results(pending: Sequence[Work], jobs: int) -> Generator[list[Row], None, None]:
    """The rows of each work, as they come."""
    if jobs == 1 or len(pending) < 2:
        with threads(1):
            yield from map(scored, pending)
        return
    pool = ProcessPoolExecutor(min(jobs, len(pending)), _context(), initializer=_begin)
    try:
        futures: list[Future[list[Row]]] = [pool.submit(scored, work) for work in pending]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise InputError(
            "a process was killed, perhaps because memory ran out: finished rows are kept; "
            "go on with --resume and fewer --jobs"
        ) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _context() -> BaseContext:
    """The context of processes: forked from one that has loaded the package, where that is safe."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _begin() -> None:
    """Initialise a process: one thread, Ctrl-C ignored, and its end when its parent ends."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    sentinel = parent.sentinel

    def follow() -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def scored(work: Work) -> list[Row]:
    """The rows of one pair; what fails becomes a row with an error, and stops no other."""
    try:
        sound = work.pair.read()
    except InputError as error:
        return [_row(work, at, {}, error=str(error)) for at in range(len(work.keys))]
    return [_scored(work, at, sound) for at in range(len(work.keys))]


def estimated(method: Method, pair: Pair, sound: Sound) -> Estimate:
    """A method's estimate; raises an InputError where samples of it are not finite."""
    made = method(pair, sound)
    if bad := int((~np.isfinite(made.samples)).sum()):
        whole = made.samples.size
        raise InputError(f"the estimate holds {bad} NaN or infinite samples of {whole}")
    return made


def _scored(work: Work, at: int, sound: Sound) -> Row:
    rate = sound.sample_rate
    try:
        made = estimated(work.methods[at], work.pair, sound)
        scores, note = measured(
            work.metrics, made.samples, sound.clean, rate, unscored=sound.unscored
        )
        # The phases of a vocoder's output are free.
        fit = {} if work.pair.alone else alignment(made.samples, sound.clean, rate)
    except Exception as error:
        # A rival may fail in any way: that is its result.
        return _row(work, at, {}, error=reason(error)[:500])
    taken = None if made.taken is None else round(made.taken, 6)
    facts = {"seconds": sound.seconds, "taken": taken, "memory": made.memory, "note": note}
    left = 0 if sound.unscored is None else int(sound.unscored.sum())
    return _row(work, at, {**scores, **fit, **facts, "unscored": left})


def _row(work: Work, at: int, found: Row, *, error: str | None = None) -> Row:
    pair, method = work.pair, work.methods[at]
    nothing = dict.fromkeys([*work.metrics, *ALIGNMENT, *WORK])
    facts = {"key": work.keys[at], **_names(pair, method)}
    return {**facts, **nothing, **found, "error": error}


def _names(pair: Pair, method: Method) -> Row:
    return {"file": pair.name, "recording": pair.recording, "method": method.name}
