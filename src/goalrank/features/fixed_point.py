"""Sums in fixed point, which do not depend on the order in which rows are added."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_SUMMED", "ONE", "fixed_point"]

ONE = 1 << 20  # 20 fractional bits
MOST_SUMMED = 1e6  # sums of 8.8 million such values fit 64 bits


def fixed_point(values: NDArray[np.floating]) -> NDArray[np.int64]:
    """Values in units of 2^-20, rounded, so that sums do not depend on their order.

    Args:
        values: any shape, in [-1e6, 1e6].
    """
    return np.rint(values.astype(np.float64) * ONE).astype(np.int64)
