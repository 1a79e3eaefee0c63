"""The best of each channel, and their blend by quotas."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from goalrank.logs.events.arrays import Ints

__all__ = ["blend", "reciprocal_ranks", "top_items", "top_of_one"]

Floats = NDArray[np.float32]
_SOFTEN = 50.0  # ranks: how slowly a lower rank loses weight
_SURE = 0.5  # share of a channel's quota that it fills whatever the others say


def top_items(scores: Floats, count: int, barred: NDArray[np.bool_] | None = None) -> Ints:
    """[B, count] items by falling score (ties: lowest code); -1 where the score is -inf.

    Args:
        scores: [B, I]; -inf marks items that must not be retrieved.
        count: wanted items.
        barred: [B, I] items whose score counts as -inf.
    """
    size = scores.shape[1]
    falling = -scores
    if barred is not None:
        np.copyto(falling, np.inf, where=barred)
    if size > count:
        some = np.argpartition(falling, count - 1, axis=1)[:, :count]
    else:
        some = np.broadcast_to(np.arange(size), scores.shape)
    some = np.sort(some, axis=1)
    values = np.take_along_axis(falling, some, axis=1)
    order = np.argsort(values, axis=1, kind="stable")
    items = np.take_along_axis(some, order, axis=1).astype(np.int32)
    items[np.take_along_axis(values, order, axis=1) == np.inf] = -1
    if size < count:
        items = np.pad(items, ((0, 0), (0, count - size)), constant_values=-1)
    return items


def top_of_one(scores: Floats, seen: NDArray[np.bool_], count: int) -> Ints:
    """``top_items`` where all requests share one row of scores: sort once, then skip the seen.

    Args:
        scores: [I]; -inf marks items that must not be retrieved.
        seen: [B, I] items that a request must not get.
        count: wanted items.
    """
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] > -np.inf]
    out = _first_free(order[: 4 * count], seen, count)
    short = np.flatnonzero(out[:, -1] < 0)  # few have seen most of the top: only they look further
    if len(short) and len(order) > 4 * count:
        out[short] = _first_free(order, seen[short], count)
    return out


def _first_free(order: NDArray[np.int64], seen: NDArray[np.bool_], count: int) -> Ints:
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
    """Candidates from several channels: half by quota, half by consensus.

    Each channel's first ``count * quota / 2`` items are in. The other places go to the items
    with the largest sum over channels of quota / (50 + rank) (reciprocal rank fusion; Cormack,
    Clarke and Buettcher, SIGIR 2009), so an item that several channels bring goes first.

    Args:
        tops: [B, M] a channel, best first, -1 for nothing.
        quotas: a share a channel.
        count: N.
        items: all codes are below.
        forced: [B, P] items that come before all others (-1 for nothing).

    Returns:
        [B, N] items, -1 at the end of rows that ran out.
    """
    row = np.arange(len(tops[0]))[:, None]
    lists = list(tops) if forced is None else [*tops, forced]
    pool = np.concatenate(lists, axis=1)
    fused = np.zeros((len(pool), max(items, int(pool.max(initial=-1)) + 1) + 1), dtype=np.float32)
    total = sum(quotas)
    for top, quota in zip(tops, quotas):
        rank = np.arange(1, top.shape[1] + 1)
        gain = quota / total / (_SOFTEN + rank) + (rank <= count * quota / total * _SURE)
        fused[row, top] += gain.astype(np.float32)
    if forced is not None:
        fused[row, forced] += np.float32(len(tops) + 1)
    value = fused[row, pool]
    column = np.arange(pool.shape[1], dtype=np.float32)
    fused[row, pool] = column  # of the places that hold an item, one is remembered
    value[(fused[row, pool] != column) | (pool < 0)] = -np.inf
    best = top_items(value, count)
    chosen = np.take_along_axis(pool, np.maximum(best, 0).astype(np.int64), axis=1)
    return np.where(best >= 0, chosen, -1).astype(np.int32)


def reciprocal_ranks(top: Ints, items: int, candidates: Ints) -> Floats:
    """[B, N] 1 / rank of each candidate in its channel's list, 0 where it is not in it."""
    table = np.zeros((len(top), items + 1), dtype=np.float32)  # the last column takes the -1s
    values = (1.0 / np.arange(1, top.shape[1] + 1)).astype(np.float32)
    table[np.arange(len(top))[:, None], top] = values
    table[:, -1] = 0.0
    return np.take_along_axis(table, candidates.astype(np.int64) % (items + 1), axis=1)
