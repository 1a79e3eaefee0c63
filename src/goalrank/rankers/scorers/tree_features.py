"""Features of candidates for gradient-boosted trees."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from goalrank.encoders import history_similarity
from goalrank.rankers.baselines.heuristics import ItemStatistic, LastItemTransitions
from goalrank.rankers.scorers.prm import initial_rank
from goalrank.rankers.similarity import standardised
from goalrank.requests import Batch, EncodedRequests, InputSpec

_LATEST = 10  # history events whose links are summed
_WIDEST = 32  # columns of side-table numbers taken


class TreeFeatures(nn.Module):
    """Features [B, N, F] of candidates that are known at the time of the request.

    Counts are made on the requests given to `fit`, which must not contain the scored request (see
    `LambdaMART` for how training ensures this). Features: the retriever's score (plain,
    standardised in the request, difference to the best) and rank, the candidate features of the
    table (plain and standardised), popularity and feedback rate of the item, links from the last
    item and from the latest ten, number and age of the candidate's events in the history, length
    and age of the history, number of candidates, numbers of the item and user side tables, and
    the similarity of the item's vectors to the history.

    Args:
        spec: shapes of the batches.
    """

    def __init__(self, spec: InputSpec) -> None:
        super().__init__()
        self.names = _names(spec)
        empty = torch.zeros(0, dtype=torch.int64)
        self.popularity = ItemStatistic(torch.zeros(spec.item_ids))
        self.rate = ItemStatistic(torch.zeros(spec.item_ids))
        self.links = LastItemTransitions(empty, torch.zeros(0), spec.item_ids)
        self.own = spec.candidate_features - spec.model_scores
        self.vectors = spec.item_vectors
        self.wide = (min(spec.item_numeric, _WIDEST), min(spec.user_numeric, _WIDEST))

    def fit(self, train: EncodedRequests) -> TreeFeatures:
        """Count popularity, rates and links.

        Args:
            train: requests to count on.

        Returns:
            This object.
        """
        self.popularity = ItemStatistic.popularity(train)
        self.rate = ItemStatistic.feedback_rate(train)
        links = LastItemTransitions.fit(train)
        # Codes use the encoder's number of rows, even if these requests contain fewer ids.
        rows = self.links.rows
        code = links.pairs // links.rows * rows + links.pairs % links.rows
        self.links = LastItemTransitions(code, links.weights, rows)
        return self

    def forward(self, batch: Batch) -> Tensor:
        """Compute the features [B, N, F] of a batch."""
        mask = batch.candidate_mask
        score = batch.candidate_score.float()
        best = score.masked_fill(~mask, -torch.inf).amax(-1, keepdim=True)
        plain = batch.candidate_features[..., : self.own].float()
        relative = [standardised(plain[..., f], mask) for f in range(plain.shape[-1])]
        columns = [
            score,
            standardised(score, mask),
            score - torch.where(best.isinf(), torch.zeros_like(best), best),
            initial_rank(batch).float(),
            *plain.unbind(-1),
            *relative,
            self.popularity.scores(batch),
            self.rate.scores(batch),
            self.links.scores(batch),
            *self._linked(batch),
            *_history_numbers(batch),
            mask.sum(-1, keepdim=True).expand_as(score).float(),
            *batch.items.numeric[batch.candidates][..., : self.wide[0]].unbind(-1),
            *batch.users.numeric[batch.user][:, None, : self.wide[1]]
            .expand(-1, score.shape[1], -1)
            .unbind(-1),
        ]
        if self.vectors:
            columns += history_similarity(batch, self.vectors).unbind(-1)
        return torch.stack(columns, -1)

    def _linked(self, batch: Batch) -> list[Tensor]:
        """Sum and maximum of the links from the latest events to each candidate."""
        zero = torch.zeros_like(batch.candidate_score)
        if len(self.links.pairs) == 0:
            return [zero, zero]
        length = batch.history_mask.sum(-1, keepdim=True)
        at = length - 1 - torch.arange(_LATEST, device=length.device)
        ok = at >= 0
        last = batch.history.gather(1, at.clamp_min(0)) * ok  # [B, 10]
        ids = batch.items.id_row
        code = ids[last][:, None, :] * self.links.rows + ids[batch.candidates][..., None]
        index = torch.searchsorted(self.links.pairs, code).clamp_max(len(self.links.pairs) - 1)
        hit = (self.links.pairs[index] == code) & ok[:, None, :]
        weight = torch.where(hit, self.links.weights[index], 0.0)  # [B, N, 10]
        return [weight.sum(-1), weight.amax(-1)]


def _names(spec: InputSpec) -> list[str]:
    plain = [f"candidate_{i}" for i in range(spec.candidate_features - spec.model_scores)]
    return [
        "score", "score_relative", "score_to_best", "initial_rank",
        *plain, *(f"{name}_relative" for name in plain),
        "popularity", "feedback_rate", "link_last", "link_sum", "link_max",
        "times_in_history", "age_in_history", "history_length", "history_age", "candidates",
        *(f"item_{i}" for i in range(min(spec.item_numeric, _WIDEST))),
        *(f"user_{i}" for i in range(min(spec.user_numeric, _WIDEST))),
        *(f"similarity_{i}" for i in range(len(spec.item_vectors))),
    ]  # fmt: skip


def _history_numbers(batch: Batch) -> list[Tensor]:
    """Count in the history, age of the latest such event (-1 if none), history length and age."""
    same = batch.candidates[:, :, None] == batch.history[:, None, :]
    same = same & batch.history_mask[:, None, :]
    age = torch.where(same, batch.history_age[:, None, :], torch.inf).amin(-1)
    length = batch.history_mask.sum(-1, keepdim=True).float()
    youngest = torch.where(batch.history_mask, batch.history_age, torch.inf).amin(-1, keepdim=True)
    shape = batch.candidate_score.shape
    return [
        same.sum(-1).float(),
        torch.where(age.isinf(), -torch.ones_like(age), age),
        length.expand(shape),
        torch.where(youngest.isinf(), -torch.ones_like(youngest), youngest).expand(shape),
    ]
