"""Evaluations: planted answers, exclusions, protocols, and faults."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from goalrank.errors import ConfigError, DataError, GoalRankError
from goalrank.evaluation import evaluate
from goalrank.rankers import Constant, RandomOrder, Ranker, RetrieverOrder, Scorer
from tests.helpers import make_columns


class Oracle(Scorer):
    def scores(self, batch):
        return batch.relevance


class Blind(Scorer):
    def scores(self, batch):
        return torch.full_like(batch.candidate_score, torch.nan)


SHAPES = {
    "all": lambda lists, batch: batch.candidate_mask.long().argsort(dim=1, descending=True),
    "one": lambda lists, batch: lists[:, :1],
    "none": lambda lists, batch: lists[:, :0],
    "fewer": lambda lists, batch: lists[1:],
    "float": lambda lists, batch: lists.float(),
    "ids": lambda lists, batch: batch.candidates.gather(1, lists) + 1000,
    "plain": lambda lists, batch: lists.tolist(),
}


class Emitter(Ranker):
    """Emits the lists of a scorer, or a broken one."""

    def __init__(self, scorer, break_=None):
        super().__init__()
        self.scorer, self.break_ = scorer, break_

    def rank(self, batch, slots):
        lists = self.scorer.rank(batch, slots)
        if self.break_ in SHAPES:
            return SHAPES[self.break_](lists, batch)
        if self.break_ == "repeat":
            lists[:, 1] = lists[:, 0]
        if self.break_ == "mask":
            lists[:, 0] = (~batch.candidate_mask).float().argmax(1)
        return lists

    def encode(self, batch):
        raise NotImplementedError

    def best(self, state, batch, slots):
        raise NotImplementedError

    def draw(self, state, batch, lists, slots, rng, temperature=1.0):
        raise NotImplementedError

    def list_log_prob(self, state, batch, lists, temperature=1.0):
        raise NotImplementedError


def test_oracle_gets_one_and_exclusions_are_counted():
    columns = make_columns(60)
    result = evaluate({"oracle": Oracle()}, columns, slots=3, bootstrap=50)
    liked = [float(columns.batch([r]).relevance.sum()) for r in range(60)]
    assert result.excluded == sum(v == 0 for v in liked) > 0
    assert result.n == 60 - result.excluded
    assert result.rows.tolist() == [r for r in range(60) if liked[r] > 0]
    for metric in ("ndcg", "recall", "hit_rate", "map", "auc"):
        assert result.interval("oracle", metric).mean == pytest.approx(1.0)


def test_emitted_lists_equal_dense_scores_without_ties_and_have_no_auc():
    columns = make_columns(50)
    retriever = RetrieverOrder()
    result = evaluate({"dense": retriever, "lists": Emitter(retriever)}, columns, slots=3)
    for metric in ("ndcg@3", "recall@3", "hit_rate@3", "map@3", "f1@3"):
        np.testing.assert_allclose(result.values["dense"][metric], result.values["lists"][metric])
    assert "auc" in result.values["dense"]
    assert "auc" not in result.values["lists"]
    with pytest.raises(ConfigError, match="auc"):
        result.interval("lists", "auc")


def test_batch_size_changes_nothing():
    columns = make_columns(33)
    a, b = (
        evaluate({"r": RandomOrder(), "c": Constant()}, columns, batch_size=size, bootstrap=20)
        for size in (4, 100)
    )
    for name in a.values:
        for metric in a.values[name]:
            np.testing.assert_allclose(a.values[name][metric], b.values[name][metric])


def test_random_agrees_with_constant_on_many_requests():
    columns = make_columns(3000, users=400)
    result = evaluate({"random": RandomOrder(), "constant": Constant()}, columns, slots=3)
    gap = result.paired("random", "constant", "ndcg")
    assert gap.low < 0 < gap.high
    assert abs(gap.mean) < 0.02


def test_exposed_protocol_orders_the_shown_alone():
    columns = make_columns(40, 12, shown=3, protocol="exposed")
    seen = []

    class Spy(Scorer):
        def scores(self, batch):
            seen.append((batch.candidate_mask, batch.observed))
            return torch.zeros_like(batch.candidate_score)

    result = evaluate({"spy": Spy()}, columns, slots=3)
    assert all(torch.equal(mask, observed) for mask, observed in seen)
    # With at most three candidates in three slots every positive is found.
    assert result.interval("spy", "recall").mean == pytest.approx(1.0)
    whole = evaluate({"spy": Spy()}, replace(columns, protocol="retrieved"), slots=3)
    assert whole.interval("spy", "recall").mean < 0.9


def test_more_slots_than_candidates():
    result = evaluate({"c": Constant(), "l": Emitter(Constant())}, make_columns(20, 4), slots=9)
    for name in ("c", "l"):
        assert result.interval(name, "recall").mean == pytest.approx(1.0)


def test_training_mode_is_restored_and_progress_called():
    ranker = Oracle().train()
    calls = []
    result = evaluate(
        {"o": ranker}, make_columns(20), batch_size=8, progress=lambda *a: calls.append(a)
    )
    assert ranker.training
    assert calls[-1] == (result.n, result.n)
    assert result.seconds["o"] > 0


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"metrics": ["mrr"]}, ConfigError, "mrr"),
        ({"slots": 0}, ConfigError, "slots"),
        ({"bootstrap": 0}, ConfigError, "bootstrap"),
        ({"unit": "item"}, ConfigError, "item"),
    ],
)
def test_faults_of_options(options, error, words):
    with pytest.raises(error, match=words):
        evaluate({"o": Oracle()}, make_columns(10), **options)


def test_faults_of_data_and_rankers():
    columns = make_columns(10)
    with pytest.raises(DataError, match="target"):
        evaluate({"o": Oracle()}, replace(columns, target=-1))
    with pytest.raises(DataError, match="click"):
        evaluate({"o": Oracle()}, replace(columns, feedback=columns.feedback * 0))
    with pytest.raises(GoalRankError, match=r"'blind'.*NaN"):
        evaluate({"blind": Blind()}, columns)
    for fault in ("repeat", "mask"):
        with pytest.raises(GoalRankError, match="repeated or a masked"):
            evaluate({"bad": Emitter(Constant(), fault)}, make_columns(30, 8), slots=2)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("all", r"lists of shape \[.*, 8\].*2 slots; remedy"),
        ("one", r"lists of shape \[.*, 1\].*-1 in empty slots"),
        ("none", r"lists of shape \[.*, 0\]"),
        ("fewer", r"lists of shape .* requests of"),
        ("float", "type torch.float32"),
        ("ids", "not item ids"),
        ("plain", "lists as list"),
    ],
)
def test_lists_of_another_length_are_no_lists(fault, words):
    """Longer lists would find more positives, shorter ones be measured against shorter best lists."""
    with pytest.raises(GoalRankError, match=f"ranker 'bad'.*{words}"):
        evaluate({"bad": Emitter(Constant(), fault)}, make_columns(30, 8), slots=2)


@pytest.mark.parametrize(
    "change", [lambda s: s[..., None], lambda s: s[0], lambda s: s[1:], lambda s: s.tolist()]
)
def test_scores_of_another_shape_are_no_scores(change):
    class Shaped(Scorer):
        def scores(self, batch):
            return change(torch.zeros(batch.candidates.shape))

    with pytest.raises(GoalRankError, match=r"ranker 'bad' gave scores .*remedy"):
        evaluate({"bad": Shaped()}, make_columns(30, 8))


def test_a_difference_of_rounding_is_none():
    """A list and its scores have the same metrics up to the last digits, in each request alike."""
    columns = make_columns(200, users=50)
    found = evaluate({"a": RetrieverOrder()}, columns, slots=3)
    values = {**found.values["a"], "ndcg@3": found.values["a"]["ndcg@3"] * (1 + 1e-12)}
    both = replace(found, values={**found.values, "b": values})
    gap = both.paired("b", "a", "ndcg")
    assert (gap.mean, gap.low, gap.high, gap.p) == (0, 0, 0, 1)


def test_the_best_of_several_rankers_has_a_wider_interval():
    columns = make_columns(300, users=90)
    found = evaluate({"a": RandomOrder(1), "b": RandomOrder(2)}, columns, slots=3)
    one, four = (found.paired("a", "b", "ndcg", choices) for choices in (1, 4))
    assert four.low < one.low < one.high < four.high
    assert four.p == pytest.approx(min(1, 4 * one.p))


def test_the_best_is_never_undefined():
    found = evaluate({"a": RetrieverOrder(), "b": Constant()}, make_columns(40), slots=3)
    nothing = {"ndcg@3": np.full(found.n, np.nan)}
    both = replace(found, values={"none": nothing, **found.values})
    assert both.best("ndcg") == found.best("ndcg")


def test_best_and_dict():
    result = evaluate({"oracle": Oracle(), "constant": Constant()}, make_columns(40), slots=2)
    assert result.best("ndcg") == "oracle"
    assert result.to_dict()["oracle"]["ndcg@2"] == {"mean": 1.0, "low": 1.0, "high": 1.0}


def test_merging_needs_the_same_requests():
    columns = make_columns(40)
    a = evaluate({"a": Constant()}, columns)
    merged = a.merged(evaluate({"b": Oracle()}, columns))
    assert merged.rankers == ["a", "b"]
    with pytest.raises(ConfigError, match="same requests"):
        a.merged(evaluate({"b": Oracle()}, columns.take(slice(0, 20))))
    with pytest.raises(ConfigError, match="rename"):
        a.merged(a)
