"""Top items of each channel, and their blend by quotas."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from goalrank.logs.events.arrays import Ints

__all__ = ["best_shared", "blend", "reciprocal_ranks", "top_items", "top_items_shared"]

Floats = NDArray[np.float32]
_RANK_OFFSET = 50.0  # k of reciprocal rank fusion
_GROUPS = 6  # groups of columns per item that is wanted
_WIDE = 12  # columns per item that is wanted from which groups pay
_GUARANTEED = 0.5  # share of a channel's quota that its first items always fill


def top_items(scores: Floats, count: int, excluded: NDArray[np.bool_] | None = None) -> Ints:
    """Items with the highest scores, best first (ties: lowest code first).

    Args:
        scores: [B, I]; -inf marks items that must not be retrieved.
        count: items per request.
        excluded: [B, I] items whose score counts as -inf.

    Returns:
        [B, count] codes; -1 where the score is -inf.
    """
    falling = -scores
    if excluded is not None:
        np.copyto(falling, np.inf, where=excluded)
    if scores.shape[1] < _WIDE * count:
        return _smallest(falling, count)
    return _smallest_of_many(falling, count)


def _smallest(falling: Floats, count: int) -> Ints:
    """Columns with the smallest values, smallest first; -1 where the value is inf."""
    rows, size = falling.shape
    if size > count:
        some = np.nonzero(_are_smallest(falling, count))[1].reshape(rows, count)
    else:
        some = np.broadcast_to(np.arange(size), falling.shape)
    values = np.take_along_axis(falling, some, axis=1)
    order = np.argsort(values, axis=1, kind="stable")
    items = np.take_along_axis(some, order, axis=1).astype(np.int32)
    items[~(np.take_along_axis(values, order, axis=1) < np.inf)] = -1  # NaN is no number to go by
    if size < count:
        items = np.pad(items, ((0, 0), (0, count - size)), constant_values=-1)
    return items


def _are_smallest(falling: Floats, count: int) -> NDArray[np.bool_]:
    """Which columns have the ``count`` smallest values of their row, the first of equal ones."""
    last = np.partition(falling, count - 1, axis=1)[:, count - 1 : count]
    if np.isnan(last).any():  # what is not a number is taken as a score of -inf
        return _are_smallest(np.where(np.isnan(falling), np.float32(np.inf), falling), count)
    chosen = falling <= last
    shared = np.flatnonzero(chosen.sum(axis=1) > count)
    if len(shared):
        same = falling[shared] == last[shared]
        room = count - (falling[shared] < last[shared]).sum(axis=1, keepdims=True)
        chosen[shared] &= ~same | (np.cumsum(same, axis=1, dtype=np.int32) <= room)
    return chosen


def _smallest_of_many(falling: Floats, count: int) -> Ints:
    """`_smallest` of wide rows, at half the time: most columns are ruled out by group minima.

    The ``count``-th smallest group minimum bounds the ``count``-th smallest value. Where several
    columns share the last place, `_smallest` decides, so that both always agree.
    """
    rows, size = falling.shape
    groups = size // (size // (_GROUPS * count))
    whole = size // groups * groups
    least = falling[:, :whole].reshape(rows, -1, groups).min(axis=1)
    least = np.concatenate([least, falling[:, whole:]], axis=1)
    bound = np.partition(least, count - 1, axis=1)[:, count - 1 : count]
    flat = np.flatnonzero((falling <= bound) & (falling < np.inf))
    row, column = np.divmod(flat, size)
    lengths = np.bincount(row, minlength=rows)
    width = max(int(lengths.max(initial=0)), count + 1)
    if width > size // 2 or np.isnan(bound).any():
        return _smallest(falling, count)
    place = np.arange(len(flat)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    items = np.full((rows, width), -1, np.int32)
    values = np.full((rows, width), np.inf, np.float32)
    items[row, place], values[row, place] = column, falling.ravel()[flat]
    order = np.argsort(values, axis=1, kind="stable")[:, : count + 1]
    chosen = np.take_along_axis(items, order[:, :count], axis=1)
    last = np.take_along_axis(values, order[:, count - 1 :], axis=1)
    shared = np.flatnonzero((last[:, 0] == last[:, 1]) & (last[:, 0] < np.inf))
    chosen[shared] = _smallest(falling[shared], count)
    return chosen


def top_items_shared(
    scores: Floats, seen: NDArray[np.bool_], count: int, best: Ints | None = None
) -> Ints:
    """`top_items` where all requests share one row of scores.

    The best few are found once; the row is sorted whole only where a user has seen most of them.

    Args:
        scores: [I]; -inf marks items that must not be retrieved.
        seen: [B, I] items that a request must not get.
        count: items per request.
        best: of `best_shared`, where it is known.

    Returns:
        [B, count] codes; -1 where no item is left.
    """
    best = best_shared(scores, count) if best is None else best
    out = _first_free(best[best >= 0], seen, count)
    short = np.flatnonzero(out[:, -1] < 0)  # users who have seen most of the top
    if len(short) and best[-1] >= 0:
        order = np.argsort(-scores, kind="stable")
        order = order[scores[order] > -np.inf]
        out[short] = _first_free(order, seen[short], count)
    return out


def best_shared(scores: Floats, count: int) -> Ints:
    """The items that `top_items_shared` looks at first: [4 count], -1 where there are fewer.

    Args:
        scores: [I]; -inf marks items that must not be retrieved.
        count: items per request.
    """
    best: Ints = top_items(scores[None], 4 * count)[0]
    return best


def _first_free(order: NDArray[np.integer], seen: NDArray[np.bool_], count: int) -> Ints:
    free = ~seen[:, order]
    rank = np.cumsum(free, axis=1, dtype=np.int32) - 1
    row, column = np.nonzero(free & (rank < count))
    out = np.full((len(seen), count), -1, dtype=np.int32)
    out[row, rank[row, column]] = order[column]
    return out


def blend(
    tops: Sequence[Ints],
    quotas: Sequence[float],
    count: int,
    items: int,
    forced: Ints | None = None,
) -> Ints:
    """Blend the items of several channels, half by quota and half by rank fusion.

    The first ``count * quota / 2`` items of each channel are always included. The other candidates
    are the items with the largest sum over channels of quota / (50 + rank) (reciprocal rank fusion;
    Cormack, Clarke and Buettcher, SIGIR 2009), which prefers items of several channels.

    Args:
        tops: [B, M] codes per channel, best first, -1 for none.
        quotas: a share per channel.
        count: N.
        items: number above all codes.
        forced: [B, P] items that come before all others, -1 for none.

    Returns:
        [B, N] codes, -1 at the end of rows with too few items.
    """
    row = np.arange(len(tops[0]))[:, None]
    lists = list(tops) if forced is None else [*tops, forced]
    pool = np.concatenate(lists, axis=1)
    fused = np.zeros((len(pool), max(items, int(pool.max(initial=-1)) + 1) + 1), dtype=np.float32)
    total = sum(quotas)
    for top, quota in zip(tops, quotas):
        rank = np.arange(1, top.shape[1] + 1)
        gain = quota / total / (_RANK_OFFSET + rank)
        gain = gain + (rank <= count * quota / total * _GUARANTEED)
        fused[row, top] += gain.astype(np.float32)
    if forced is not None:
        fused[row, forced] += np.float32(len(tops) + 1)
    value = fused[row, pool]
    column = np.arange(pool.shape[1], dtype=np.float32)
    fused[row, pool] = column  # of equal items one column is remembered
    value[(fused[row, pool] != column) | (pool < 0)] = -np.inf
    best = top_items(value, count)
    chosen = np.take_along_axis(pool, np.maximum(best, 0).astype(np.int64), axis=1)
    return np.where(best >= 0, chosen, -1).astype(np.int32)


def reciprocal_ranks(top: Ints, items: int, candidates: Ints) -> Floats:
    """Compute 1 / rank of each candidate in a channel's list: [B, N], 0 if it is not there.

    Args:
        top: [B, M] codes, best first, -1 for none.
        items: number above all codes.
        candidates: [B, N] codes, -1 for none.
    """
    table = np.zeros((len(top), items + 1), dtype=np.float32)  # the last column takes the -1s
    values = (1.0 / np.arange(1, top.shape[1] + 1)).astype(np.float32)
    table[np.arange(len(top))[:, None], top] = values
    table[:, -1] = 0.0
    return np.take_along_axis(table, candidates.astype(np.int64) % (items + 1), axis=1)
