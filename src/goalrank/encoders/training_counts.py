"""What training requests say of items, and of one item after another, by id row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goalrank.requests import EncodedRequests

Longs = NDArray[np.int64]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

MOST_LINKS = 1_000_000  # that a bundle holds per fold
LATEST = 10  # history events whose links are summed
COUNTED = ("popularity", "feedback_rate", "link_last", "link_sum", "link_max")
"""What `TrainingCounts.of` gives."""
_TYPES = {"popularity": "float32", "rate": "float32", "pairs": "int64", "weights": "float32"}


@dataclass(frozen=True)
class TrainingCounts:
    """Popularity, feedback rate and links of items, counted on training requests.

    Attributes:
        popularity: [I] by id row, see `item_popularity`.
        rate: [I] by id row, see `feedback_rate`.
        pairs: [P] ascending codes `previous id row · I + next id row`, see `transitions`.
        weights: [P] weight of each pair.
    """

    popularity: Floats
    rate: Floats
    pairs: Longs
    weights: Floats

    @classmethod
    def fit(cls, train: EncodedRequests) -> TrainingCounts:
        """Count, and keep the million most frequent links: a bundle holds them.

        Args:
            train: requests to count on.
        """
        pairs, weights = transitions(train)
        if len(pairs) > MOST_LINKS:
            kept = np.sort(np.argsort(-weights, kind="stable")[:MOST_LINKS])
            pairs, weights = pairs[kept], weights[kept]
        popularity, rate = item_popularity(train), feedback_rate(train)
        return cls(
            popularity.astype(np.float32),
            rate.astype(np.float32),
            pairs,
            weights.astype(np.float32),
        )

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> TrainingCounts:
        """Make counts of the arrays that `arrays` gave.

        Raises:
            ValueError: other names, types or lengths, numbers that are not finite, or pairs that do
                not ascend from 0 to below I².
        """
        if {name: str(values.dtype) for name, values in arrays.items()} != _TYPES:
            raise ValueError(f"counts need arrays of {_TYPES}")
        counts = cls(**arrays)
        if any(values.ndim != 1 for values in arrays.values()) or not (
            len(counts.popularity) == len(counts.rate) and len(counts.pairs) == len(counts.weights)
        ):
            raise ValueError("counts have arrays of lengths that do not fit")
        if not all(np.isfinite(values).all() for values in arrays.values()):
            raise ValueError("counts hold a number that is not finite")
        edges = np.array([-1, len(counts.popularity) ** 2])
        if (np.diff(np.insert(edges, 1, counts.pairs)) <= 0).any():
            raise ValueError("links are not in order, or are of items that counts do not hold")
        return counts

    @property
    def cut(self) -> bool:
        """Whether links may have been left out: only the most frequent ones are kept."""
        return len(self.pairs) >= MOST_LINKS

    def of(self, items: Longs, latest: Longs) -> Floats:
        """What is known of items after histories: [M, 5], by `COUNTED`.

        Args:
            items: [M] id rows.
            latest: [M, E] id rows of the latest history events, the latest first; 0 where there is
                none.
        """
        links = self._links(items, latest)
        columns = [
            self.popularity[items], self.rate[items],
            links[:, 0], links.sum(-1), links.max(-1),
        ]  # fmt: skip
        return np.stack(columns, -1)

    def _links(self, items: Longs, latest: Longs) -> Floats:
        """Weight of the link from each latest event to each item: [M, E]."""
        if not len(self.pairs):
            return np.zeros(latest.shape, np.float32)
        code = latest * len(self.popularity) + items[:, None]
        at = np.minimum(np.searchsorted(self.pairs, code), len(self.pairs) - 1)
        weights: Floats = np.where(self.pairs[at] == code, self.weights[at], np.float32(0))
        return weights

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by name; `of_arrays` takes them."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def latest_events(columns: EncodedRequests) -> Longs:
    """Id rows of the latest events of each request's history, the latest first: [R, 10].

    Args:
        columns: encoded requests; 0 stands where a history, as models see it, is shorter.
    """
    length = np.minimum(np.diff(columns.history_start), columns.history_limit)
    back = np.arange(LATEST)
    real = back < length[:, None]
    at = np.where(real, columns.history_start[1:, None] - 1 - back, 0)
    if not len(columns.history):
        return np.zeros(at.shape, np.int64)
    ids = columns.items.id_row.numpy()
    return np.where(real, ids[columns.history[at]], 0).astype(np.int64)


def item_popularity(train: EncodedRequests) -> Doubles:
    """Number of training users who consumed each item: [I] by id row, log(1 + count).

    A user counts once per item: if it is in one of their histories, or was shown and got positive
    feedback of the target. Scaled to unit standard deviation over the known items; others have 0.

    Args:
        train: training requests.
    """
    rows, ids = id_rows(train), train.items.id_row.numpy()
    owner, position = _new_history_events(train)
    request, shown, good = _shown(train)
    users = np.concatenate([train.user[owner], train.user[request[good]]]).astype(np.int64)
    items = np.concatenate([ids[train.history[position]], shown[good]])
    distinct = np.unique(users * rows + items)
    count = np.bincount(distinct % rows, minlength=rows)
    return _unit_deviation(train, np.log1p(count), 0.0)


def feedback_rate(train: EncodedRequests, strength: float = 10.0) -> Doubles:
    """Smoothed rate of positive feedback of the target per item: [I] by id row.

    (positives + strength · overall rate) / (shown + strength), the mean of a Beta posterior, less
    the overall rate and scaled to unit standard deviation over the known items; others have 0.

    Args:
        train: training requests.
        strength: weight of the prior, in exposures, above 0.
    """
    rows = id_rows(train)
    _, shown, good = _shown(train)
    seen = np.bincount(shown, minlength=rows)
    liked = np.bincount(shown[good], minlength=rows)
    overall = liked.sum() / max(seen.sum(), 1)
    rate = (liked + strength * overall) / (seen + strength)
    return _unit_deviation(train, rate, float(overall))


def transitions(train: EncodedRequests) -> tuple[Longs, Doubles]:
    """How often each known item followed another in the training histories.

    Each event counts once, although later histories of the same user repeat it.

    Args:
        train: training requests.

    Returns:
        [P] ascending codes `previous id row · I + next id row`, and [P] weights log(1 + count).
    """
    rows, ids = id_rows(train), train.items.id_row.numpy()
    owner, position = _new_history_events(train)
    inner = position > train.history_start[owner]  # the first event has no previous one
    current = ids[train.history[position[inner]]]
    previous = ids[train.history[position[inner] - 1]]
    known = _known(train)
    code = (previous * rows + current)[known[previous] & known[current]]
    pairs, count = np.unique(code, return_counts=True)
    return pairs, np.log1p(count)


def id_rows(train: EncodedRequests) -> int:
    """Number I of id rows.

    Args:
        train: training requests.
    """
    return int(max(train.items.id_row.max(), train.items.bucket_row.max())) + 1


def _known(train: EncodedRequests) -> NDArray[np.bool_]:
    """[I] True for known ids, which are neither padding nor a shared bucket."""
    known = np.ones(id_rows(train), np.bool_)
    known[0] = False
    known[train.items.bucket_row.numpy()] = False
    return known


def _unit_deviation(train: EncodedRequests, values: Doubles, unknown: float) -> Doubles:
    """Values less `unknown`, scaled to unit standard deviation over known ids; others have 0."""
    known = _known(train)
    values = np.where(known, values, unknown)
    deviation = float(values[known].std()) if known.any() else 0.0
    return (values - unknown) / (deviation or 1.0)


def _new_history_events(train: EncodedRequests) -> tuple[Longs, Longs]:
    """Request and flat position of the history events that no earlier history of the user contains.

    Histories of one user overlap. An event is new if its time is not before the user's previous
    request, because that request's history ends strictly before it.
    """
    order = np.lexsort((train.time, train.user))
    user, time = train.user[order], train.time[order]
    since = np.full(len(train), np.iinfo(np.int64).min)
    same = user[1:] == user[:-1]
    since[order[1:][same]] = time[:-1][same]
    owner = np.repeat(np.arange(len(train)), np.diff(train.history_start))
    position = np.flatnonzero(train.history_time >= since[owner])
    return owner[position], position


def _shown(train: EncodedRequests) -> tuple[Longs, Longs, NDArray[np.bool_]]:
    """Request, id row and positive feedback of the target of all shown items."""
    request = np.repeat(np.arange(len(train)), np.diff(train.shown_start))
    row = train.candidates[train.candidate_start[request] + train.shown]
    good = np.zeros(len(request), np.bool_)
    if train.target >= 0:
        good = train.feedback[:, train.target] > 0
    return request, train.items.id_row.numpy()[row], good
