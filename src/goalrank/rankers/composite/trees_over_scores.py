"""Boosted trees that also see the scores of trained networks (stacking: Wolpert, 1992)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from goalrank.errors import ConfigError
from goalrank.rankers.base import Ranker, Scorer
from goalrank.rankers.composite.score_mean import ScoreMean
from goalrank.rankers.scorers.lambdamart import LambdaMART
from goalrank.rankers.similarity import standardised
from goalrank.requests import Batch, EncodedRequests, InputSpec

_BATCH = 256  # requests scored at once


def user_folds(columns: EncodedRequests, folds: int) -> NDArray[np.int64]:
    """Deal the users of requests out to folds: [R].

    Args:
        columns: R requests.
        folds: K, at least 2.

    Raises:
        ConfigError: a fold holds none of the requests, or all of them.
    """
    fold = columns.user.astype(np.int64) % max(folds, 1)
    empty = folds - len(np.unique(fold))
    if empty > 0 or folds < 2:
        raise ConfigError(
            f"{folds} folds of users, {max(empty, 0)} of them without training requests; remedy: at "
            f"least 2 folds, and fewer than there are users (option: rankers.options.folds)"
        )
    return fold


class TreesOverScores(Scorer):
    """LambdaMART with one feature more: the score of a network that never saw the user.

    Scores are standardised in each request.

    Member k is trained on the requests of all users but fold k's. A training request gets the score
    of its own fold's member, so that no label of a user reaches the score that the trees learn
    from; every other request gets the mean score of all members.

    Args:
        spec: shapes of the batches, without the added feature.
        members: trained scorers, one per fold.
        trees: as `LambdaMART`, made for the spec `with_score_feature(spec)`.

    Raises:
        ConfigError: no member, or one that does not score candidates.
    """

    def __init__(self, spec: InputSpec, members: Sequence[Ranker], trees: LambdaMART) -> None:
        super().__init__()
        self.place = spec.candidate_features - spec.model_scores
        self.mean = ScoreMean(members).requires_grad_(False)
        self.trees = trees

    def scores(self, batch: Batch) -> Tensor:
        """Score the candidates by the trees: [B, N]."""
        column = request_scores(self.mean, batch)[..., None]
        features = batch.candidate_features
        parts = [features[..., : self.place], column, features[..., self.place :]]
        out: Tensor = self.trees.scores(replace(batch, candidate_features=torch.cat(parts, -1)))
        return out

    def fit_trees(
        self,
        train: EncodedRequests,
        validation: EncodedRequests | None,
        fold: NDArray[np.int64],
        slots: int,
        seed: int,
    ) -> None:
        """Fit the trees on what the members, already trained, say.

        Args:
            train: R training requests.
            validation: requests for early stopping, or None.
            fold: [R] fold of each training request, as the members were trained.
            slots: L of NDCG@L.
            seed: of LightGBM.
        """
        own = np.zeros(len(train.candidates), np.float32)
        fold_of_candidate = np.repeat(fold, np.diff(train.candidate_start))
        for k, member in enumerate(self.mean.members):
            mine = np.flatnonzero(fold == k)
            own[fold_of_candidate == k] = flat_scores(cast(Ranker, member), train.take(mine))
        held = None
        if validation is not None:
            held = self._with_feature(validation, flat_scores(self.mean, validation))
        self.trees.fit_closed_form(self._with_feature(train, own), held, slots, seed)

    def _with_feature(
        self, columns: EncodedRequests, score: NDArray[np.float32]
    ) -> EncodedRequests:
        """The same requests with the score [C] after the candidate features of the table."""
        features = np.insert(columns.candidate_features, self.place, score, 1)
        return replace(columns, candidate_features=features)


def with_score_feature(spec: InputSpec) -> InputSpec:
    """Make the shapes of batches that hold one candidate feature more.

    Args:
        spec: without it.
    """
    return replace(spec, candidate_features=spec.candidate_features + 1)


def request_scores(ranker: Ranker, batch: Batch) -> Tensor:
    """Scores [B, N] with mean 0 and deviation 1 in each request.

    The level and scale of a network's scores differ from training to training, and those of a mean
    over several are others again; trees would take that for a difference of candidates.

    Args:
        ranker: a scorer.
        batch: the requests.
    """
    return standardised(ranker.scores(batch).float(), batch.candidate_mask)


@torch.no_grad()
def flat_scores(ranker: Ranker, columns: EncodedRequests) -> NDArray[np.float32]:
    """Scores as of `request_scores`, request after request: [C].

    Args:
        ranker: a scorer.
        columns: the requests.
    """
    parts = [np.zeros(0, np.float32)]
    for batch in columns.batches(_BATCH):
        parts.append(request_scores(ranker, batch)[batch.candidate_mask].numpy())
    return np.concatenate(parts)
