"""What early stopping leaves undone: levels of slots, refitted on validation.

A model that is stopped early may know items well and the levels of slots badly. A list-level model
that learns these levels faster would then seem to know more of lists. So every model gets the
same few parameters on validation before it is compared: a scale of its logits and a shift, by slot
where it knows the slot (Platt scaling; Platt, 1999).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit

Floats = NDArray[np.float64]
_EPSILON = 1e-7
_RIDGE = 1e-5  # per slot and answer; holds the shifts of slots with next to no answers


@dataclass(frozen=True)
class Recalibration:
    """p → sigmoid(scale · logit p + shift of the slot).

    Attributes:
        scale: of the logits.
        shift: [S] of each slot.
    """

    scale: float
    shift: Floats

    def __call__(self, predicted: Floats) -> Floats:
        """Correct probabilities [R, S]; NaN stays."""
        p: Floats = expit(self.scale * _logit(predicted) + self.shift)
        return p


def fit_recalibration(
    predicted: Floats, feedback: Floats, slots: int, *, by_slot: bool
) -> Recalibration:
    """Fit scale and shifts by log loss.

    Args:
        predicted: [R, S'] probabilities; NaN at empty slots.
        feedback: [R, S'] in [0, 1]; NaN at empty slots.
        slots: S of the result, at least S'; shifts of slots that are not there are 0.
        by_slot: one shift per slot, or the same for all.
    """
    real = np.isfinite(feedback) & np.isfinite(predicted)
    slot = np.nonzero(real)[1] if by_slot else np.zeros(int(real.sum()), np.int64)
    x, y = _logit(predicted[real]), feedback[real]
    size = slots if by_slot else 1
    count = max(len(y), 1)

    def loss(parameters: Floats) -> tuple[float, Floats]:
        scale, shift = parameters[0], parameters[1:]
        z = scale * x + shift[slot]
        off = (expit(z) - y) / count
        away = np.concatenate([[scale - 1], shift])
        slope = np.concatenate([[off @ x], np.bincount(slot, off, size)]) + 2 * _RIDGE * away
        value = np.sum(np.logaddexp(0, z) - y * z) / count + _RIDGE * float(away @ away)
        return float(value), slope

    found = minimize(loss, np.concatenate([[1.0], np.zeros(size)]), jac=True, method="L-BFGS-B").x
    shift = found[1:] if by_slot else np.repeat(found[1:], slots)
    return Recalibration(float(found[0]), shift)


def _logit(p: Floats) -> Floats:
    z: Floats = logit(np.clip(p, _EPSILON, 1 - _EPSILON))
    return z
