"""Channels, their blend, and the plan of refits."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from goalrank.errors import MissingExtraError
from goalrank.logs import (
    ChannelLists,
    ItemToItem,
    LinkVotes,
    blend,
    import_log,
    plan_refits,
    reciprocal_ranks,
    top_items,
    top_items_shared,
)
from goalrank.logs.retrieval.blend_check import best_channel, blend_gain
from goalrank.logs.retrieval.blending import _smallest, _smallest_of_many
from goalrank.logs.retrieval.channel import Chunk, added_up
from goalrank.logs.retrieval.channel_lists import _top_of_evidence
from goalrank.logs.retrieval.folded_in import RIDGE, FoldedIn, ItemFactors
from goalrank.logs.retrieval.item_to_item import strongest
from goalrank.logs.retrieval.refit_scoring import one_ahead
from goalrank.logs.retrieval.refits import refit_moments
from tests.logs.logs_data import START, movielens_folder


def planted(users=80, items=200, rows=40):
    """Everybody walks upwards through the catalogue: after a comes a + 1, a + 2, ..."""
    rng = np.random.default_rng(0)
    start = rng.integers(0, items, (users, 1))
    walk = (start + np.arange(rows)) % items
    times = np.sort(rng.integers(0, 10**6, (users, rows)), axis=1)
    return pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(users), rows),
            "item_id": walk.ravel(),
            "rating": np.full(users * rows, 5),
            "timestamp": START + times.ravel(),
        }
    )


def test_item_to_item_finds_a_planted_sequence(tmp_path):
    options = {"first_fit": 200, "factors": 4, "candidates": 20, "stride": 5, "horizon": 10}
    folder = movielens_folder(tmp_path / "m", planted())
    recall = import_log("movielens", folder, options).report["recall"]["test"]
    assert recall["item_to_item"] > 0.9
    assert recall["popularity"] < 0.3
    assert recall["blend"] > 0.8


def test_factorisation_finds_planted_groups(tmp_path):
    """Four circles of users, each with its own items in no particular order."""
    rng = np.random.default_rng(3)
    users, each, rows = 80, 50, 30
    inside = np.stack([rng.permutation(each)[:rows] for _ in range(users)])
    log = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(users), rows),
            "item_id": (inside + (np.arange(users) % 4)[:, None] * each).ravel(),
            "rating": np.full(users * rows, 5),
            "timestamp": START + np.sort(rng.integers(0, 10**6, (users, rows)), axis=1).ravel(),
        }
    )
    options = {"first_fit": 300, "factors": 8, "candidates": 30, "stride": 5, "horizon": 10}
    folder = movielens_folder(tmp_path / "m", log)
    recall = import_log("movielens", folder, options).report["recall"]["test"]
    assert recall["factorisation"] > 0.8  # about 30 unseen items of the own circle remain
    assert recall["popularity"] < 0.4


def test_sparse_and_dense_counts_agree(tmp_path, monkeypatch):
    folder = movielens_folder(tmp_path / "m")
    options = {"first_fit": 100, "candidates": 20, "stride": 5, "quotas": {"item_to_item": 1.0}}
    dense = import_log("movielens", folder, options)
    monkeypatch.setattr("goalrank.logs.retrieval.pair_counts._DENSE_CELLS", 0)
    monkeypatch.setattr("goalrank.logs.retrieval.pair_counts._WAITING", 50)
    sparse = import_log("movielens", folder, options)
    assert dense.report["recall"] == sparse.report["recall"]
    assert dense.train.frame["candidates"].to_list() == sparse.train.frame["candidates"].to_list()


def test_links_are_cut_to_the_strongest(tmp_path, monkeypatch):
    made = []
    original = ItemToItem.__init__

    def narrow(self, *args, **kwargs):
        original(self, *args, **{**kwargs, "links": 5})
        made.append(self)

    monkeypatch.setattr(ItemToItem, "__init__", narrow)
    import_log("movielens", movielens_folder(tmp_path / "m"), {"first_fit": 100, "factors": 4})
    assert np.diff(made[0].matrix.indptr).max() == 5


scores = st.integers(0, 2**31).map(lambda seed: np.random.default_rng(seed))


@settings(max_examples=60, deadline=None)
@given(scores, st.integers(1, 12), st.integers(1, 15))
def test_top_items_are_the_largest(rng, size, count):
    table = rng.integers(0, 5, (4, size)).astype(np.float32)
    table[rng.random((4, size)) < 0.3] = -np.inf
    got = top_items(table, count)
    excluded = rng.random(table.shape) < 0.5
    without = top_items(np.where(excluded, -np.inf, table).astype(table.dtype), count)
    assert np.array_equal(top_items(table, count, excluded), without)
    for row, items in zip(table, got):
        real = items[items >= 0]
        assert len(real) == min(count, int((row > -np.inf).sum()))
        want = np.sort(row[row > -np.inf])[::-1][: len(real)]
        assert np.array_equal(row[real], want)


@settings(max_examples=60, deadline=None)
@given(scores, st.integers(1, 40), st.integers(1, 6))
def test_shared_scores_give_the_same_top_items(rng, size, count):
    row = rng.permutation(size).astype(np.float32)
    seen = rng.random((3, size)) < 0.6
    table = np.where(seen, -np.inf, row[None, :]).astype(np.float32)
    assert np.array_equal(top_items_shared(row, seen, count), top_items(table, count))


def test_blend_fills_quotas_without_repeats():
    first = np.arange(40, dtype=np.int32)[None, :]
    second = np.arange(100, 140, dtype=np.int32)[None, :]
    got = blend([first, second], [0.75, 0.25], 20, 200)[0]
    assert len(set(got.tolist())) == 20
    assert set(range(7)) <= set(got.tolist())  # half of its 15 whatever the other says
    assert set(range(100, 102)) <= set(got.tolist())


def test_blend_prefers_consensus():
    first = np.array([[0, 1, 2, 3, 4, 5, 6, 7]], dtype=np.int32)
    second = np.array([[10, 11, 12, 13, 7, 14, 15, 16]], dtype=np.int32)
    got = blend([first, second], [0.5, 0.5], 4, 20)[0]
    assert 7 in got


def test_blend_puts_forced_items_in():
    top = np.arange(10, dtype=np.int32)[None, :]
    got = blend([top], [1.0], 5, 10, np.array([[7, 25, -1]], dtype=np.int32))[0]
    assert {7, 25} <= set(got.tolist())
    assert len(set(got.tolist())) == 5


def test_reciprocal_ranks():
    top = np.array([[4, 2, -1]], dtype=np.int32)
    got = reciprocal_ranks(top, 6, np.array([[2, 4, 5, -1]], dtype=np.int32))
    assert got[0].tolist() == [0.5, 1.0, 0.0, 0.0]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=80), st.integers(1, 10))
def test_refits_only_look_back(times, first):
    rows = np.array(times, dtype=np.int64)
    asked = np.arange(-1, 53)
    plan = plan_refits(rows, asked, first, 1.5)
    for row_time, block in zip(rows, plan.row_block):
        assert all(row_time < m for m in plan.moments[block:])
        assert all(row_time >= m for m in plan.moments[:block])
    for now, block in zip(asked, plan.point_block):
        assert block == -1 or plan.moments[block] <= now
    # later rows never move an earlier refit
    more = plan_refits(np.append(rows, [60, 61, 62]), asked, first, 1.5)
    assert np.array_equal(more.moments[: len(plan.moments)], plan.moments)


def test_without_implicit_the_error_names_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "implicit.cpu.als", None)
    folder = movielens_folder(tmp_path / "m")
    with pytest.raises(MissingExtraError, match="quotas"):
        import_log("movielens", folder, {"first_fit": 100})
    result = import_log("movielens", folder, {"first_fit": 100, "quotas": {"popularity": 1.0}})
    assert list(result.report["recall"]["all"]) == ["popularity", "blend"]


def test_without_scipy_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(MissingExtraError, match="retrieval"):
        import_log("kuairand")


@settings(max_examples=100, deadline=None)
@given(scores, st.integers(1, 6), st.integers(0, 90), st.sampled_from([3, 50, 10**6]))
def test_wide_rows_give_the_items_of_plain_selection(rng, count, more, values):
    table = rng.integers(0, values, (5, 12 * count + more)).astype(np.float32)
    table[rng.random(table.shape) < 0.3] = np.inf
    table[0] = np.inf
    assert np.array_equal(_smallest_of_many(table, count), _smallest(table, count))


def test_popularity_follows_the_latest_rows(tmp_path):
    """Fashions of 20 items, each for a quarter of the log: earlier ones are worth nothing now."""
    rng = np.random.default_rng(5)
    users, fashions, each = 200, 4, 6
    rows = fashions * each
    taken = np.stack([rng.permutation(20)[:each] for _ in range(users * fashions)])
    items = taken.reshape(users, fashions, each) + 20 * np.arange(fashions)[None, :, None]
    fashion = np.repeat(np.arange(fashions), each)[None]
    times = fashion * 10**5 + np.sort(rng.integers(0, 10**5, (users, rows)), axis=1)
    log = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(users), rows),
            "item_id": items.reshape(users, rows).ravel(),
            "rating": np.full(users * rows, 5),
            "timestamp": START + times.ravel(),
        }
    )
    options = {
        "first_fit": 100, "refit_growth": 1.1, "candidates": 20, "stride": 1, "horizon": 2,
        "quotas": {"popularity": 1.0},
    }  # fmt: skip
    recall = import_log("movielens", movielens_folder(tmp_path / "m", log), options).report[
        "recall"
    ]
    assert recall["test"]["popularity"] > 0.8


def test_the_blend_is_compared_with_the_best_channel():
    recall = {
        "a": np.array([0.2, 0.4, 0.6, 0.0]),
        "b": np.array([0.5, 0.5, 0.5, 0.5]),
        "blend": np.array([0.6, 0.7, 0.4, 0.6]),
    }
    assert best_channel(recall) == "b"
    gain = blend_gain(recall, "b", np.array([0, 0, 1, 2], np.int32))
    assert (gain.channel, gain.requests) == ("b", 4)
    assert gain.gain == pytest.approx(0.075)
    # Users' sums of the differences from the mean: 0.15, -0.175, 0.025.
    error = 1.96 * np.sqrt(0.15**2 + 0.175**2 + 0.025**2) / 4
    assert (gain.low, gain.high) == pytest.approx((0.075 - error, 0.075 + error))
    assert not gain.below
    assert blend_gain(
        {**recall, "blend": recall["b"] - 0.1}, "b", np.arange(4, dtype=np.int32)
    ).below


def test_an_import_says_what_the_blend_is_worth(tmp_path):
    options = {"first_fit": 200, "factors": 4, "candidates": 20, "stride": 2, "horizon": 2}
    folder = movielens_folder(tmp_path / "m", planted())
    recall = import_log("movielens", folder, options).report["recall"]
    best = max(recall["validation"], key=lambda n: recall["validation"][n] * (n != "blend"))
    for part in ("validation", "test"):
        gain = recall["gain"][part]
        assert gain["channel"] == best
        wanted = recall[part]["blend"] - recall[part][best]
        assert gain["gain"] == pytest.approx(wanted, abs=2e-4)
        assert gain["low"] <= gain["gain"] <= gain["high"]


@given(
    counts=st.integers(1, 128).flatmap(
        lambda rows: st.lists(st.integers(0, 40), min_size=rows, max_size=rows)
    ),
    keep=st.integers(1, 30),
    seed=st.integers(0, 99),
)
def test_the_strongest_of_each_row_are_those_of_a_stable_sort(counts, keep, seed):
    rng = np.random.default_rng(seed)
    row = np.repeat(np.arange(len(counts)), counts)
    value = (rng.integers(1, 9, len(row)) / 7).astype(np.float32)  # many are equal
    naive = [
        at[np.argsort(-value[at], kind="stable")[:keep]]
        for at in (np.flatnonzero(row == r) for r in range(len(counts)))
    ]
    found = strongest(row, value, keep)
    assert found.tolist() == sorted(np.concatenate(naive).tolist())


def test_users_are_folded_in_as_least_squares_says():
    rng = np.random.default_rng(0)
    factors = (rng.standard_normal((40, 6)) / 3).astype(np.float32)
    item = np.stack([rng.permutation(40)[:5] for _ in range(3)])
    confidence = rng.choice([0, 3, 10], (3, 5)).astype(np.float32)
    confidence[2] = 0  # no history
    want = []
    for items, weights in zip(item, confidence, strict=True):
        c, p = np.ones(40), np.zeros(40)
        c[items[weights > 0]], p[items[weights > 0]] = weights[weights > 0], 1
        normal = (factors.T * c) @ factors + RIDGE * np.eye(6)
        want.append(np.linalg.solve(normal, factors.T @ (c * p)))
    found = ItemFactors(factors).users(item, confidence)
    np.testing.assert_allclose(found, want, atol=1e-5)
    for row in range(3):  # each as if it were alone
        alone = ItemFactors(factors).users(item[row : row + 1], confidence[row : row + 1])
        assert alone[0].tolist() == found[row].tolist()


@pytest.mark.parametrize("exclude_seen", [False, True])
def test_nearly_equal_items_come_in_one_order_however_many_requests_there_are(exclude_seen):
    """A server asks for one request, the import for hundreds: their sums are rounded differently."""
    rng = np.random.default_rng(0)
    kinds = rng.standard_normal((150, 48))[rng.integers(0, 150, 600)]  # four of each
    factors = (kinds * (1 + 1e-7 * rng.standard_normal((600, 1)))).astype(np.float32)
    channel = FoldedIn.from_learnt({"items": factors}, np.ones(64 * 20, np.float32))
    log = SimpleNamespace(item=rng.integers(0, 600, 64 * 20).astype(np.int32))
    start = np.arange(64) * 20
    together = Chunk(log, start, start + 20, 600, 64)
    alone = [Chunk(log, start[r : r + 1], start[r : r + 1] + 20, 600, 1) for r in range(64)]
    tops = ChannelLists.of([channel], together, 50, exclude_seen).tops[0]
    each = [ChannelLists.of([channel], one, 50, exclude_seen).tops[0][0] for one in alone]
    assert np.array_equal(tops, each)
    # The order is that of the scores.
    scores = np.take_along_axis(channel.score(together), tops.astype(np.int64), axis=1)
    assert (np.diff(scores, axis=1) <= 1e-5).all()


def test_a_table_of_links_votes_as_the_sparse_links_do():
    rng = np.random.default_rng(0)
    dense = rng.random((30, 30)) * (rng.random((30, 30)) < 0.3)
    log = SimpleNamespace(item=rng.integers(0, 30, 200).astype(np.int32))
    chunk = Chunk(log, np.arange(0, 200, 20), np.arange(15, 215, 20) - 5, 30, 16)
    model = LinkVotes(csr_array(dense.astype(np.float32)), rng.random(200, dtype=np.float32))
    sparse = model.score(chunk), model.score_last(chunk)
    model.spread()
    for mine, want in zip((model.score(chunk), model.score_last(chunk)), sparse, strict=True):
        assert mine.any()
        assert mine.tolist() == want.tolist()


@settings(max_examples=80, deadline=None)
@given(scores, st.integers(60, 400), st.integers(1, 3), st.booleans())
def test_the_longest_factors_are_enough_only_where_they_are(rng, size, count, some_excluded):
    """Looking at the longest factors first finds what looking at all of them finds."""
    lengths = rng.random((size, 1)) ** rng.choice([0.1, 4])
    factors = (rng.standard_normal((size, 3)) * lengths).astype(np.float32)
    factors = factors[rng.integers(0, size, size)]  # some are equal
    factors[rng.random(size) < 0.2] = 0  # items that nobody consumed
    users = rng.standard_normal((4, 3)).astype(np.float32)
    users[3] = 0  # nobody's history
    excluded = rng.random((4, size)) < 0.4 if some_excluded else None
    found = ItemFactors(factors).best(users, count, excluded)
    assert found.tolist() == top_items(users @ factors.T, count, excluded).tolist()


@settings(max_examples=80, deadline=None)
@given(scores, st.integers(1, 300), st.integers(1, 8), st.integers(1, 4))
def test_of_items_that_share_the_last_place_the_lowest_codes_are_taken(rng, size, count, levels):
    table = rng.integers(0, levels, (4, size)).astype(np.float32)
    excluded = rng.random(table.shape) < 0.3
    for row, left_out, found in zip(table, excluded, top_items(table, count, excluded)):
        want = sorted(np.flatnonzero(~left_out), key=lambda item: (-row[item], item))[:count]
        assert found.tolist() == want + [-1] * (count - len(want))


def test_scores_that_are_no_numbers_bring_no_items():
    table = np.array([[np.nan, 2, np.nan, 1], [np.nan, np.nan, np.nan, np.nan]], np.float32)
    assert top_items(table, 3).tolist() == [[1, 3, -1], [-1, -1, -1]]


def test_most_users_need_the_longest_factors_alone(monkeypatch):
    rng = np.random.default_rng(0)
    factors = rng.standard_normal((4000, 8)) * rng.random((4000, 1)) ** 2
    model = ItemFactors(factors.astype(np.float32))
    users = rng.standard_normal((50, 8)).astype(np.float32)
    looked = []

    def watched(values, *rest):
        looked.append(values.shape)
        return top_items(values, *rest)

    monkeypatch.setattr("goalrank.logs.retrieval.folded_in.top_items", watched)
    model.best(users, 20, None)
    assert looked[0] == (50, 1000)
    assert sum(rows for rows, _ in looked[1:]) < 10


@settings(max_examples=80, deadline=None)
@given(scores, st.integers(1, 60), st.integers(1, 12), st.sampled_from([0.0, 0.02, 0.9]))
def test_the_best_items_with_evidence(rng, size, count, share):
    """Few or many have some: the lists are those of looking at all items."""
    table = rng.integers(1, 4, (5, size)).astype(np.float32) * (rng.random((5, size)) < share)
    excluded = rng.random(table.shape) < 0.4
    for left_out in (None, excluded):
        without = (table <= 0) | (False if left_out is None else left_out)
        found = _top_of_evidence(table, count, left_out)
        assert found.tolist() == top_items(table, count, without).tolist()


@settings(max_examples=40, deadline=None)
@given(scores, st.integers(0, 40), st.integers(2, 30))
def test_links_vote_as_a_product_of_matrices(rng, rows, size):
    """Items that occur twice in a history included."""
    links = rng.random((size, size)) * (rng.random((size, size)) < 0.4)
    item = rng.integers(0, size, max(rows, 1)).astype(np.int32)
    weight = rng.random(max(rows, 1), dtype=np.float32)
    start = rng.integers(0, rows + 1, 3)
    end = np.array([rng.integers(s, rows + 1) for s in start])
    chunk = Chunk(SimpleNamespace(item=item), start, end, size, 3)
    want = np.zeros((3, size))
    for request, (first, last) in enumerate(zip(start, end, strict=True)):
        for age, row in enumerate(range(last - 1, max(first, last - 20) - 1, -1)):
            want[request] += 0.87**age * weight[row] * links[item[row]]
    model = LinkVotes(csr_array(links.astype(np.float32)), weight)
    np.testing.assert_allclose(model.score(chunk), want, rtol=1e-5, atol=1e-6)


def test_weights_of_equal_places_are_added_up():
    place, weight = added_up(np.array([7, 2, 7, 2, 9]), np.array([1, 2, 4, 8, 16], np.float32))
    assert (place.tolist(), weight.tolist()) == ([2, 7, 9], [10, 5, 16])
    none = added_up(np.zeros(0, np.int64), np.zeros(0, np.float32))
    assert [len(part) for part in none] == [0, 0]


def test_what_a_channel_says_of_items_is_what_it_says_of_all():
    rng = np.random.default_rng(0)
    factors = rng.standard_normal((30, 4)).astype(np.float32)
    log = SimpleNamespace(item=rng.integers(0, 30, 60).astype(np.int32))
    chunk = Chunk(log, np.array([0, 20, 40]), np.array([20, 40, 40]), 30, 4)
    channel = FoldedIn.from_learnt({"items": factors}, np.ones(60, np.float32))
    candidates = np.array([[3, -1, 29], [0, 31, 5], [1, 2, 3]], np.int32)  # 31: not known yet
    found = ChannelLists.of([channel], chunk, 5, True).features(candidates)["factorisation_score"]
    scores = channel.score(chunk)
    want = [[scores[0, 3], 0, scores[0, 29]], [scores[1, 0], 0, scores[1, 5]], [0, 0, 0]]
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)


def test_results_one_ahead_are_the_same_and_errors_come_through():
    def results():
        yield from range(5)
        raise ValueError("later")

    made = one_ahead(results())
    assert [next(made) for _ in range(5)] == list(range(5))
    with pytest.raises(ValueError, match="later"):
        next(made)
    assert list(one_ahead(iter(range(3)))) == [0, 1, 2]


@settings(max_examples=40, deadline=None)
@given(scores, st.integers(1, 30))
def test_votes_of_an_item_that_occurs_often_are_rounded_in_one_way(rng, kinds):
    """An import votes by the table of a small catalogue, a server by the links."""
    links = csr_array((rng.random((30, 30)) * (rng.random((30, 30)) < 0.3)).astype(np.float32))
    log = SimpleNamespace(item=rng.integers(0, kinds, 100).astype(np.int32))
    weight = rng.choice(np.array([1, 0.3], np.float32), 100)
    chunk = lambda: Chunk(log, np.arange(0, 100, 20), np.arange(20, 120, 20), 30, 5)  # noqa: E731
    server, importer = LinkVotes(links, weight), LinkVotes(links, weight)
    importer.spread()
    for what in ("score", "score_last"):
        found, want = (getattr(model, what)(chunk()) for model in (server, importer))
        assert found.tolist() == want.tolist()


@pytest.mark.parametrize("scale", [1.0, 1e-25])
@pytest.mark.parametrize("odd", [None, np.nan, np.inf])
def test_odd_factors_hide_no_items(scale, odd):
    """Neither numbers whose squares are 0 in single precision, nor those that are none."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        factors = rng.standard_normal((2000, 2)).astype(np.float32)
        if odd is not None:
            factors[rng.integers(0, 2000, 5)] = odd
        users = (rng.standard_normal((2, 2)) * scale).astype(np.float32)
        excluded = rng.random((2, 2000)) < 0.9
        with np.errstate(invalid="ignore"):
            found = ItemFactors(factors).best(users, 10, excluded)
            want = top_items(users @ factors.T, 10, excluded)
        assert found.tolist() == want.tolist()


def test_no_candidates_have_no_scores():
    log = SimpleNamespace(item=np.zeros(1, np.int32))
    none = np.zeros(3, np.int64)
    channel = FoldedIn.from_learnt({"items": np.ones((3, 2), np.float32)}, np.ones(1, np.float32))
    lists = ChannelLists.of([channel], Chunk(log, none, none, 3, 3), 5, exclude_seen=True)
    assert lists.blended_score([1.0], np.zeros((3, 0), np.int32)).shape == (3, 0)


@given(st.lists(st.integers(0, 5), max_size=60), st.integers(1, 10))
def test_each_refit_has_rows_to_learn_from(times, first):
    """Many rows may share the first moment."""
    ordered = np.sort(np.array(times, np.int64))
    assert all((ordered < moment).any() for moment in refit_moments(ordered, first, 1.5))
    more = np.append(np.zeros(first + 1, np.int64), np.arange(100))
    assert set(refit_moments(more, first, 1.5)) & {1, 2, 3, 4}


def test_a_log_that_begins_with_many_rows_of_one_time_is_imported(tmp_path):
    rng = np.random.default_rng(0)
    rows = [
        f"u{rng.integers(20)},i{rng.integers(30)},{1_700_000_000 + 60 * max(n, 700)}"
        for n in range(1500)
    ]
    path = tmp_path / "log.csv"
    path.write_text("\n".join(["user_id,item_id,time", *rows]) + "\n")
    options = {"first_fit": 100, "factors": 4, "candidates": 12, "stride": 2}
    made = import_log("interactions", path, {**options, "min_positives": 0, "exclude_seen": False})
    assert len(made.test) > 5
