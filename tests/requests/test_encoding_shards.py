"""One fit of the encoder, whether one process has all requests or many have a shard each."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from tests.tables import make_table

from goalrank.requests import Encoder, EncoderConfig, Requests


def fit_apart(shards: list[Requests], config: EncoderConfig) -> list[Encoder]:
    """The encoder that each of several threads learns, which exchange bytes as processes do."""
    barrier = threading.Barrier(len(shards))
    said: list[bytes] = [b""] * len(shards)

    def fit(rank: int) -> Encoder:
        def exchange(mine: bytes) -> list[bytes]:
            said[rank] = mine
            barrier.wait(30)
            all_said = list(said)
            barrier.wait(30)
            return all_said

        return Encoder.fit(shards[rank], config, exchange)

    with ThreadPoolExecutor(len(shards)) as pool:
        return list(pool.map(fit, range(len(shards))))


def test_alone_the_ranges_are_numpys_own():
    table = make_table(200)
    encoder = Encoder.fit(table)
    score = table.frame["candidate_score"].explode().to_numpy()
    assert encoder.score == (float(score.mean()), float(score.std()))
    flat = table.frame["candidate_features"].explode().to_numpy().astype(np.float64)
    assert np.array_equal(encoder.candidate, np.stack([flat.mean(0), flat.std(0)], 1))


@pytest.mark.parametrize("cuts", [[0, 200], [0, 70, 200], [0, 0, 1, 90, 90, 200]])
@pytest.mark.parametrize("least", [1, 4])
@pytest.mark.parametrize("strings", [False, True])
def test_shards_learn_what_one_learns(cuts, least, strings):
    table, config = make_table(200, strings=strings), EncoderConfig(min_count=least)
    whole = Encoder.fit(table, config)
    shards = [table.take(range(a, b)) for a, b in pairwise(cuts)]
    parts = fit_apart(shards, config)
    for part in parts:
        for side in ("items", "users"):
            ours, theirs = getattr(part, side).vocabulary, getattr(whole, side).vocabulary
            assert ours.ids.equals(theirs.ids)
        assert part.score == pytest.approx(whole.score, rel=1e-5, abs=1e-7)
        np.testing.assert_allclose(part.candidate, whole.candidate, rtol=1e-12, atol=1e-15)
        assert part.score == parts[0].score
        assert np.array_equal(part.candidate, parts[0].candidate)


def test_a_large_mean_does_not_swallow_the_deviation():
    table = make_table(200)
    shifted = table.frame.with_columns(table.frame["candidate_features"].list.eval(
        pl.element().arr.to_list().list.eval(pl.element() + 3e4)
    ))  # fmt: skip
    table = Requests(shifted, items=table.items, users=table.users, info=table.info)
    whole = Encoder.fit(table)
    parts = fit_apart([table.head(50), table.take(range(50, 200))], EncoderConfig())
    np.testing.assert_allclose(parts[0].candidate, whole.candidate, rtol=1e-10)


def test_without_scores_or_requests_nothing_is_learnt():
    empty = make_table(5).head(0)
    encoder = Encoder.fit(empty)
    assert encoder.score is None
    assert np.array_equal(encoder.candidate, [[0.0, 1.0]] * 2)
    bare = Requests(empty.frame.drop("candidate_score"), info=empty.info)
    assert Encoder.fit(bare).score is None
