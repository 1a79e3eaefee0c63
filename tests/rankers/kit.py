"""What contract tests of rankers, rewards and training share: every ranker, and changed batches."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import torch
from torch import Tensor, nn

from goalrank.encoders import EncoderSizes
from goalrank.rankers import (
    BestOf,
    Constant,
    EvaluatorSort,
    FeatureOrder,
    InputOrder,
    ItemStatistic,
    LastItemTransitions,
    MultiGenerator,
    RandomOrder,
    Ranker,
    RankerConfig,
    RetrieverOrder,
    build_ranker,
    diverse_members,
    ranker_names,
)
from goalrank.requests import Batch, EncodedRequests, EntityTable, InputSpec
from goalrank.rewards import ListReward
from tests.helpers import make_columns

SMALL = EncoderSizes(width=16, layers=1, heads=2, dropout=0.1)
CATEGORIES = 7


def rich_columns(requests: int = 6, n: int = 6, **options: int) -> EncodedRequests:
    """`make_columns` whose items and users have numbers and categories as well."""
    columns = make_columns(requests, n, **options)
    rng = np.random.default_rng(5)
    return replace(
        columns, items=_featured(columns.items, rng), users=_featured(columns.users, rng)
    )


def _featured(table: EntityTable, rng: np.random.Generator) -> EntityTable:
    rows = len(table)
    category = torch.from_numpy(rng.integers(0, CATEGORIES, (rows, 2)))
    weight = (category > 0).float() / 2
    numeric = torch.from_numpy(rng.normal(size=(rows, 3)).astype(np.float32))
    return replace(table, numeric=numeric, category=category, category_weight=weight)


def spec_of(columns: EncodedRequests) -> InputSpec:
    """Sizes for models that read these columns."""
    items, users = columns.items, columns.users
    return InputSpec(
        item_ids=int(items.id_row.max()) + 1,
        item_numeric=items.numeric.shape[1],
        item_category=CATEGORIES,
        item_category_width=items.category.shape[1],
        user_ids=int(users.id_row.max()) + 1,
        user_numeric=users.numeric.shape[1],
        user_category=CATEGORIES,
        user_category_width=users.category.shape[1],
        candidate_features=columns.candidate_features.shape[1],
        has_score=True,
        kinds=columns.kinds,
    )


def shake(module: nn.Module, seed: int = 0, size: float = 0.3) -> None:
    """Move every parameter, so that a fresh model has opinions."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += size * torch.randn(parameter.shape, generator=rng)


def config(name: str, **options: int) -> RankerConfig:
    """A tiny size of a ranker."""
    return RankerConfig(name=name, width=16, layers=1, heads=2, slots=4, **options)


def _best_of(columns: EncodedRequests) -> BestOf:
    spec = spec_of(columns)
    rankers = [build_ranker(spec, config("dnn")), RetrieverOrder()]
    reward = ListReward(spec, SMALL, columns.kinds, [1.0])
    return BestOf(rankers, reward, lists=12, seed=3)


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


def _named(name: str, **options: int) -> Factory:
    return lambda columns: build_ranker(spec_of(columns), config(name, **options))


def _in_chunks(columns: EncodedRequests) -> Ranker:
    """Induced attention, encoded one or two candidates at a time."""
    ranker = _named("goalrank", inducing=3)(columns)
    for module in ranker.modules():
        if hasattr(module, "chunk_rows"):
            module.chunk_rows = 8
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
# Scores of different candidates may tie, and then the order of input decides.
WITH_TIES = BY_INPUT | {"constant", "popularity", "feedback rate", "transitions"}


def make_ranker(name: str, columns: EncodedRequests, seed: int = 0) -> Ranker:
    """The ranker of that name in evaluation mode, with weights that matter."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        ranker = FACTORIES[name](columns)
    shake(ranker, seed)
    return ranker.eval()


def all_lists(n: int, slots: int) -> Tensor:
    """Every list [1, P, L] of min(L, n) of n candidates."""
    short = min(slots, n)
    lists = torch.tensor(list(itertools.permutations(range(n), short)))
    return nn.functional.pad(lists, (0, slots - short), value=-1).unsqueeze(0)


_CANDIDATE = (
    "candidates",
    "candidate_mask",
    "candidate_score",
    "candidate_features",
    "relevance",
    "observed",
)
_HISTORY = ("history", "history_mask", "history_feedback", "history_age")


def permuted(batch: Batch, order: Tensor) -> Batch:
    """Candidate m of the new batch is candidate order[m] of the old one."""
    changed = {name: getattr(batch, name)[:, order] for name in _CANDIDATE}
    place = torch.cat([order.argsort(), torch.tensor([-1])])
    return replace(batch, **changed, shown=place[batch.shown])


def padded(batch: Batch, candidates: int = 0, history: int = 0) -> Batch:
    """More padding, with rubbish in the numbers that nobody may look at."""
    changed = {}
    for names, more in ((_CANDIDATE, candidates), (_HISTORY, history)):
        for name in names:
            value = getattr(batch, name)
            rubbish = 0 if value.dtype in (torch.bool, torch.int64) else 3.0
            shape = (value.shape[0], more, *value.shape[2:])
            changed[name] = torch.cat([value, torch.full(shape, rubbish, dtype=value.dtype)], 1)
    return replace(batch, **changed)


def blocked(batch: Batch, at: int) -> Batch:
    """Candidate `at` may not be chosen in any request."""
    mask = batch.candidate_mask.clone()
    mask[:, at] = False
    return replace(batch, candidate_mask=mask)


def doubled(batch: Batch) -> Batch:
    """The same batch in float64."""

    def wide(value: object) -> object:
        if isinstance(value, EntityTable):
            return EntityTable(*(wide(getattr(value, f.name)) for f in fields(value)))
        if isinstance(value, Tensor) and value.is_floating_point():
            return value.double()
        return value

    return replace(batch, **{f.name: wide(getattr(batch, f.name)) for f in fields(batch)})
