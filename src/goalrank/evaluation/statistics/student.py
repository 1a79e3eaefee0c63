"""Student's t for any degrees of freedom, whole or not."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit


def t_quantile(level: float, degrees: ArrayLike) -> NDArray[np.float64]:
    """Quantile of Student's t.

    Args:
        level: in (0, 1).
        degrees: of freedom, above 0.
    """
    return np.asarray(stdtrit(np.asarray(degrees, dtype=np.float64), level), dtype=np.float64)


def t_tail(value: float, error: float, degrees: float) -> float:
    """Two-sided p of an estimate under "it is 0".

    Args:
        value: the estimate.
        error: its standard error; infinite gives 1. 0 says that all witnesses agree, and the p is
            that of the sign test: 2 in 2ⁿ for n of them.
        degrees: of freedom, above 0.
    """
    if np.isinf(error):
        return 1.0
    if error == 0:
        return 1.0 if value == 0 else float(2.0**-degrees)
    return float(2 * stdtr(degrees, -abs(value) / error))


def t_reach(value: float, error: float, degrees: float, level: float) -> float:
    """Half the width of an interval; infinite where too few witnesses agree to the last digit.

    Their standard error is 0, of which Student's t would make certainty: two users who both gained a
    click are no proof.

    Args:
        value: the estimate.
        error: its standard error.
        degrees: of freedom, above 0.
        level: of the interval, in (0, 1).
    """
    if error == 0 and t_tail(value, error, degrees) > 1 - level:
        return 0.0 if value == 0 else float("inf")
    return float(t_quantile((1 + level) / 2, degrees)) * error


def satterthwaite(variances: NDArray[np.float64], freedom: NDArray[np.int64]) -> float:
    """Degrees of freedom of a sum of independent variance estimates (Satterthwaite, 1946).

    Args:
        variances: [K] the estimates; where they are infinite or all 0, the least freedom is returned.
        freedom: [K] degrees of freedom of each.
    """
    if not np.isfinite(variances).all() or variances.sum() == 0:
        return float(freedom.min())
    return float(variances.sum() ** 2 / (variances**2 / freedom).sum())
