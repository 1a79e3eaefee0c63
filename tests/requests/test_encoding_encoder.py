"""Requests to arrays: what training taught, applied to requests it never saw."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from tests.requests.requests_tables import INFO, NOON, hand_frame, hand_table, tables

from goalrank.errors import DataError
from goalrank.requests import Encoder, EncoderConfig, Requests

ITEMS = pl.DataFrame(
    {"item_id": [7, 8, 10, 11, 99], "price": [1.0, 2.0, 3.0, 4.0, 50.0], "sort": list("aabbz")}
)


def trained(**config: int) -> Encoder:
    train = Requests(hand_frame(), items=ITEMS, info=INFO)
    return Encoder.fit(train, EncoderConfig(item_buckets=4, user_buckets=3, **config))


def test_what_is_learned() -> None:
    encoder = trained()
    assert encoder.items.vocabulary.ids.to_list() == [7, 8, 10, 11, 12]  # 99 was not seen
    assert encoder.users.vocabulary.ids.to_list() == [0, 1, 2, 3]
    log, mean, _ = encoder.items.features.numeric["price"]
    assert (log, mean) == (False, 2.5)  # 99's price is not learned from
    spec = encoder.spec
    assert (spec.item_ids, spec.user_ids) == (1 + 5 + 4, 1 + 4 + 3)
    assert (spec.item_numeric, spec.item_category_width, spec.candidate_features) == (2, 1, 2)
    assert spec.has_score
    assert spec.kinds == ("click", "rating")
    assert len(encoder.items.table) == spec.item_ids
    table = encoder.items.table
    assert table.id_row.tolist() == list(range(10))
    assert not table.numeric[0, 0]
    assert table.numeric[5, 1] == 1  # item 12 has no row: its price is missing
    assert (table.bucket_row[1:6] > 5).all()
    assert torch.equal(table.bucket_row[6:], table.id_row[6:])


def test_rare_ids_are_unknown() -> None:
    frame = hand_frame()
    rare = frame["candidates"].to_list()
    rare[0] = [10, 11, 55]
    train = Requests(frame.with_columns(candidates=pl.Series(rare)), info=INFO)
    assert 55 in Encoder.fit(train).items.vocabulary.ids
    assert 55 not in Encoder.fit(train, EncoderConfig(min_count=2)).items.vocabulary.ids


def test_encoded_training_requests() -> None:
    columns = trained().encode(Requests(hand_frame(), items=ITEMS, info=INFO))
    assert len(columns) == 4
    assert columns.candidates.tolist() == [3, 4, 5] * 4
    assert columns.history.tolist() == [1, 2] * 4
    assert columns.user.tolist() == [1, 2, 3, 4]
    score = np.tile([0.3, 0.2, 0.1], 4)
    want = (score - score.mean()) / score.std()
    np.testing.assert_allclose(columns.candidate_score, want, rtol=1e-5, atol=1e-6)
    features = np.tile([[1, 2], [3, 4], [5, 6]], (4, 1))
    np.testing.assert_allclose(
        columns.candidate_features, (features - features.mean(0)) / features.std(0), rtol=1e-5
    )
    assert columns.shown.tolist() == [2, 0] * 4
    assert columns.feedback[:2].tolist() == [[0, 3], [1, 5]]
    assert (columns.kinds, columns.target, columns.protocol) == (("click", "rating"), 0, "exposed")
    hours = columns.batch([0]).history_age.expm1()
    torch.testing.assert_close(hours, torch.tensor([[48.0, 24.0]]), rtol=1e-4, atol=1e-3)
    assert len(set(columns.key.tolist())) == 4


def asked(candidates: list[int], user: int = 0) -> pl.DataFrame:
    """One request that training did not see."""
    frame = hand_frame(1)
    n = len(candidates)
    return frame.with_columns(
        user_id=pl.lit(user, pl.Int64),
        candidates=pl.Series([candidates]),
        candidate_score=pl.Series([[0.2] * n]),
        candidate_features=pl.Series([[[1.0, 2.0]] * n], dtype=pl.List(pl.Array(pl.Float32, 2))),
        shown=pl.Series([[0]]),
        feedback=pl.Series([{"click": [1.0], "rating": [2.0]}]),
    )


def test_new_items_with_features_get_rows_of_their_own() -> None:
    encoder = trained()
    side = pl.DataFrame(
        {
            "item_id": [201, 10, 200, 202],
            "price": [2.5, 9.9, 3.5, 1.0],
            "sort": ["b", "z", "q", "a"],
        }
    )
    columns = encoder.encode(Requests(asked([10, 200, 77, 201]), items=side, info=INFO))
    known = len(encoder.items.table)
    row = columns.candidates.tolist()
    assert 6 <= row[2] < known  # nothing is known of 77 but its bucket
    assert sorted([row[0], row[1], row[3]]) == [known, known + 1, known + 2]
    assert len(columns.items) == known + 3  # 202 was not asked for
    table, features = columns.items, encoder.items.features
    prices = features.encode(side).numeric[:, 0]
    assert table.numeric[row[3], 0] == pytest.approx(prices[0])
    assert table.numeric[row[1], 0] == pytest.approx(prices[2])
    assert table.id_row[row[0]] == 3  # the vector of the known item, and its price of today
    assert table.numeric[row[0], 0] == pytest.approx(prices[1])
    assert table.numeric[row[0], 0] != encoder.items.table.numeric[3, 0]
    buckets = encoder.items.vocabulary.bucket(pl.Series([200, 201]))
    assert table.id_row[[row[1], row[3]]].tolist() == buckets.tolist()
    assert table.bucket_row[[row[1], row[3]]].tolist() == buckets.tolist()
    assert len(encoder.items.table) == known  # the encoder itself is unchanged


def test_known_items_whose_features_are_those_of_training_keep_their_rows() -> None:
    encoder = trained()
    first = encoder.encode(Requests(hand_frame(), items=ITEMS, info=INFO))
    assert first.items is encoder.items.table


def test_new_users_with_features() -> None:
    users = pl.DataFrame({"user_id": [0, 1, 2, 3], "age": [10, 20, 30, 40]})
    encoder = Encoder.fit(Requests(hand_frame(), users=users, info=INFO))
    new = pl.DataFrame({"user_id": [50], "age": [25]})
    columns = encoder.encode(Requests(asked([10], user=50), users=new, info=INFO))
    assert columns.user.tolist() == [len(encoder.users.table)]
    assert float(columns.users.numeric[-1, 0]) == pytest.approx(0.0)  # the mean age
    unknown = encoder.encode(Requests(asked([10], user=51), users=new, info=INFO))
    assert 4 < unknown.user[0] < len(encoder.users.table)


def test_encoding_does_not_depend_on_other_requests() -> None:
    encoder = trained()
    whole = encoder.encode(Requests(hand_frame(), items=ITEMS, info=INFO))
    one = encoder.encode(Requests(hand_frame(1, start=2), items=ITEMS, info=INFO))
    a, b = whole.batch([2]), one.batch([0])
    assert torch.equal(a.candidates, b.candidates)
    assert torch.equal(a.candidate_score, b.candidate_score)
    assert torch.equal(a.key, b.key)


def test_history_keeps_the_latest() -> None:
    columns = trained(history=1).encode(hand_table())
    assert columns.batch([0]).history.tolist() == [[2]]
    assert trained(history=0).encode(hand_table()).batch([0]).history_mask.tolist() == [[False]]


def test_optional_columns() -> None:
    bare = hand_frame().drop("candidate_score", "history_feedback", "propensity", "policy")
    columns = trained().encode(Requests(bare, info=INFO), "mean")
    assert np.allclose(columns.candidate_score, 0, atol=1e-6)
    assert np.isnan(columns.propensity).all()
    assert (columns.history_feedback == 0.5).all()
    columns = Encoder.fit(Requests(bare, info=INFO)).encode(Requests(bare, info=INFO))
    assert not columns.candidate_score.any()
    assert (columns.history_feedback == 1).all()
    assert Encoder.fit(Requests(bare, info=INFO)).score is None
    assert not Encoder.fit(Requests(bare, info=INFO)).spec.has_score


def test_faults() -> None:
    encoder = trained()
    frame = hand_frame().with_columns(pl.col("candidates", "history").cast(pl.List(pl.String)))
    with pytest.raises(DataError, match="ids are String"):
        encoder.encode(Requests(frame, info=INFO))
    other = INFO.model_copy(update={"candidate_features": ("q", "p")})
    with pytest.raises(DataError, match="same order"):
        encoder.encode(Requests(hand_frame(), info=other))


@given(tables(min_rows=1))
@settings(max_examples=60, deadline=None)
def test_any_valid_table_is_encoded(table) -> None:
    encoder = Encoder.fit(table, EncoderConfig(history=2, item_buckets=3))
    columns = encoder.encode(table)
    batch = columns.batch(slice(None))
    frame = table.frame
    assert batch.candidate_mask.sum(1).tolist() == frame["candidates"].list.len().to_list()
    for b, ids in enumerate(frame["candidates"].to_list()):
        rows = encoder.items.vocabulary.rows(
            pl.Series(ids, dtype=encoder.items.vocabulary.ids.dtype)
        )
        assert batch.candidates[b, : len(ids)].tolist() == rows.tolist()
        assert batch.candidates[b, len(ids) :].tolist() == [0] * (
            batch.candidates.shape[1] - len(ids)
        )
    assert batch.history_mask.sum(1).tolist() == [
        min(2, n) for n in frame["history"].list.len().to_list()
    ]
    for value in (batch.candidate_score, batch.candidate_features, batch.feedback, batch.relevance):
        assert value.isfinite().all()
    kinds = table.info.feedback_kinds
    for k, kind in enumerate(kinds):
        want = frame["feedback"].struct.field(kind).to_list()
        for b, values in enumerate(want):
            got = batch.feedback[b, : len(values), k].tolist()
            assert got == pytest.approx(values)


def test_age_is_in_hours() -> None:
    late = hand_frame(1).with_columns(time=pl.lit(NOON + timedelta(hours=6)))
    age = trained().encode(Requests(late, info=INFO)).batch([0]).history_age
    np.testing.assert_allclose(age[0].numpy(), np.log1p([54, 30]), rtol=1e-5)


@pytest.mark.parametrize("value", [3e38, -3e38, 1e30])
def test_absurd_features_and_scores_stay_finite(value: float) -> None:
    """Deviations that single precision cannot hold were infinite, with a warning per request."""
    encoder = trained()
    row = encoder.flat_table(hand_table())
    usual = encoder.encode_flat(row)
    absurd = encoder.encode_flat(
        replace(
            row,
            candidate_features=np.full_like(row.candidate_features, value),
            candidate_score=np.full_like(row.candidate_score, value),
        )
    )
    for name in ("own_features", "candidate_score"):
        found = getattr(absurd, name)
        assert found.size
        assert (np.abs(found) == 1e9).all()
        assert found.shape == getattr(usual, name).shape
        assert (np.sign(found) == np.sign(value)).all()
