"""Rows made of several rankers, or of none that learns: how each is put together.

A composite is a function (row, *, options) → fitted rankers by label. Its keyword-only parameters are
the row's options.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch

from goalrank.encoders import has_boosting
from goalrank.errors import MissingExtraError
from goalrank.evaluation import audit_baselines
from goalrank.rankers import (
    DPP,
    MMR,
    BestOf,
    EvaluatorSort,
    LambdaMART,
    MultiGenerator,
    Ranker,
    ScoreMean,
    TreesOverScores,
    copies,
    diverse_members,
    member_lists,
    select_members,
    user_folds,
    with_score_feature,
)
from goalrank.studies.common.row_builder import Row

Rankers = dict[str, Ranker]
_MEMBERS = ("dnn", "prm", "generator")  # rankers from which the diverse generators are made
_SELECT = 1000  # validation requests on which CLIG chooses its generators


def best_of(row: Row, *, base: str = "prm", lists: int = 100, temperature: float = 1.0) -> Rankers:
    """Make a generator–evaluator: one generator draws lists, the shared reward picks one.

    Args:
        row: the row.
        base: the generator, a ranker's name.
        lists: number of draws per request.
        temperature: of the draws.
    """
    generator = row.member(base)
    reward = row.reward()
    ranker = BestOf(
        [generator], reward,
        lists=lists, temperature=float(temperature), seed=row.seed, slots=row.slots,
    )  # fmt: skip
    return {row.label: ranker}


def evaluator_sort(row: Row) -> Rankers:
    """Make a ranker that sorts candidates by the shared reward.

    Args:
        row: the row.
    """
    return {row.label: EvaluatorSort(row.reward())}


def mg_e(row: Row, *, k: int = 20) -> Rankers:
    """Make a multi-generator: k different generators from three trained rankers.

    Args:
        row: the row.
        k: number of generators.
    """
    rankers = [row.member(name) for name in _MEMBERS]
    members = diverse_members(k, rankers, row.parts.data.spec.candidate_features)
    return {row.label: MultiGenerator(rankers, members, row.reward(), row.seed)}


def clig(row: Row, *, k: int = 20, pool: int = 100, weight: float = 1.0) -> Rankers:
    """Make CLIG: k generators of a pool, chosen by reward and coverage on validation requests.

    Args:
        row: the row.
        k: number of generators.
        pool: number of generators to choose from.
        weight: of coverage.
    """
    rankers = [row.member(name) for name in _MEMBERS]
    every = diverse_members(pool, rankers, row.parts.data.spec.candidate_features)
    reward = row.reward()
    whole = MultiGenerator(rankers, every, reward, row.seed).eval()
    held = row.parts.data.validation
    some = held if len(held) <= _SELECT else held.take(torch.arange(_SELECT).numpy())
    lists, rewards = member_lists(whole, some, row.slots)
    chosen = select_members(lists, rewards, min(k, len(every)), float(weight))
    return {row.label: MultiGenerator(rankers, [every[i] for i in chosen], reward, row.seed)}


def mg_e_copies(
    row: Row,
    *,
    k: int = 3,
    base: str = "generator",
    width: int = 32,
    layers: int = 1,
    steps: int = 0,
) -> Rankers:
    """Make a multi-generator of k small generators that differ in their seed.

    Rows of smaller k share the first ones.

    Args:
        row: the row.
        k: number of copies.
        base: the ranker that is copied.
        width: of each copy.
        layers: of each copy.
        steps: of each copy's training; 0 takes the recipe's.
    """
    heads = row.config.ranker.heads or 2
    heads = heads if width % heads == 0 else 2
    small = {"width": width, "layers": layers, "heads": heads}
    ranker = row.config.ranker.model_copy(update=small)
    config = row.config.model_copy(update={"ranker": ranker})
    loop = config.training.model_copy(update={"steps": steps or config.training.steps})
    members = row.trained_copies(base, k, config, loop)
    return {row.label: copies(members, row.reward())}


def ensemble(row: Row, *, base: str = "prm", members: int = 3) -> Rankers:
    """Make an ensemble: one scorer trained from several seeds, ranking by the mean score.

    It is to a scorer what several reward models are to one.

    Args:
        row: the row.
        base: the scorer, a ranker's name.
        members: number of trainings.
    """
    return {row.label: ScoreMean(row.trained_copies(base, members))}


def trees_over(row: Row, *, base: str = "prm", folds: int = 3) -> Rankers:
    """Make boosted trees that see the score of a scorer, trained without the user's fold.

    Args:
        row: the row.
        base: the scorer, a ranker's name.
        folds: of users; as many trainings of the scorer.
    """
    if not has_boosting():  # said before the scorers are trained
        raise MissingExtraError("boosted trees", "trees")
    data = row.parts.data
    fold = user_folds(data.train, folds)
    members = []
    for k in range(folds):
        others = replace(
            data,
            key=f"{data.key} without users of fold {k} of {folds}",
            train=data.train.take(np.flatnonzero(fold != k)),
        )
        parts = replace(row.parts, data=others, _linear={})
        members.append(parts.supervised(row.config, base, row.config.training, row.seed))
    ranker = TreesOverScores(data.spec, members, LambdaMART(with_score_feature(data.spec)))
    start = time.perf_counter()
    ranker.fit_trees(data.train, data.validation, fold, row.slots, row.seed)
    row.parts.seconds["trees"] = time.perf_counter() - start
    return {row.label: ranker}


def mmr_learned(row: Row, *, base: str = "prm", trade: float = 0.7) -> Rankers:
    """Make MMR on the scores of a trained ranker.

    Args:
        row: the row.
        base: the scorer, a ranker's name.
        trade: λ of `MMR`.
    """
    return {row.label: MMR(row.member(base), trade=float(trade))}


def dpp_learned(row: Row, *, base: str = "prm", theta: float = 1.0) -> Rankers:
    """Make a DPP on the scores of a trained ranker.

    Args:
        row: the row.
        base: the scorer, a ranker's name.
        theta: θ of `DPP`.
    """
    return {row.label: DPP(row.member(base), theta=float(theta))}


def baselines(row: Row) -> Rankers:
    """Make every ranker without learning that the data allow, each under its own name.

    Args:
        row: the row.
    """
    data = row.parts.data
    return dict(audit_baselines(data.train, data.info.candidate_features))
