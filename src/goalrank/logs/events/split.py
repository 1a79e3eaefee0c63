"""Train, validation and test, in that order of time."""

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
    """Which part each request belongs to: 0 train, 1 validation, 2 test, -1 dropped.

    ``time``: two moments cut all requests; requests of one moment stay together. A request whose
    feedback reaches past the end of its part is dropped, since its answer would be news from the
    next part. ``user``: each user's requests are cut in order by the same shares (the part of a
    request is where the middle of its own rank falls); no request is dropped.
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
        cuts[1] = ordered[-1] + 1
    if first >= 1.0:
        cuts[0] = ordered[-1] + 1
    part = np.searchsorted(np.array(cuts), points.time, side="right").astype(np.int8)
    ends = np.array([*cuts, np.iinfo(np.int64).max])
    part[points.end >= ends[part]] = DROPPED
    return part
