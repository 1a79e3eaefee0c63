"""The future must not reach back: change it, and earlier requests stay the same bit for bit."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from goalrank.logs import import_log
from tests.logs.logs_data import START, exposures, kuairand_folder, movielens_folder, ratings

BEFORE = ["request_id", "history", "history_feedback", "history_time", "candidates"]
OPTIONS = {"first_fit": 100, "factors": 8, "min_positives": 0, "fractions": (1.0, 0.0, 0.0)}


def everything(result):
    parts = [p.frame for p in (result.train, result.validation, result.test)]
    return pl.concat(parts).sort("request_id")


@pytest.mark.parametrize("threads", [1, 2])
def test_future_ratings_do_not_change_earlier_requests(tmp_path, threads):
    log = ratings()
    cut = START + 250_000
    rng = np.random.default_rng(1)
    later = log["timestamp"] >= cut
    changed = log.with_columns(
        item_id=pl.when(later)
        .then(pl.Series(rng.permutation(log.height) + 10_000))
        .otherwise("item_id"),
        rating=pl.when(later).then(pl.Series(rng.integers(1, 6, log.height))).otherwise("rating"),
    )
    options = {**OPTIONS, "candidates": 20, "stride": 5, "threads": threads}
    a = everything(import_log("movielens", movielens_folder(tmp_path / "a", log), options))
    b = everything(import_log("movielens", movielens_folder(tmp_path / "b", changed), options))
    moment = datetime.fromtimestamp(cut, UTC)
    columns = [*BEFORE, "candidate_score", "candidate_features"]
    a, b = (f.filter(pl.col("time") <= moment).select(columns) for f in (a, b))
    assert a.height > 50
    assert_frame_equal(a, b, check_exact=True)


def test_future_exposures_do_not_change_earlier_requests(tmp_path):
    log = exposures()
    cut = int(log["time_ms"].quantile(0.6) or 0)
    rng = np.random.default_rng(2)
    later = log["time_ms"] >= cut
    changed = log.with_columns(
        item_id=pl.when(later)
        .then(pl.Series(rng.integers(0, 90, log.height)))
        .otherwise("item_id"),
        is_click=pl.when(later).then(1 - pl.col("is_click")).otherwise("is_click"),
        long_view=pl.when(later).then(0).otherwise("long_view"),
        is_like=pl.when(later).then(0).otherwise("is_like"),
    )
    options = {**OPTIONS, "min_list": 2, "max_list": 5}
    a = everything(import_log("kuairand", kuairand_folder(tmp_path / "a", log), options))
    b = everything(import_log("kuairand", kuairand_folder(tmp_path / "b", changed), options))
    # windows that end before the cut are the same; one that straddles it holds changed items
    moment = datetime.fromtimestamp(cut / 1000 - 400, UTC)
    columns = [*BEFORE, "candidate_features", "shown", "feedback"]
    a, b = (f.filter(pl.col("time") < moment).select(columns) for f in (a, b))
    assert a.height > 50
    assert_frame_equal(a, b, check_exact=True)


def test_the_feedback_of_a_window_does_not_leak_into_its_features(tmp_path):
    log = exposures(users=1, rows=5)
    log = log.with_columns(is_click=pl.Series([1, 0, 1, 0, 0]))
    flipped = log.with_columns(is_click=1 - pl.col("is_click"))
    options = {**OPTIONS, "min_list": 2, "max_list": 5}
    a, b = (
        everything(import_log("kuairand", kuairand_folder(tmp_path / n, f), options))
        for n, f in (("a", log), ("b", flipped))
    )
    assert_frame_equal(a.select("candidate_features")[:1], b.select("candidate_features")[:1])


@pytest.mark.parametrize("protocol", ["retrieved", "injected"])
def test_history_is_strictly_before_the_request(tmp_path, protocol):
    options = {"first_fit": 100, "factors": 4, "candidates": 20, "stride": 5, "protocol": protocol}
    frame = everything(import_log("movielens", movielens_folder(tmp_path / "m"), options))
    latest = frame.select(pl.col("history_time").list.max() < pl.col("time"))
    assert latest.to_series().all()


def test_threads_and_repeats_give_the_same_table(tmp_path):
    folder = movielens_folder(tmp_path / "m")
    options = {"first_fit": 100, "factors": 8, "candidates": 20, "stride": 5}
    tables = [
        everything(import_log("movielens", folder, {**options, "threads": n})) for n in (1, 2, 2)
    ]
    assert_frame_equal(tables[0], tables[1], check_exact=True)
    assert_frame_equal(tables[1], tables[2], check_exact=True)
