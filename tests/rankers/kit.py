"""What contract tests of rankers, rewards and training share: every ranker, and changed batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from goalrank.encoders import EncoderSizes
from goalrank.rankers import (
    BestOf,
    Constant,
    EvaluatorSort,
    FeatureOrder,
    InputOrder,
    ItemStatistic,
    LambdaMART,
    LastItemTransitions,
    MultiGenerator,
    RandomOrder,
    Ranker,
    RankerConfig,
    RetrieverOrder,
    ScoreMean,
    TreesOverScores,
    build_ranker,
    diverse_members,
    ranker_names,
    with_score_feature,
)
from goalrank.requests import EncodedRequests
from goalrank.rewards import ListReward
from goalrank.testing import (
    CATEGORIES,
    all_lists,
    blocked,
    doubled,
    fresh_model,
    padded,
    permuted,
    shake,
    spec_of,
)
from goalrank.testing import make_rich_requests as rich_columns

__all__ = [
    "BY_INPUT", "CATEGORIES", "FACTORIES", "SMALL", "SPARSE", "WHOLE_LIST", "WITH_TIES", "all_lists", "blocked",
    "config", "doubled", "make_ranker", "padded", "permuted", "rich_columns", "shake", "spec_of",
]  # fmt: skip

SMALL = EncoderSizes(width=16, layers=1, heads=2, dropout=0.1)


def config(name: str, **options: Any) -> RankerConfig:
    """A tiny size of a ranker."""
    return RankerConfig(name=name, width=16, layers=1, heads=2, slots=4, **options)


def _best_of(columns: EncodedRequests) -> BestOf:
    spec = spec_of(columns)
    rankers = [build_ranker(spec, config("dnn")), RetrieverOrder()]
    reward = ListReward(spec, SMALL, columns.kinds, [1.0])
    return BestOf(rankers, reward, lists=12, seed=3)


def _score_mean(columns: EncodedRequests) -> ScoreMean:
    return ScoreMean([build_ranker(spec_of(columns), config("prm")) for _ in range(2)])


def _trees_over(columns: EncodedRequests) -> TreesOverScores:
    spec = spec_of(columns)
    members = [build_ranker(spec, config("dnn")) for _ in range(2)]
    return TreesOverScores(spec, members, LambdaMART(with_score_feature(spec)))


def _evaluator_sort(columns: EncodedRequests) -> EvaluatorSort:
    spec = spec_of(columns)
    return EvaluatorSort(ListReward(spec, SMALL, columns.kinds, [1.0]))


def _multi_generator(columns: EncodedRequests) -> MultiGenerator:
    spec = spec_of(columns)
    rankers = [build_ranker(spec, config("dnn")), build_ranker(spec, config("goalrank"))]
    reward = ListReward(spec, SMALL, columns.kinds, [1.0])
    members = diverse_members(14, rankers, 2)
    # Equal items tie, and a beam keeps either: not a law.
    members = [m for m in members if m.kind != "beam"]
    return MultiGenerator(rankers, members, reward, seed=3)


Factory = Callable[[EncodedRequests], Ranker]


def _named(name: str, **options: Any) -> Factory:
    return lambda columns: build_ranker(spec_of(columns), config(name, **options))


def _in_chunks(columns: EncodedRequests) -> Ranker:
    """Induced attention, encoded one or two candidates at a time."""
    ranker = _named("goalrank", inducing=3)(columns)
    for module in ranker.modules():
        if hasattr(module, "chunk_rows"):
            module.chunk_rows = 8  # type: ignore[assignment]  # torch: a tensor or a module
    return ranker


# A ranker that `build_ranker` does not know has its line here; a test finds those that have none.
FACTORIES: dict[str, Factory] = {
    **{name: _named(name) for name in ranker_names()},
    "goalrank induced": _named("goalrank", inducing=3),
    "goalrank in chunks": _in_chunks,
    "goalrank with users": _named("goalrank", user_ids=True),
    "goalrank of narrow ids": _named("goalrank", user_ids=True, id_width=4),
    "best of": _best_of,
    "evaluator sort": _evaluator_sort,
    "multi generator": _multi_generator,
    "score mean": _score_mean,
    "trees over": _trees_over,
    "constant": lambda _: Constant(),
    "random": lambda _: RandomOrder(),
    "input": lambda _: InputOrder(),
    "input reversed": lambda _: InputOrder(reverse=True),
    "retriever": lambda _: RetrieverOrder(),
    "retriever reversed": lambda _: RetrieverOrder(reverse=True),
    "feature": lambda _: FeatureOrder(1),
    "popularity": ItemStatistic.popularity,
    "feedback rate": ItemStatistic.feedback_rate,
    "transitions": LastItemTransitions.fit,
}
# The best list of these is the most probable whole list, not the greedy one.
WHOLE_LIST = {"best of", "multi generator", "pier", "prs"}
BY_INPUT = {"input", "input reversed"}
# These choose from a pool of lists, and may have no list with a given prefix.
SPARSE = WHOLE_LIST
# Scores of different candidates may tie, and then the order of input decides.
WITH_TIES = BY_INPUT | {"constant", "popularity", "feedback rate", "transitions"}


def make_ranker(name: str, columns: EncodedRequests, seed: int = 0) -> Ranker:
    """The ranker of that name in evaluation mode, with weights that matter."""
    return fresh_model(FACTORIES[name], columns, seed)
