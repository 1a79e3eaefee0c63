"""Scores of a frozen scorer, computed once over the training requests."""

from __future__ import annotations

import torch
from torch import Tensor

from goalrank.rankers import Ranker, Scorer
from goalrank.requests import Batch, EncodedRequests


class CachedScores(Scorer):
    """A frozen scorer's scores, computed once over the training requests and then looked up.

    Args:
        scorer: a ranker that `scores_candidates`, in evaluation mode.
        columns: the training requests; batches must come from them.
    """

    def __init__(self, scorer: Ranker, columns: EncodedRequests, batch_size: int = 512) -> None:
        super().__init__()
        self.start = torch.from_numpy(columns.candidate_start)
        parts = []
        with torch.inference_mode():
            for batch in columns.batches(batch_size):
                parts.append(scorer.scores(batch)[batch.candidate_mask])
        self.flat = torch.cat(parts).clone() if parts else torch.zeros(0)

    def scores(self, batch: Batch) -> Tensor:
        """Look up scores [B, N] by the batch's `index`."""
        n = batch.candidates.shape[1]
        at = self.start[batch.index.cpu()][:, None] + torch.arange(n)
        at = at.clamp_max(len(self.flat) - 1).to(batch.candidates.device)
        return self.flat.to(at.device)[at]


def cache_scores(ranker: Ranker, columns: EncodedRequests, visits: int) -> Ranker:
    """Cache the scores of a light model that proposes lists for groups, where that saves work.

    Args:
        ranker: returned as it is where it makes lists instead of scoring candidates.
        columns: the training requests.
        visits: requests that training will see, repeats counted; below the number of requests a
            scorer is not cached, since it then works on fewer.
    """
    ranker = ranker.eval()
    if ranker.scores_candidates and visits >= len(columns):
        return CachedScores(ranker, columns)
    return ranker
