"""Baselines against counts done by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from goalrank.rankers import (
    Constant,
    FeatureOrder,
    InputOrder,
    ItemStatistic,
    LastItemTransitions,
    RandomOrder,
    RetrieverOrder,
    Scorer,
)
from goalrank.requests import EncodedRequests
from tests.helpers import make_columns, make_entities


def planted() -> EncodedRequests:
    """Two users. User 1 asks twice, and the second history repeats the first."""
    day = 10**9
    histories = [([1, 2], [1, 2]), ([1, 2, 1, 2], [1, 2, 11, 12]), ([2, 3], [3, 4])]
    times = [10 * day, 20 * day, 15 * day]
    flat = [i for h, _ in histories for i in h]
    when = [t * day for _, ts in histories for t in ts]
    return replace(
        make_columns(3),
        items=make_entities(8),  # ids 1…5, buckets 6 and 7
        user=np.array([1, 1, 2], np.int32),
        key=np.array([5, 6, 7]),
        time=np.array(times),
        history_limit=10,
        history_start=np.array([0, 2, 6, 8]),
        history=np.array(flat, np.int32),
        history_feedback=np.ones(8, np.float32),
        history_time=np.array(when),
        candidate_start=np.array([0, 3, 6, 9]),
        candidates=np.array([3, 4, 5, 1, 3, 4, 4, 1, 3], np.int32),
        candidate_score=np.array([0.1, 0.3, 0.2] * 3, np.float32),
        candidate_features=np.array([[0, 5], [1, 4], [2, 3]] * 3, np.float32),
        shown_start=np.array([0, 2, 3, 5]),
        shown=np.array([1, 0, 2, 0, 1], np.int32),  # items 4, 3 | 4 | 4, 1
        feedback=np.array([[1], [0], [0], [1], [1]], np.float32),
        propensity=np.full(3, np.nan, np.float32),
    )


def order(scorer: Scorer, columns: EncodedRequests, row: int = 0) -> list[int]:
    return scorer.rank(columns.batch([row]), 3)[0].tolist()


def test_plain_orders_and_their_reverse():
    columns = planted()
    assert order(RetrieverOrder(), columns) == [1, 2, 0]
    assert order(RetrieverOrder(reverse=True), columns) == [0, 2, 1]
    assert order(FeatureOrder(0), columns) == [2, 1, 0]
    assert order(FeatureOrder(1), columns) == [0, 1, 2]
    assert order(FeatureOrder(1, reverse=True), columns) == [2, 1, 0]
    assert order(InputOrder(), columns) == [0, 1, 2]
    assert order(InputOrder(reverse=True), columns) == [2, 1, 0]
    assert order(Constant(), columns) == [0, 1, 2]


def test_popularity_counts_users_not_repeats():
    scorer = ItemStatistic.popularity(planted())
    # item 1: users 1, 2 (shown, good); 2: both; 3: user 2; 4: users 1 and 2 (shown, good); 5: none.
    counts = np.log1p([2, 2, 1, 2, 0])
    np.testing.assert_allclose(scorer.values[1:6], counts / counts.std(), rtol=1e-6)
    assert scorer.values[[0, 6, 7]].tolist() == [0, 0, 0]


def test_feedback_rate_is_the_smoothed_mean():
    scorer = ItemStatistic.feedback_rate(planted(), strength=2.0)
    overall = 3 / 5
    shown = np.array([1, 0, 1, 3, 0])
    liked = np.array([1, 0, 0, 2, 0])
    rate = (liked + 2 * overall) / (shown + 2)
    np.testing.assert_allclose(scorer.values[1:6], (rate - overall) / rate.std(), atol=1e-6)
    assert scorer.values[6:].tolist() == [0, 0]  # unknown items get the overall rate


def test_transitions_count_each_event_once():
    scorer = LastItemTransitions.fit(planted())
    # 1→2 twice and 2→1 once for user 1 (the repeat is not counted again), 2→3 once for user 2.
    columns = planted()
    scores = scorer.scores(columns.batch([1, 2]))
    assert scores[0].tolist() == pytest.approx([math.log(2), math.log(2), 0])  # 1, 3, 4 after 2
    assert scores[1].tolist() == [0, 0, 0]  # nothing ever followed 3
    code = (scorer.pairs == 1 * scorer.rows + 2).nonzero()
    assert float(scorer.weights[code]) == pytest.approx(math.log(3))


def test_new_items_fall_to_their_bucket():
    columns = planted()
    scorer = ItemStatistic.popularity(columns)
    rows = len(columns.items)
    extended = make_entities(rows + 1)
    extended.id_row[:rows] = columns.items.id_row
    extended.id_row[rows] = 6
    new = replace(
        make_columns(1, items=5),
        items=extended,
        candidate_start=np.array([0, 2]),
        candidates=np.array([rows, 1], np.int32),
        candidate_score=np.zeros(2, np.float32),
        candidate_features=np.zeros((2, 2), np.float32),
        shown_start=np.array([0, 0]),
        shown=np.zeros(0, np.int32),
        feedback=np.zeros((0, 1), np.float32),
    )
    assert scorer.scores(new.batch([0]))[0, 0] == 0.0
    assert LastItemTransitions.fit(columns).scores(new.batch([0])).shape == (1, 2)


def every(columns: EncodedRequests) -> list[Scorer]:
    return [
        Constant(),
        RandomOrder(),
        InputOrder(),
        RetrieverOrder(reverse=True),
        FeatureOrder(1),
        ItemStatistic.popularity(columns),
        ItemStatistic.feedback_rate(columns, reverse=True),
        LastItemTransitions.fit(columns),
    ]


@given(st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_scores_do_not_depend_on_the_batch(seed):
    columns = make_columns(12, 7, seed=seed)
    for scorer in every(columns):
        together = scorer.scores(columns.batch(slice(None)))
        for row in (0, 5):
            alone = scorer.scores(columns.batch([row]))[0]
            torch.testing.assert_close(alone, together[row, : len(alone)])


def test_data_without_history_or_feedback():
    columns = replace(make_columns(6, history=0), target=-1)
    for scorer in every(columns):
        assert scorer.scores(columns.batch(slice(None))).isfinite().all()


def test_random_order_is_uniform_and_fixed():
    columns = make_columns(2000, 4, seed=1)
    batch = columns.batch(slice(None))
    full = batch.candidate_mask.sum(1) == 4
    first = RandomOrder().rank(batch, 1)[full, 0]
    share = torch.bincount(first, minlength=4) / len(first)
    assert (share - 0.25).abs().max() < 0.06
    assert torch.equal(RandomOrder().scores(batch), RandomOrder().scores(batch))
    assert not torch.equal(RandomOrder(1).scores(batch), RandomOrder(2).scores(batch))


def test_counts_survive_their_state_dict():
    columns = make_columns(20)
    for scorer, empty in [
        (ItemStatistic.popularity(columns), ItemStatistic(torch.zeros(33))),
        (
            fitted := LastItemTransitions.fit(columns),
            LastItemTransitions(torch.zeros(len(fitted.pairs)), torch.zeros(len(fitted.pairs)), 33),
        ),
    ]:
        empty.load_state_dict(scorer.state_dict())
        batch = columns.batch(slice(None))
        assert torch.equal(scorer.scores(batch), empty.scores(batch))
