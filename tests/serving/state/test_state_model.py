"""A state against plain lists of rows: late rows, equal times, users who go and return, restarts."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goalrank.features import COUNTED, FeatureInputs, FeaturePlan
from goalrank.features.online import blocks
from goalrank.logs import row_ties
from goalrank.requests import LogRule, TableInfo
from goalrank.serving.state import state as state_module
from goalrank.serving.state.ids import IdCodes
from goalrank.serving.state.snapshots import Snapshot, load_snapshot
from goalrank.serving.state.state import State
from tests.serving.state.kit import ITEMS, side_categories

KINDS = ("click", "like", "other")
USERS = 4
LINKED = 3  # items of histories that linked features look at
PLAIN = ("popularity", "ages")
PERSONAL = ("popularity", "rates", "user_activity", "session", "user_categories")
seeds = st.integers(0, 2**32 - 1)
step = st.tuples(
    seeds, st.sampled_from([1, 3, 30, 150]), st.sampled_from([0.02, 0.3, 0.9]),
    st.sampled_from(["", "advance", "advance", "forget", "restart"]),
)  # fmt: skip


def rows_of(seed, count, likely, times):
    """Rows of some users at times from 1, and a few from before the log."""
    rng = np.random.default_rng(seed)
    before = rng.random(count) < rng.choice([0, 0.1, 0.6])
    values = {
        kind: size * (rng.random(count) < likely).astype(np.float32)
        for size, kind in enumerate(KINDS, 1)
    }
    return pl.DataFrame(
        {
            "user_id": rng.integers(0, USERS, count),
            "item_id": rng.integers(0, rng.choice([3, 60]), count),
            "time": np.where(before, 0, rng.integers(1, times + 1, count)),
            **values,
            "shown": rng.random(count) < 0.8,
            "before": before,
            "strength": rng.integers(1, 5, count).astype(np.float32),
        }
    )


class Model:
    """All rows of the log in the order in which they came, and the clock."""

    def __init__(self, rule, kinds):
        self.rule, self.kinds = rule, kinds
        self.rows, self.clock = [], 0

    def add(self, rows):
        for part in (rows.filter("before"), rows.filter(~pl.col("before"))):
            self.rows += [self._read(row) for row in part.iter_rows(named=True)]

    def _read(self, row):
        early = row["before"]
        if not early:
            row["strength"] = sum(row[kind] for kind in self.rule.strength)
        row["counted"] = row["shown"] and not early
        used = self.rule.shape == "interactions" or (row["shown"] and row["strength"] > 0)
        return {**row, "consumed": early or used}

    def past(self, user, what):
        """A user's rows before the clock, as a state orders them."""
        own = [row for row in self.rows if row["user_id"] == user and row["time"] < self.clock]
        return [row for row in sorted(own, key=self._key) if row[what]]

    def _key(self, row):
        if self.rule.ordered or row["before"]:
            return row["time"], 0
        user, item = (IdCodes([row[name]]).hashes for name in ("user_id", "item_id"))
        return row["time"], int(row_ties(user, item, self.rule.seed)[0])


def check(state, model):
    users = list(range(USERS))
    found, needs = state.histories(users), state.memory.plan.needs.latest
    columns = state.latest.values[: len(model.kinds)]
    ends = np.cumsum(found.length)
    for user, end, length in zip(users, ends, found.length, strict=True):
        consumed, code = model.past(user, "consumed"), state.users.find([user])
        part = slice(end - length, end)
        ids = [state.items.ids[item] for item in found.item[part]]
        mine = list(zip(ids, found.feedback[part].tolist(), found.time[part].tolist()))
        want = [(row["item_id"], row["strength"], row["time"]) for row in consumed]
        assert mine == want[-model.rule.depth :]
        _, items = state.consumed(code)
        every = {row["item_id"] for row in consumed} if model.rule.exclude_seen else set()
        assert {state.items.ids[item] for item in items} == every
        if needs:
            real, at = state.latest.latest(code, needs, COUNTED)
            at = at[real]
            ids = [state.items.ids[item] for item in state.latest.item[at]]
            values = [column[at].tolist() for column in columns]
            mine = list(zip(ids, state.latest.time[at].tolist(), *values))
            names = ("item_id", "time", *model.kinds)
            rows = [tuple(row[name] for name in names) for row in model.past(user, "counted")]
            assert mine == rows[::-1][:needs]


def restarted(state, empty):
    """What a server has that starts again."""
    with tempfile.TemporaryDirectory() as folder:
        Snapshot.of(state, 1).write(Path(folder) / "s")
        assert load_snapshot(empty, Path(folder) / "s") == 1
    return empty


@settings(max_examples=40, deadline=None)
@given(
    st.builds(
        LogRule,
        shape=st.sampled_from(["interactions", "exposures"]),
        strength=st.sampled_from([("click",), ("like",), ("click", "like"), ("other",)]),
        depth=st.sampled_from([1, 2, 6]), seed=st.just(3), exclude_seen=st.booleans(),
        ordered=st.booleans(),
    ),
    st.sampled_from([(), ("click",), ("like", "click")]), st.booleans(),
    st.sampled_from([2, 10, 200]), st.sampled_from([8, 64]), st.lists(step, max_size=10), st.data(),
)  # fmt: skip
def test_a_state_knows_what_plain_lists_know(rule, kinds, personal, times, page, steps, data):
    info = TableInfo(feedback_kinds=KINDS, target="click", log=rule)

    def empty():
        inputs = FeatureInputs(kinds, {"genre": side_categories(ITEMS)})
        return State(info, FeaturePlan(PERSONAL if personal and kinds else PLAIN, inputs), ITEMS)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state_module, "_LINKED", LINKED)
        patch.setattr(blocks, "_PAGE", page)  # so that pages fill, empty and serve other sizes
        patch.setattr(blocks, "_TOGETHER", 24)
        state, model = empty(), Model(rule, kinds)
        for seed, count, likely, event in steps:
            rows = rows_of(seed, count, likely, times)
            state.add(rows)
            model.add(rows)
            if event == "advance":
                moment = data.draw(st.integers(0, times + 3))
                state.advance(moment)
                model.clock = max(model.clock, moment)
            if event == "forget":
                user = data.draw(st.integers(0, USERS - 1))
                state.forget(user)
                model.rows = [row for row in model.rows if row["user_id"] != user]
            if event == "restart":
                state = restarted(state, empty())
            check(state, model)
