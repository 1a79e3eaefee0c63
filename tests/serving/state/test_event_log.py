"""The log of events: once each, in order, durable, and a state made of it."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from goalrank.errors import DuplicateRequestError, StoreError
from goalrank.serving.state.event_log import EventLog
from goalrank.serving.state.keeper import StateKeeper
from goalrank.serving.state.logged import LoggedEvent
from goalrank.serving.store.database import open_engine
from tests.serving.state.kit import empty_state, imported, info, served

HOUR = 3_600_000_000


@pytest.fixture
def log(tmp_path):
    return EventLog(open_engine(f"sqlite:///{tmp_path / 'log.db'}"))


def events(count, seed=0):
    rng = np.random.default_rng(seed)
    return [
        LoggedEvent(
            int(rng.integers(3)), int(rng.integers(6)), int(rng.integers(40)) * HOUR,
            {"click": float(rng.integers(2)), "like": float(rng.integers(2))},
        )
        for _ in range(count)
    ]  # fmt: skip


def everything(log, chunk=7):
    return pl.concat([part.events for part in log.after(0, chunk)])


def test_events_come_back_in_order(log):
    first, second = events(10), [LoggedEvent(2, 3, HOUR, {"click": 1.0}, shown=False)]
    assert log.append(first).last == 10
    assert log.append(second).stored == 1
    frame = everything(log)
    assert frame["time"].to_list() == [e.time for e in (*first, *second)]
    assert frame["click"].to_list()[-1] == 1.0
    assert frame["shown"].to_list() == [True] * 10 + [False]
    assert [part.position for part in log.after(4, 4)] == [8, 11]


def test_an_event_is_stored_once(log):
    named = LoggedEvent(1, 2, HOUR, {"click": 1.0}, event_id="a")
    assert log.append([named, named]).stored == 1
    again = log.append([named, LoggedEvent(1, 2, HOUR, {"click": 1.0}, event_id="b")])
    assert (again.stored, again.duplicates, again.last) == (0, 2, 1)


def test_an_id_with_another_content_is_refused_and_nothing_stored(log):
    log.append([LoggedEvent(1, 2, HOUR, {"click": 1.0}, event_id="a")])
    other = LoggedEvent(1, 2, HOUR, {"click": 0.0}, event_id="a")
    for batch in (
        [LoggedEvent(5, 5, 5, {}), other],
        [other, LoggedEvent(1, 9, 9, {}, event_id="a")],
    ):
        with pytest.raises(DuplicateRequestError, match="'a' came before with another content"):
            log.append(batch)
    assert log.last == 1


def test_strings_and_integers_are_two_users(log):
    log.append([LoggedEvent(1, 2, HOUR, {}), LoggedEvent(7, 2, HOUR, {})])
    assert log.forget("1").events == 0
    assert log.forget(1).events == 1
    assert everything(log)["user_id"].to_list() == [7]


def test_a_state_of_a_log_with_copies_equals_the_import(log):
    sent = events(60, seed=3)
    for start in range(0, 60, 9):
        batch = sent[max(start - 4, 0) : start + 9]  # the last ones once more
        log.append([*batch, *batch[:3]])
    state = empty_state("exposures")
    for part in log.after(0, 11):
        state.add(part.events)
    distinct = everything(log).drop("shown", "before")
    assert distinct.is_unique().all()
    now = 41 * HOUR
    for user in range(3):
        candidates = distinct["item_id"].unique().sort().to_list()
        history, values = imported(distinct, "exposures", user, now, candidates)
        mine, features = served(state, user, now, candidates)
        assert mine == history
        for name, column in values.items():
            np.testing.assert_allclose(features[name], column, rtol=0, atol=1e-6, err_msg=name)


def test_a_log_whose_file_was_removed_takes_no_event(log, tmp_path):
    log.append(events(3))
    for name in ("log.db", "log.db-wal", "log.db-shm"):
        (tmp_path / name).rename(tmp_path / f"gone-{name}")
    with pytest.raises(StoreError, match="was removed"):
        log.append(events(3, seed=1))
    with pytest.raises(StoreError, match="was removed"):
        log.forget(1)


def test_a_log_keeps_its_identity_and_no_other_has_it(log, tmp_path):
    again = EventLog(open_engine(f"sqlite:///{tmp_path / 'log.db'}"))
    other = EventLog(open_engine(f"sqlite:///{tmp_path / 'other.db'}"))
    assert log.identity == again.identity != other.identity


def test_a_snapshot_of_another_log_is_not_used(log, tmp_path):
    log.append(events(3))
    mine = StateKeeper(info("exposures"), None, log, tmp_path / "s")
    mine.close()
    assert StateKeeper(info("exposures"), None, log, tmp_path / "s").replayed == 0
    other = EventLog(open_engine(f"sqlite:///{tmp_path / 'other.db'}"))
    count = other.append(events(20, seed=5)).stored
    assert StateKeeper(info("exposures"), None, other, tmp_path / "s").replayed == count > 3
