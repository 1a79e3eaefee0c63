"""Point-in-time features of candidates, from rows strictly before the request.

There are two families. *Counted* features are exact up to the request: sums over all earlier rows
of the log. *Linked* features (item-to-item, affinity) combine the request's history with links
learned before the latest refit. Train, validation and test use the same definitions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from goalrank.logs.events.arrays import Codes, Events, Ints, Longs, ragged_ranges
from goalrank.logs.events.request_points import RequestPoints
from goalrank.logs.events.running_counts import RunningCounts
from goalrank.logs.events.time_index import index_by_time
from goalrank.logs.retrieval.channel import Chunk
from goalrank.logs.retrieval.sparse import load_sparse
from goalrank.logs.spill.buckets import chunk_ranges
from goalrank.logs.spill.folder import Spill

__all__ = ["Affinity", "CountedFeatures"]

Floats = NDArray[np.float32]
_STRENGTH = 10.0  # weight of the overall mean in an item's rate, in rows
_DAY = 86_400e6
_TOGETHER = 256  # requests whose histories are looked through at once


class CountedFeatures:
    """Features from exact counts of the rows before each request.

    - ``log_popularity``: log(1 + earlier rows of the item);
    - ``<kind>_rate``: (sum of the feedback type + 10 m) / (rows + 10), m its mean over all earlier
      rows;
    - ``item_age``: log(1 + days since the item's first row), ``item_idle``: log(1 + hours since
      its latest row); 0 for an item without rows;
    - ``user_item_count`` (``repeats``): log(1 + earlier rows of this user with this item).

    Args:
        log: rows to count (all shown exposures, or all interactions).
        items: number of items.
        rate_kinds: columns of ``log.values`` to average.
        repeats: whether candidates may be items of the user's earlier rows.
        shown_only: whether rows that were not shown are left out.
        spill: room for the rows in order of time.

    Attributes:
        times: [E] microseconds of the counted rows, ascending.
        names: of the features, in the order of `of`.
    """

    def __init__(
        self,
        log: Events,
        items: int,
        rate_kinds: tuple[str, ...],
        *,
        repeats: bool,
        shown_only: bool,
        spill: Spill,
    ) -> None:
        self._shown = log.shown if shown_only and log.carried is not None else None
        index = index_by_time(log, rate_kinds, self._shown, spill, "by-time")
        self.times = index.time
        self._counts = RunningCounts(index, items, rate_kinds)
        self._log, self._rate_kinds, self._repeats = log, rate_kinds, repeats
        rates = (f"{kind}_rate" for kind in rate_kinds)
        more = ("user_item_count",) if repeats else ()
        self.names = ("log_popularity", *rates, "item_age", "item_idle", *more)

    def of(self, points: RequestPoints, candidates: Ints) -> dict[str, Floats]:
        """Features of the candidates: name → [B, N].

        Args:
            points: B requests by time, none earlier than in the call before.
            candidates: [B, N] codes, -1 for none.
        """
        past, overall = self._counts.before(candidates, points.time)
        count = past.count.astype(np.float32)
        out = {"log_popularity": np.log1p(count)}
        for kind, total, everything in zip(self._rate_kinds, past.sums, overall.sums):
            mean = (everything / np.maximum(overall.count, 1))[:, None]
            rate = (total + _STRENGTH * mean) / (count + _STRENGTH)
            out[f"{kind}_rate"] = rate.astype(np.float32)
        some, now = past.count > 0, points.time[:, None]
        out["item_age"] = _log_span(now - past.first_time, some, _DAY)
        out["item_idle"] = _log_span(now - past.last_time, some, _DAY / 24)
        if self._repeats:
            pairs = [
                self._pair_counts(points.take(np.arange(p.start, p.stop)), candidates[p])
                for p in chunk_ranges(len(points), _TOGETHER)
            ]
            counted = np.concatenate([np.zeros((0, candidates.shape[1]), np.int64), *pairs])
            out["user_item_count"] = np.log1p(counted).astype(np.float32)
        return out

    def _pair_counts(self, points: RequestPoints, candidates: Ints) -> Longs:
        """Rows of each request's user with each candidate, strictly before the request: [B, N]."""
        log = self._log
        start, end = log.user_start[points.user], log.rows_before(points.user, points.time)
        rows = ragged_ranges(start, end - start)
        request = np.repeat(np.arange(len(points)), end - start)
        if self._shown is not None:
            shown = self._shown[rows]
            rows, request = rows[shown], request[shown]
        width = int(max(log.item[rows].max(initial=0), candidates.max(initial=0))) + 1
        keys = np.sort(request * width + log.item[rows])
        wanted = np.arange(len(points))[:, None] * width + candidates
        count = np.searchsorted(keys, wanted, "right") - np.searchsorted(keys, wanted, "left")
        return np.where(candidates >= 0, count, 0)


def _log_span(span: NDArray[np.int64], some: NDArray[np.bool_], unit: float) -> Floats:
    return np.log1p(np.where(some, span, 0) / unit).astype(np.float32)


class Affinity:
    """Affinity of a user's recent history to the categories (author, genre, tag) of items.

    With h the shares of the categories in the history (they sum to 1), the score of an item is the
    mean of h over the item's categories.

    Args:
        items: side table with ``item_id`` and ``column`` (a string or a list of strings).
        column: column of the category.
        codes: codes of items.
        depth: number of latest history items to use.
    """

    def __init__(self, items: pl.DataFrame, column: str, codes: Codes, depth: int) -> None:
        sparse = load_sparse()

        self.name = f"{column}_affinity"
        self._depth = depth
        table = items.select("item_id", category=pl.col(column))
        if isinstance(table.schema["category"], pl.List):
            table = table.explode("category")
        table = table.drop_nulls().with_columns(item=codes.encode(table.drop_nulls()["item_id"]))
        table = table.filter(pl.col("item") >= 0)
        category = table["category"].cast(pl.String).rank("dense").cast(pl.Int64).to_numpy() - 1
        item = table["item"].to_numpy()
        share = 1.0 / np.bincount(item, minlength=len(codes))[item]
        shape = (len(codes), int(category.max(initial=0)) + 1)
        self._belongs: Any = sparse.csr_array((share.astype(np.float32), (item, category)), shape)

    def score(self, chunk: Chunk) -> Floats:
        """Score all known items: [B, I], in [0, 1].

        Args:
            chunk: B requests.
        """
        sparse = load_sparse()

        request, item, _, _ = chunk.recent(self._depth)
        weight = 1.0 / np.maximum(np.bincount(request, minlength=len(chunk)), 1)[request]
        votes = sparse.csr_array(
            (weight.astype(np.float32), (request, item)), shape=(len(chunk), chunk.items)
        )
        belongs = self._belongs[: chunk.items]
        if belongs.shape[1] > 256:
            dense: Floats = (votes @ belongs @ belongs.T).toarray()
            return dense
        shares = np.zeros((chunk.size, belongs.shape[1]), np.float32)  # always the full chunk
        shares[: len(chunk)] = (votes @ belongs).toarray()
        out: Floats = (shares @ belongs.toarray().T)[: len(chunk)]
        return out
