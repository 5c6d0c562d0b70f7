"""Noisy recordings beside their clean ones: in two folders, or mixed from speech and noise."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from signal_diffusion.errors import InputError
from signal_diffusion.recordings import opened, read, resample
from signal_diffusion.tasks.buffers import Array
from signal_diffusion.tasks.finding import found

#: Of a mix, so that it fits into any sample format.
PEAK = 0.98


@dataclass(frozen=True)
class Sound:
    """A noisy recording and its clean one, each (C, L) at `sample_rate` Hz."""

    noisy: Array
    clean: Array
    sample_rate: int

    @property
    def seconds(self) -> float:
        return self.clean.shape[1] / self.sample_rate


@dataclass(frozen=True)
class Pair:
    """Where a noisy recording and its clean one come from.

    Attributes:
        name: of the pair, a path without its suffix, and of mixes their SNR besides.
        clean: file of the clean recording.
        noisy: file of the noisy one; of mixes, None.
        noise: of mixes, the file of the noise.
        snr: of mixes, in dB, over the whole recording.
        seed: of mixes, chooses the stretch of the noise.
        groups: by which scores can be told apart, such as ("speaker", "p287").
    """

    name: str
    clean: Path
    noisy: Path | None = None
    noise: Path | None = None
    snr: float | None = None
    seed: int = 0
    groups: tuple[tuple[str, str], ...] = ()

    @property
    def recording(self) -> str:
        """Name of the clean recording, which mixes at several SNRs share."""
        return self.name if self.snr is None else self.name.removesuffix(f" {self.snr:g} dB")

    @property
    def files(self) -> list[Path]:
        return [path for path in (self.clean, self.noisy, self.noise) if path is not None]

    @property
    def key(self) -> str:
        """Digest of what the sound depends on: names, sizes and times of the files, SNR, seed."""
        stats = [(str(path.resolve()), path.stat()) for path in self.files]
        held = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
        return digest_of([self.name, held, self.snr, self.seed])

    def read(self) -> Sound:
        """The sound of both; raises an InputError where a file is damaged, or noise is silent."""
        clean = read(self.clean)
        if self.noisy is not None:
            return Sound(read(self.noisy).samples, clean.samples, clean.sample_rate)
        assert self.noise is not None and self.snr is not None
        noise = _stretch(self, clean.samples.shape[1], clean.sample_rate)
        return _mixed(self, clean.samples, noise, clean.sample_rate)


def digest_of(value: object) -> str:
    """Sixteen digits that tell a plain value from others."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def folder_pairs(clean: Path, noisy: Path) -> list[Pair]:
    """Pairs of the same name below two folders, whatever their suffixes.

    Raises:
        InputError: a folder is missing or empty, a file has no partner, or another rate, length or
            number of channels than its partner.
    """
    first, second = by_name(clean), by_name(noisy)
    require_partners(first, second, noisy)
    require_partners(second, first, clean)
    pairs = [Pair(name, first[name], second[name]) for name in sorted(first)]
    for pair in pairs:
        require_alike(first[pair.name], second[pair.name])
    return pairs


def mixes(clean: Path, noise: Sequence[Path], snr: Sequence[float], *, seed: int = 0) -> list[Pair]:
    """Every clean recording below a folder with one noise, at every SNR in dB.

    Which noise, and which stretch of it, follows from the seed and the recording's name alone: the
    same at every SNR, and whatever other recordings there are. Groups: `noise`, the folder or else
    the name of the noise, and `snr`.

    Raises:
        InputError: a folder is missing or empty, or there is no SNR.
    """
    if not snr:
        raise InputError("mixes of --clean and --noise need --snr, in dB, e.g. --snr 0,5,10")
    noises = [(_kind(path, root), path) for root in noise for path in by_name(root).values()]
    pairs = []
    for name, path in sorted(by_name(clean).items()):
        kind, other = noises[int(_rng(seed, name).integers(len(noises)))]
        for level in snr:
            told = (("noise", kind), ("snr", f"{level:g}"))
            pairs.append(Pair(f"{name} {level:g} dB", path, None, other, level, seed, told))
    return pairs


def with_groups(pairs: Sequence[Pair], table: Path) -> list[Pair]:
    """Pairs with the columns of a CSV table, of which `file` names the recordings.

    Raises:
        InputError: the table can't be read, lacks a recording, or has none or a taken column.
    """
    whole = {row["file"]: row for row in _table_rows(table)}
    rows = {Path(name).with_suffix("").as_posix(): row for name, row in whole.items()} | whole
    return [_grouped(pair, rows, table) for pair in pairs]


def by_name(folder: Path) -> dict[str, Path]:
    """The recordings below a folder, by their paths in it without suffixes.

    Raises:
        InputError: there is no such folder, it holds none, or two of one name.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder of recordings")
    named: dict[str, Path] = {}
    for path, inside in found(str(folder), frozenset(), several=False, left_out=lambda _: None):
        name = inside.with_suffix("").as_posix()
        if name in named:
            raise InputError(f"{named[name]} and {path} have one name: keep one of them")
        named[name] = path
    return named


def require_partners(wanted: Mapping[str, Path], there: Mapping[str, object], folder: Path) -> None:
    """Raise an InputError where a folder lacks a recording of a name."""
    lacking = sorted(set(wanted) - set(there))
    if lacking:
        more = f" ({len(lacking)} of {len(wanted)} lack theirs)" if len(lacking) > 1 else ""
        raise InputError(f"{wanted[lacking[0]]} has no partner of its name in {folder}{more}")


def require_alike(first: Path, second: Path) -> None:
    """Raise an InputError unless two files have one rate, number of channels and length."""
    forms = [_form(path) for path in (first, second)]
    for what, one, other in zip(("Hz", "channels", "samples"), *forms, strict=True):
        if one != other and None not in (one, other):
            raise InputError(
                f"{second} has {other} {what}, but {first} has {one}: make both the same"
            )


def _form(path: Path) -> tuple[int, int, int | None]:
    with opened(path) as reader:
        return reader.form.sample_rate, reader.form.channels, reader.frames


def _kind(path: Path, root: Path) -> str:
    """What a noise is called: by the folder that it lies in, or by its own name."""
    inside = path.relative_to(root)
    return inside.parts[0] if len(inside.parts) > 1 else inside.stem


def _rng(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng([seed, int(hashlib.sha256(name.encode()).hexdigest()[:16], 16)])


def _stretch(pair: Pair, length: int, sample_rate: int) -> Array:
    """The noise (1, length) of a mix, which begins anew where it ends."""
    assert pair.noise is not None
    held = read(pair.noise)
    mono = resample(held.samples.mean(axis=0, keepdims=True), held.sample_rate, sample_rate)
    rng = _rng(pair.seed, f"stretch for {pair.recording}")
    start = int(rng.integers(max(1, mono.shape[1] - length + 1)))
    return np.resize(mono[0, start:], (1, length))


def _mixed(pair: Pair, clean: Array, noise: Array, sample_rate: int) -> Sound:
    """The mix at its SNR, and the clean recording, turned down together if they exceed `PEAK`."""
    powers = [float(np.mean(np.square(x, dtype=np.float64))) for x in (clean, noise)]
    if min(powers) == 0:
        silent = pair.clean if powers[0] == 0 else pair.noise
        raise InputError(f"{silent} is silent: it can't be mixed at {pair.snr:g} dB")
    assert pair.snr is not None
    noisy = clean + noise * np.sqrt(powers[0] / powers[1] / 10 ** (pair.snr / 10))
    gain = min(1.0, PEAK / float(np.abs(noisy).max()))
    return Sound((gain * noisy).astype(np.float32), (gain * clean).astype(np.float32), sample_rate)


def _table_rows(table: Path) -> list[dict[str, str]]:
    import pandas

    try:
        frame = pandas.read_csv(table, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{table} can't be read as CSV: {' '.join(str(error).split())}") from error
    if "file" not in frame or len(frame.columns) < 2:
        raise InputError(f"{table} needs a column 'file' and others; it has {list(frame.columns)}")
    return [dict(row) for row in frame.to_dict("records")]


def _grouped(pair: Pair, rows: Mapping[str, dict[str, str]], table: Path) -> Pair:
    name = pair.recording
    row = rows.get(name) or rows.get(Path(name).name)
    if row is None:
        raise InputError(f"{table} has no row of the file {name}: add one")
    groups = [(column, value) for column, value in row.items() if column != "file"]
    known = dict(pair.groups)
    if taken := [column for column, _ in groups if column in known]:
        raise InputError(f"{table} has a column {taken[0]}, which mixes have already: rename it")
    return replace(pair, groups=(*pair.groups, *groups))
