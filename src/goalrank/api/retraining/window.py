"""Which requests a challenger learns from, and which it is judged on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from goalrank.api.retraining.settings import WindowSettings
from goalrank.wording import counted

Times = NDArray[np.datetime64]


@dataclass(frozen=True)
class Window:
    """R requests in order of time, cut in three.

    Attributes:
        known: first request that the champion was not trained on; 0 without a champion.
        start: first request of the window; those before are learnt from, the others judged on.
        end: R.
    """

    known: int
    start: int
    end: int

    def spans(self, times: Times, settings: WindowSettings) -> list[tuple[int, int]]:
        """New requests in spans of the window's length; the window itself is the last.

        A fault of one day is seen in that day, not in the mean over a week. Spans of fewer requests
        than a window must have are joined to a neighbour.

        Args:
            times: [R] as in `choose_window`.
            settings: of the window.

        Returns:
            First request, and request after the last, of each span.
        """
        step = np.timedelta64(round(settings.hours * 3600e6), "us")
        ends = [self.start]
        while ends[0] > self.known:
            cut = int(np.searchsorted(times, times[ends[0] - 1] - step, side="right"))
            cut = max(min(cut, ends[0] - settings.requests), self.known)
            ends.insert(0, self.known if cut - self.known < settings.requests else cut)
        return [*pairwise(ends), (self.start, self.end)]


def choose_window(
    times: Times, settings: WindowSettings, *, trained: datetime | None, judged: datetime | None
) -> Window | str:
    """Cut requests into those to learn from and those to judge on.

    Args:
        times: [R] ascending.
        settings: of the window.
        trained: time of the last request that the champion was trained on; None without one.
        judged: time of the last request that a version of the same settings was judged on; None
            without one.

    Returns:
        The window, or a sentence that says why there is not enough that is new.
    """
    end = len(times)
    known = _after(times, trained)
    fresh = end - _after(times, judged)
    if fresh < settings.requests:
        since = "" if judged is None else f" since {judged:%Y-%m-%d %H:%M}"
        return (
            f"{counted(fresh, 'new request')}{since}, and {settings.requests:,} are needed "
            f"(setting: window.requests)"
        )
    most = int(settings.most * (end - known))
    if most < settings.requests:
        return (
            f"{counted(end - known, 'request')} that the champion was not trained on; at most {most:,} may "
            f"be judged on, and {settings.requests:,} are needed (settings: window.most, "
            f"window.requests)"
        )
    span = np.timedelta64(round(settings.hours * 3600e6), "us")
    recent = end - int(np.searchsorted(times, times[-1] - span, side="left"))
    start = end - min(max(recent, settings.requests), most)
    start = int(np.searchsorted(times, times[start], side="left"))  # one moment is on one side
    if start <= known:
        return (
            f"all that is new, {counted(end - known, 'request')}, is of {str(times[-1])[:19]}, so nothing "
            f"is left to learn from"
        )
    return Window(known, start, end)


def _after(times: Times, moment: datetime | None) -> int:
    """Index of the first request after a moment."""
    if moment is None:
        return 0
    plain = np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "us")
    return int(np.searchsorted(times, plain, side="right"))
