"""Whether a generator repeats its training clips: distances of what it draws to them.

Each drawn signal's distance to the nearest training clip (`metrics.likeness`) is compared with the
same distance of clips that were not trained on. A generator that has learnt the law of the clips,
and not the clips, draws as few signals that are very near to one as such clips are. There are two
references:

    held-out    clips of the valid split; where these are of another kind (another speaker, another
                machine), they lie farther off, and whatever is like the training set looks copied;
    training    each training clip, to the nearest of the others: draws of the very law, as long as
                no clip is there twice.

A drawn signal within `RESOLUTION` of a training clip is a copy, and one copy fails. Copies at any
level and start lie farther off, by up to 0.12, where they begin between two frames; one that was
sped up by 3 % lies as far off as other recordings of a word by its speaker may, so that `speeds`
looks for these, too. Such copies are found by two counts: of drawn signals nearer than `VERY_NEAR`
of the reference, and of those nearer than all of it. Their test is exact: with n drawn and m
reference distances of one law, of the k + r - 1 smallest k or more are drawn ones with the
probability of a hypergeometric law, which is that of k drawn distances under the r-th smallest
reference. Of training clips, two that are each other's nearest have one distance, not two, and
small distances are half as many as those of as many other clips: m is (clips - 1) / 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

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
#: Distance up to which a signal is a copy: what 16 bits, gains and float32 make of one is nearer.
RESOLUTION = 0.005
#: Share of the drawn signals that must be near to fail, above which the clips are too few.
TOO_FEW = 0.2
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
        drawn: number of drawn signals.
        median: of the reference's distances.
        very_near: the distance that `VERY_NEAR` of the reference is within.
        share: of the drawn signals that lie nearer than that.
        under_all: number of drawn signals that are nearer than any of the reference.
        copies: number of drawn signals within `RESOLUTION`.
        least: the fewest drawn signals nearer than any of the reference that fail; None where even
            all of them pass.
        p: probability of either number by chance: twice the smaller one's, or that of both where
            the reference is so small that they are one.
        p_nearer: that of the drawn distances' being the smaller ones altogether (Mann and Whitney);
            low for signals that are merely more typical than real ones, and so not in the verdict.
    """

    reference: str
    drawn: int
    median: float
    very_near: float
    share: float
    under_all: int
    copies: int
    least: int | None
    p: float
    p_nearer: float

    @property
    def verdict(self) -> str:
        """Failed; or undecided, where the clips are too few to fail; or passed."""
        if self.copies or self.p < CHANCE:
            return "failed"
        few = self.least is None or self.least > TOO_FEW * self.drawn
        return "undecided" if few else "passed"

    @property
    def passed(self) -> bool:
        return self.verdict == "passed"

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        those = "held-out clips" if self.reference == "held-out" else "training clips of each other"
        copies = f", {self.copies} within {RESOLUTION}: copies" if self.copies else ""
        return (
            f"{self.verdict}: {100 * self.share:.3g} % of the drawn signals lie nearer to a "
            f"training clip than the nearest {100 * VERY_NEAR:g} % of {those} do, "
            f"{self.under_all} nearer than all (p = {self.p:.2g}){copies}"
        )

    @property
    def power(self) -> str:
        """How many drawn signals must be near to fail, in words."""
        if self.least is None:
            return f"even {self.drawn} of {self.drawn} drawn signals nearer than all would pass"
        share = f"{self.least} of {self.drawn} drawn signals ({self.least / self.drawn:.1%})"
        return f"{share} nearer than all would fail, or one copy within {RESOLUTION}"


@dataclass(frozen=True)
class Memorisation:
    """Distances to the nearest training clip: of what was drawn (n,), and of the references.

    Attributes:
        drawn, held_out, training: distances, of which the last leave each clip itself out.
        neighbours: number of the training clip that each drawn signal (n,) is nearest to.
        partners: number of the other training clip that each training clip is nearest to.
    """

    drawn: Array
    held_out: Array
    training: Array
    neighbours: NDArray[np.int64]
    partners: NDArray[np.int64]

    def against(self, reference: str) -> Comparison:
        """The comparison with a reference of `REFERENCES`."""
        require_reference(reference)
        if reference == "held-out":
            return compared(reference, self.drawn, self.held_out)
        clips = np.arange(len(self.training))
        once = (self.partners[self.partners] != clips) | (clips < self.partners)
        count = max(1, (len(clips) - 1) // 2)
        return compared(reference, self.drawn, self.training[once], count=count)

    @property
    def p_alike(self) -> float:
        """Probability that held-out clips lie so much farther off than training clips by chance."""
        return _p_nearer(self.training, self.held_out)

    def closest(self, count: int) -> list[int]:
        """Numbers of the drawn signals that are nearest to a training clip, the nearest first."""
        return [int(index) for index in np.argsort(self.drawn, kind="stable")[:count]]

    def notes(self, reference: str) -> list[str]:
        """What a comparison can find, and what makes it weak or unfair, in lines."""
        found, count = self.against(reference), len(self.drawn)
        lines = [f"power: {found.power}"]
        if found.verdict == "undecided":
            near = max(1, int(TOO_FEW * count))
            clips = math.ceil(count * ((CHANCE / 2) ** (-1 / near) - 1))
            clips = clips if reference == "held-out" else 2 * clips + 1
            lines.append(f"note: too few clips: about {clips} {reference} ones would do")
        if copied := int((self.held_out <= RESOLUTION).sum()):
            lines.append(f"note: {copied} held-out clips are copies of training clips: remove them")
        if reference == "held-out" and self.p_alike < CHANCE:
            lines.append(
                "note: held-out clips lie farther from the training clips than these from each "
                f"other (p = {self.p_alike:.2g}), and so are of another kind; --against training "
                "is fairer"
            )
        return lines


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
    least, places = [], []
    for part, clips in enumerate((drawn, held_out, training)):
        progress_of = part_of(progress, part, 3)
        found = [
            nearest(
                clips.imprints(sample_rate, speed=speed),
                reference,
                itself=clips is training,
                progress=part_of(progress_of, at, len(speeds)),
            )
            for at, speed in enumerate(speeds)
        ]
        distances, which = torch.stack([distance for distance, _ in found]).min(0)
        least.append(distances.double().numpy())
        places.append(torch.stack([place for _, place in found]).gather(0, which[None])[0].numpy())
    near, held, others = least
    return Memorisation(
        near, held_out=held, training=others, neighbours=places[0], partners=places[2]
    )


def compared(
    reference: str, drawn: Array, distances: Array, *, count: int | None = None
) -> Comparison:
    """How drawn distances (n,) compare with those (m,) of a reference.

    Args:
        reference: its name.
        drawn, distances: to the nearest training clip.
        count: of distances that are independent; None for all.

    >>> far = np.linspace(0.5, 0.9, 200)
    >>> compared("training", far, far).passed, compared("training", far - 0.3, far).passed
    (True, False)
    """
    many, near = len(drawn), np.sort(distances)
    count = count or len(near)
    ranks = {1, max(1, round(VERY_NEAR * count))}
    under = {rank: int((drawn < near[rank - 1]).sum()) for rank in ranks}
    p = len(ranks) * min(float(p_of_count(k, rank, many, count)) for rank, k in under.items())
    failing = p_of_count(np.arange(1, many + 1), 1, many, count) < CHANCE / len(ranks)
    return Comparison(
        reference,
        many,
        median=float(np.median(distances)),
        very_near=float(near[max(ranks) - 1]),
        share=under[max(ranks)] / many,
        under_all=under[1],
        copies=int((drawn <= RESOLUTION).sum()),
        least=int(failing.argmax()) + 1 if failing.any() else None,
        p=min(1.0, p),
        p_nearer=_p_nearer(drawn, distances),
    )


def p_of_count(count: Any, rank: int, drawn: int, reference: int) -> Any:
    """Probability that `count` or more of `drawn` lie under the `rank`-th smallest of `reference`.

    Args:
        count: one, or an array of them, of which the result has the form.

    >>> round(float(p_of_count(1, 1, 1, 3)), 6)  # one of four alike is the smallest
    0.25
    """
    from scipy.stats import hypergeom

    return hypergeom.sf(np.subtract(count, 1), drawn + reference, drawn, np.add(count, rank - 1))


def _p_nearer(first: Array, second: Array) -> float:
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(first, second, alternative="less").pvalue)
