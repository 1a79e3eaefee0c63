"""Split of requests into train, validation and test by time."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from goalrank.logs.events.request_points import RequestPoints

__all__ = ["DROPPED", "TEST", "TRAIN", "VALIDATION", "split_points"]

TRAIN, VALIDATION, TEST = 0, 1, 2
DROPPED = -1


def split_points(
    points: RequestPoints, by: Literal["time", "user"], fractions: tuple[float, float, float]
) -> NDArray[np.int8]:
    """Split requests into parts.

    ``time``: two moments cut all requests; requests of one moment stay together. A request whose
    feedback ends after its part is dropped, because the feedback would leak from the next part.
    ``user``: each user's requests are cut in order of time by the same shares (by the middle of a
    request's rank); no request is dropped.

    Args:
        points: B requests.
        by: ``time`` or ``user``.
        fractions: shares of train, validation and test; they sum to 1.

    Returns:
        [B]: 0 train, 1 validation, 2 test, -1 dropped.
    """
    first, second = fractions[0], fractions[0] + fractions[1]
    if by == "user":
        order = np.lexsort((points.time, points.user))
        user = points.user[order]
        start = np.searchsorted(user, user, side="left")
        size = np.searchsorted(user, user, side="right") - start
        share = np.empty(len(points))
        share[order] = (np.arange(len(user)) - start + 0.5) / np.maximum(size, 1)
        return (np.int8(0) + (share >= first) + (share >= second)).astype(np.int8)
    ordered = np.sort(points.time)
    cuts = [ordered[min(int(len(ordered) * f), len(ordered) - 1)] for f in (first, second)]
    if second >= 1.0:
        cuts[1] = np.iinfo(np.int64).max
    if first >= 1.0:
        cuts[0] = np.iinfo(np.int64).max
    part = np.searchsorted(np.array(cuts), points.time, side="right").astype(np.int8)
    ends = np.array([*cuts, np.iinfo(np.int64).max])
    part[points.end >= ends[part]] = DROPPED
    return part
