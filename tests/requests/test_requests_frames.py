"""Requests of tables with other names, of polars and pandas."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.tables import make_table

from goalrank.errors import SchemaError, ValidationError
from goalrank.requests import Requests, TableInfo

pd = pytest.importorskip("pandas")
OURS = make_table(20, strings=True)
NAMES = {
    "request_id": "id", "user_id": "who", "time": "ts", "candidates": "pool",
    "history_time": "when", "feedback.click": "clicks", "feedback.long": "stays",
}  # fmt: skip


def theirs() -> pl.DataFrame:
    """The table of `OURS` under other names, one list column per kind."""
    frame = OURS.frame.with_columns(
        clicks=pl.col("feedback").struct.field("click"),
        stays=pl.col("feedback").struct.field("long"),
    ).drop("feedback")
    return frame.rename({v: k for v, k in NAMES.items() if "." not in v})


def in_pandas(frame: pl.DataFrame) -> Any:
    """Lists of Python in the cells, as pandas users have them."""
    return pd.DataFrame(
        {name: frame[name].to_list() for name in frame.columns}, index=range(5, frame.height + 5)
    )


def test_polars_under_other_names():
    made = Requests.from_polars(
        theirs(), names=NAMES, items=OURS.items, users=OURS.users, info=OURS.info
    )
    assert made.frame.equals(OURS.frame)
    assert made.info == OURS.info
    assert made.items is not None
    assert OURS.items is not None
    assert made.items.equals(OURS.items)


def test_pandas_under_other_names():
    assert OURS.items is not None
    assert OURS.users is not None
    made = Requests.from_pandas(
        in_pandas(theirs()), names=NAMES, items=OURS.items.to_pandas(),
        users=OURS.users.to_pandas(), info=OURS.info,
    )  # fmt: skip
    assert made.frame.equals(OURS.frame)
    assert made.items is not None
    assert made.items.columns == OURS.items.columns


def test_columns_may_be_called_by_their_kind():
    frame = theirs().rename({"clicks": "feedback.click", "stays": "feedback.long"})
    names = {ours: name for ours, name in NAMES.items() if "." not in ours}
    assert Requests.from_polars(frame, names=names, info=OURS.info).frame.equals(OURS.frame)


def small(**more: Any) -> Any:
    return pd.DataFrame(
        {
            "request_id": ["a", "b"], "user_id": [1, 2], "candidates": [[7, 8], [8]],
            "time": pd.to_datetime(["2026-01-01", "2026-01-02"]).tz_localize("Asia/Tokyo"),
        }
        | more
    )  # fmt: skip


def test_cells_of_numpy_and_zones_of_all_kinds():
    made = Requests.from_pandas(
        small(
            candidates=[np.array([7, 8]), np.array([8])],
            candidate_features=[np.ones((2, 3)), np.zeros((1, 3))],
            history=[[1], []], history_time=[[pd.Timestamp("2025-01-01", tz="UTC")], []],
        )
    )  # fmt: skip
    assert made.frame["time"][0] == datetime(2025, 12, 31, 15, tzinfo=UTC)
    assert made.frame["candidates"].to_list() == [[7, 8], [8]]
    assert made.frame["candidate_features"].to_list()[0] == [[1.0] * 3] * 2
    assert made.frame["user_id"].dtype == pl.Int64


@pytest.mark.parametrize(
    ("column", "cells", "words"),
    [
        ("time", pd.to_datetime(["2026-01-01"] * 2), r"without a zone.*\['time'\]\.dt\.tz_localize"),
        ("time", [datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC)], "and times without"),
        ("history_time", [[datetime(2025, 1, 1)], []], r"without a zone.*tz_localize\('UTC'\) for t"),
        ("history_time", [[datetime(2025, 1, 1)], [datetime(2025, 1, 1, tzinfo=UTC)]], "and times w"),
        ("candidates", [[7], ["x"]], "candidates.*one type in the whole column"),
        ("candidate", [[7], [8]], r"unknown column 'candidate'.*remedy"),
    ],
)  # fmt: skip
def test_tables_that_are_refused(column, cells, words):
    with pytest.raises(SchemaError, match=words):
        Requests.from_pandas(small(**{column: cells}))


def test_the_users_own_name_stands_in_the_remedy():
    frame = small(ts=pd.to_datetime(["2026-01-01"] * 2)).drop(columns="time")
    with pytest.raises(SchemaError, match=r"'ts'.*frame\['ts'\]\.dt\.tz_localize\('UTC'\)"):
        Requests.from_pandas(frame, names={"time": "ts"})
    with pytest.raises(SchemaError, match="without a time zone"):
        Requests.from_polars(pl.from_pandas(frame.drop(columns="candidates")).with_columns(
            candidates=pl.lit([1]).cast(pl.List(pl.Int64))), names={"time": "ts"})  # fmt: skip


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"tim": "ts"}, r"'tim', but our columns are.*feedback\.KIND.*option: names"),
        ({"feedback.": "ts"}, "our columns are"),
        ({"time": "tz"}, r"'time' from 'tz', but the table's columns are.*option: names"),
        ({"time": "shown"}, "'time' is given twice.*remedy"),
        ({"feedback.click": "shown"}, "'feedback' is given twice"),
    ],
)
def test_names_that_are_refused(names, words):
    with pytest.raises(SchemaError, match=words):
        Requests.from_polars(OURS.frame.with_columns(ts="time"), names=names)


def test_tables_of_another_kind():
    with pytest.raises(SchemaError, match=r"LazyFrame.collect.*from_pandas"):
        Requests.from_polars(OURS.frame.lazy())  # type: ignore[arg-type]
    with pytest.raises(SchemaError, match=r"from_pandas"):
        Requests.from_polars(small())
    with pytest.raises(SchemaError, match=r"from_polars"):
        Requests.from_pandas(OURS.frame)
    with pytest.raises(SchemaError, match=r"items is a DataFrame.*from_polars"):
        Requests.from_pandas(small(), items=OURS.items)


def test_faulty_rows_are_refused_unless_wanted():
    twice = small(request_id=["a", "a"])
    with pytest.raises(ValidationError, match="the table") as met:
        Requests.from_pandas(twice)
    assert len(met.value.faults) > 0
    made = Requests.from_pandas(twice, validate=False, info=TableInfo(dataset="x"))
    assert made.info.dataset == "x"
    assert made.validate()
