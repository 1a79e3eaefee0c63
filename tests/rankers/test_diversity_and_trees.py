"""MMR, DPP, trees, and the multi-generator: against answers worked out another way."""

from __future__ import annotations

import builtins
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from goalrank.errors import ConfigError, MissingExtraError
from goalrank.rankers import (
    DPP,
    MMR,
    EvaluatorSort,
    LambdaMART,
    LastItemTransitions,
    Member,
    MultiGenerator,
    RankerConfig,
    RetrieverOrder,
    TreesOverScores,
    XGBoost,
    build_ranker,
    copies,
    diverse_members,
    member_lists,
    ranker_options,
    select_members,
    user_folds,
    with_score_feature,
)
from goalrank.rankers.base import Scorer
from goalrank.rankers.similarity import candidate_similarity, standardised
from goalrank.requests import Batch, EncodedRequests
from goalrank.rewards import Reward
from tests.helpers import make_entities
from tests.rankers.kit import rich_columns, spec_of
from tests.rankers.planted import columns_of, one_hot, precision

TYPES = np.arange(12) % 3
KIND = torch.from_numpy(np.concatenate([[-1], TYPES, [-1, -1]]))


def twins() -> EncodedRequests:
    """The three best by score are of one type."""
    candidates = np.array([[1, 4, 7, 2, 3, 5]])
    score = np.array([[2.0, 1.9, 1.8, 1.0, 0.5, 0.0]])
    return columns_of(candidates, np.ones((1, 6)), one_hot(TYPES, 3), score=score)


@pytest.mark.parametrize("baseline", [MMR(trade=0.3), DPP(theta=0.5)])
def test_diversity_baselines_do_not_repeat_candidates(baseline):
    batch = twins().batch([0])
    assert KIND[batch.candidates[0, RetrieverOrder().rank(batch, 3)[0]]].tolist() == [0, 0, 0]
    assert sorted(KIND[batch.candidates[0, baseline.rank(batch, 3)[0]]].tolist()) == [0, 1, 2]


class ByPlace(Reward):
    """Twice a list's first place, and every later place: alone, the last candidate is best."""

    def forward(self, batch: Batch, lists: torch.Tensor) -> torch.Tensor:
        return lists.clamp_min(0).sum(-1).double() + lists[..., 0]


def test_the_evaluator_sorts_by_lists_of_one():
    batch = rich_columns(5, 6, seed=4).batch(slice(None))
    lists = EvaluatorSort(ByPlace()).rank(batch, 3)
    for b in range(batch.size):
        real = batch.candidate_mask[b].nonzero()[:, 0].tolist()
        assert lists[b][lists[b] >= 0].tolist() == real[::-1][:3]


def test_mmr_by_definition():
    columns = rich_columns(5, 6, seed=4)
    batch = columns.batch(slice(None))
    likeness = candidate_similarity(batch)
    relevance = standardised(batch.candidate_score, batch.candidate_mask)
    got = MMR(trade=0.6).rank(batch, 3)
    for b in range(batch.size):
        chosen: list[int] = []
        for _ in range(min(3, int(batch.candidate_mask[b].sum()))):
            value = {
                i: 0.6 * float(relevance[b, i])
                - 0.4 * max([float(likeness[b, i, j]) for j in chosen], default=0.0)
                for i in range(6)
                if batch.candidate_mask[b, i] and i not in chosen
            }
            chosen.append(max(value, key=value.__getitem__))
        assert got[b, : len(chosen)].tolist() == chosen


def test_dpp_is_the_greedy_determinant():
    columns = rich_columns(30, 8, seed=4)
    batch = columns.batch(slice(None))
    jitter, theta = 1e-3, 0.7
    s = candidate_similarity(batch).double() + jitter * torch.eye(8, dtype=torch.float64)
    q = (theta * standardised(batch.candidate_score, batch.candidate_mask).double() / 2).exp()
    kernel = q[:, :, None] * s * q[:, None, :]
    got = DPP(theta=theta, jitter=jitter).rank(batch, 5)
    for b in range(batch.size):
        chosen: list[int] = []
        for _ in range(min(5, int(batch.candidate_mask[b].sum()))):
            rest = [i for i in range(8) if batch.candidate_mask[b, i] and i not in chosen]
            grown = {i: float(kernel[b][[*chosen, i]][:, [*chosen, i]].det()) for i in rest}
            chosen.append(max(grown, key=grown.__getitem__))
        assert got[b, : len(chosen)].tolist() == chosen


def test_similarity_of_given_vectors_and_of_categories():
    columns = rich_columns(3, 4, seed=1)
    batch = columns.batch(slice(None))
    vectors = torch.nn.functional.one_hot(torch.arange(len(columns.items)) % 2, 2).float()
    parity = batch.candidates % 2
    want = (parity[:, :, None] == parity[:, None, :]).float()
    torch.testing.assert_close(candidate_similarity(batch, vectors), want)
    items = replace(columns.items, numeric=columns.items.numeric[:, :0])
    rows, weight = items.category, items.category_weight
    dense = torch.zeros(len(items), 7).scatter_add(1, rows, weight * (rows > 0))
    unit = torch.nn.functional.normalize(dense[batch.candidates], dim=-1)
    got = candidate_similarity(replace(batch, items=items))
    off = ~torch.eye(got.shape[1], dtype=torch.bool)
    torch.testing.assert_close(got[:, off], (unit @ unit.transpose(1, 2))[:, off])


def crossing_world(requests: int, seed: int) -> EncodedRequests:
    """Liked iff both features have one sign: no sort by a column finds it."""
    rng = np.random.default_rng(seed)
    candidates = np.stack([rng.permutation(12)[:6] + 1 for _ in range(requests)])
    features = rng.normal(size=(requests, 6, 2))
    relevance = (features[..., 0] * features[..., 1] > 0).astype(float)
    user = rng.integers(1, 11, requests)
    return columns_of(
        candidates, relevance, one_hot(TYPES, 3), features=features, user=user,
        score=features[..., 0],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "library"),
    [(LambdaMART, "lightgbm"), (XGBoost, "xgboost")],
    ids=["lightgbm", "xgboost"],
)
def test_trees_learn_what_no_sort_finds(kind, library):
    pytest.importorskip(library)
    train, test = crossing_world(300, 0), crossing_world(100, 1)
    ranker = kind(spec_of(train), trees=40, threads=1)
    assert precision(ranker, test, 2) < 0.65  # unfitted: the retriever's order
    ranker.fit_closed_form(train, test, 2, seed=0)
    assert precision(ranker, test, 2) > 0.9
    fresh = kind(spec_of(train), threads=1)
    fresh.load_state_dict(ranker.state_dict())
    batch = test.batch(slice(None))
    assert torch.equal(fresh.scores(batch), ranker.scores(batch))


def leaking_world(requests: int, seed: int) -> EncodedRequests:
    """Users' second requests show what they liked at their first; real taste is a noisy feature."""
    rng = np.random.default_rng(seed)
    half = requests // 2
    numeric = np.zeros((203, 0), np.float32)
    candidates = np.stack([rng.permutation(200)[:6] + 1 for _ in range(requests)])
    features = rng.normal(size=(requests, 6, 1))
    liked = (features[..., 0] + 0.7 * rng.normal(size=(requests, 6))).argmax(1)
    relevance = np.eye(6)[liked]
    before = rng.integers(1, 201, (requests, 2))
    target = candidates[np.arange(requests), liked]
    history = np.concatenate([before[:half], np.stack([before[:half, 1], target[:half]], 1)])
    user = np.tile(np.arange(half) + 1, 2)
    time = np.repeat([10**14, 2 * 10**14], half)
    hours = np.where(np.arange(requests)[:, None] < half, [[2.0, 1.0]], [[3e4, 2.7e4]])
    return columns_of(
        candidates, relevance, numeric, features=features, history=history, hours=hours,
        user=user, time=time, users=make_entities(half + 4),
    )  # fmt: skip


def test_validation_stops_the_trees():
    lightgbm = pytest.importorskip("lightgbm")
    train, test = leaking_world(300, 0), leaking_world(200, 1)
    grown = {}
    for patience, validation in ((1, test), (60, test), (1, None)):
        ranker = LambdaMART(
            spec_of(train), trees=400, learning_rate=0.02, patience=patience, threads=1
        )
        ranker.fit_closed_form(train, validation, 2, seed=0)
        text = ranker.text.numpy().tobytes().decode()
        grown[patience, validation is None] = lightgbm.Booster(model_str=text).num_trees()
    assert grown[1, False] < grown[60, False] < 400
    assert grown[1, True] == 300  # nothing says when to stop


def test_validation_stops_the_trees_of_xgboost(monkeypatch):
    """What is kept ends with the best tree, not with the ones that were tried after it."""
    xgboost = pytest.importorskip("xgboost")
    tried: list[Any] = []
    fit = xgboost.train

    def watched(*args: Any, **rest: Any) -> Any:
        tried.append(fit(*args, **rest))
        return tried[-1]

    monkeypatch.setattr(xgboost, "train", watched)
    train, test = leaking_world(300, 0), leaking_world(200, 1)
    grown = {}
    for patience, validation in ((1, test), (60, test), (1, None)):
        ranker = XGBoost(
            spec_of(train), trees=400, learning_rate=0.02, patience=patience, threads=1
        )
        ranker.fit_closed_form(train, validation, 2, seed=0)
        booster = xgboost.Booster()
        booster.load_model(bytearray(ranker.text.numpy().tobytes()))
        grown[patience, validation is None] = booster.num_boosted_rounds()
        if validation is not None:
            assert booster.num_boosted_rounds() == tried[-1].best_iteration + 1
            assert tried[-1].num_boosted_rounds() > booster.num_boosted_rounds()
    assert 0 < grown[1, False] < grown[60, False] < 400 - 60
    assert grown[1, True] == 300


@pytest.mark.parametrize(
    ("kind", "library"),
    [(LambdaMART, "lightgbm"), (XGBoost, "xgboost")],
    ids=["lightgbm", "xgboost"],
)
def test_cross_fitted_counts_do_not_leak(kind, library):
    """Counted on a user's own later history, links give the label away in training only."""
    pytest.importorskip(library)
    train, test = leaking_world(400, 0), leaking_world(200, 7)
    found = {}
    for folds in (1, 4):
        ranker = kind(spec_of(train), trees=30, folds=folds, threads=1)
        ranker.fit_closed_form(train, None, 1, seed=0)
        found[folds] = precision(ranker, test, 1)
    assert found[4] > found[1] + 0.05


@pytest.mark.parametrize(
    ("kind", "library", "extra"),
    [(LambdaMART, "lightgbm", "trees"), (XGBoost, "xgboost", "xgboost")],
    ids=["lightgbm", "xgboost"],
)
def test_trees_need_their_extra(monkeypatch, kind, library, extra):
    real = builtins.__import__

    def refuse(name: str, *rest: Any):
        if name == library:
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    data = crossing_world(10, 0)
    with pytest.raises(MissingExtraError, match=rf"goalrank\[{extra}\]"):
        kind(spec_of(data)).fit_closed_form(data, None, 2, seed=0)


class Remembered(Scorer):
    """Knows every label of the users it was trained on, and of others a noisy guess."""

    knows: torch.Tensor

    def __init__(self, knows: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("knows", torch.from_numpy(knows))

    def scores(self, batch: Batch) -> torch.Tensor:
        noise = torch.sin(1e4 * batch.candidate_features[..., 1] + batch.candidates)
        guess = batch.candidate_features[..., 0] + noise
        mine = torch.isin(batch.user, self.knows)[:, None]
        return torch.where(mine, 10 * batch.relevance, guess)


def test_trees_over_scores_learn_from_members_that_never_saw_the_user():
    """With scores of members that did, training says that the added feature is all."""
    pytest.importorskip("lightgbm")
    train, test = crossing_world(300, 0), crossing_world(100, 1)
    test = replace(test, user=test.user + 10, users=make_entities(24))
    fold, users = user_folds(train, 2), train.user.astype(np.int64)
    spec = spec_of(train)

    def reached(members: list[Scorer]) -> float:
        trees = LambdaMART(with_score_feature(spec), trees=40, threads=1)
        ranker = TreesOverScores(spec, members, trees)
        ranker.fit_trees(train, None, fold, 2, seed=0)
        return precision(ranker, test, 2)

    apart = [Remembered(users[fold != k]) for k in range(2)]
    assert reached(list(apart)) > 0.9
    assert reached([Remembered(users), Remembered(users)]) < 0.7


def test_trees_over_scores_do_not_see_a_members_scale():
    """Another level and scale per member, as of another training, changes nothing."""
    pytest.importorskip("lightgbm")
    train = crossing_world(200, 0)
    fold, users = user_folds(train, 2), train.user.astype(np.int64)

    class Scaled(Remembered):
        factor: float = 1.0

        def scores(self, batch: Batch) -> torch.Tensor:
            return self.factor * super().scores(batch) + 3 * self.factor

    found = []
    for factor in (1.0, 64.0):
        members = [Scaled(users[fold != k]) for k in range(2)]
        members[1].factor = factor
        trees = LambdaMART(with_score_feature(spec_of(train)), trees=20, threads=1)
        ranker = TreesOverScores(spec_of(train), members, trees)
        ranker.fit_trees(train, None, fold, 2, seed=0)
        found.append(ranker.trees.text)
    assert torch.equal(*found)


def test_folds_of_users_hold_requests():
    data = crossing_world(30, 0)
    assert user_folds(data, 3).tolist() == (data.user % 3).tolist()
    for folds in (-3, 0, 1, 50):
        with pytest.raises(ConfigError, match=r"remedy.*option: rankers\.options\.folds"):
            user_folds(data, folds)


class Distinct(Reward):
    """Number of distinct types in a list, and a little for the score of the first."""

    def forward(self, batch: Batch, lists: torch.Tensor) -> torch.Tensor:
        at = batch.candidates.gather(1, lists.clamp_min(0).flatten(1)).view(lists.shape)
        kinds = KIND[at].masked_fill(lists < 0, -1)
        seen = torch.stack([(kinds == k).any(-1) for k in range(3)], -1).sum(-1)
        first = batch.candidate_score.gather(1, lists[..., 0].clamp_min(0))
        return seen.float() + 0.01 * first


def test_more_generators_find_better_lists():
    data = crossing_world(100, 3)
    rankers = [RetrieverOrder(), build_ranker(spec_of(data), RankerConfig(name="dnn", width=16))]
    batch = data.batch(slice(None))
    means = []
    for k in (1, 3, 20, 100):
        members = diverse_members(k, rankers, 2)
        assert len(set(members)) == k
        multi = MultiGenerator(rankers, members, Distinct()).eval()
        with torch.no_grad():
            lists = multi.rank(batch, 3)
            alone = Distinct()(batch, multi.proposals(batch, 3)).amax(-1)
        worth = Distinct()(batch, lists.unsqueeze(1)).squeeze(1)
        torch.testing.assert_close(worth, alone)
        means.append(float(worth.mean()))
    assert means == sorted(means)
    assert means[2] > means[0] + 0.3
    with torch.no_grad():
        pair = copies(rankers, Distinct()).rank(batch, 3)
    assert pair.shape == (100, 3)


def test_members_must_name_a_ranker():
    with pytest.raises(ConfigError, match="member"):
        MultiGenerator([RetrieverOrder()], [Member("best", 1)], Distinct())
    with pytest.raises(ConfigError, match="member"):
        MultiGenerator([RetrieverOrder()], [], Distinct())
    with pytest.raises(ConfigError, match="option: k"):
        diverse_members(0, [], 2)


def test_clig_widens_coverage():
    """Members 0 and 1 say nearly the same good list; 2 says another that is as good but for 0.1."""
    lists = torch.tensor([[[0, 1, 2], [0, 1, 3], [5, 4, 6], [7, 8, 9]]]).repeat(4, 1, 1)
    rewards = torch.tensor([[1.0, 1.05, 0.9, -1.0]]).repeat(4, 1)
    assert select_members(lists, rewards, 2, weight=0.0, good=0.75)[0] == 1
    assert select_members(lists, rewards, 2, weight=1.0, good=0.75) == [1, 2]
    assert set(select_members(lists, rewards, 4)) == {0, 1, 2, 3}
    with pytest.raises(ConfigError, match="option: k"):
        select_members(lists, rewards, 5)


def test_member_lists_line_up_with_the_pool():
    data = crossing_world(30, 3)
    multi = MultiGenerator(
        [RetrieverOrder()], diverse_members(5, [RetrieverOrder()], 2), Distinct()
    )
    lists, rewards = member_lists(multi, data, 3, batch_size=7)
    pool = multi.pool(data.batch(slice(None)), 3)
    assert torch.equal(lists, pool.lists)
    assert torch.equal(rewards, pool.rewards)


def test_options_are_checked():
    spec = spec_of(crossing_world(3, 0))
    assert ranker_options("pier")["keep"] == 20
    ranker = build_ranker(spec, RankerConfig(name="mmr", options={"trade": 1}))
    assert isinstance(ranker, MMR)
    assert ranker.trade == 1
    with pytest.raises(ConfigError, match="did you mean 'trade'"):
        build_ranker(spec, RankerConfig(name="mmr", options={"trad": 0.5}))
    with pytest.raises(ConfigError, match="must be of type int"):
        build_ranker(spec, RankerConfig(name="pier", options={"keep": 2.5}))
    with pytest.raises(ConfigError, match="no option"):
        build_ranker(spec, RankerConfig(name="goalrank", options={"keep": 2}))
    with pytest.raises(ConfigError, match="tokens"):
        build_ranker(spec, RankerConfig(name="rankmixer", options={"tokens": 7}))


def test_links_survive_fewer_rows_than_the_encoder_has():
    """A part of training may reach fewer ids than the encoder knows; codes still line up."""
    data = crossing_world(40, 0)
    ranker = LambdaMART(replace(spec_of(data), item_ids=50))
    history = np.tile([1, 2], (40, 1))
    linked = columns_of(
        np.tile([2, 3], (40, 1)), np.ones((40, 2)), one_hot(TYPES, 3), history=history
    )
    ranker.features.fit(linked)
    batch = replace(linked, history=np.tile([3, 1], 40).astype(np.int32)).batch([0])
    want = LastItemTransitions.fit(linked).scores(batch)
    assert float(want[0, 0]) > 0
    assert torch.equal(ranker.features.links.scores(batch), want)


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        *((name, "attention_heads", n) for name in ("hstu", "sasrec") for n in (-1, 0, 3, 32)),
        ("rankmixer", "tokens", -4),
        *((name, "trees", 0) for name in ("lambdamart", "xgboost")),
        *((name, "leaves", 1) for name in ("lambdamart", "xgboost")),
        *((name, "patience", 0) for name in ("lambdamart", "xgboost")),
        *((name, "learning_rate", x) for name in ("lambdamart", "xgboost") for x in (-1.0, 0.0)),
        *((name, "learning_rate", float("nan")) for name in ("lambdamart", "xgboost")),
        ("lambdamart", "min_leaf", -1),
        ("xgboost", "min_weight", -0.5),
    ],
)
def test_options_out_of_their_range_are_refused_before_training(name, option, value):
    config = RankerConfig(name=name, width=16, heads=2, options={option: value})
    with pytest.raises(ConfigError, match=rf"{value}.*option: ranker\.options\.{option}"):
        build_ranker(spec_of(rich_columns(2, 7, seed=3)), config)
