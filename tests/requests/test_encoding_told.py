"""What was told, laid over a side table of any types."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.bundles.test_latest_rows import TABLE, TOLD, with_cells

from goalrank.requests import EntityEncoder, ToldOnto, told_onto
from goalrank.requests.encoding.side_rows import SideRows

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
    found = told_onto(TABLE.items, told, "item_id").table
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
    found = told_onto(SIDE, told, "item_id").table
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
    found = told_onto(SIDE, {2: {"stock": 0.5}}, "item_id").table
    assert found["stock"].to_list() == [5.0, 6.0, 0.5]


def test_nothing_told_changes_nothing():
    assert told_onto(SIDE, {}, "item_id") == ToldOnto(SIDE)
    assert told_onto(SIDE, {"2": {"stock": 1}}, "item_id") == ToldOnto(SIDE, other_ids=1)


def test_what_is_left_out_is_counted():
    told: dict[Any, dict[str, Any]] = {
        2: {"stock": "many", "vector": [1.0], "colour": "red", "title": None},
        1: {"stock": 4, "colour": "red", "size": 3},
        "9": {"stock": 5},
        2**70: {"stock": 5},
    }
    found = told_onto(SIDE, told, "item_id")
    assert (found.taken, found.other_ids) == (1, 2)
    assert found.lacking == {"colour": 2, "size": 1}
    assert found.other_values == {"stock": 1, "vector": 1}


NARROW = {
    "count": pl.Series([1, 2, None], dtype=pl.UInt8),
    "signed": pl.Series([1, 2, None], dtype=pl.Int64),
    "flag": pl.Series([True, False, None]),
    "born": pl.Series([date(2020, 1, 1), date(2021, 1, 1), None]),
    "at": pl.Series([datetime(2020, 1, 1), None, None], dtype=pl.Datetime("ns")),
    "local": SIDE["seen"],
    "opens": pl.Series([time(9), time(10), None]),
    "takes": pl.Series([timedelta(hours=1), None, None], dtype=pl.Duration("ms")),
    "price": pl.Series([1.5, 2.5, None], dtype=pl.Float32),
}
NUMBER = st.sampled_from(
    [0, 1, True, False, 2, 0.5, -1, 1.5, 255, 300, 18_262, 18_262.25, 1e9, 1.06e8, -1e12, 1e30, 3e38,
     17_987.1]
)  # fmt: skip
TEXT = st.sampled_from(["a", "c", ["a"], [], ["c", "a"]])
CELLS = st.fixed_dictionaries({}, optional=dict.fromkeys(NARROW, NUMBER) | {"genre": TEXT})


@settings(max_examples=150, deadline=None)
@given(told=st.dictionaries(st.sampled_from([1, 2, 3, 9, 2**40]), CELLS, min_size=1, max_size=4))
def test_whatever_is_told_is_encoded_as_a_server_encodes_it(told):
    """Each value that a server takes fits, or changes its column's type; none is lost."""
    genre = pl.Series(["a", "b", None], dtype=pl.Enum(["a", "b"]))
    side = pl.DataFrame({"item_id": [3, 1, 2], **NARROW, "genre": genre, "genre told": genre})
    entity = EntityEncoder.fit(pl.Series([1, 2, 3]), side, "item_id", 4)
    ids = np.array([1, 2, 3, *told])
    rows, table = SideRows(entity, None, "item_id").find(ids, told)
    own, expected = entity.rows(ids, told_onto(side, told, "item_id").table, "item_id")
    torch.testing.assert_close(table.numeric[rows], expected.numeric[own], atol=1e-5, rtol=0)
    assert table.category[rows].equal(expected.category[own])
