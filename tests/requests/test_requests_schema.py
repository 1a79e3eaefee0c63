"""The schema: what is refused, with which words; what is cast silently; what may be absent."""

from __future__ import annotations

import subprocess
import sys

import polars as pl
import pytest
from hypothesis import given, settings
from polars.testing import assert_frame_equal
from tests.requests.requests_tables import INFO, NOON, hand_frame, tables

from goalrank.errors import ConfigError, DataError, SchemaError
from goalrank.requests.table.info import TableInfo
from goalrank.requests.table.requests import Requests

US = pl.Datetime("us", "UTC")


def test_a_misspelt_column_is_named_with_its_nearest() -> None:
    with pytest.raises(SchemaError) as caught:
        Requests(hand_frame().rename({"candidates": "candidtes"}))
    message = str(caught.value)
    assert "unknown column 'candidtes' (did you mean 'candidates'?)" in message
    assert "missing column 'candidates'" in message
    assert "remedy" in message


@pytest.mark.parametrize("column", ["request_id", "user_id", "time", "candidates"])
def test_required_columns(column: str) -> None:
    with pytest.raises(SchemaError, match=f"missing column '{column}'"):
        Requests(hand_frame().drop(column))


@pytest.mark.parametrize(
    ("column", "wrong", "found", "remedy"),
    [
        ("request_id", pl.lit(1), "Int32", "cast"),
        ("user_id", pl.lit(1.5), "Float64", "cast the ids"),
        ("time", pl.lit("2024-01-01"), "String", "to_datetime"),
        ("time", pl.lit(1_700_000_000), "Int32", "from_epoch"),
        ("time", pl.lit(NOON.date()), "Date", "replace_time_zone"),
        ("time", pl.lit(NOON.replace(tzinfo=None)), "without a time zone", "replace_time_zone"),
        ("history", pl.lit(7), "Int32", "one list per row"),
        ("history_time", pl.lit([NOON.replace(tzinfo=None)]), "without a time zone", "list.eval"),
        ("candidates", pl.lit([1.5]), "Float64", "cast the ids"),
        ("candidate_score", pl.lit(["a"]), r"List\(String\)", "Float32"),
        ("candidate_features", pl.lit([1.0]), "Float64", "one list per row"),
        ("shown", pl.lit([0.0]), r"List\(Float64\)", "positions"),
        ("shown", pl.lit([2**40]), r"List\(Int64\)", "cast"),
        ("feedback", pl.lit([1.0]), r"List\(Float64\)", "struct"),
        ("feedback", pl.struct(click=pl.lit(["a"])), r"List\(String\)", "Float32"),
        ("propensity", pl.lit("a"), "String", "Float64"),
        ("policy", pl.lit(3), "Int32", "String"),
    ],
)
def test_wrong_types_say_column_found_and_remedy(
    column: str, wrong: pl.Expr, found: str, remedy: str
) -> None:
    frame = hand_frame().with_columns(wrong.alias(column))
    with pytest.raises(
        SchemaError, match=rf"'.*{column}.*' is .*{found}.*expected.*remedy: .*{remedy}"
    ):
        Requests(frame)


def test_something_else_than_a_frame_is_refused() -> None:
    with pytest.raises(SchemaError, match="LazyFrame, expected a polars DataFrame"):
        Requests(hand_frame().lazy())  # type: ignore[arg-type]


def test_lossless_casts_are_silent() -> None:
    frame = hand_frame().with_columns(
        pl.col("user_id").cast(pl.UInt16),
        pl.col("time").dt.convert_time_zone("Asia/Tokyo").dt.cast_time_unit("ms"),
        pl.col("history").cast(pl.List(pl.Int8)),
        pl.col("history_time").cast(pl.List(pl.Datetime("ns", "Europe/Paris"))),
        pl.col("candidates").cast(pl.List(pl.UInt32)),
        pl.col("candidate_score").cast(pl.Array(pl.Float64, 3)),
        pl.col("candidate_features").cast(pl.List(pl.List(pl.Float64))),
        pl.col("shown").cast(pl.List(pl.UInt8)),
        pl.col("policy").cast(pl.Categorical),
        feedback=pl.struct(
            rating=pl.col("feedback").struct.field("rating").cast(pl.List(pl.Int64)),
            click=pl.col("feedback").struct.field("click").cast(pl.List(pl.Boolean)),
        ),
    )
    assert_frame_equal(Requests(frame, info=INFO).frame, Requests(hand_frame(), info=INFO).frame)


def test_the_instant_survives_another_time_zone() -> None:
    frame = hand_frame().with_columns(pl.col("time").dt.convert_time_zone("Asia/Tokyo"))
    assert Requests(frame).frame["time"][0] == NOON


@given(tables())
@settings(max_examples=40, deadline=None)
def test_a_conforming_table_is_left_alone(table: Requests) -> None:
    again = Requests(table.frame, info=table.info)
    assert_frame_equal(again.frame, table.frame)
    assert again.info == table.info


def test_a_table_for_ranking_only_gets_empty_lists() -> None:
    bare = hand_frame().select("request_id", "user_id", "time", "candidates")
    table = Requests(bare, info=TableInfo(feedback_kinds=("click",), target="click"))
    assert table.frame.schema["history"] == pl.List(pl.Int64)
    assert table.frame.schema["history_time"] == pl.List(US)
    assert table.frame["shown"].to_list() == [[]] * 4
    assert table.frame["feedback"].to_list() == [{"click": []}] * 4
    assert "candidate_score" not in table.frame.columns
    assert table.validate() == []
    assert Requests(bare).frame["feedback"].struct.fields == []


def test_null_lists_and_untyped_empty_lists_become_typed_empty_lists() -> None:
    frame = hand_frame(2).with_columns(
        history=pl.Series([[], []]),
        history_feedback=pl.lit(None),
        history_time=pl.Series([None, None], dtype=pl.List(US)),
        shown=pl.Series([None, [1]]),
        feedback=pl.Series([None, {"click": [1.0], "rating": [2.0]}]),
    )
    table = Requests(frame, info=INFO)
    assert table.frame.schema["history"] == pl.List(pl.Int64)
    assert table.frame["feedback"].to_list()[0] == {"click": None, "rating": None}
    assert table.validate() == []


def test_ragged_features_name_the_rows() -> None:
    cells = [[[1.0, 2.0]] * 3, [[1.0, 2.0]] * 3, [[1.0, 2.0], [1.0], [1.0, 2.0]], [[1.0, 2.0]] * 3]
    with pytest.raises(
        SchemaError, match=r"one width, here 2, but widths \[1\] occur \(rows \[2\]\)"
    ):
        Requests(hand_frame().with_columns(candidate_features=pl.Series(cells)), info=INFO)


def test_ids_of_one_kind_have_one_type() -> None:
    frame = hand_frame().with_columns(history=pl.lit(["7"]))
    with pytest.raises(SchemaError, match="'candidates' is Int64, 'history' is String"):
        Requests(frame)
    with pytest.raises(SchemaError, match=r"'items.item_id' is String, 'candidates' is Int64"):
        Requests(hand_frame(), items=pl.DataFrame({"item_id": ["10"]}))
    with pytest.raises(SchemaError, match=r"'users.user_id' is String, 'user_id' is Int64"):
        Requests(hand_frame(), users=pl.DataFrame({"user_id": ["1"]}))


def test_side_tables_are_checked() -> None:
    items = pl.DataFrame({"item_id": pl.Series([10, 11], dtype=pl.Int16), "price": [1.0, 2.0]})
    table = Requests(hand_frame(), items=items)
    assert table.items is not None
    assert table.items["item_id"].dtype == pl.Int64
    with pytest.raises(SchemaError, match=r"no column 'item_id' \(did you mean 'itemid'"):
        Requests(hand_frame(), items=items.rename({"item_id": "itemid"}))
    with pytest.raises(DataError, match=r"unique and not null.*values \[10\]"):
        Requests(hand_frame(), items=pl.concat([items, items.head(1)]))


def test_description_is_taken_from_the_table_where_left_open() -> None:
    info = Requests(hand_frame()).info
    assert info.feedback_kinds == ("click", "rating")
    assert info.target == "click"
    assert info.candidate_features == ("f0", "f1")
    kept = Requests(hand_frame(), info=INFO.replace(target=None)).info
    assert kept.target is None
    assert kept.candidate_features == ("p", "q")


def test_descriptions_that_contradict_themselves() -> None:
    with pytest.raises(ConfigError, match=r"target = 'clik' is not one of .*\['click'\]"):
        TableInfo(feedback_kinds=("click",), target="clik")
    with pytest.raises(ConfigError, match="names something twice"):
        TableInfo(candidate_features=("a", "a"))


def test_reading_tables_needs_no_torch() -> None:
    code = "import sys, goalrank.requests.table; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", ["", "cl\0ick", "*", "^click.*$"])
def test_names_that_cannot_be_stored_or_asked_for(name: str) -> None:
    with pytest.raises(ConfigError, match=r"feedback_kinds holds .*remedy: rename"):
        TableInfo(feedback_kinds=(name,))
    with pytest.raises(SchemaError, match=r"'feedback' has fields .*remedy: rename"):
        Requests(hand_frame(1).with_columns(feedback=pl.Series([{name: [0.0, 1.0]}])))
