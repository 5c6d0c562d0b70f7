"""Numbers as text, about as fine as those of the column were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

#: Significant digits of every number, at least, and those that float64 holds.
LEAST, MOST = 6, 17


@dataclass(frozen=True)
class Digits:
    """How the numbers of a column are written.

    Attributes:
        decimals: after the decimal mark, at least; more where `LEAST` digits ask for them.
        exponent: they are written like 1.25e-03, with `decimals` in front of the e.
        mark: the decimal mark.

    >>> Digits(2).texts(np.array([12345.678, 1.5, -0.00021])).tobytes().split()
    [b'12345.68', b'1.50000', b'-0.000210000']
    """

    decimals: int
    exponent: bool = False
    mark: str = "."

    def texts(self, values: Array) -> Array:
        """Values (n,) as bytes, uint8, each with a line feed."""
        numbers = (values + 0.0).tolist()
        if self.exponent:
            text = f"%.{max(self.decimals, LEAST - 1)}e\n" * len(numbers) % tuple(numbers)
        else:
            text = self._fixed(values, numbers)
        return np.frombuffer(text.replace(".", self.mark).encode(), np.uint8)

    def _fixed(self, values: Array, numbers: list[float]) -> str:
        sizes = np.abs(values)
        with np.errstate(divide="ignore"):
            needed = LEAST - 1 - np.floor(np.log10(sizes))
        needed = np.where(sizes > 0, np.maximum(needed, self.decimals), self.decimals)
        if (needed == self.decimals).all():
            return f"%.{self.decimals}f\n" * len(numbers) % tuple(numbers)
        if needed.max() <= MOST:
            pairs = chain.from_iterable(zip(needed.astype(int).tolist(), numbers, strict=True))
            return "%.*f\n" * len(numbers) % tuple(pairs)
        # Far below one, zeros are no digits: an exponent is.
        return "".join(
            (f"%.{digits}f\n" if digits <= MOST else f"%.{LEAST - 1}e\n") % number
            for digits, number in zip(needed.astype(int).tolist(), numbers, strict=True)
        )


def digits_of(texts: Sequence[str], mark: str) -> Digits:
    """How to write changed numbers of a column that holds these: one decimal more than they have.

    >>> digits_of(["1,25", "-3", ""], ",")
    Digits(decimals=3, exponent=False, mark=',')
    """
    parts = [text.strip().lower().replace(mark, ".").partition("e") for text in texts]
    exponent = sum(bool(power) for _, _, power in parts) > len(parts) / 2
    decimals = max((len(number.partition(".")[2]) for number, _, _ in parts), default=0)
    whole = max((len(number.partition(".")[0].lstrip("+-0")) for number, _, _ in parts), default=0)
    most = MOST - 2 if exponent else max(MOST - 2 - whole, 0)
    return Digits(min(decimals + 1, most), exponent, mark)
