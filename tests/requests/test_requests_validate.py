"""Every rule finds its fault, at its row and column, and nothing else."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from tests.requests.requests_tables import INFO, NOON, hand_frame, hand_table, replaced, tables

from goalrank.requests.table.info import TableInfo
from goalrank.requests.table.requests import Requests
from goalrank.requests.table.validation import RULES, Fault, validation_error

DAY = timedelta(days=1)
CASES: list[tuple[str, Any, str, str, str]] = [
    ("request_id", None, "request_id", "null", "null"),
    ("user_id", None, "user_id", "null", "null"),
    ("time", None, "time", "null", "null"),
    ("candidates", [10, None, 12], "candidates", "null", "a null entry"),
    ("candidates", [10, 11, 10], "candidates", "duplicate_entry", "[10]"),
    ("candidate_score", [0.1, 0.2], "candidate_score", "length", "2 entries for 3 in 'candidates'"),
    ("candidate_score", [0.1, math.nan, math.inf], "candidate_score", "not_finite", "NaN, inf"),
    ("candidate_score", [0.1, None, 0.2], "candidate_score", "not_finite", "null"),
    (
        "candidate_features",
        [[1, 2]],
        "candidate_features",
        "length",
        "1 entries for 3 in 'candidates'",
    ),
    (
        "candidate_features",
        [[1, 2], [math.nan, 0], [1, 2]],
        "candidate_features",
        "not_finite",
        "NaN",
    ),
    ("candidate_features", [[1, 2], [None, 0], [1, 2]], "candidate_features", "not_finite", "NaN"),
    ("candidate_features", [[1, 2], None, [1, 2]], "candidate_features", "not_finite", "NaN"),
    ("shown", [2, 3], "shown", "position", "positions 2 … 3 for 3 candidates"),
    ("shown", [-1, 0], "shown", "position", "positions -1 … 0 for 3 candidates"),
    ("shown", [1, 1], "shown", "duplicate_entry", "[1]"),
    ("feedback", {"click": [1], "rating": [1, 2]}, "feedback.click", "length", "1 entries for 2"),
    (
        "feedback",
        {"click": [1, 0], "rating": [1.0, math.inf]},
        "feedback.rating",
        "not_finite",
        "inf",
    ),
    ("feedback", {"click": [1, None], "rating": [1, 2]}, "feedback.click", "not_finite", "null"),
    ("history_feedback", [1.0], "history_feedback", "length", "1 entries for 2 in 'history'"),
    ("history_feedback", [1.0, math.nan], "history_feedback", "not_finite", "NaN"),
    ("history_time", [NOON - DAY], "history_time", "length", "1 entries for 2 in 'history'"),
    ("history_time", [NOON - DAY, NOON - 2 * DAY], "history_time", "not_sorted", "-86400.0 s"),
    ("history_time", [NOON - DAY, NOON + DAY], "history_time", "not_before", "2024-05-02"),
    ("history_time", [NOON - DAY, None], "history_time", "null", "a null entry"),
    ("history", [7, None], "history", "null", "a null entry"),
    ("propensity", 0.0, "propensity", "propensity", "0.0"),
    ("propensity", 1.5, "propensity", "propensity", "1.5"),
    ("propensity", math.nan, "propensity", "propensity", "nan"),
]


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("candidate_score", None),
        ("candidate_features", None),
        ("candidate_features", [[1, None], [2, None], [3, None]]),
        ("feedback", {"click": [1, 0], "rating": None}),
    ],
)
def test_what_is_not_known_is_null(cell: str, value: Any) -> None:
    table = replaced(1, cell, value)
    assert table.validate() == []
    assert table.frame.height == 4


def test_feedback_lies_in_its_range() -> None:
    table = replaced(2, "feedback", {"click": [1, 2], "rating": [1, 2]})
    info = table.info.replace(feedback_ranges={"click": (0, 1), "rating": (None, None)})
    faults = Requests(table.frame, info=info).validate()
    assert [(f.row, f.column, f.rule) for f in faults] == [(2, "feedback.click", "range")]
    assert "2.0 outside (0.0, 1.0)" in faults[0].value


@pytest.mark.parametrize("row", [0, 3])
@pytest.mark.parametrize(("cell", "value", "column", "rule", "found"), CASES)
def test_each_rule(cell: str, value: Any, column: str, rule: str, found: str, row: int) -> None:
    faults = replaced(row, cell, value).validate()
    assert [(f.row, f.column, f.rule) for f in faults] == [(row, column, rule)]
    assert found in faults[0].value
    assert f"row {row}, column '{column}': {RULES[rule][0]}; found " in str(faults[0])


def test_the_last_history_event_lies_strictly_before_the_request() -> None:
    at_once = replaced(0, "history_time", [NOON - DAY, NOON])
    assert [f.rule for f in at_once.validate()] == ["not_before"]
    assert (
        replaced(0, "history_time", [NOON - DAY, NOON - timedelta(microseconds=1)]).validate() == []
    )
    assert (
        replaced(0, "history_time", [NOON - DAY, NOON - DAY]).validate() == []
    )  # ties are allowed


def test_duplicate_request_ids_are_named_on_every_copy() -> None:
    faults = replaced(2, "request_id", "r0").validate()
    assert [(f.row, f.rule, f.value) for f in faults] == [
        (0, "duplicate_id", "r0"),
        (2, "duplicate_id", "r0"),
    ]


@pytest.mark.parametrize(("value", "rule"), [([], "no_candidates"), (None, "null")])
def test_a_request_without_candidates(value: list[int] | None, rule: str) -> None:
    faults = replaced(1, "candidates", value).validate()
    assert {f.row for f in faults} == {1}
    assert faults[0].rule == rule
    assert {f.column for f in faults[1:]} == {"candidate_score", "candidate_features", "shown"}


def test_faults_of_the_whole_table() -> None:
    info = INFO.replace(feedback_kinds=("click", "buy"), candidate_features=("only",))
    faults = Requests(hand_frame(), info=info).validate()
    assert [(f.row, f.column, f.rule) for f in faults] == [
        (None, "feedback", "kind"),
        (None, "feedback", "kind"),
        (None, "candidate_features", "width"),
    ]
    assert "'buy'" in faults[0].value
    assert "'rating'" in faults[1].value
    assert str(faults[0]).startswith("table, column 'feedback'")


def test_shown_without_any_feedback_is_one_fault_not_one_a_row() -> None:
    table = Requests(hand_frame().drop("feedback"), info=INFO)
    faults = [
        (None, f"feedback.{kind}", "length", "no value in any row") for kind in ("click", "rating")
    ]
    assert table.validate() == [Fault(*fault) for fault in faults]


def test_history_may_be_unknown_everywhere_but_not_here_and_there() -> None:
    frame = hand_frame().drop("history_time", "history_feedback")
    assert Requests(frame, info=INFO).validate() == []
    assert [f.rule for f in replaced(1, "history_time", []).validate()] == ["length"]


def test_a_table_without_kinds_may_show_lists() -> None:
    assert Requests(hand_frame().drop("feedback")).validate() == []


def test_all_faults_at_once_in_row_order() -> None:
    frame = hand_frame().with_columns(
        propensity=pl.Series([0.5, 2.0, 0.5, -1.0]),
        shown=pl.Series([[0, 9], [0, 1], [1, 1], [0, 1]]),
        user_id=pl.Series([0, 1, None, 3]),
    )
    table = Requests(frame, info=INFO)
    found = [(f.row, f.column, f.rule) for f in table.validate()]
    assert found == [
        (0, "shown", "position"),
        (1, "propensity", "propensity"),
        (2, "user_id", "null"),
        (2, "shown", "duplicate_entry"),
        (3, "propensity", "propensity"),
    ]
    assert len(table.validate(max_faults=2)) == 2


def test_one_screen_for_many_faults() -> None:
    frame = hand_frame(30).with_columns(propensity=pl.lit(2.0))
    faults = Requests(frame, info=INFO).validate()
    error = validation_error(faults, "log.parquet", 30)
    text = str(error)
    assert text.startswith("log.parquet: 30 faults in 30 requests")
    assert text.count("row ") - text.count("row or") == 10
    assert "and 20 more" in text
    assert "30 x propensity" in text
    assert "goalrank data validate log.parquet" in text
    assert error.faults == tuple(faults)
    assert len(text.splitlines()) < 24


@given(tables())
@settings(max_examples=40, deadline=None)
def test_valid_tables_have_no_faults(table: Requests) -> None:
    assert table.validate() == []


def test_a_target_nobody_measured_is_a_fault() -> None:
    frame = hand_frame().drop("feedback", "shown")
    faults = Requests(frame, info=TableInfo(target="buy")).validate()
    assert [f.rule for f in faults if f.column == "feedback"] == ["kind"]


def test_the_hand_table_is_faultless() -> None:
    assert hand_table().validate() == []
