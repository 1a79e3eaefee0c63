"""Interleaving: fair drafts, credit to the right team, planted preferences found, none invented."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("scipy")

from goalrank.errors import ConfigError, DataError
from goalrank.experiments import (
    Experiment,
    Experiments,
    Metric,
    Variant,
    ab_report,
    draft_coins,
    draft_label,
    interleave_report,
    team_draft,
)
from goalrank.requests import Requests, TableInfo

INTERLEAVING = Experiment(
    name="interleaved", salt="s", interleave=("old", "new"),
    variants=(Variant(name="old"), Variant(name="new", bundle="runs/new")),
    metrics=(Metric(name="clicks", kind="click"),),
)  # fmt: skip
N, L = 8, 5


def every_coin(slots: int) -> np.ndarray:
    return np.array(list(itertools.product([False, True], repeat=-(-slots // 2))))


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), slots=st.integers(1, N))
def test_properties_of_the_draft(seed, slots):
    rng = np.random.default_rng(seed)
    coins = every_coin(slots)
    first, second = (np.tile(rng.permutation(N)[:slots], (len(coins), 1)) for _ in range(2))
    draft = team_draft(first, second, coins)
    for row, (items, teams) in enumerate(zip(draft.lists, draft.teams)):
        assert len(set(items)) == slots
        for t in range(0, slots - 1, 2):
            assert sorted(teams[t : t + 2]) == [0, 1]
        for t, (item, team) in enumerate(zip(items, teams)):
            own = (first, second)[team][row]
            left = [x for x in own if x not in items[:t]]
            assert item == left[0]
    # Swapping the rankers and the coins swaps the teams and nothing else.
    mirror = team_draft(second, first, ~coins)
    np.testing.assert_array_equal(mirror.lists, draft.lists)
    np.testing.assert_array_equal(mirror.teams, 1 - draft.teams)
    # Over all coins each slot belongs to either team equally often: clicks blind to the team tie.
    np.testing.assert_array_equal(draft.teams.mean(0), np.full(slots, 0.5))
    same = team_draft(first, first, coins)
    np.testing.assert_array_equal(same.lists, first)


def test_short_lists_end_and_give_up_their_turns():
    first = np.array([[3, 1, -1, -1], [-1, -1, -1, -1]])
    second = np.array([[1, 3, 2, -1], [-1, -1, -1, -1]])
    draft = team_draft(first, second, np.zeros((2, 2), bool))
    assert draft.lists.tolist() == [[3, 1, 2, -1], [-1] * 4]
    assert draft.teams.tolist() == [[0, 1, 1, -1], [-1] * 4]
    with pytest.raises(ConfigError, match="do not fit"):
        team_draft(first, second[:, :2], np.zeros((2, 2), bool))


def test_coins_are_fair_and_equal_in_every_process():
    ids = [f"r{i}" for i in range(4000)]
    coins = draft_coins(INTERLEAVING, ids, 5)
    assert coins.shape == (4000, 3)
    np.testing.assert_allclose(coins.mean(0), 0.5, atol=4 * 0.5 / 4000**0.5)
    np.testing.assert_array_equal(draft_coins(INTERLEAVING, ids[7:9], 5), coins[7:9])
    other = INTERLEAVING.model_copy(update={"salt": "t"})
    assert (draft_coins(other, ids, 5) != coins).mean() == pytest.approx(0.5, abs=0.03)
    with pytest.raises(ConfigError, match="slots"):
        draft_coins(INTERLEAVING, ids, 5000)


def served(better: float, seed: int, *, users: int = 400) -> Requests:
    """Users of differing zeal; `new` knows which items are liked with skill `better`, `old` not."""
    rng = np.random.default_rng(seed)
    rows = users * 3
    user = np.repeat(np.arange(users), 3)
    liked = rng.random((rows, N)) < 0.3
    first = rng.random((rows, N)).argsort(1)[:, :L]
    second = (rng.random((rows, N)) - better * liked).argsort(1)[:, :L]
    ids = [f"r{seed}-{i}" for i in range(rows)]
    draft = team_draft(first, second, draft_coins(INTERLEAVING, ids, L))
    zeal = rng.uniform(0.2, 1.0, users)[user]
    examined = 0.8 ** np.arange(L)
    chance = np.take_along_axis(liked, draft.lists, 1) * zeal[:, None] * examined
    clicks = (rng.random((rows, L)) < chance).astype(float)
    frame = pl.DataFrame(
        {
            "request_id": ids, "user_id": user,
            "time": pl.Series([datetime(2026, 1, 1, tzinfo=UTC)] * rows),
            "candidates": [list(range(N))] * rows, "shown": draft.lists.tolist(),
            "feedback": [{"click": row} for row in clicks.tolist()],
            "experiment": ["other:a," + draft_label(INTERLEAVING, row) for row in draft.teams.tolist()],
        }
    )  # fmt: skip
    return Requests(frame, info=TableInfo(feedback_kinds=("click",), target="click"))


def test_a_planted_preference_is_found_and_credited_to_the_right_team():
    table = served(0.5, 1)
    report = interleave_report(INTERLEAVING, [table])
    found = report.preferences[0]
    assert report.pair == ("old", "new")
    assert (report.units, report.requests, report.broken) == (400, 1200, 0)
    assert report.slots == pytest.approx(0.5, abs=0.03)
    assert found.low > 0.5
    assert found.p_value < 1e-4
    assert found.wins_first + found.wins_second + found.ties == 400
    clicks = table.frame["feedback"].struct.field("click").explode().sum()
    assert found.first + found.second == clicks
    assert found.second > found.first
    worse = interleave_report(INTERLEAVING, [served(-0.5, 2)]).preferences[0]
    assert worse.high < 0.5


def test_false_preferences_are_not_more_frequent_than_alpha():
    wrong = [
        interleave_report(INTERLEAVING, [served(0.0, seed, users=120)]).preferences[0].p_value
        < 0.05
        for seed in range(40)
    ]
    assert sum(wrong) <= 7  # P(more) < 1e-3 at a true rate of 5 %


def test_chunks_do_not_matter():
    table = served(0.3, 3, users=50)
    parts = [table.take(range(i, min(i + 17, len(table)))) for i in range(0, len(table), 17)]
    assert interleave_report(INTERLEAVING, parts) == interleave_report(INTERLEAVING, [table])


def test_broken_labels_are_counted_and_missing_lists_are_an_error():
    table = served(0.3, 4, users=50)
    odd = pl.when(pl.int_range(pl.len()) == 0).then(pl.lit("interleaved:interleave[01]"))
    frame = table.frame.with_columns(experiment=odd.otherwise("experiment"))
    assert interleave_report(INTERLEAVING, [Requests(frame, info=table.info)]).broken == 1
    plain = Requests(
        table.frame.with_columns(experiment=pl.lit("interleaved:new")), info=table.info
    )
    with pytest.raises(DataError, match="interleaves lists"):
        interleave_report(INTERLEAVING, [plain])
    with pytest.raises(DataError, match="interleaves lists"):
        interleave_report(INTERLEAVING, [Requests(table.frame.drop("experiment"), info=table.info)])
    with pytest.raises(ConfigError, match="interleave_report"):
        ab_report(INTERLEAVING, [table])
    with pytest.raises(ConfigError, match="needs interleave"):
        interleave_report(INTERLEAVING.model_copy(update={"interleave": None}), [table])


def test_a_file_names_an_interleaving_experiment(tmp_path):
    path = tmp_path / "e.toml"
    text = """
[[experiment]]
name = "interleaved"
salt = "s"
share = 0.5
interleave = ["old", "new"]
variants = [{ name = "old" }, { name = "new", bundle = "runs/new" }]
metrics = [{ name = "clicks", kind = "click" }]
"""
    path.write_text(text)
    found = Experiments.read(path)
    interleavings = [found.interleaving(user, "r") for user in range(400)]
    assert 150 < sum(interleaving is not None for interleaving in interleavings) < 250
    assert {interleaving.bundles for interleaving in interleavings if interleaving} == {
        (None, "runs/new")
    }
    assert all(found.assign(user, "r") == (None, None) for user in range(50))
    path.write_text(text.replace('["old", "new"]', '["old", "newer"]'))
    with pytest.raises(ConfigError, match="interleave"):
        Experiments.read(path)
