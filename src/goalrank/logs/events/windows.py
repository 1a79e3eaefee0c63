"""Windows: consecutive exposures of a user that form one request."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from goalrank.logs.events.arrays import Events, Ints, Longs, ragged_ranges
from goalrank.logs.events.request_points import RequestPoints
from goalrank.logs.options import ImportOptions

__all__ = ["cut_windows"]

_MINUTE = 60_000_000


@dataclass(frozen=True)
class Windows:
    """Windows of exposures.

    Attributes:
        points: B requests by time.
        rows: rows of the exposures, window by window, in the order shown.
        offsets: [B + 1] rows of window b are ``rows[offsets[b]:offsets[b + 1]]``.
        answers: the exposures with the feedback of repeats of an item merged into its first.
        repeats: exposures of an item that its window had shown before.
    """

    points: RequestPoints
    rows: Longs
    offsets: Longs
    answers: Events
    repeats: int


def cut_windows(
    shown: Events,
    options: ImportOptions,
    request_key: Longs | None = None,
    max_gap_minutes: float = 30.0,
) -> Windows:
    """Cut exposures into windows.

    Without request ids, a new window starts with a new user, after a pause longer than
    ``max_gap_minutes``, when the window holds ``max_list`` exposures, and when it has lasted
    ``max_span_minutes``; cuts depend on earlier rows only. With request ids, a window is a run of
    rows with one id. An item that is shown twice in a window is one candidate at its first place,
    with the largest of its feedback; see `_merge_repeats`. Windows with fewer than ``min_list``
    items are dropped.

    Args:
        shown: exposures, sorted by user and time.
        options: ``min_list``, ``max_list``, ``max_gap_minutes``, ``max_span_minutes``.
        request_key: [E] request ids as integers, or ``None``.
        max_gap_minutes: used where the options leave it open.

    Returns:
        B windows by time.
    """
    gap = options.max_gap_minutes if options.max_gap_minutes is not None else max_gap_minutes
    starts = (
        _starts(shown, options, gap) if request_key is None else _changes(shown.user, request_key)
    )
    sizes_all = np.diff(np.append(starts, len(shown)))
    window = np.repeat(np.arange(len(starts), dtype=np.int64), sizes_all)
    kept = _first_in_window(window, shown.item)
    merged, repeats = _merge_repeats(shown, window, kept), len(window) - len(kept)
    sizes = np.bincount(window[kept], minlength=len(starts))
    long_enough = sizes >= options.min_list
    kept = kept[long_enough[window[kept]]]
    starts, lengths = starts[long_enough], sizes[long_enough]
    order = np.lexsort((shown.user[starts], shown.time[starts]))
    begin = (np.cumsum(lengths) - lengths)[order]
    rows = kept[ragged_ranges(begin, lengths[order])]
    offsets = np.concatenate([[0], np.cumsum(lengths[order])]).astype(np.int64)
    starts = starts[order]
    last = rows[offsets[1:] - 1]
    return Windows(
        RequestPoints(shown.user[starts], shown.time[starts], shown.time[last], starts),
        rows,
        offsets,
        merged,
        repeats,
    )


def _changes(*columns: NDArray[np.integer]) -> Longs:
    """Rows where any column differs from the row before; the first row too."""
    new = np.zeros(len(columns[0]), dtype=bool)
    new[:1] = True
    for column in columns:
        new[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(new)


def _starts(shown: Events, options: ImportOptions, gap: float) -> Longs:
    """First rows of windows; all sessions advance together by one window per step."""
    count = len(shown)
    new = np.zeros(count, dtype=bool)
    new[_changes(shown.user)] = True
    new |= np.diff(shown.time, prepend=shown.time[:1]) > gap * _MINUTE
    session = np.flatnonzero(new)
    session_end = np.append(session[1:], count)[np.cumsum(new) - 1]
    late = shown.time + int(options.max_span_minutes * _MINUTE) + 1
    following = np.minimum(shown.rows_before(shown.user, late), session_end)
    following = np.minimum(following, np.arange(count) + options.max_list)
    found = [session]
    front = session
    while len(front):
        front = following[front]
        front = front[front < count]
        front = front[~new[front]]
        found.append(front)
    return np.sort(np.concatenate(found))


def _first_in_window(window: Longs, item: Ints) -> Longs:
    """Rows that show their item for the first time in their window, ascending."""
    key = window * (int(item.max(initial=0)) + 1) + item
    _, first = np.unique(key, return_index=True)
    return np.sort(first)


def _merge_repeats(shown: Events, window: Longs, kept: Longs) -> Events:
    """The exposures, where the first of an item in a window has the largest feedback of them all."""
    if len(kept) == len(window):
        return shown
    width = int(shown.item.max(initial=0)) + 1
    key = window * width + shown.item
    first = key[kept]
    order = np.argsort(first, kind="stable")
    place = order[np.searchsorted(first, key, sorter=order)]
    merged = {}
    for name, values in shown.values.items():
        best = np.full(len(kept), -np.inf, np.float32)
        np.maximum.at(best, place, values)
        merged[name] = values.copy()
        merged[name][kept] = best
    return replace(shown, values=merged)
