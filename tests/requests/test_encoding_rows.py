"""Plain rows encode to exactly what the same rows in a table encode to."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tables import make_table

from goalrank.errors import DataError, MissingInputError
from goalrank.requests import EncodedRequests, Encoder, EncoderConfig, EntityTable, Requests

ENCODERS = {
    strings: Encoder.fit(make_table(strings=strings), EncoderConfig(history=4, item_buckets=5))
    for strings in (False, True)
}
SIDES = {strings: make_table(strings=strings, items=60, users=20) for strings in (False, True)}
_NUMBER = st.floats(-1e6, 1e6, width=32)
_NOON = datetime(2024, 5, 1, 12, 0, 0, 1, tzinfo=UTC)


def _same(a: EncodedRequests, b: EncodedRequests) -> None:
    for f in fields(EncodedRequests):
        left, right = getattr(a, f.name), getattr(b, f.name)
        if isinstance(left, EntityTable):
            for g in fields(EntityTable):
                assert torch.equal(getattr(left, g.name), getattr(right, g.name)), g.name
        elif isinstance(left, np.ndarray):
            assert left.dtype == right.dtype, f.name
            np.testing.assert_array_equal(left, right, err_msg=f.name)
        else:
            assert left == right, f.name


@st.composite
def _row(draw: Any, strings: bool, scored: bool, fed: bool) -> dict[str, Any]:
    name = (lambda i: f"i{i}") if strings else int
    numbers = st.integers(-5, 70)  # 0 … 39 are known, 40 … 59 stand in the side table only
    candidates = draw(st.lists(numbers, min_size=1, max_size=7, unique=True))
    history = draw(st.lists(numbers, max_size=7))
    time = _NOON + timedelta(microseconds=draw(st.integers(0, 10**12)))
    user = draw(st.integers(-3, 30))
    row = {
        "request_id": draw(st.text(st.characters(codec="utf-8"), max_size=5)),
        "user_id": f"u{user}" if strings else user,
        "time": time,
        "history": [name(i) for i in history],
        "history_time": [time - timedelta(hours=len(history) - k) for k in range(len(history))],
        "candidates": [name(i) for i in candidates],
        "candidate_features": [[draw(_NUMBER), draw(_NUMBER)] for _ in candidates],
    }
    if fed:
        row["history_feedback"] = [draw(_NUMBER) for _ in history]
    if scored:
        row["candidate_score"] = [draw(_NUMBER) for _ in candidates]
    return row


@st.composite
def _rows(draw: Any) -> tuple[bool, list[dict[str, Any]]]:
    strings, scored, fed = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    return strings, draw(st.lists(_row(strings, scored, fed), min_size=1, max_size=5))


def _table(rows: list[dict[str, Any]], strings: bool) -> Requests:
    inner = pl.String() if strings else pl.Int64()
    overrides = {
        "history": pl.List(inner),
        "candidates": pl.List(inner),
        "history_time": pl.List(pl.Datetime("us", "UTC")),
        "candidate_features": pl.List(pl.Array(pl.Float32, 2)),
    }
    return Requests(
        pl.DataFrame(rows, schema_overrides=overrides, infer_schema_length=None),
        info=make_table(1).info,
    )


@settings(max_examples=80, deadline=None)
@given(given=_rows(), sides=st.booleans())
def test_rows_equal_the_table(given, sides):
    strings, rows = given
    encoder, table = ENCODERS[strings], _table(rows, strings)
    more = (SIDES[strings].items, SIDES[strings].users) if sides else (None, None)
    asked = Requests(table.frame, info=table.info, items=more[0], users=more[1])
    _same(encoder.encode_flat(encoder.flat(rows), *more, "mean"), encoder.encode(asked, "mean"))


def test_what_is_absent_is_the_mean_where_that_is_wanted():
    row = {"request_id": "a", "user_id": 1, "time": _NOON, "candidates": [1, 2]}
    row["candidate_features"] = [[0.0, 1.0], [2.0, 3.0]]
    encoder = ENCODERS[False]
    with pytest.raises(MissingInputError, match="candidate_score"):
        encoder.encode_flat(encoder.flat([row]))
    columns = encoder.encode_flat(encoder.flat([row]), missing="mean")
    assert len(columns.history) == 0
    assert np.allclose(columns.candidate_score, 0.0, atol=1e-6)
    _same(columns, encoder.encode(_table([{**row, "history": []}], False), "mean"))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"candidates": ["1", "2"]}, "ids of type str"),
        ({"candidates": [1, True]}, "bool"),
        ({"candidates": [1, 2.0]}, "float"),
        ({"user_id": "u"}, "user_id"),
        ({"user_id": 2**70}, "64 bits"),
        ({"candidate_features": [[0.0, 1.0]]}, "candidate_features"),
        ({"candidate_features": [[0.0], [1.0]]}, "2 features"),
        ({"candidate_features": None}, r"candidate_features \(p, q\)"),
        ({"candidate_score": [1.0]}, "candidate_score has 1"),
    ],
)
def test_rows_that_do_not_fit_are_refused(change, match):
    row = {"request_id": "a", "user_id": 1, "time": _NOON, "candidates": [1, 2]}
    row |= {"candidate_score": [0.5, 0.1], "candidate_features": [[0.0, 1.0], [2.0, 3.0]]}
    row |= change
    with pytest.raises(DataError, match=match):
        ENCODERS[False].encode_flat(ENCODERS[False].flat([row]))
