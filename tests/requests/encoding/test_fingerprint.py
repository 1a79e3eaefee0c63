"""`LogFingerprint` recognises a table, whole or in part."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from tests.tables import make_table

from goalrank.requests import LogFingerprint, Requests


def table(rows: int, start: int = 0) -> Requests:
    """Requests numbered from `start`, a minute apart."""
    made = make_table(1, seed=0)
    frame = pl.concat([made.frame] * rows).with_columns(
        request_id=pl.Series([str(i) for i in range(start, start + rows)]),
        time=pl.col("time") + pl.duration(minutes=pl.int_range(start, start + rows)),
    )
    return Requests(frame, info=made.info)


def test_the_same_requests_in_any_order_have_one_digest():
    log = table(50)
    mixed = log.take(np.random.default_rng(0).permutation(50))
    assert LogFingerprint.of(log) == LogFingerprint.of(mixed)
    assert LogFingerprint.of(log).digest != LogFingerprint.of(log.head(49)).digest
    assert LogFingerprint.of(log).first < LogFingerprint.of(log).last


def test_it_survives_json():
    found = LogFingerprint.of(table(20))
    assert LogFingerprint.read(json.loads(json.dumps(found.to_dict()))) == found


def test_shares_of_small_tables_are_exact():
    mine = LogFingerprint.of(table(100))
    assert mine.share_in(table(100)) == 1.0
    assert mine.share_in(table(100, 60)) == 0.4
    assert mine.share_in(table(100, 100)) == 0.0


def test_shares_of_large_tables_are_estimated():
    mine = LogFingerprint.of(table(8000))
    assert len(mine.sketch) == 512
    assert mine.share_in(table(4000, 6000)) == pytest.approx(0.5, abs=0.12)
    assert mine.share_in(table(4000, 8000)) == 0.0


def test_equal_ids_at_other_times_are_other_requests():
    log = table(30)
    later = Requests(
        log.frame.with_columns(time=pl.col("time") + pl.duration(days=9)), info=log.info
    )
    assert LogFingerprint.of(log).share_in(later) == 0.0


def test_no_requests():
    nothing = LogFingerprint.of(table(5).head(0))
    assert (nothing.requests, nothing.first) == (0, "")
    assert nothing.share_in(table(5)) == 0.0
    assert LogFingerprint.of(table(5)).share_in(table(5).head(0)) == 0.0
