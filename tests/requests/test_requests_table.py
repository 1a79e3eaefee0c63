"""The class: rows chosen, feedback laid out along the candidates, a summary to read."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from tests.requests.requests_tables import INFO, hand_frame, hand_table, replaced, tables

from goalrank.errors import DataError
from goalrank.requests.table.requests import Requests


def test_take_head_filter() -> None:
    table = hand_table()
    assert len(table) == 4
    assert table.take([3, 0, 3]).frame["user_id"].to_list() == [3, 0, 3]
    assert table.take(np.array([1])).frame["request_id"].to_list() == ["r1"]
    assert table.head(2).frame["user_id"].to_list() == [0, 1]
    assert table.filter(pl.col("user_id") > 1).frame["user_id"].to_list() == [2, 3]
    assert len(table.take([])) == 0
    assert table.take([1]).info is table.info


@pytest.mark.parametrize("index", [4, -1])
def test_rows_outside_are_refused(index: int) -> None:
    with pytest.raises(DataError, match=f"row {index} asked of 4 requests"):
        hand_table().take([0, index])


def test_take_is_no_mask() -> None:
    with pytest.raises(DataError, match="use filter"):
        hand_table().take(np.array([True, False, True, True]))


def test_relevance_planted() -> None:
    table = hand_table(2)
    assert table.relevance().to_list() == [[1.0, 0.0, 0.0]] * 2
    assert table.relevance("rating").to_list() == [[5.0, 0.0, 3.0]] * 2
    assert table.relevance().dtype == pl.List(pl.Float32)


@given(tables())
@settings(max_examples=40, deadline=None)
def test_relevance_law(table: Requests) -> None:
    """Against a second, slow way: one row at a time."""
    for kind in table.info.feedback_kinds:
        slow = []
        for row in table.frame.iter_rows(named=True):
            cells = [0.0] * len(row["candidates"])
            for position, value in zip(row["shown"], row["feedback"][kind], strict=True):
                cells[position] = value
            slow.append(cells)
        assert table.relevance(kind).to_list() == slow


def test_relevance_of_what_is_not_there() -> None:
    with pytest.raises(DataError, match=r"kind 'buy' asked.*\['click', 'rating'\]"):
        hand_table().relevance("buy")
    with pytest.raises(DataError, match=r"set TableInfo\.target"):
        Requests(hand_frame(), info=INFO.replace(target=None)).relevance()
    with pytest.raises(DataError, match="do not fit"):
        replaced(0, "shown", [0, 3]).relevance()


def test_summary() -> None:
    items = pl.DataFrame({"item_id": [10, 11], "price": [1.0, 2.0]})
    text = repr(Requests(hand_frame(), items=items, info=INFO.replace(warning="toy data")))
    for part in ("4 rows", "4 users", "3 items", "N 3", "H 2", "S 2", "F 2", "click, rating"):
        assert part in text
    for part in ("target: click", "exposed", "hand", "2024-05-01 12:00", "15:00", "toy data"):
        assert part in text
    assert repr(hand_table().head(0)).startswith("Requests: 0 rows")
