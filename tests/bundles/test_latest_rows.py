"""What is told of items and users column by column ranks as a side table that has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from goalrank.bundles import Predictor
from goalrank.constraints import Constraints
from goalrank.errors import MissingInputError
from goalrank.requests import Requests
from tests.bundles.kit import make_bundle
from tests.tables import make_table

TABLE = make_table(60)
ITEMS, USERS = TABLE.items, TABLE.users
BUNDLE = make_bundle("goalrank", TABLE, reward=False)
NEW = (1_000, 1_001, 1_002)  # items that no training saw
VECTOR = st.lists(st.floats(-3, 3, width=32), min_size=3, max_size=3)
CELLS = {
    "price": st.floats(0, 1e4, width=32),
    "new": st.booleans(),
    "genre": st.sampled_from(["g0", "g1", "g2", "g3", "unseen"]),
    "tags": st.lists(st.sampled_from(["t0", "t1", "t2"]), max_size=2),
    "vector": VECTOR,
}
COLUMNS = st.fixed_dictionaries({}, optional=CELLS)
TOLD = st.dictionaries(st.sampled_from([*range(12), *NEW]), COLUMNS, max_size=6)
AGES = st.dictionaries(st.integers(0, 14), st.fixed_dictionaries({"age": st.integers(0, 90)}))


def with_cells(
    side: pl.DataFrame | None, told: Mapping[Any, Mapping[str, Any]], id_column: str
) -> pl.DataFrame:
    """A side table with cells replaced, and rows of new ids, null where nothing was told."""
    assert side is not None
    rows = {row[id_column]: row for row in side.iter_rows(named=True)}
    empty = dict.fromkeys(side.columns)
    for own, cells in told.items():
        rows[own] = {**rows.get(own, empty), id_column: own, **cells}
    return pl.DataFrame(list(rows.values()), schema=side.schema)


def requests(seed: int = 0, rows: int = 4) -> list[dict[str, Any]]:
    """Plain requests with known and new items among candidates and histories."""
    rng = np.random.default_rng(seed)
    made = []
    for row in make_table(rows, seed=seed + 5).frame.iter_rows(named=True):
        candidates = [*rng.choice(12, 5, replace=False).tolist(), *NEW, 2_000]
        row |= {
            "candidates": candidates, "candidate_score": rng.normal(size=9).tolist(),
            "candidate_features": rng.normal(size=(9, 2)).tolist(), "shown": [],
            "user_id": int(rng.integers(0, 15)),
        }  # fmt: skip
        made.append({name: value for name, value in row.items() if name != "feedback"})
    return made


def latest(told: Mapping[Any, Any], ages: Mapping[Any, Any]) -> Any:
    known = {"items": told, "users": ages}
    return lambda table, ids: {own: known[table][own] for own in ids if own in known[table]}


def same(one: list[Any], other: list[Any]) -> None:
    assert [each.items for each in one] == [each.items for each in other]
    assert [each.log_prob for each in one] == pytest.approx(
        [each.log_prob for each in other], abs=1e-5
    )


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(told=TOLD, ages=AGES, seed=st.integers(0, 20))
def test_lists_are_those_of_side_tables_with_the_same_rows(told, ages, seed):
    assert ITEMS is not None
    assert USERS is not None
    asked = requests(seed)
    whole = Predictor(
        BUNDLE, items=with_cells(ITEMS, told, "item_id"), users=with_cells(USERS, ages, "user_id")
    )
    same(Predictor(BUNDLE, latest=latest(told, ages)).rank(asked), whole.rank(asked))


def test_what_is_told_changes_lists():
    told = {own: {"genre": "g1", "price": 1.0, "vector": [3.0, -3.0, 3.0]} for own in (*NEW, 3)}
    asked = requests()
    plain, news = Predictor(BUNDLE).rank(asked), Predictor(BUNDLE, latest=latest(told, {}))
    moved = [a.log_prob - b.log_prob for a, b in zip(plain, news.rank(asked))]
    assert np.abs(moved).max() > 1e-3


def test_what_is_told_overrides_the_predictors_table():
    assert ITEMS is not None
    table = with_cells(ITEMS, {1_000: {"genre": "g2", "price": 5.0}}, "item_id")
    told: dict[int, dict[str, Any]] = {1_000: {"price": 7.0}, 1: {"new": True}}
    whole = Predictor(BUNDLE, items=with_cells(table, told, "item_id"))
    got = Predictor(BUNDLE, items=table, latest=latest(told, {})).rank(requests())
    same(got, whole.rank(requests()))


def test_a_requests_own_table_overrides_what_is_told():
    told = {own: {"price": 1e4} for own in range(12)}
    asked = make_table(6, seed=9)
    got = Predictor(BUNDLE, latest=latest(told, {})).rank(asked)
    same(got, Predictor(BUNDLE).rank(asked))
    bare = Requests(asked.frame, info=asked.info)
    moved = Predictor(BUNDLE, latest=latest(told, {})).rank(bare)
    assert [each.log_prob for each in moved] != [each.log_prob for each in got]


def test_values_of_another_type_say_nothing():
    odd = {1: {"price": "dear", "vector": [1.0], "genre": 3, "tags": "t1", "colour": "red"}}
    same(
        Predictor(BUNDLE, latest=latest(odd, {})).rank(requests()),
        Predictor(BUNDLE).rank(requests()),
    )


def without_prices() -> pl.DataFrame:
    """The side table without a column of training, and with a new item."""
    assert ITEMS is not None
    new = dict.fromkeys(ITEMS.columns) | {"item_id": 3_000, "genre": "g1"}
    return pl.concat([ITEMS, pl.DataFrame([new], schema=ITEMS.schema)]).drop("price")


def test_what_is_told_fills_in_what_a_table_lacks():
    rows = requests(rows=2)
    rows[0]["candidates"] = [3_000, *range(8)]
    told = {3_000: {"price": 3.0}}
    whole = with_cells(ITEMS, {3_000: {"genre": "g1", "price": 3.0}}, "item_id")
    with pytest.raises(MissingInputError, match=r"items\.price"):
        Predictor(BUNDLE, items=without_prices()).rank(rows)
    same(
        Predictor(BUNDLE, items=without_prices(), latest=latest(told, {})).rank(rows),
        Predictor(BUNDLE, items=whole).rank(rows),
    )


def test_a_list_does_not_depend_on_what_is_told_of_another_requests_items():
    rows = requests(rows=2)
    rows[0]["candidates"] = [3_000, *range(8)]  # lacks a column, of which the mean is taken
    told = {1_000: {"price": 3.0}}
    predictor = Predictor(BUNDLE, items=without_prices(), latest=latest(told, {}), missing="mean")
    together = predictor.rank(rows)
    assert together[0].filled == ("items.price",)
    assert together[1].filled == ()
    same(together, [predictor.rank([row])[0] for row in rows])


def test_rules_look_at_what_is_told():
    assert ITEMS is not None
    rules = Constraints.model_validate(
        {"at_most": [{"by": "genre", "most": 1}], "relax": ["length"]}
    )
    told = {own: {"genre": "g1"} for own in (*range(12), *NEW)}
    predictor = Predictor(BUNDLE, items=ITEMS, rules=rules, latest=latest(told, {}))
    for each in predictor.rank(requests()):
        assert len([own for own in each.items if own in told]) == 1
