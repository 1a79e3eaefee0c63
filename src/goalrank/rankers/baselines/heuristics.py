"""Baselines that sort by a known value, or by counts over the training requests.

They have two uses: a trained ranker must be better than they are (the audit of
`goalrank.evaluation`), and as light models they propose lists for the training groups. Because they
are `Scorer`s they have log-probabilities. Counts are scaled to unit standard deviation, so that
draws are neither uniform nor deterministic.
"""

from __future__ import annotations

import torch
from torch import Tensor

from goalrank.encoders import feedback_rate, id_rows, item_popularity, transitions
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
        return cls(torch.from_numpy(item_popularity(train)), reverse)

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
        return cls(torch.from_numpy(feedback_rate(train, strength)), reverse)


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
        pairs, weights = transitions(train)
        return cls(torch.from_numpy(pairs), torch.from_numpy(weights), id_rows(train))
