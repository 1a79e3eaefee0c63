"""What training requests say of items: against plain loops."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from goalrank.encoders import TrainingCounts, id_rows, latest_events
from goalrank.encoders.training_counts import COUNTED, LATEST
from goalrank.rankers import ItemStatistic, LastItemTransitions
from goalrank.requests import EncodedRequests
from goalrank.testing import make_requests


def requests(seed: int, count: int = 30) -> EncodedRequests:
    return make_requests(count, 6, history=8, items=12, users=5, seed=seed)


@given(st.integers(0, 10_000))
def test_counts_are_those_of_a_loop(seed: int) -> None:
    train = requests(seed)
    counts, ids = TrainingCounts.fit(train), train.items.id_row.numpy()
    before: dict[int, int] = {}
    links: dict[tuple[int, int], int] = defaultdict(int)
    fans: dict[int, set[int]] = defaultdict(set)
    for r in np.lexsort((train.time, train.user)):
        user, (a, b) = int(train.user[r]), train.history_start[r : r + 2]
        for e in range(a, b):
            if train.history_time[e] < before.get(user, np.iinfo(np.int64).min):
                continue
            fans[int(ids[train.history[e]])].add(user)
            if e > a:
                links[int(ids[train.history[e - 1]]), int(ids[train.history[e]])] += 1
        before[user] = int(train.time[r])
        first = train.candidate_start[r]
        for s in range(*train.shown_start[r : r + 2]):
            if train.feedback[s, train.target] > 0:
                fans[int(ids[train.candidates[first + train.shown[s]]])].add(user)
    known = np.ones(id_rows(train), bool)
    known[0] = known[train.items.bucket_row.numpy()] = False
    popular = np.array([np.log1p(len(fans[i])) if known[i] else 0.0 for i in range(len(known))])
    scale = popular[known].std() or 1.0
    np.testing.assert_allclose(counts.popularity, popular / scale, atol=1e-5)
    wanted = {pair: n for pair, n in links.items() if known[list(pair)].all()}
    assert len(counts.pairs) == len(wanted)
    for code, weight in zip(counts.pairs, counts.weights):
        pair = (int(code) // len(known), int(code) % len(known))
        assert weight == pytest.approx(np.log1p(wanted[pair]), rel=1e-6)


@given(st.integers(0, 10_000), st.integers(1, 12))
def test_they_agree_with_the_baselines(seed: int, limit: int) -> None:
    """The same figures by batches of tensors, as baselines rank by them."""
    train, other = requests(seed), replace(requests(seed + 1, 9), history_limit=limit)
    counts = TrainingCounts.fit(train)
    owner = np.repeat(np.arange(len(other)), np.diff(other.candidate_start))
    items = other.items.id_row.numpy()[other.candidates]
    found = counts.of(items, latest_events(other)[owner])
    batch = other.batch(slice(None))
    rankers = (
        ItemStatistic.popularity(train),
        ItemStatistic.feedback_rate(train),
        LastItemTransitions.fit(train),
    )
    for column, ranker in enumerate(rankers):
        want = ranker.scores(batch)[batch.candidate_mask].numpy()
        np.testing.assert_allclose(found[:, column], want, atol=1e-6, err_msg=COUNTED[column])


@given(st.integers(0, 10_000))
def test_the_latest_events_come_first(seed: int) -> None:
    columns = replace(requests(seed), history_limit=3)
    latest, ids = latest_events(columns), columns.items.id_row.numpy()
    assert latest.shape == (len(columns), LATEST)
    for row, (a, b) in zip(latest, pairwise(columns.history_start)):
        own = ids[columns.history[a:b]][::-1][:3]
        np.testing.assert_array_equal(row, np.pad(own, (0, LATEST - len(own))))


def test_links_of_several_events_are_summed() -> None:
    pairs = np.array([1 * 5 + 3, 2 * 5 + 3])
    counts = TrainingCounts(
        np.zeros(5, np.float32), np.zeros(5, np.float32), pairs, np.array([0.5, 2.0], np.float32)
    )
    latest = np.array([[1, 2, 0], [2, 0, 0], [4, 0, 0]])
    found = counts.of(np.array([3, 3, 3]), latest)
    want = np.array([[0.5, 2.5, 2.0], [2.0, 2.0, 2.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(found[:, 2:], want)
    none = replace(counts, pairs=pairs[:0], weights=counts.weights[:0])
    assert not none.of(np.array([3]), latest[:1]).any()


def test_the_most_frequent_links_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    train = requests(3, 60)
    every = TrainingCounts.fit(train)
    monkeypatch.setattr("goalrank.encoders.training_counts.MOST_LINKS", 7)
    some = TrainingCounts.fit(train)
    assert len(some.pairs) == 7 < len(every.pairs)
    assert (np.diff(some.pairs) > 0).all()
    np.testing.assert_array_equal(np.sort(some.weights), np.sort(every.weights)[-7:])
    weight = dict(zip(every.pairs.tolist(), every.weights.tolist()))
    assert [weight[code] for code in some.pairs.tolist()] == some.weights.tolist()
