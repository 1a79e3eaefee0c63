"""What was told, laid over a side table of any types."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
from hypothesis import HealthCheck, given, settings
from tests.bundles.test_latest_rows import TABLE, TOLD, with_cells

from goalrank.requests import told_onto

SIDE = pl.DataFrame(
    {
        "item_id": [3, 1, 2],
        "stock": [5, 6, None],
        "price": [1.5, 2.5, None],
        "new": [True, False, None],
        "born": [date(2020, 1, 1), date(2021, 1, 1), None],
        "seen": pl.Series(
            [datetime(2020, 1, 1, tzinfo=UTC), None, None], dtype=pl.Datetime("ms", "Europe/Prague")
        ),
        "length": [timedelta(hours=1), None, None],
        "genre": pl.Series(["a", "b", None], dtype=pl.Categorical),
        "title": ["A", "B", "C"],
        "tags": [["x"], [], None],
        "vector": pl.Series([[1.0, 2.0], [0.0, 0.0], None], dtype=pl.Array(pl.Float32, 2)),
    }
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(told=TOLD)
def test_it_is_the_table_with_the_cells(told):
    assert TABLE.items is not None
    found = told_onto(TABLE.items, told, "item_id")
    expected = with_cells(TABLE.items, told, "item_id")
    assert found.sort("item_id").equals(expected.sort("item_id"))


def test_every_type_takes_its_cells():
    told: dict[Any, dict[str, Any]] = {
        2: {
            "stock": 7, "price": 3, "new": True, "born": 18_262.0, "seen": 18_262.5, "length": 0.5,
            "genre": "c", "title": "D", "tags": ["y", "z"], "vector": [5, 6.5],
        },
        1: {"price": None, "title": 3, "colour": "red"},
        9: {"genre": ["a"]},
        "9": {"genre": "b"},
    }  # fmt: skip
    found = told_onto(SIDE, told, "item_id")
    assert found["item_id"].to_list() == [3, 1, 2, 9]
    assert found.head(2).equals(SIDE.head(2).cast({"genre": pl.String}))
    row = found.row(2, named=True)
    # As models read such a column: days of its own clock.
    assert row.pop("seen") == datetime(2020, 1, 1, 12, tzinfo=ZoneInfo("Europe/Prague"))
    assert row == {
        "item_id": 2, "stock": 7, "price": 3.0, "new": True, "born": date(2020, 1, 1),
        "length": timedelta(hours=12), "genre": "c", "title": "D", "tags": ["y", "z"],
        "vector": [5.0, 6.5],
    }  # fmt: skip
    assert found.row(3, named=True) == dict.fromkeys(SIDE.columns) | {"item_id": 9, "genre": "a"}


def test_a_part_of_a_whole_is_kept():
    assert told_onto(SIDE, {2: {"stock": 0.5}}, "item_id")["stock"].to_list() == [5.0, 6.0, 0.5]


def test_nothing_told_changes_nothing():
    assert told_onto(SIDE, {}, "item_id") is SIDE
    assert told_onto(SIDE, {"2": {"stock": 1}}, "item_id") is SIDE
