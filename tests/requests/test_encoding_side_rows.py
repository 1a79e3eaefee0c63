"""`SideRows` gives the features that a side table with the same cells gives, in any order of calls."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import polars as pl
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.bundles.test_latest_rows import COLUMNS, NEW, with_cells
from tests.tables import make_table

from goalrank.requests import Encoder, EntityTable, SideColumns, SideRows

TABLE = make_table(60)
ENTITY = Encoder.fit(TABLE).items
IDS = [*range(12), *NEW, 2_000]
TOLD = st.dictionaries(st.sampled_from([*range(12), *NEW]), COLUMNS, max_size=5)
FIELDS = ("id_row", "bucket_row", "numeric", "category", "category_weight")


def side() -> pl.DataFrame:
    assert TABLE.items is not None
    return with_cells(TABLE.items, {NEW[0]: {"genre": "g2", "price": 5.0}}, "item_id")


def cells(rows: np.ndarray, table: EntityTable) -> list[torch.Tensor]:
    return [getattr(table, name)[torch.from_numpy(rows)] for name in FIELDS]


def expected(told: dict[int, Any], table: pl.DataFrame | None) -> list[torch.Tensor]:
    """By a side table that has the cells; `told` values of another type say nothing."""
    assert TABLE.items is not None
    whole = with_cells(TABLE.items if table is None else table, told, "item_id")
    return cells(*ENTITY.rows(np.array(IDS), whole, "item_id"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    calls=st.lists(TOLD, min_size=1, max_size=6), with_table=st.booleans(), spare=st.integers(1, 9)
)
def test_each_call_finds_the_features_told_last(calls, with_table, spare):
    table = side() if with_table else None
    rows = SideRows(ENTITY, table, "item_id", spare=spare)
    said: dict[int, Any] = {}
    for told in calls:
        said |= {own: said.get(own, {}) | columns for own, columns in told.items()}
        found = cells(*rows.find(np.array(IDS), said))
        for name, one, other in zip(FIELDS, found, expected(said, table)):
            assert torch.equal(one, other), name


def test_what_was_told_before_is_not_encoded_again(monkeypatch):
    tables: list[Any] = []
    plain = SideColumns.table

    def table(self: SideColumns, told: Any, *arguments: Any) -> pl.DataFrame:
        tables.append(told)
        return plain(self, told, *arguments)

    monkeypatch.setattr(SideColumns, "table", table)
    rows = SideRows(ENTITY, None, "item_id")
    told = {own: {"price": float(own)} for own in range(6)}
    for _ in range(3):
        rows.find(np.array(IDS), told)
    rows.find(np.array(IDS), {own: dict(columns) for own, columns in told.items()})
    rows.find(np.array(IDS), told | {3: {"price": 99.0}})
    assert [sorted(each) for each in tables] == [list(range(6)), [3]]


def test_a_table_that_was_given_out_never_changes():
    rows = SideRows(ENTITY, None, "item_id", spare=4)
    kept = []
    for price in range(40):
        told = {own: {"price": 10.0 * price + own} for own in range(3)}
        found = rows.find(np.array(IDS), told)
        kept.append((found, cells(*found)))
    for found, before in kept:
        for one, other in zip(cells(*found), before):
            assert torch.equal(one, other)


def test_threads_find_what_they_told():
    rows, wrong = SideRows(ENTITY, None, "item_id", spare=16), []

    def ask(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(60):
            told = {
                int(own): {"price": float(rng.integers(0, 5))} for own in rng.integers(0, 12, 4)
            }
            found = cells(*rows.find(np.array(IDS), told))
            if not all(torch.equal(a, b) for a, b in zip(found, expected(told, None))):
                wrong.append(told)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not wrong
