"""What `signal-diffusion evaluate` is given: recordings, and whether they suit the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from signal_diffusion.cli.models import AUDIO_DOMAINS
from signal_diffusion.errors import InputError

if TYPE_CHECKING:
    from signal_diffusion.denoiser import NetworkDenoiser
    from signal_diffusion.tasks.pairs import Pair
    from signal_diffusion.tasks.plans import Columns


@dataclass(frozen=True)
class Sources:
    """Where the recordings are: one folder, two of pairs, or clean ones and noise to mix.

    Attributes:
        data, clean, noisy, noise, snr, groups: as they were given.
        seed: of mixes.
        columns: what is said of tables.
        alone: Hz of a vocoder or generator, for recordings without noisy ones; None for denoisers.
    """

    data: Path | None
    clean: Path | None
    noisy: Path | None
    noise: Sequence[Path]
    snr: Sequence[float]
    groups: Path | None
    seed: int
    columns: Columns
    alone: int | None = None

    def pairs(self) -> list[Pair]:
        """The pairs, with their groups; raises an InputError where they can't be had."""
        from signal_diffusion.tasks.grouping import with_groups

        pairs = self._found()
        return pairs if self.groups is None else with_groups(pairs, self.groups)

    def _found(self) -> list[Pair]:
        from signal_diffusion.tasks.pairs import folder_pairs, mixes, originals

        if self.alone is not None:
            return originals(self._folder(), sample_rate=self.alone)
        self._require()
        if self.data is not None:
            return folder_pairs(self.data / "clean", self.data / "noisy", columns=self.columns)
        assert self.clean is not None
        if self.noisy is not None:
            return folder_pairs(self.clean, self.noisy, columns=self.columns)
        return mixes(self.clean, self.noise, self.snr, seed=self.seed, columns=self.columns)

    def _folder(self) -> Path:
        if self.data is None or self.clean or self.noisy or self.noise or self.snr:
            raise InputError(
                "vocoders and generators are compared with recordings: give DATA, a folder of "
                "them, alone"
            )
        return self.data

    def _require(self) -> None:
        two = self.noisy is not None, bool(self.noise)
        if (self.data is None) == (self.clean is None) or (self.data is not None and any(two)):
            raise InputError(
                "give DATA, a folder with clean/ and noisy/, or --clean with --noisy, or --clean "
                "with --noise and --snr"
            )
        if self.clean is not None and two[0] == two[1]:
            raise InputError("--clean goes with either --noisy FOLDER or --noise FOLDER: give one")
        if self.snr and not self.noise:
            raise InputError("--snr is for mixes: give it with --clean and --noise")
        if self.data is not None and not all((self.data / n).is_dir() for n in ("clean", "noisy")):
            raise InputError(
                f"{self.data} has no folders clean/ and noisy/: name others by --clean and --noisy"
            )


def rate_of_originals(denoiser: NetworkDenoiser) -> int | None:
    """The rate in Hz of recordings that stand alone, of vocoders and generators; None of denoisers.

    Raises:
        InputError: the model is of neither of these kinds.
    """
    from signal_diffusion.tasks.vocode import require_vocoder

    if denoiser.mel is not None:
        return require_vocoder(denoiser)[0].sample_rate
    if denoiser.length is not None and denoiser.sample_rate is None:
        raise InputError("this model has no sample rate, which recordings are brought to")
    return denoiser.sample_rate if denoiser.length is not None else None


def takes_readings(denoiser: NetworkDenoiser, model: str, pairs: Sequence[Pair]) -> bool:
    """Whether signals are readings of sensors, not sound, by the model and the files.

    Raises:
        InputError: the model is for sound, and the files are tables.
    """
    tables = [pair for pair in pairs if pair.table]
    if tables and denoiser.domain in AUDIO_DOMAINS:
        raise InputError(
            f"model '{model}' is for {denoiser.domain}, but {tables[0].clean} is a table of "
            "readings: use a model of such signals, e.g. ecg, or one of experiment=noisy_only"
        )
    return bool(tables) or denoiser.domain not in (None, *AUDIO_DOMAINS)
