"""Noisy recordings beside their clean ones: in two folders, or mixed from recordings and noise."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from signal_diffusion.dsp import Array
from signal_diffusion.dsp.resampling import resample
from signal_diffusion.errors import InputError
from signal_diffusion.evaluation.readings import (
    Readings,
    Sound,
    read_readings,
    require_alike,
    unlike,
)
from signal_diffusion.files.journal import value_of
from signal_diffusion.tables import is_table
from signal_diffusion.tables.columns import Columns
from signal_diffusion.tasks.inputs import found

#: Samples of which a beginning has at least so many, where readings are seconds apart.
FEWEST = 10_000


@dataclass(frozen=True)
class Pair:
    """The files of a noisy recording and its clean one, or of a mix.

    Attributes:
        name: of the pair, a path without its suffix, and of mixes their SNR besides.
        clean: file of the clean recording.
        noisy: file of the noisy one; of mixes, and of what a vocoder makes again, None.
        noise: of mixes, the file of the noise.
        snr: of mixes, in dB, over the whole recording.
        seed: of mixes, chooses the stretch of the noise.
        groups: names and values by which scores are averaged, such as ("speaker", "p287").
        columns: how tables are read.
        sample_rate: Hz that sound is brought to; None leaves it.
        beginning: seconds that are read, but not fewer than `FEWEST` samples; None reads all.
    """

    name: str
    clean: Path
    noisy: Path | None = None
    noise: Path | None = None
    snr: float | None = None
    seed: int = 0
    groups: tuple[tuple[str, str], ...] = ()
    columns: Columns = Columns()
    sample_rate: int | None = None
    beginning: float | None = None

    @property
    def table(self) -> bool:
        """Whether it is of tables of readings, not of sound."""
        return is_table(self.noisy or self.clean)

    @property
    def alone(self) -> bool:
        """Whether there is no noisy recording, but the clean one alone."""
        return self.noisy is None and self.noise is None

    @property
    def recording(self) -> str:
        """Name of the clean recording, which mixes at several SNRs share."""
        return self.name if self.snr is None else self.name.removesuffix(f" {self.snr:g} dB")

    @property
    def files(self) -> list[Path]:
        named = [path for path in (self.clean, self.noisy, self.noise) if path is not None]
        return [file for path in named for file in files_of(path)]

    @property
    def key(self) -> str:
        """Digest of what it depends on: names, sizes and times of the files, and the settings."""
        stats = [(str(path.resolve()), path.stat()) for path in self.files]
        held = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
        columns = list(asdict(self.columns).values())
        beginning = [] if self.beginning is None else [self.beginning]
        settings = [self.snr, self.seed, columns, self.sample_rate, *beginning]
        return digest_of([self.name, held, *settings])

    def read(self) -> Sound:
        """The sound of both; without noise and noisy recording, the clean one twice.

        Raises:
            InputError: a file is damaged, silent where it is to be mixed, or of another length.
        """
        clean = self.held(self.clean)
        if self.noise is not None:
            assert self.snr is not None
            rng = rng_of(self.seed, f"stretch for {self.recording}")
            both = mixed(clean, self.held(self.noise), self.snr, rng)
            return Sound(*both, clean.sample_rate, clean.missing, clean.missing)
        noisy = clean if self.noisy is None else self.held(self.noisy)
        return _beside(noisy, clean)

    def held(self, path: Path) -> Readings:
        """What a file of this pair, or an estimate of it, holds; sound at the rate of the pair."""
        held, rate = read_readings(path, self.columns), self.sample_rate
        if self.beginning is not None:
            held = held.first(max(round(self.beginning * held.sample_rate), FEWEST))
        if rate is None or held.table:
            return held
        return replace(
            held, samples=resample(held.samples, held.sample_rate, rate), sample_rate=rate
        )


def files_of(path: Path) -> list[Path]:
    """The files of a recording: of a WFDB record its header, and its samples beside it."""
    beside = path.with_suffix(".dat")
    return [path, beside] if path.suffix.lower() == ".hea" and beside.exists() else [path]


def digest_of(value: object) -> str:
    """The first 16 digits of the SHA-256 of a plain value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def folder_pairs(clean: Path, noisy: Path, *, columns: Columns = Columns()) -> list[Pair]:
    """Pairs of the same name below two folders, whatever their suffixes.

    Args:
        clean, noisy: the folders, of sound or of tables of readings.
        columns: how tables are read.

    Raises:
        InputError: a folder is missing or empty, a file has no partner, or another rate, length or
            number of channels than its partner.
    """
    first, second = by_name(clean), by_name(noisy)
    require_partners(first, second, noisy)
    require_partners(second, first, clean)
    for name in sorted(first):
        require_alike(first[name], second[name], columns=columns)
    return [Pair(name, first[name], second[name], columns=columns) for name in sorted(first)]


def originals(folder: Path, *, sample_rate: int) -> list[Pair]:
    """The recordings below a folder at a rate in Hz, which a vocoder is to make again.

    Raises:
        InputError: the folder is missing or empty.
    """
    there = sorted(by_name(folder).items())
    return [Pair(name, path, sample_rate=sample_rate) for name, path in there]


def mixes(
    clean: Path,
    noise: Sequence[Path],
    snr: Sequence[float],
    *,
    seed: int = 0,
    columns: Columns = Columns(),
) -> list[Pair]:
    """Every clean recording below a folder with one noise, at every SNR in dB.

    Which noise, and which stretch of it, follows from the seed and the recording's name alone: the
    same at every SNR, and whatever other recordings there are. Groups: `noise`, the folder or else
    the name of the noise, and `mix_snr`.

    Raises:
        InputError: a folder is missing or empty, or there is no SNR.
    """
    if not snr:
        raise InputError("mixes of --clean and --noise need --snr, in dB, e.g. --snr 0,5,10")
    noises = [(_kind(path, root), path) for root in noise for path in by_name(root).values()]
    pairs = []
    for name, path in sorted(by_name(clean).items()):
        kind, other = noises[int(rng_of(seed, name).integers(len(noises)))]
        for level in snr:
            groups = (("noise", kind), ("mix_snr", f"{level:g}"))
            pairs.append(
                Pair(
                    f"{name} {level:g} dB",
                    path,
                    noise=other,
                    snr=level,
                    seed=seed,
                    groups=groups,
                    columns=columns,
                )
            )
    return pairs


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


def _beside(noisy: Readings, clean: Readings) -> Sound:
    """Both, with the channels of one name beside each other."""
    if noisy.samples.shape != clean.samples.shape:
        both = clean.samples.shape[1], noisy.samples.shape[1]
        raise unlike(clean.path, noisy.path, "samples", both)
    order = list(range(len(clean.samples)))
    if sorted(noisy.names) == sorted(clean.names):
        order = [clean.names.index(name) for name in noisy.names] or order
    reference = None if clean.missing is None else clean.missing[order]
    gaps = [mask for mask in (noisy.missing, reference) if mask is not None]
    unscored = np.logical_or.reduce(gaps) if gaps else None
    return Sound(noisy.samples, clean.samples[order], clean.sample_rate, noisy.missing, unscored)


def _kind(path: Path, root: Path) -> str:
    """The name of a noise: that of its folder, or its own."""
    inside = path.relative_to(root)
    return inside.parts[0] if len(inside.parts) > 1 else inside.stem


#: Of a mix of sound, so that it fits into any sample format.
PEAK = 0.98


def rng_of(seed: int, name: str) -> np.random.Generator:
    """A generator seeded by a number and a name."""
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()
    return np.random.default_rng([seed, int(digest[:16], 16)])


def mixed(
    clean: Readings, noise: Readings, snr: float, rng: np.random.Generator
) -> tuple[Array, Array]:
    """The noisy and the clean recording, (C, L) each, at an SNR in dB over the whole recording.

    A stretch of the noise is drawn, which begins anew where it ends. Sound has one noise, the mean
    of its channels, in all channels, and both are turned down together where they exceed `PEAK`.
    Of readings each channel, in units of its own, has that SNR, with the noise's channels in turn;
    powers are those about the mean.

    Raises:
        InputError: the recording, a channel of it, or the noise is silent.
    """
    x, table = clean.samples, clean.table
    added = _stretch(clean, noise, rng)
    middle = x.mean(axis=1, keepdims=True) if table else 0
    powers = _power(x - middle, each=table), _power(added, each=table)
    for held, power in zip((clean, noise), powers, strict=True):
        if power.min() == 0:
            raise InputError(f"{held.path} is silent: it can't be mixed at {snr:g} dB")
    noisy = x + added * np.sqrt(powers[0] / powers[1] / 10 ** (snr / 10))
    if table:
        return noisy, x
    gain = min(1.0, PEAK / float(np.abs(noisy).max()))
    return (gain * noisy).astype(np.float32), (gain * x).astype(np.float32)


def _power(x: Array, *, each: bool) -> Array:
    """Mean square (C, 1) of each channel, or () of all."""
    squares = np.square(x, dtype=np.float64)
    return np.asarray(squares.mean(axis=1, keepdims=True) if each else squares.mean())


def _stretch(clean: Readings, noise: Readings, rng: np.random.Generator) -> Array:
    """As much noise as the recording is long, (1, L) for sound and (C, L) for readings."""
    held, length = noise.samples, clean.samples.shape[1]
    if not clean.table:
        held = held.mean(axis=0, keepdims=True)
    held = resample(held, noise.sample_rate, clean.sample_rate)
    start = int(rng.integers(max(1, held.shape[1] - length + 1)))
    cut = np.stack([np.resize(channel[start:], length) for channel in held])
    if not clean.table:
        return cut
    return (cut - cut.mean(axis=1, keepdims=True))[np.arange(len(clean.samples)) % len(cut)]


def with_groups(pairs: Sequence[Pair], table: Path) -> list[Pair]:
    """Pairs with the columns of a CSV table, of which `file` names the recordings.

    Raises:
        InputError: the table can't be read, lacks a recording, or has none or a taken column.
    """
    whole = {row["file"]: row for row in _table_rows(table)}
    named = [name for name in whole if Path(name).name]
    rows = {Path(name).with_suffix("").as_posix(): whole[name] for name in named} | whole
    return [_grouped(pair, rows, table) for pair in pairs]


def _table_rows(table: Path) -> list[dict[str, str]]:
    import pandas

    try:
        frame = pandas.read_csv(table, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{table} can't be read as CSV: {' '.join(str(error).split())}") from error
    if "file" not in frame or len(frame.columns) < 2:
        raise InputError(f"{table} needs a column 'file' and others; it has {list(frame.columns)}")
    return [dict(row) for row in frame.map(value_of).to_dict("records")]


def _grouped(pair: Pair, rows: Mapping[str, dict[str, str]], table: Path) -> Pair:
    name = pair.recording
    row = rows.get(name) or rows.get(Path(name).name)
    if row is None:
        raise InputError(f"{table} has no row of the file {name}: add one")
    groups = [(column, value) for column, value in row.items() if column != "file"]
    own = dict(pair.groups)
    if taken := [column for column, _ in groups if column in own]:
        raise InputError(f"{table} has a column {taken[0]}, which mixes have already: rename it")
    return replace(pair, groups=(*pair.groups, *groups))
