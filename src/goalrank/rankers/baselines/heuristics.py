"""Baselines that sort by something known, or by counts over the past.

They serve twice: as what any trained ranker must beat (`goalrank.evaluation.audit_baselines`), and as
auxiliary policies whose lists join the training groups. Being `Scorer`s they have log-probabilities;
counts are brought to unit spread so that sampling from them is neither uniform nor frozen.
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
    """Every candidate scores 0: all orders are equally good."""

    def scores(self, batch: Batch) -> Tensor:
        return torch.zeros_like(batch.candidate_score)


class RandomOrder(Scorer):
    """Hash noise in (0, 1): one fixed random order a request, the same in any batch.

    Args:
        salt: another number gives other orders.
    """

    def __init__(self, salt: int = _RANDOM_SALT) -> None:
        super().__init__()
        self.salt = salt

    def scores(self, batch: Batch) -> Tensor:
        return uniform(batch.key ^ self.salt, batch.candidates, 1)[:, 0]


class _Signed(Scorer):
    """A scorer that can be turned upside down."""

    def __init__(self, reverse: bool = False) -> None:
        super().__init__()
        self.reverse = reverse

    def _sign(self, scores: Tensor) -> Tensor:
        return -scores if self.reverse else scores


class InputOrder(_Signed):
    """Candidates as they came (or last first if `reverse`)."""

    def scores(self, batch: Batch) -> Tensor:
        n = batch.candidates.shape[1]
        place = torch.arange(n, device=batch.candidates.device, dtype=batch.candidate_score.dtype)
        return self._sign(-place).expand(batch.size, n)


class RetrieverOrder(_Signed):
    """The retriever's score, best first (worst first if `reverse`)."""

    def scores(self, batch: Batch) -> Tensor:
        return self._sign(batch.candidate_score)


class FeatureOrder(_Signed):
    """One per-candidate feature, largest first (smallest first if `reverse`).

    Args:
        index: column of `batch.candidate_features`, 0…F-1.
        reverse: smallest first.
    """

    def __init__(self, index: int, reverse: bool = False) -> None:
        super().__init__(reverse)
        self.index = index

    def scores(self, batch: Batch) -> Tensor:
        return self._sign(batch.candidate_features[..., self.index])


class ItemStatistic(_Signed):
    """One number an item id, learned from the past, largest first.

    Args:
        values: [rows of ids] a number for each `EntityTable.id_row`; items new since training share
            the number of their bucket's row.
        reverse: smallest first.
    """

    values: Tensor

    def __init__(self, values: Tensor, reverse: bool = False) -> None:
        super().__init__(reverse)
        self.register_buffer("values", values.to(torch.float32))

    def scores(self, batch: Batch) -> Tensor:
        return self._sign(self.values[batch.items.id_row[batch.candidates]])

    @classmethod
    def popularity(cls, train: EncodedRequests, *, reverse: bool = False) -> ItemStatistic:
        """Order by how many training users consumed the item.

        A user counts once an item: if it is in one of their histories, or was shown and got positive
        target feedback. Items unknown in training count 0. Values are log1p counts at unit spread.
        """
        rows = _id_rows(train)
        ids = train.items.id_row.numpy()
        owner, position = _fresh_history(train)
        request, shown, good = _shown(train)
        users = np.concatenate([train.user[owner], train.user[request[good]]]).astype(np.int64)
        items = np.concatenate([ids[train.history[position]], shown[good]])
        distinct = np.unique(users * rows + items)
        count = np.bincount(distinct % rows, minlength=rows)
        return cls(_unit_spread(train, np.log1p(count), 0.0), reverse)

    @classmethod
    def feedback_rate(
        cls, train: EncodedRequests, *, strength: float = 10.0, reverse: bool = False
    ) -> ItemStatistic:
        """Order by the item's smoothed share of positive target feedback when shown in training.

        (positives + strength · overall rate) / (shown + strength): the mean of a Beta posterior whose
        prior weighs as much as `strength` showings. Unknown items get the overall rate.
        """
        rows = _id_rows(train)
        _, shown, good = _shown(train)
        seen = np.bincount(shown, minlength=rows)
        liked = np.bincount(shown[good], minlength=rows)
        overall = liked.sum() / max(seen.sum(), 1)
        rate = (liked + strength * overall) / (seen + strength)
        return cls(_unit_spread(train, rate, overall), reverse)


class LastItemTransitions(Scorer):
    """How often each candidate came right after the last item of the history; 0 if never.

    Args:
        pairs: [P] ascending codes `previous id row · rows + next id row`.
        weights: [P] a number for each pair.
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
        """log1p of how often one item followed another in the training histories.

        Each event counts once, although later histories of the same user repeat it.
        """
        rows = _id_rows(train)
        ids = train.items.id_row.numpy()
        owner, position = _fresh_history(train)
        inner = position > train.history_start[owner]  # the first of a history follows nothing
        here, before = ids[train.history[position[inner]]], ids[train.history[position[inner] - 1]]
        known = _known(train)
        code = (before * rows + here)[known[before] & known[here]]
        pairs, count = np.unique(code, return_counts=True)
        return cls(torch.from_numpy(pairs), torch.from_numpy(np.log1p(count)), rows)


def _id_rows(train: EncodedRequests) -> int:
    return int(max(train.items.id_row.max(), train.items.bucket_row.max())) + 1


def _known(train: EncodedRequests) -> NDArray[np.bool_]:
    """[rows of ids] True for ids known by name: neither padding nor a bucket shared by many."""
    known = np.ones(_id_rows(train), np.bool_)
    known[0] = False
    known[train.items.bucket_row.numpy()] = False
    return known


def _unit_spread(train: EncodedRequests, values: NDArray[np.float64], unknown: float) -> Tensor:
    """Values at unit spread over the known ids; padding and buckets get `unknown` in their place."""
    known = _known(train)
    values = np.where(known, values, unknown)
    spread = float(values[known].std()) if known.any() else 0.0
    return torch.from_numpy((values - unknown) / (spread or 1.0))


def _fresh_history(train: EncodedRequests) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Request and flat position of each history event not already in an earlier history of the user.

    Histories of one user overlap. An event is fresh if it came at or after the user's previous
    request, whose history ended strictly before that.
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
    """Request, id row, and whether the target feedback is positive, of everything shown."""
    request = np.repeat(np.arange(len(train)), np.diff(train.shown_start))
    row = train.candidates[train.candidate_start[request] + train.shown]
    good = np.zeros(len(request), np.bool_)
    if train.target >= 0:
        good = train.feedback[:, train.target] > 0
    return request, train.items.id_row.numpy()[row], good
