"""A snapshot and the tail of the log equal a whole replay; a snapshot that is no good is not used."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from goalrank.serving.state.snapshots import Snapshot, load_snapshot
from tests.serving.state.kit import ITEMS, empty_state
from tests.serving.state.test_parity import HOUR, event, frame


def answers(state, now):
    """All that a state says at a moment."""
    state.advance(now)
    users = [0, 1, 2, 9]
    found = state.histories(users)
    values = state.features(users, [ITEMS] * len(users), np.full(len(users), now))
    history = [found.length.tolist(), [state.items.ids[c] for c in found.item]]
    return [*history, found.feedback.tolist(), found.time.tolist()], values


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(event, min_size=1, max_size=30), st.data())
def test_a_snapshot_and_the_tail_equal_a_whole_replay(tmp_path, events, data):
    log = frame(events, False).unique(maintain_order=True)
    cut = data.draw(st.integers(0, log.height))
    clock = data.draw(st.sampled_from([0, 3 * HOUR, 10**15]))
    whole, part, again = (empty_state("exposures") for _ in range(3))
    part.add(log[:cut])
    part.advance(clock)
    Snapshot.of(part, cut).write(tmp_path / "snapshot")
    position = load_snapshot(again, tmp_path / "snapshot")
    assert position == cut
    again.add(log[position:])
    whole.add(log)
    later = 10**15 + 1
    (mine, values), (theirs, expected) = answers(again, later), answers(whole, later)
    assert mine == theirs
    for name, column in expected.items():
        np.testing.assert_allclose(values[name], column, rtol=0, atol=1e-9, err_msg=name)


@pytest.fixture
def snapshot(tmp_path):
    state = empty_state("exposures")
    state.add(frame([(0, 1, HOUR, 1, 0), (1, 2, 2 * HOUR, 0, 1)], False))
    state.advance(3 * HOUR)
    Snapshot.of(state, 2).write(tmp_path / "s")
    return tmp_path / "s"


def test_a_good_one_is_used(snapshot):
    assert load_snapshot(empty_state("exposures"), snapshot) == 2


@pytest.mark.parametrize("name", ["arrays.npz", "users.parquet", "items.parquet"])
def test_a_damaged_file_is_noticed(snapshot, name):
    content = bytearray((snapshot / name).read_bytes())
    content[len(content) // 2] ^= 1
    (snapshot / name).write_bytes(content)
    state = empty_state("exposures")
    assert load_snapshot(state, snapshot) is None
    assert (len(state.users), state.taken) == (0, 0)


def test_a_missing_file_another_version_and_another_model(snapshot):
    assert load_snapshot(empty_state("interactions"), snapshot) is None
    manifest = json.loads((snapshot / "snapshot.json").read_text())
    (snapshot / "snapshot.json").write_text(json.dumps({**manifest, "format": 99}))
    assert load_snapshot(empty_state("exposures"), snapshot) is None
    for text in ("{", "[]", "null"):
        (snapshot / "snapshot.json").write_text(text)
        assert load_snapshot(empty_state("exposures"), snapshot) is None
    assert load_snapshot(empty_state("exposures"), snapshot / "nowhere") is None


def test_a_user_is_forgotten(tmp_path):
    state = empty_state("interactions")
    state.add(frame([(0, 1, HOUR, 1, 0), (1, 2, 2 * HOUR, 0, 1), (0, 3, 9 * HOUR, 1, 0)], False))
    state.advance(3 * HOUR)
    before = state.features([1], [ITEMS], np.array([3 * HOUR]))
    assert state.forget(0)
    assert not state.forget(77)
    state.advance(10 * HOUR)
    found = state.histories([0])
    assert found.length.tolist() == [0]
    values = state.features([0], [ITEMS], np.array([10 * HOUR]))
    assert values["user_count"][0, 0] == values["user_item_count"].max() == 0
    after = state.features([1], [ITEMS], np.array([10 * HOUR]))
    assert np.array_equal(after["log_popularity"], before["log_popularity"])
    Snapshot.of(state, 3).write(tmp_path / "s")
    again = empty_state("interactions")
    assert load_snapshot(again, tmp_path / "s") == 3
    for each in (state, again):
        each.add(frame([(0, 4, 11 * HOUR, 1, 0), (5, 4, 11 * HOUR, 1, 0)], False))
        each.advance(12 * HOUR)
        assert each.histories([0, 1, 5]).length.tolist() == [1, 1, 1]


def test_events_need_who_what_and_when():
    with pytest.raises(Exception, match="events lack time"):
        empty_state("interactions").add(pl.DataFrame({"user_id": [1], "item_id": [2]}))
