"""Channels and links learnt anew from a longer log than the one that was imported."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from goalrank.errors import ConfigError
from goalrank.logs.events.arrays import Codes, Events, Longs, row_starts, stable_hashes
from goalrank.logs.retrieval.channel import RetrievalChannel
from goalrank.logs.retrieval.channels import CHANNELS, ChannelInputs
from goalrank.logs.retrieval.item_to_item import ItemToItem
from goalrank.logs.retrieval.learnt import LearntRetrieval
from goalrank.logs.retrieval.refit_scoring import new_rows, worker_count

__all__ = ["LogRows", "refresh"]


@dataclass(frozen=True)
class LogRows:
    """Rows of a log, in any order.

    Attributes:
        users, items: ids by code.
        user, item: [E] codes.
        time: [E] microseconds.
        tie: [E] keys by which rows of one time are ordered; rows of one key stay as they are.
        consumed: [E] whether the row enters histories.
        liked: [E] whether it was liked.
    """

    users: pl.Series
    items: pl.Series
    user: NDArray[np.integer]
    item: NDArray[np.integer]
    time: Longs
    tie: NDArray[np.uint64]
    consumed: NDArray[np.bool_]
    liked: NDArray[np.bool_]

    def before(self, moment: int) -> LogRows:
        """Rows before a moment, in order of time.

        Args:
            moment: microseconds.
        """
        early = np.flatnonzero(self.time < moment)
        order = early[np.lexsort((self.tie[early], self.time[early]))]
        return self.only(order)

    def only(self, which: NDArray[Any]) -> LogRows:
        """Some of the rows.

        Args:
            which: [E] booleans, or numbers of rows.
        """
        return replace(self, **{name: getattr(self, name)[which] for name in _ROWS})


_ROWS = ("user", "item", "time", "tie", "consumed", "liked")


def refresh(
    learnt: LearntRetrieval,
    rows: LogRows,
    *,
    until: int,
    side: pl.DataFrame | None = None,
    seed: int = 0,
    threads: int = 0,
) -> LearntRetrieval:
    """What an import of the longer log would learn: its refits, those that follow, and a last one.

    Shares of the channels stay as they are. At the moment of the latest refit, and of the rows that
    were imported, this gives what the import learnt.

    Args:
        learnt: of the import.
        rows: of the log from its begin, also after the import.
        until: microseconds of the last refit; rows before it are learnt.
        side: side table of items with the columns of categories; None takes what `learnt` has.
        seed: as of the import.
        threads: worker threads; 0 uses all cores.

    Raises:
        ConfigError: a channel that cannot be kept, no refit is known or wanted, no row before
            `until`, or a side table without the categories.
    """
    if learnt.lacking or learnt.moment is None or until < learnt.moment:
        raise ConfigError(
            "retrieval cannot be learnt anew: it was learnt by a channel that cannot be kept, at a "
            "moment that is not known, or after the one that is asked for"
        )
    rows = rows.before(until)
    if not len(rows.time):
        raise ConfigError("there are no events to learn from; remedy: goalrank events replay")
    lacking = [] if side is None else [c for c in learnt.categories if c not in side.columns]
    if lacking:
        raise ConfigError(
            f"the side table of items lacks {', '.join(lacking)}, by which the import computed "
            f"features; remedy: the side table of the import, with later rows"
        )
    users, user = _coded(rows.users, rows.user, rows.time)
    items, item = _coded(rows.items, rows.item, rows.time)
    log, liked = _histories(rows, user, item, len(users))
    own = worker_count(threads)
    links = ItemToItem(
        log, len(items), vote_weight=_weights(liked, learnt.vote_weight), threads=own
    )
    inputs = ChannelInputs(
        log, len(items), len(users), confidence=_weights(liked, learnt.confidence), links=links,
        factors=learnt.factors, threads=own, seed=seed,
    )  # fmt: skip
    channels: list[RetrievalChannel] = [CHANNELS[name](inputs) for name in learnt.shares]
    learners = [each.advance for each in channels if each is not links]
    moments = _moments(learnt, np.sort(log.time), until)
    _refit(log, moments, users, items, [*learners, links.advance])
    arrays, _ = LearntRetrieval.arrays_of([links, *(c for c in channels if c is not links)])
    return replace(
        learnt, items=_described(items.ids, learnt, side), known=items.known_before(until),
        refits=moments, rows=len(log), arrays=arrays,
    )  # fmt: skip


def _coded(ids: pl.Series, code: NDArray[np.integer], time: Longs) -> tuple[Codes, Longs]:
    """Codes by first appearance, for rows in order of time: of the ids, and of the rows."""
    _, first, own = np.unique(code, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    seen = ids.gather(code[first[order]])
    return Codes(seen, stable_hashes(seen), time[first[order]]), rank[own]


def _histories(
    rows: LogRows, user: Longs, item: Longs, users: int
) -> tuple[Events, NDArray[np.bool_]]:
    """Consumed rows by user and time, and whether each was liked."""
    taken = np.flatnonzero(rows.consumed)
    taken = taken[np.argsort(user[taken], kind="stable")]  # in order of time as they are
    own = user[taken].astype(np.int32)
    log = Events(
        user=own, item=item[taken].astype(np.int32), time=rows.time[taken], values={},
        user_start=row_starts(own, users),
    )  # fmt: skip
    return log, rows.liked[taken]


def _weights(liked: NDArray[np.bool_], other: float) -> NDArray[np.float32]:
    return np.where(liked, 1.0, other).astype(np.float32)


def _moments(learnt: LearntRetrieval, ordered: Longs, until: int) -> tuple[int, ...]:
    """The refits so far, one each time the log has grown by the factor, and the last."""
    done = [moment for moment in learnt.refits if moment < until]
    size = int(np.searchsorted(ordered, learnt.refits[-1]))
    while done:
        size = max(int(size * learnt.growth), size + 1)
        if size >= len(ordered):
            break
        if done[-1] < (moment := int(ordered[size])) < until:
            done.append(moment)
    return (*done, until)


def _refit(
    log: Events,
    moments: tuple[int, ...],
    users: Codes,
    items: Codes,
    learners: list[Callable[[Longs, int, int], None]],
) -> None:
    """Have channels learn at each moment, as an import does."""
    learned = log.user_start[:-1].copy()
    with ThreadPoolExecutor(len(learners)) as pool:
        for moment in moments:
            known = items.known_before(moment), users.known_before(moment)
            if not all(known):  # whoever came first may have been forgotten since
                continue
            rows, learned = new_rows(log, learned, moment)
            for future in [pool.submit(learn, rows, *known) for learn in learners]:
                future.result()


def _described(ids: pl.Series, learnt: LearntRetrieval, side: pl.DataFrame | None) -> pl.DataFrame:
    """Items by code with their categories, and behind them those that only a side table has."""
    table = learnt.items if side is None else side.select("item_id", *learnt.categories)
    table = table.cast({"item_id": learnt.items["item_id"].dtype})
    items = pl.DataFrame({"item_id": ids.cast(learnt.items["item_id"].dtype)})
    own = items.join(table, on="item_id", how="left", maintain_order="left")
    more = table.join(items, on="item_id", how="anti", maintain_order="left")
    return pl.concat([own, more])
