"""Inputs of training that requests lack: each is refused by its name, or is its training mean."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.requests.requests_tables import INFO, NOON, hand_frame

from goalrank.errors import ConfigError, MissingInputError
from goalrank.requests import Encoder, Requests, load_encoder, save_encoder

ITEMS = pl.DataFrame(
    {"item_id": [7, 8, 10, 11, 12], "price": [1.0, 2.0, 3.0, 4.0, 5.0], "sort": list("aabbb")}
)
ALONG = ("history_feedback", "history_time", "candidate_score", "candidate_features")


def varied() -> pl.DataFrame:
    """Requests whose every input varies."""
    frame = hand_frame().with_row_index("row")
    liked = [[0.5 + row, 2.0] for row in range(frame.height)]
    times = [
        [time - timedelta(hours=4 + row), time - timedelta(hours=1)]
        for row, time in enumerate(frame["time"])
    ]
    return frame.drop("row").with_columns(
        history_feedback=pl.Series(liked, dtype=pl.List(pl.Float32)),
        history_time=pl.Series(times, dtype=pl.List(pl.Datetime("us", "UTC"))),
    )


def table(frame: pl.DataFrame, items: pl.DataFrame | None = ITEMS) -> Requests:
    info = INFO
    if "candidate_features" not in frame.columns:
        info = info.model_copy(update={"candidate_features": ()})
    return Requests(frame, items=items, info=info)


ENCODER = Encoder.fit(table(varied()))


@pytest.mark.parametrize("name", ALONG)
def test_what_is_lacking_is_refused_by_name(name):
    with pytest.raises(MissingInputError, match=rf"^{name}.*4 of 4 requests.*option: missing"):
        ENCODER.encode(table(varied().drop(name)))


def test_every_lacking_input_is_named():
    with pytest.raises(MissingInputError, match=", ".join(ALONG[:3])):
        ENCODER.encode(table(varied().drop(ALONG)))


@pytest.mark.parametrize("name", ALONG)
def test_the_mean_of_training_stands_in(name):
    frame, encoded = varied(), ENCODER.encode(table(varied().drop(name)), "mean")
    whole = ENCODER.encode(table(frame))
    if name == "history_time":
        ages = whole.batch(slice(None)).history_age
        got = encoded.batch(slice(None)).history_age
        assert np.allclose(got, ages.double().mean(), atol=1e-6)
        return
    values = getattr(encoded, name)
    if name == "history_feedback":
        flat = frame[name].explode()
        assert np.allclose(values, flat.cast(pl.Float64).mean())
    else:  # standardised
        assert np.allclose(values, 0.0, atol=1e-6)


@pytest.mark.parametrize("name", ALONG[:2])
def test_an_input_that_never_varied_may_be_left_out(name):
    frame = varied()
    same = {
        "history_feedback": [[3.0, 3.0]] * frame.height,
        "history_time": [[time - timedelta(hours=1)] * 2 for time in frame["time"]],
    }
    constant = frame.with_columns(pl.Series(name, same[name], dtype=frame.schema[name]))
    encoder = Encoder.fit(table(constant))
    whole, without = (encoder.encode(table(each)) for each in (constant, constant.drop(name)))
    batches = [each.batch(slice(None)) for each in (whole, without)]
    assert np.allclose(batches[0].history_feedback, batches[1].history_feedback)
    assert np.allclose(batches[0].history_age, batches[1].history_age, atol=1e-6)


@pytest.mark.parametrize("name", ALONG[:3])
def test_an_input_that_training_had_not_changes_nothing(name):
    encoder = Encoder.fit(table(varied().drop(name)))
    given, without = (
        encoder.encode(table(frame)).batch(slice(None)) for frame in (varied(), varied().drop(name))
    )
    for part in ("history_feedback", "history_age", "candidate_score"):
        assert np.array_equal(getattr(given, part), getattr(without, part))


def test_requests_without_a_history_need_nothing_of_it():
    empty = varied().with_columns(pl.col(*ALONG[:2], "history").list.head(0))
    assert len(ENCODER.encode(table(empty)).history) == 0


def test_an_input_that_some_requests_lack_is_refused():
    frame = varied().with_columns(
        candidate_score=pl.when(pl.col("request_id") != "r1").then("candidate_score")
    )
    with pytest.raises(MissingInputError, match=r"^candidate_score: absent in 1 of 4"):
        ENCODER.encode(table(frame))
    known = ENCODER.encode(table(varied())).candidate_score
    filled = ENCODER.encode(table(frame), "mean").candidate_score
    assert (filled[3:6] == 0).all(), "the mean of training"
    assert (np.delete(filled, [3, 4, 5]) == np.delete(known, [3, 4, 5])).all()


@pytest.mark.parametrize("name", ["candidate_score", "candidate_features"])
def test_an_input_that_training_lacked_in_part_may_be_lacking(name):
    frame = varied().with_columns(pl.when(pl.col("request_id") != "r1").then(name).alias(name))
    encoder = Encoder.fit(table(frame))
    assert encoder.gaps == (name,)
    columns = encoder.encode(table(frame))
    values = getattr(columns, name)
    assert (values[3:6] == 0).all(), "the mean of what is known"
    rest = np.delete(values, [3, 4, 5], 0)
    assert np.allclose(rest.mean(0), 0, atol=1e-6)
    whole = encoder.encode(table(varied()))
    assert np.isfinite(getattr(whole, name)).all()


def test_another_word_is_refused():
    with pytest.raises(ConfigError, match=r"'zero'.*option: missing"):
        ENCODER.encode(table(varied()), "zero")  # type: ignore[arg-type]


NEW = pl.DataFrame({"item_id": [500, 501], "price": [1.0, 4.0], "sort": ["a", "b"]})


def with_new(items: pl.DataFrame) -> Requests:
    """Requests of which the second has the new item 500 in place of 10."""
    candidates = varied()["candidates"].to_list()
    candidates[1] = [500, *candidates[1][1:]]
    return table(varied().with_columns(candidates=pl.Series(candidates)), items)


def test_a_column_that_new_items_lack_is_refused_by_name():
    lacking = pl.concat([ITEMS, NEW]).drop("sort")
    with pytest.raises(MissingInputError, match=r"^items\.sort: absent in 1 of 4.*first: 'r1'"):
        ENCODER.encode(with_new(lacking))
    assert len(ENCODER.encode(with_new(lacking), "mean"))
    assert len(ENCODER.encode(with_new(pl.concat([ITEMS, NEW]))))
    assert len(ENCODER.encode(with_new(ITEMS))), "a new item without a row is welcome"


def test_known_items_keep_the_columns_that_do_not_come():
    plain = ENCODER.encode(table(varied())).batch(slice(None))
    partial = ITEMS.select("item_id", price=pl.col("price") * 2)
    got = ENCODER.encode(table(varied(), partial)).batch(slice(None))
    rows, was = got.candidates, plain.candidates
    assert (got.items.category[rows] == plain.items.category[was]).all()
    assert (got.items.numeric[rows][..., 0] != plain.items.numeric[was][..., 0]).any()


def test_overriding_once_is_overriding_in_each_request():
    dear = ITEMS.with_columns(price=pl.col("price") * 2)
    each = ENCODER.encode(table(varied(), dear)).batch(slice(None))
    once = ENCODER.overridden(dear, None).encode(table(varied(), None)).batch(slice(None))
    for name in ("id_row", "numeric", "category", "category_weight"):
        left, right = getattr(each.items, name), getattr(once.items, name)
        assert (left[each.candidates] == right[once.candidates]).all(), name
        assert (left[each.history] == right[once.history]).all(), name


def test_ranges_are_kept_on_disk(tmp_path):
    save_encoder(ENCODER, tmp_path)
    again = load_encoder(tmp_path)
    assert again.history_feedback == ENCODER.history_feedback
    assert again.history_age == ENCODER.history_age
    assert again.inputs.asked_for == ALONG


@given(
    history=st.lists(st.sampled_from([7, 8, 10]), max_size=4),
    lacking=st.sets(st.sampled_from(ALONG)),
)
@settings(max_examples=60, deadline=None)
def test_a_completed_row_is_the_filled_table(history, lacking):
    row = {
        "request_id": "r", "user_id": 1, "time": NOON, "history": history,
        "history_feedback": [1.5] * len(history),
        "history_time": [NOON - timedelta(hours=9 - k) for k in range(len(history))],
        "candidates": [10, 11], "candidate_score": [0.3, 0.1],
        "candidate_features": [[0.1, 0.2], [0.3, 0.4]],
    }  # fmt: skip
    row = {name: value for name, value in row.items() if name not in lacking}
    wanted = ENCODER.encode_flat(ENCODER.flat([row]), missing="mean").batch(slice(None))
    whole, filled = ENCODER.inputs.completed(row, "mean")
    got = ENCODER.encode_flat(ENCODER.flat([whole])).batch(slice(None))
    for name in ("history_feedback", "history_age", "candidate_score", "candidate_features"):
        assert np.allclose(getattr(got, name), getattr(wanted, name), atol=1e-5), name
    needed = [n for n in ALONG if n in lacking and (history or not n.startswith("history"))]
    assert list(filled) == needed
    assert all(a < b for a, b in pairwise(whole.get("history_time", [])))
    assert all(each < NOON for each in whole.get("history_time", []))
