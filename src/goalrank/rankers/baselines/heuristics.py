"""Baselines that sort by a known value, or by counts over the training requests.

They have two uses: a trained ranker must be better than they are (the audit of
`goalrank.evaluation`), and as light models they propose lists for the training groups. Because they
are `Scorer`s they have log-probabilities. Counts are scaled to unit standard deviation, so that
draws are neither uniform nor deterministic.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from goalrank.nn import uniform
from goalrank.rankers.base import Scorer
from goalrank.requests import Batch, EncodedRequests

_RANDOM_SALT = 0x5EED_0F_0DE5


class Constant(Scorer):
    """A baseline that scores every candidate 0, so that all orders are equally good."""

    def scores(self, batch: Batch) -> Tensor:
        """Score 0 for every candidate: [B, N]."""
        return torch.zeros_like(batch.candidate_score)


class RandomOrder(Scorer):
    """A fixed random order per request, the same in any batch, from hash noise.

    Args:
        salt: seed; another number gives other orders.
    """

    def __init__(self, salt: int = _RANDOM_SALT) -> None:
        super().__init__()
        self.salt = salt

    def scores(self, batch: Batch) -> Tensor:
        """Noise of each candidate: [B, N] in (0, 1)."""
        return uniform(batch.key ^ self.salt, batch.candidates, 1)[:, 0]


class _Signed(Scorer):
    """A scorer whose order can be reversed."""

    def __init__(self, reverse: bool = False) -> None:
        super().__init__()
        self.reverse = reverse

    def _sign(self, scores: Tensor) -> Tensor:
        return -scores if self.reverse else scores


class InputOrder(_Signed):
    """The order of the candidates in the request (last first if `reverse`)."""

    def scores(self, batch: Batch) -> Tensor:
        """Position of each candidate, negated: [B, N]."""
        n = batch.candidates.shape[1]
        index = torch.arange(n, device=batch.candidates.device, dtype=batch.candidate_score.dtype)
        return self._sign(-index).expand(batch.size, n)


class RetrieverOrder(_Signed):
    """The order of the retriever's score, best first (worst first if `reverse`)."""

    def scores(self, batch: Batch) -> Tensor:
        """Retriever scores: [B, N]."""
        return self._sign(batch.candidate_score)


class FeatureOrder(_Signed):
    """The order of one candidate feature, largest first (smallest first if `reverse`).

    Args:
        index: column of `batch.candidate_features`, 0…F-1.
        reverse: smallest first.
    """

    def __init__(self, index: int, reverse: bool = False) -> None:
        super().__init__(reverse)
        self.index = index

    def scores(self, batch: Batch) -> Tensor:
        """Values of the feature: [B, N]."""
        return self._sign(batch.candidate_features[..., self.index])


class ItemStatistic(_Signed):
    """The order of one number per item id, counted on training requests, largest first.

    Args:
        values: [id rows] a number per `EntityTable.id_row`; items that are new since training share
            the number of their bucket's row.
        reverse: smallest first.
    """

    values: Tensor

    def __init__(self, values: Tensor, reverse: bool = False) -> None:
        super().__init__(reverse)
        self.register_buffer("values", values.to(torch.float32))

    def scores(self, batch: Batch) -> Tensor:
        """Statistic of each candidate: [B, N]."""
        return self._sign(self.values[batch.items.id_row[batch.candidates]])

    @classmethod
    def popularity(cls, train: EncodedRequests, *, reverse: bool = False) -> ItemStatistic:
        """Order items by the number of training users who consumed them.

        A user counts once per item: if it is in one of their histories, or was shown and got
        positive target feedback. Items unknown in training count 0. Values are log(1 + count),
        scaled to unit standard deviation.

        Args:
            train: training requests.
            reverse: smallest first.
        """
        rows = _id_rows(train)
        ids = train.items.id_row.numpy()
        owner, position = _new_history_events(train)
        request, shown, good = _shown(train)
        users = np.concatenate([train.user[owner], train.user[request[good]]]).astype(np.int64)
        items = np.concatenate([ids[train.history[position]], shown[good]])
        distinct = np.unique(users * rows + items)
        count = np.bincount(distinct % rows, minlength=rows)
        return cls(_unit_deviation(train, np.log1p(count), 0.0), reverse)

    @classmethod
    def feedback_rate(
        cls, train: EncodedRequests, *, strength: float = 10.0, reverse: bool = False
    ) -> ItemStatistic:
        """Order items by their smoothed rate of positive target feedback in training.

        (positives + strength · overall rate) / (shown + strength), the mean of a Beta posterior.
        Unknown items get the overall rate.

        Args:
            train: training requests.
            strength: weight of the prior, in exposures, above 0.
            reverse: smallest first.
        """
        rows = _id_rows(train)
        _, shown, good = _shown(train)
        seen = np.bincount(shown, minlength=rows)
        liked = np.bincount(shown[good], minlength=rows)
        overall = liked.sum() / max(seen.sum(), 1)
        rate = (liked + strength * overall) / (seen + strength)
        return cls(_unit_deviation(train, rate, overall), reverse)


class LastItemTransitions(Scorer):
    """The order of how often each candidate followed the last item of the history; 0 if never.

    Args:
        pairs: [P] ascending codes `previous id row · rows + next id row`.
        weights: [P] weight of each pair.
        rows: number of id rows.
    """

    pairs: Tensor
    weights: Tensor

    def __init__(self, pairs: Tensor, weights: Tensor, rows: int) -> None:
        super().__init__()
        self.rows = rows
        self.register_buffer("pairs", pairs.to(torch.int64))
        self.register_buffer("weights", weights.to(torch.float32))

    def scores(self, batch: Batch) -> Tensor:
        """Weight of the transition from the last item to each candidate: [B, N]."""
        if len(self.pairs) == 0:
            return torch.zeros_like(batch.candidate_score)
        steps = torch.arange(1, batch.history.shape[1] + 1, device=batch.history.device)
        end = (batch.history_mask * steps).amax(1, keepdim=True)  # [B, 1], 0 if no history
        last = batch.history.gather(1, (end - 1).clamp_min(0)).masked_fill(end == 0, 0)
        ids = batch.items.id_row
        code = ids[last] * self.rows + ids[batch.candidates]  # [B, N]
        at = torch.searchsorted(self.pairs, code).clamp_max(len(self.pairs) - 1)
        return torch.where(self.pairs[at] == code, self.weights[at], 0.0)

    @classmethod
    def fit(cls, train: EncodedRequests) -> LastItemTransitions:
        """Count transitions in the training histories; weights are log(1 + count).

        Each event counts once, although later histories of the same user repeat it.

        Args:
            train: training requests.
        """
        rows = _id_rows(train)
        ids = train.items.id_row.numpy()
        owner, position = _new_history_events(train)
        inner = (
            position > train.history_start[owner]
        )  # the first event of a history has no previous one
        current, previous = (
            ids[train.history[position[inner]]],
            ids[train.history[position[inner] - 1]],
        )
        known = _known(train)
        code = (previous * rows + current)[known[previous] & known[current]]
        pairs, count = np.unique(code, return_counts=True)
        return cls(torch.from_numpy(pairs), torch.from_numpy(np.log1p(count)), rows)


def _id_rows(train: EncodedRequests) -> int:
    return int(max(train.items.id_row.max(), train.items.bucket_row.max())) + 1


def _known(train: EncodedRequests) -> NDArray[np.bool_]:
    """[id rows] True for known ids, which are neither padding nor a shared bucket."""
    known = np.ones(_id_rows(train), np.bool_)
    known[0] = False
    known[train.items.bucket_row.numpy()] = False
    return known


def _unit_deviation(train: EncodedRequests, values: NDArray[np.float64], unknown: float) -> Tensor:
    """Scale values to unit standard deviation over known ids; others have the value `unknown`."""
    known = _known(train)
    values = np.where(known, values, unknown)
    deviation = float(values[known].std()) if known.any() else 0.0
    return torch.from_numpy((values - unknown) / (deviation or 1.0))


def _new_history_events(train: EncodedRequests) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
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


def _shown(
    train: EncodedRequests,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Request, id row and positive target feedback of all shown items."""
    request = np.repeat(np.arange(len(train)), np.diff(train.shown_start))
    row = train.candidates[train.candidate_start[request] + train.shown]
    good = np.zeros(len(request), np.bool_)
    if train.target >= 0:
        good = train.feedback[:, train.target] > 0
    return request, train.items.id_row.numpy()[row], good
