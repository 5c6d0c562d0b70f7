"""Whether a generator repeats its training clips: distances of what it draws to them.

Each drawn signal's distance to the nearest training clip (`metrics.likeness`) is compared with the
same distance of clips that were not trained on. A generator that has learnt the law of the clips,
and not the clips, draws as few signals that are very near to one as such clips are. There are two
references:

    held-out    clips of the valid split; where these are of another kind (another speaker, another
                machine), they lie farther off, and whatever is like the training set looks copied;
    training    each training clip, to the nearest of the others: draws of the very law, as long as
                no clip is there twice.

A copy is found at any level and start. One that was sped up by 3 % already lies as far off as other
recordings of a word by its speaker may, so that `speeds` looks for these, too.

Two counts decide: of drawn signals nearer than `VERY_NEAR` of the reference, which tells a
generator that repeats much, and of those nearer than all of it, which tells a few exact copies.
Their test is exact: with n drawn and m reference distances of one law, of the k + r - 1 smallest k
or more are drawn ones with the probability of a hypergeometric law, which is that of k drawn
distances under the r-th smallest reference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from signal_diffusion.dsp import Array
from signal_diffusion.dsp.resampling import resample
from signal_diffusion.errors import InputError
from signal_diffusion.metrics.likeness import SIGNALS, imprints, nearest
from signal_diffusion.samplers import Progress
from signal_diffusion.streaming.pieces import part_of

#: Share of the reference that counts as very near, and the probability under which it is no chance.
VERY_NEAR, CHANCE = 0.01, 0.01
REFERENCES = ("held-out", "training")


@dataclass(frozen=True)
class Clips:
    """Short signals of one rate, by name, which are fetched one at a time.

    Args:
        names: one for each.
        signal: from a number of the list to the samples (L,), of one length for all.
    """

    names: Sequence[str]
    signal: Callable[[int], NDArray[np.float32]]

    def __len__(self) -> int:
        return len(self.names)

    def imprints(self, sample_rate: int, *, speed: float = 1.0) -> Tensor:
        """See `likeness.imprints`; (n, N, bands), in memory that the signals don't add to."""
        starts = range(0, len(self), SIGNALS)
        blocks = [range(start, min(start + SIGNALS, len(self))) for start in starts]
        stacks = (np.stack([self.signal(index) for index in block]) for block in blocks)
        return torch.cat([imprints(sped(x, speed), sample_rate=sample_rate) for x in stacks])


def sped(signals: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """Signals (n, L) played faster by a factor, with their pitch, then cut or followed by zeros.

    >>> sped(np.ones((1, 6), np.float32), 1.0)
    array([[1., 1., 1., 1., 1., 1.]], dtype=float32)
    """
    if factor == 1:
        return signals
    length = signals.shape[1]
    played = resample(signals, factor * length, length)[:, :length]
    return np.pad(played, ((0, 0), (0, length - played.shape[1])))


@dataclass(frozen=True)
class Comparison:
    """Drawn signals beside a reference, by their distances to the training clips.

    Attributes:
        reference: a name of `REFERENCES`.
        median: of the reference's distances.
        very_near: the distance that `VERY_NEAR` of the reference is within.
        share: of the drawn signals that lie nearer than that.
        under_all: number of drawn signals that are nearer than any of the reference.
        p: probability of either number by chance: twice the smaller one's, or that of both where
            the reference is so small that they are one.
        p_nearer: that of the drawn distances' being the smaller ones altogether (Mann and Whitney);
            low for signals that are merely more typical than real ones, and so not in the verdict.
    """

    reference: str
    median: float
    very_near: float
    share: float
    under_all: int
    p: float
    p_nearer: float

    @property
    def passed(self) -> bool:
        return self.p >= CHANCE


@dataclass(frozen=True)
class Memorisation:
    """Distances to the nearest training clip: of what was drawn (n,), and of the references.

    Attributes:
        drawn, held_out, training: distances, of which the last leave each clip itself out.
        neighbours: number of the training clip that each drawn signal (n,) is nearest to.
    """

    drawn: Array
    held_out: Array
    training: Array
    neighbours: NDArray[np.int64]

    def against(self, reference: str) -> Comparison:
        """The comparison with a reference of `REFERENCES`."""
        require_reference(reference)
        return compared(
            reference, self.drawn, self.held_out if reference == "held-out" else self.training
        )

    @property
    def p_alike(self) -> float:
        """Probability that held-out clips lie so much farther off than training clips by chance."""
        return _p_nearer(self.training, self.held_out)

    def closest(self, count: int) -> list[int]:
        """Numbers of the drawn signals that are nearest to a training clip, the nearest first."""
        return [int(index) for index in np.argsort(self.drawn, kind="stable")[:count]]


def require_reference(name: str) -> None:
    """Raise an InputError unless there is such a reference."""
    if name not in REFERENCES:
        raise InputError(f"against is '{name}'; choose one of {', '.join(REFERENCES)}")


def speeds_of(most: float) -> list[float]:
    """Factors, 2 % apart or a little less, up to a share up and down.

    Raises:
        InputError: the share is not in [0, 0.5].

    >>> speeds_of(0), speeds_of(0.03)
    ([1.0], [0.97, 0.985, 1.0, 1.015, 1.03])
    """
    if not 0 <= most <= 0.5:
        raise InputError(f"speed is {most:g}; it goes from 0 to 0.5, e.g. 0.07")
    each = -(-round(100 * most) // 2)
    return [round(1 + most * step / max(1, each), 4) for step in range(-each, each + 1)]


def memorisation(
    drawn: Clips,
    training: Clips,
    held_out: Clips,
    *,
    sample_rate: int,
    speeds: Sequence[float] = (1.0,),
    progress: Progress | None = None,
) -> Memorisation:
    """Compare drawn signals and held-out clips with all training clips, in bounded memory.

    Args:
        drawn, training, held_out: signals of one length.
        sample_rate: Hz, of all.
        speeds: factors that whatever is compared with the training clips is sped up by; the least
            distance counts.
        progress: called as progress(done, all), in arbitrary units.

    Raises:
        InputError: there are too few, or they differ in length.
    """
    if min(len(drawn), len(held_out)) < 1 or len(training) < 2:
        raise InputError(
            f"there are {len(drawn)} drawn signals, {len(training)} training clips and "
            f"{len(held_out)} held-out ones: give some of each, and two to train on"
        )
    reference = training.imprints(sample_rate)
    found = [
        _nearest(
            clips,
            reference,
            sample_rate,
            speeds,
            itself=clips is training,
            progress=part_of(progress, part, 3),
        )
        for part, clips in enumerate((drawn, held_out, training))
    ]
    (distance, place), (held, _), (others, _) = found
    return Memorisation(
        distance.double().numpy(), held.double().numpy(), others.double().numpy(), place.numpy()
    )


def _nearest(
    clips: Clips,
    reference: Tensor,
    sample_rate: int,
    speeds: Sequence[float],
    *,
    itself: bool,
    progress: Progress | None,
) -> tuple[Tensor, Tensor]:
    """Least distances over the speeds, and the places of the nearest: (n,) each."""
    found = [
        nearest(
            clips.imprints(sample_rate, speed=speed),
            reference,
            itself=itself,
            progress=part_of(progress, part, len(speeds)),
        )
        for part, speed in enumerate(speeds)
    ]
    least, which = torch.stack([distance for distance, _ in found]).min(0)
    return least, torch.stack([place for _, place in found]).gather(0, which[None])[0]


def compared(reference: str, drawn: Array, distances: Array) -> Comparison:
    """How drawn distances (n,) compare with those (m,) of a reference.

    >>> far = np.linspace(0.5, 0.9, 200)
    >>> compared("training", far, far).passed, compared("training", far - 0.3, far).passed
    (True, False)
    """
    rank, sorted_ = max(1, round(VERY_NEAR * len(distances))), np.sort(distances)
    counts = {n: int((drawn < sorted_[n - 1]).sum()) for n in (1, rank)}
    chances = [p_of_count(k, n, len(drawn), len(distances)) for n, k in counts.items()]
    return Comparison(
        reference,
        median=float(np.median(distances)),
        very_near=float(sorted_[rank - 1]),
        share=counts[rank] / len(drawn),
        under_all=counts[1],
        p=min(1.0, len(chances) * min(chances)),
        p_nearer=_p_nearer(drawn, distances),
    )


def p_of_count(count: int, rank: int, drawn: int, reference: int) -> float:
    """Probability that `count` or more of `drawn` lie under the `rank`-th smallest of `reference`.

    >>> p_of_count(1, 1, 1, 3)  # one of four alike is the smallest
    0.25
    """
    from scipy.stats import hypergeom

    if count == 0:
        return 1.0
    return float(hypergeom.sf(count - 1, drawn + reference, drawn, count + rank - 1))


def _p_nearer(first: Array, second: Array) -> float:
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(first, second, alternative="less").pvalue)
