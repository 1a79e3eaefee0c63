"""Side-table columns to numbers, each type, whole, missing and new."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import polars as pl
import pytest

from goalrank.errors import DataError
from goalrank.requests.encoding.features import FeatureEncoder

TABLE = pl.DataFrame(
    {
        "item_id": [1, 2, 3, 4],
        "title": ["a", "b", "c", "d"],
        "price": [1.0, 2.0, 3.0, None],
        "new": [True, False, True, True],
        "genre": ["x", "y", "x", None],
        "tags": [["p", "q"], ["q"], [], None],
        "vector": [[3.0, 0.0], [0.0, 3.0], [0.0, 0.0], None],
        "nothing": pl.Series([None] * 4, dtype=pl.Null),
    }
)


def fitted() -> FeatureEncoder:
    return FeatureEncoder.fit(TABLE, "item_id")


def test_each_type() -> None:
    encoder = fitted()
    got = encoder.encode(TABLE)
    assert encoder.numeric_width == got.numeric.shape[1] == 2 * 2 + 2
    assert encoder.category_width == got.category.shape[1] == 1 + 2
    prices = np.array([1.0, 2.0, 3.0])
    want = (prices - 2) / prices.std()
    np.testing.assert_allclose(got.numeric[:, 0], [*want, 0], rtol=1e-6)
    assert got.numeric[:, 1].tolist() == [0, 0, 0, 1]
    np.testing.assert_allclose(got.numeric[:, 2], (np.array([1, 0, 1, 1]) - 0.75) / np.sqrt(3 / 16))
    root = np.sqrt(18 / 6)
    np.testing.assert_allclose(
        got.numeric[:, 4:], np.array([[3, 0], [0, 3], [0, 0], [0, 0]]) / root, rtol=1e-6
    )
    genre, tags = got.category[:, 0], got.category[:, 1:]
    assert genre.tolist() == [1, 2, 1, 0]  # row 0 pads
    assert (tags[0] > 0).all()
    assert (tags[0, 1], 0) == tuple(tags[1])
    assert not tags[2:].any()
    assert len({*genre.tolist(), *tags.ravel().tolist()} - {0}) == 4
    assert got.category.max() < encoder.category_rows
    np.testing.assert_allclose(
        got.category_weight, np.array([[1, 0.5, 0.5], [1, 1, 0], [1, 0, 0], [0, 0, 0]])
    )


def test_absent_columns_count_as_missing() -> None:
    got = fitted().encode(TABLE.select("item_id"))
    all_null = fitted().encode(
        TABLE.with_columns(pl.lit(None).cast(d).alias(c) for c, d in TABLE.schema.items())
    )
    for a, b in ((got.numeric, all_null.numeric), (got.category, all_null.category)):
        np.testing.assert_array_equal(a, b)
    assert got.numeric.tolist() == [[0, 1, 0, 1, 0, 0]] * 4
    assert not got.category.any()
    assert len(got) == 4


def test_unseen_values() -> None:
    encoder = fitted()
    new = pl.DataFrame(
        {"genre": ["z", "x"], "tags": [["p", "q", "r"], ["new"]], "price": [1e9, -1e9]}
    )
    got = encoder.encode(new)
    known = 2  # x and y stand in rows 1 and 2
    assert known < got.category[0, 0] <= known + 4
    assert got.category[1, 0] == 1
    assert got.category.shape == (2, 3)  # the third tag is cut
    assert (got.category[:, 1] > 0).all()
    assert got.numeric[:, 0].tolist() == [8, -8]
    assert got.category.max() < encoder.category_rows


def test_heavy_tails_are_taken_as_logarithms() -> None:
    counts = pl.DataFrame({"id": range(5), "n": [0, 1, 2, 3, 100_000]})
    encoder = FeatureEncoder.fit(counts, "id")
    logs = np.log1p([0, 1, 2, 3, 100_000])
    got = encoder.encode(counts).numeric[:, 0]
    np.testing.assert_allclose(got, (logs - logs.mean()) / logs.std(), rtol=1e-5)
    negative = encoder.encode(pl.DataFrame({"n": [-5]})).numeric[0, 0]
    np.testing.assert_allclose(negative, got[0])


@pytest.mark.parametrize("values", [[3.0, 3.0], [None, None], [float("nan"), 1.0], [np.inf, 1.0]])
def test_odd_numbers_stay_finite(values) -> None:
    table = pl.DataFrame({"id": [1, 2], "x": pl.Series(values, dtype=pl.Float64)})
    got = FeatureEncoder.fit(table, "id").encode(table)
    assert np.isfinite(got.numeric).all()
    missing = [v is None or not np.isfinite(v) for v in values]
    assert got.numeric[:, 1].tolist() == missing


@pytest.mark.parametrize("odd", [float("nan"), None, float("inf")])
def test_odd_vectors_stay_finite(odd) -> None:
    table = pl.DataFrame({"id": [1, 2], "v": [[1.0, odd], [2.0, 1.0]]})
    got = FeatureEncoder.fit(table, "id").encode(table)
    assert np.isfinite(got.numeric).all()
    assert got.numeric[0, 1] == 0
    np.testing.assert_allclose(got.numeric[1], np.array([2, 1]) / np.sqrt(6 / 3), rtol=1e-6)


def test_arrays_are_vectors() -> None:
    values = pl.Series("v", [[1.0, 2.0], [3.0, 4.0]], dtype=pl.Array(pl.Float32, 2))
    table = pl.DataFrame({"id": [1, 2], "v": values})
    got = FeatureEncoder.fit(table, "id").encode(table).numeric
    np.testing.assert_allclose(got, np.array([[1, 2], [3, 4]]) / np.sqrt(30 / 4), rtol=1e-6)


def test_no_table_no_features() -> None:
    encoder = FeatureEncoder.fit(None, "id")
    got = encoder.encode(pl.DataFrame({"id": [1, 2, 3]}))
    assert got.numeric.shape == got.category.shape == (3, 0)
    assert (encoder.numeric_width, encoder.category_width, encoder.category_rows) == (0, 0, 1)


def test_an_empty_table() -> None:
    got = fitted().encode(TABLE.head(0))
    assert got.numeric.shape == (0, 6)
    assert got.category.shape == got.category_weight.shape == (0, 3)


@pytest.mark.parametrize(
    ("column", "part"),
    [
        (pl.Series("x", [{"a": 1}]), "unsupported type"),
        (pl.Series("x", [[[1.0]]]), "unsupported type"),
    ],
)
def test_types_that_are_no_features(column, part) -> None:
    with pytest.raises(DataError, match=part):
        FeatureEncoder.fit(pl.DataFrame({"id": [1]}).with_columns(column), "id")


@pytest.mark.parametrize(
    "values",
    [
        [date(2024, 1, 1), None, date(2024, 1, 11)],
        [datetime(2024, 1, 1), None, datetime(2024, 1, 11)],
        [datetime(2024, 1, 1, tzinfo=UTC), None, datetime(2024, 1, 11, tzinfo=UTC)],
        [timedelta(days=3), None, timedelta(days=13)],
        [time(1), None, time(11)],
    ],
)
def test_dates_and_durations_are_days(values: list[object]) -> None:
    """Two values stand one deviation from their mean; the missing one has its flag."""
    table = pl.DataFrame({"id": [1, 2, 3], "x": values})
    got = FeatureEncoder.fit(table, "id").encode(table).numeric
    np.testing.assert_allclose(got, [[-1, 0], [0, 1], [1, 0]], atol=1e-6)


def test_changes_since_training() -> None:
    encoder = fitted()
    with pytest.raises(DataError, match="'price' was numeric in training"):
        encoder.encode(pl.DataFrame({"price": ["1"]}))
    with pytest.raises(DataError, match="length 2 in training"):
        encoder.encode(pl.DataFrame({"vector": [[1.0, 2.0, 3.0]]}))
    with pytest.raises(DataError, match="one length"):
        FeatureEncoder.fit(pl.DataFrame({"id": [1, 2], "v": [[1.0], [1.0, 2.0]]}), "id")
