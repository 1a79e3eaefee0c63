"""Rows made of several rankers, or of none that learns: how each is put together.

A composite is a function (builder, row, config, seed, *, options) → fitted rankers by label. Its
keyword-only parameters are the row's options.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

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
from goalrank.rewards import Reward
from goalrank.studies.common.row_builder import RowBuilder
from goalrank.studies.common.row_specs import RowSpec
from goalrank.training import FitConfig, LoopConfig

Rankers = dict[str, Ranker]
_MEMBERS = ("dnn", "prm", "generator")  # rankers from which the diverse generators are made
_SELECT = 1000  # validation requests on which CLIG chooses its generators
_COPY_SEEDS = 10_000  # larger than any seed of a suite


def best_of(
    builder: RowBuilder,
    row: RowSpec,
    config: FitConfig,
    seed: int,
    *,
    base: str = "prm",
    lists: int = 100,
    temperature: float = 1.0,
) -> Rankers:
    """Make a generator–evaluator: one generator draws lists, the shared reward picks one.

    Args:
        builder: of the data set.
        row: the row.
        config: its settings.
        seed: of the training and of the draws.
        base: the generator, a ranker's name.
        lists: number of draws per request.
        temperature: of the draws.
    """
    generator = _member(builder, config, base, seed)
    reward = _reward(builder, row, seed)
    ranker = BestOf(
        [generator], reward,
        lists=lists, temperature=float(temperature), seed=seed, slots=config.ranker.slots,
    )  # fmt: skip
    return {row.label: ranker}


def evaluator_sort(builder: RowBuilder, row: RowSpec, config: FitConfig, seed: int) -> Rankers:
    """Make a ranker that sorts candidates by the shared reward.

    Args:
        builder: of the data set.
        row: the row.
        config: not used.
        seed: of the reward model.
    """
    return {row.label: EvaluatorSort(_reward(builder, row, seed))}


def mg_e(
    builder: RowBuilder, row: RowSpec, config: FitConfig, seed: int, *, k: int = 20
) -> Rankers:
    """Make a multi-generator: k different generators from three trained rankers.

    Args:
        builder: of the data set.
        row: the row.
        config: its settings.
        seed: of the training and of the draws.
        k: number of generators.
    """
    rankers = [_member(builder, config, name, seed) for name in _MEMBERS]
    members = diverse_members(k, rankers, builder.parts.data.spec.candidate_features)
    return {row.label: MultiGenerator(rankers, members, _reward(builder, row, seed), seed)}


def clig(
    builder: RowBuilder,
    row: RowSpec,
    config: FitConfig,
    seed: int,
    *,
    k: int = 20,
    pool: int = 100,
    weight: float = 1.0,
) -> Rankers:
    """Make CLIG: k generators of a pool, chosen by reward and coverage on validation requests.

    Args:
        builder: of the data set.
        row: the row.
        config: its settings.
        seed: of the training and of the draws.
        k: number of generators.
        pool: number of generators to choose from.
        weight: of coverage.
    """
    rankers = [_member(builder, config, name, seed) for name in _MEMBERS]
    every = diverse_members(pool, rankers, builder.parts.data.spec.candidate_features)
    reward = _reward(builder, row, seed)
    whole = MultiGenerator(rankers, every, reward, seed).eval()
    held = builder.parts.data.validation
    some = held if len(held) <= _SELECT else held.take(torch.arange(_SELECT).numpy())
    lists, rewards = member_lists(whole, some, config.ranker.slots)
    chosen = select_members(lists, rewards, min(k, len(every)), float(weight))
    return {row.label: MultiGenerator(rankers, [every[i] for i in chosen], reward, seed)}


def mg_e_copies(
    builder: RowBuilder,
    row: RowSpec,
    config: FitConfig,
    seed: int,
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
        builder: of the data set.
        row: the row.
        config: its settings.
        seed: the seeds of the copies are made from it.
        k: number of copies.
        base: the ranker that is copied.
        width: of each copy.
        layers: of each copy.
        steps: of each copy's training; 0 takes the recipe's.
    """
    heads = config.ranker.heads or 2
    heads = heads if width % heads == 0 else 2
    small = {"width": width, "layers": layers, "heads": heads}
    ranker = config.ranker.model_copy(update=small)
    config = config.model_copy(update={"ranker": ranker})
    loop = config.training.model_copy(update={"steps": steps or config.training.steps})
    members = _trained_copies(builder, config, base, loop, seed, k)
    return {row.label: copies(members, _reward(builder, row, seed))}


def ensemble(
    builder: RowBuilder,
    row: RowSpec,
    config: FitConfig,
    seed: int,
    *,
    base: str = "prm",
    members: int = 3,
) -> Rankers:
    """Make an ensemble: one scorer trained from several seeds, ranking by the mean score.

    It is to a scorer what several reward models are to one.

    Args:
        builder: of the data set.
        row: the row.
        config: its settings.
        seed: the seeds of the members are made from it.
        base: the scorer, a ranker's name.
        members: number of trainings.
    """
    trained = _trained_copies(builder, config, base, config.training, seed, members)
    return {row.label: ScoreMean(trained)}


def trees_over(
    builder: RowBuilder,
    row: RowSpec,
    config: FitConfig,
    seed: int,
    *,
    base: str = "prm",
    folds: int = 3,
) -> Rankers:
    """Make boosted trees that see the score of a scorer, trained without the user's fold.

    Args:
        builder: of the data set.
        row: the row.
        config: its settings.
        seed: of the trainings and of the trees.
        base: the scorer, a ranker's name.
        folds: of users; as many trainings of the scorer.
    """
    data = builder.parts.data
    fold = user_folds(data.train, folds)
    members = []
    for k in range(folds):
        others = replace(
            data,
            key=f"{data.key} without users of fold {k} of {folds}",
            train=data.train.take(np.flatnonzero(fold != k)),
        )
        parts = replace(builder.parts, data=others, _linear={})
        members.append(parts.supervised(config, base, config.training, seed))
    ranker = TreesOverScores(data.spec, members, LambdaMART(with_score_feature(data.spec)))
    ranker.fit_trees(data.train, data.validation, fold, config.ranker.slots, seed)
    return {row.label: ranker}


def mmr_learned(
    builder: RowBuilder,
    row: RowSpec,
    config: FitConfig,
    seed: int,
    *,
    base: str = "prm",
    trade: float = 0.7,
) -> Rankers:
    """Make MMR on the scores of a trained ranker.

    Args:
        builder: of the data set.
        row: the row.
        config: its settings.
        seed: of the training.
        base: the scorer, a ranker's name.
        trade: λ of `MMR`.
    """
    return {row.label: MMR(_member(builder, config, base, seed), trade=float(trade))}


def dpp_learned(
    builder: RowBuilder,
    row: RowSpec,
    config: FitConfig,
    seed: int,
    *,
    base: str = "prm",
    theta: float = 1.0,
) -> Rankers:
    """Make a DPP on the scores of a trained ranker.

    Args:
        builder: of the data set.
        row: the row.
        config: its settings.
        seed: of the training.
        base: the scorer, a ranker's name.
        theta: θ of `DPP`.
    """
    return {row.label: DPP(_member(builder, config, base, seed), theta=float(theta))}


def baselines(builder: RowBuilder, row: RowSpec, config: FitConfig, seed: int) -> Rankers:
    """Make every ranker without learning that the data allow, each under its own name.

    Args:
        builder: of the data set.
        row: not used.
        config: not used.
        seed: not used.
    """
    data = builder.parts.data
    return dict(audit_baselines(data.train, data.info.candidate_features))


def _reward(builder: RowBuilder, row: RowSpec, seed: int) -> Reward:
    return builder.parts.reward(builder.helpers(row), seed, row.bias)


def _member(builder: RowBuilder, config: FitConfig, name: str, seed: int) -> Ranker:
    """Train a generator that an evaluator chooses from; rows of other k use the same one."""
    kept = builder.parts.keep_members
    return builder.parts.supervised(config, name, config.training, seed, shared=kept)


def _trained_copies(
    builder: RowBuilder, config: FitConfig, base: str, loop: LoopConfig, seed: int, count: int
) -> list[Ranker]:
    """Train one ranker from several seeds; a smaller count gives the first of them."""
    seeds = (_COPY_SEEDS * (seed + 1) + i for i in range(count))
    return [builder.parts.supervised(config, base, loop, each) for each in seeds]
