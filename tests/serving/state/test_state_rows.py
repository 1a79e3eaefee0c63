"""Rows that a state keeps: enough for histories, features and what was seen, and not much more."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goalrank.features import FeatureInputs, FeaturePlan
from goalrank.requests import LogRule, TableInfo
from goalrank.serving.state import state as state_module
from goalrank.serving.state.snapshots import Snapshot, load_snapshot
from goalrank.serving.state.state import State
from tests.serving.state.kit import ITEMS, KINDS, side_categories

HOUR = 3_600_000_000
LATEST = 100  # rows per user that the plan asks for
FAMILIES = ("popularity", "rates", "user_activity", "session", "user_categories")


def made(shape, strength, families=FAMILIES, ordered=False):
    rule = LogRule(
        shape=shape, strength=strength, depth=4, seed=3, exclude_seen=True, ordered=ordered
    )
    info = TableInfo(feedback_kinds=KINDS, target="click", log=rule)
    inputs = FeatureInputs(KINDS, {"genre": side_categories(ITEMS)})
    return State(info, FeaturePlan(families, inputs), ITEMS)


def events(seed, count, likely):
    """Events of three users: mostly exposures, some with feedback, some from before the log."""
    rng = np.random.default_rng(seed)
    before = rng.random(count) < 0.05
    return pl.DataFrame(
        {
            "user_id": rng.integers(0, 3, count),
            "item_id": rng.integers(0, 400, count),
            "time": np.where(before, 0, 1 + rng.integers(0, count // 2, count)) * HOUR,
            "click": (rng.random(count) < likely).astype(np.float32),
            "like": (rng.random(count) < likely).astype(np.float32),
            "shown": rng.random(count) < 0.8,
            "before": before,
            "strength": rng.integers(1, 5, count).astype(np.float32),
        }
    ).unique(["user_id", "item_id", "time"], maintain_order=True)


def expected(log, shape, strength, seed=3, depth=4):
    """Histories and all consumed items by plain lists: user → [(item, strength, time)]."""
    state = made(shape, strength)
    users, items = state.users, state.items
    records = [state._reader.before_the_log(log.filter("before"))]
    records.append(state._reader.records(log.filter(~pl.col("before")).drop("strength")))
    out = {}
    for user in range(3):
        rows = []
        for each in np.concatenate(records):
            if each["consumed"] and users.ids[each["user"]] == user:
                rows.append((each["time"], each["tie"], items.ids[each["item"]], each["strength"]))
        rows.sort(key=lambda r: r[:2])
        out[user] = ([(r[2], r[3], r[0]) for r in rows[-depth:]], {r[2] for r in rows})
    return out


def histories(state):
    found = state.histories([0, 1, 2])
    ids = [state.items.ids[code] for code in found.item]
    rows = list(zip(ids, found.feedback.tolist(), found.time.tolist()))
    ends = np.cumsum(found.length)
    return {user: rows[e - n : e] for user, (e, n) in enumerate(zip(ends, found.length))}


def seen(state):
    place, item = state.consumed(state.users.find([0, 1, 2]))
    return {user: {state.items.ids[i] for i in item[place == user]} for user in range(3)}


@pytest.mark.parametrize("shape", ["interactions", "exposures"])
@pytest.mark.parametrize("strength", [("click",), KINDS])
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.02, 0.3]), st.lists(st.integers(0, 900)))
def test_histories_and_what_was_seen_are_those_of_all_events(shape, strength, seed, likely, cuts):
    log = events(seed, 900, likely)
    bounds = [0, *sorted(min(cut, log.height) for cut in cuts), log.height]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state_module, "_LINKED", 6)
        state, whole = (made(shape, strength) for _ in range(2))
    for begin, end in pairwise(bounds):
        state.add(log[begin:end])
        state.advance(int(log["time"][: max(end, 1)].max()) + 1)
    whole.add(log.sort("time"))
    for each in (state, whole):
        each.advance(10**6 * HOUR)
    plain = expected(log, shape, strength)
    assert histories(state) == {user: rows for user, (rows, _) in plain.items()}
    assert seen(state) == {user: items for user, (_, items) in plain.items()}
    assert state.latest.rows <= 3 * (LATEST + 6) * 4 / 3
    now = np.full(3, 10**6 * HOUR)
    mine, theirs = (each.features([0, 1, 2], [ITEMS] * 3, now) for each in (state, whole))
    for name, column in theirs.items():
        np.testing.assert_array_equal(mine[name], column, err_msg=name)


def test_a_snapshot_keeps_what_was_seen_and_a_forgotten_user_leaves_it(tmp_path):
    state, again = (made("interactions", KINDS) for _ in range(2))
    state.add(events(0, 900, 0.5))
    state.advance(10**6 * HOUR)
    before = seen(state)
    assert min(map(len, before.values())) > LATEST + 50
    Snapshot.of(state, 1).write(tmp_path / "s")
    assert load_snapshot(again, tmp_path / "s") == 1
    assert seen(again) == before
    again.forget(1)
    assert seen(again) == {**before, 1: set()}
    assert histories(again) == {**histories(state), 1: []}


def test_a_folded_row_takes_few_bytes():
    """What 10^6 users with 50 events in 2 GB need, with room for ids: item, time, marks, strength."""
    users, each = 20_000, 50
    kinds = ("consumed",)
    rule = LogRule(shape="interactions", strength=kinds, depth=50, exclude_seen=True)
    info = TableInfo(feedback_kinds=kinds, target="consumed", log=rule)
    families = ("popularity", "ages", "user_activity", "session")
    state = State(info, FeaturePlan(families, FeatureInputs(())))
    rng = np.random.default_rng(0)
    for turn in range(each):
        user = rng.permutation(users)
        items, time = rng.integers(0, 20_000, users), HOUR * (turn + 1) + np.arange(users)
        state.add(pl.DataFrame({"user_id": user, "item_id": items, "time": time}))
        state.advance(HOUR * (turn + 2))
    assert state.histories(list(range(users))).length.tolist() == [each] * users
    assert state.bytes / (users * each) < 25
