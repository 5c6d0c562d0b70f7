"""Arithmetic on arrays of samples: levels, resampling, robust statistics, gaps, buffers.

It knows numpy and scipy, no files and no networks. Metrics of estimates are in `metrics`.
"""

from typing import Any

from numpy.typing import NDArray

#: Samples or readings; docstrings give shapes and units.
Array = NDArray[Any]
