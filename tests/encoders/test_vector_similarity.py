"""Similarity of candidates to the history, and what it is worth where nobody met the items."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from goalrank.encoders import PlainFeatures, TreeScores, add_tree_scores, history_similarity
from goalrank.encoders.tree_scores import _features
from goalrank.rankers import LinearScores
from goalrank.rankers.scorers.tree_features import TreeFeatures
from goalrank.requests import EncodedRequests, Encoder, InputSpec, Requests
from goalrank.testing import make_requests, make_table, spec_of
from goalrank.training.modules.supervised import list_ndcg

LENGTHS = (3, 4)
SEEDS = st.integers(0, 10_000)


def requests(seed: int = 0, count: int = 6) -> EncodedRequests:
    """Requests whose items have one number and two vectors; some items lack the second."""
    columns = make_requests(count, 6, seed=seed)
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(len(columns.items), 8)).astype(np.float32)
    numbers[::3, 4:] = 0
    numbers[0] = 0
    feedback = rng.integers(-1, 4, len(columns.history)).astype(np.float32)
    items = replace(columns.items, numeric=torch.from_numpy(numbers))
    return replace(columns, items=items, history_feedback=feedback)


def plain_cosines(columns: EncodedRequests, row: int) -> list[list[float]]:
    """One request's similarities, from the definition."""
    start, end = columns.history_start[row : row + 2]
    start = max(start, end - columns.history_limit)
    numbers = columns.items.numeric.numpy().astype(np.float64)
    found = []
    for item in columns.candidates[slice(*columns.candidate_start[row : row + 2])]:
        cosines = []
        for part in (slice(1, 4), slice(4, 8)):
            user = np.zeros(part.stop - part.start)
            for event in range(start, end):
                vector = numbers[columns.history[event], part]
                length = np.linalg.norm(vector)
                user += columns.history_feedback[event] * vector / (length or 1)
            own = numbers[item, part]
            size = np.linalg.norm(own) * np.linalg.norm(user)
            cosines.append(float(own @ user / size) if size > 1e-9 else 0.0)
        found.append(cosines)
    return found


@given(SEEDS)
def test_it_is_the_cosine_of_candidate_and_user(seed: int) -> None:
    columns = requests(seed)
    batch = columns.batch(slice(None))
    got = history_similarity(batch, LENGTHS)
    for row in range(len(columns)):
        real = batch.candidate_mask[row]
        want = torch.tensor(plain_cosines(columns, row))
        torch.testing.assert_close(got[row, real], want, atol=6.2e-5, rtol=0)  # half a step
        assert not got[row, ~real].any()


def test_candidates_equally_near_tie_and_share_a_rank():
    columns = make_requests(40, 6, seed=3)
    rng = np.random.default_rng(3)
    numbers = torch.from_numpy(rng.normal(size=(len(columns.items), 8)).astype(np.float32))
    spec = replace(spec_of(columns), item_numeric=8, item_vectors=(8,))
    batch = columns.batch(slice(None))
    # A history of the first two candidates, equally liked: the user's vector lies midway.
    both = batch.candidates[:, :2]
    one = torch.ones_like(both)
    batch = replace(
        batch, items=replace(batch.items, numeric=numbers), history=both,
        history_mask=one.bool(), history_feedback=one.float(), history_age=one.float(),
    )  # fmt: skip
    near = history_similarity(batch, (8,))[:, :2, 0]
    assert torch.equal(near[:, 0], near[:, 1])
    ranks = PlainFeatures(spec)(batch)[..., -1]
    assert torch.equal(ranks[:, 0], ranks[:, 1])


@pytest.mark.parametrize("width", [64, 128, 256, 512])
def test_vectors_of_signs_tie_at_every_similarity(width):
    columns = make_requests(40, 6, seed=3)
    batch = columns.batch(slice(None))
    rng = np.random.default_rng(3)
    rows = len(columns.items)
    one = torch.ones_like(batch.candidates[:, :1])
    for against in range(1, width // 2):  # signs in which candidates differ from the history
        signs = np.ones((rows + 1, width))
        for row in range(rows):
            signs[row, rng.permutation(width)[:against]] = -1
        numbers = torch.from_numpy((signs * rng.uniform(0.5, 1.5, (rows + 1, 1))).astype("f4"))
        each = replace(
            batch, items=replace(batch.items, numeric=numbers), history=rows * one,
            history_mask=one.bool(), history_feedback=one.float(), history_age=one.float(),
        )  # fmt: skip
        near = history_similarity(each, (width,))[batch.candidate_mask]
        assert len(near.unique()) == 1
        assert float(near[0]) == pytest.approx(1 - 2 * against / width, abs=6.2e-5)


@given(SEEDS, st.floats(0.01, 100.0))
def test_lengths_of_vectors_and_the_scale_of_feedback_do_not_matter(
    seed: int, factor: float
) -> None:
    columns = requests(seed)
    scale = np.random.default_rng(seed).uniform(0.1, 10, (len(columns.items), 1))
    numbers = columns.items.numeric * torch.from_numpy(scale.astype(np.float32))
    feedback = columns.history_feedback * np.float32(factor)
    items = replace(columns.items, numeric=numbers)
    scaled = replace(columns, items=items, history_feedback=feedback)
    first, second = (
        history_similarity(each.batch(slice(None)), LENGTHS) for each in (columns, scaled)
    )
    torch.testing.assert_close(first, second, atol=1.3e-4, rtol=0)  # one step


@given(SEEDS)
def test_padding_and_the_order_of_candidates_and_events_do_not_matter(seed: int) -> None:
    columns = requests(seed)
    batch = columns.batch(slice(None))
    want = history_similarity(batch, LENGTHS)
    for row in range(len(columns)):
        alone = columns.batch([row])
        n = alone.candidates.shape[1]
        torch.testing.assert_close(
            history_similarity(alone, LENGTHS)[0], want[row, :n], atol=1e-6, rtol=0
        )
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(batch.candidates.shape[1], generator=generator)
    events = torch.randperm(batch.history.shape[1], generator=generator)
    names = ("history", "history_mask", "history_feedback")
    moved = replace(
        batch,
        candidates=batch.candidates[:, order],
        candidate_mask=batch.candidate_mask[:, order],
        **{name: getattr(batch, name)[:, events] for name in names},
    )
    torch.testing.assert_close(
        history_similarity(moved, LENGTHS), want[:, order], atol=1e-6, rtol=0
    )


def test_without_history_or_vector_it_is_zero() -> None:
    batch = requests(3).batch(slice(None))
    empty = replace(batch, history_mask=torch.zeros_like(batch.history_mask))
    assert not history_similarity(empty, LENGTHS).any()
    lacking = batch.candidates % 3 == 0
    assert lacking.any()
    assert not history_similarity(batch, LENGTHS)[lacking][:, 1].any()


def of(spec: InputSpec, lengths: tuple[int, ...]) -> InputSpec:
    return replace(spec, item_vectors=lengths)


def test_plain_features_hold_similarities_instead_of_the_numbers_of_vectors() -> None:
    columns = requests(1)
    batch, spec = columns.batch(slice(None)), spec_of(columns)
    old, new = PlainFeatures(spec), PlainFeatures(of(spec, LENGTHS))
    assert (old.numbers, new.numbers) == (2 + 1 + 8, 2 + 1 + 1 + 2)
    got, before = new(batch), old(batch)
    assert got.shape[-1] == new.width == 3 * new.numbers
    torch.testing.assert_close(got[..., :4], before[..., :4])
    torch.testing.assert_close(got[..., 4:6], history_similarity(batch, LENGTHS))


def test_trees_read_it_too() -> None:
    columns = requests(2)
    batch, spec = columns.batch(slice(None)), of(spec_of(columns), LENGTHS)
    want = history_similarity(batch, LENGTHS)
    features = TreeFeatures(spec).fit(columns)
    assert features.names[-2:] == ["similarity_0", "similarity_1"]
    torch.testing.assert_close(features(batch)[..., -2:], want)
    table = torch.from_numpy(_features(columns, LENGTHS))
    first = 2 + 1 + 8
    torch.testing.assert_close(
        table[:, first : first + 2], want[batch.candidate_mask], atol=1e-6, rtol=0
    )


def fresh_items_world(count: int, seed: int) -> EncodedRequests:
    """Choices among items that no other request has, by their vectors' closeness to the history.

    Every candidate and every event has an item of its own, so ids, popularity and links say nothing.
    """
    rng = np.random.default_rng(seed)
    n, events, width = 8, 5, 12
    columns = make_requests(count, n, history=events, users=count, items=30, seed=seed)
    sizes, past = np.diff(columns.candidate_start), np.full(count, events)
    total = int(sizes.sum())
    taste = rng.normal(size=(count, width))
    history = np.repeat(taste, past, axis=0) + rng.normal(size=(count * events, width))
    candidates = rng.normal(size=(total, width))
    vectors = np.concatenate([np.zeros((1, width)), candidates, history]).astype(np.float32)
    rows = len(vectors)
    unknown = torch.ones(rows, dtype=torch.int64)  # all share one bucket
    items = replace(
        make_requests(1, 2).items,
        id_row=unknown, bucket_row=unknown, numeric=torch.from_numpy(vectors),
        category=torch.zeros(rows, 0, dtype=torch.int64), category_weight=torch.zeros(rows, 0),
    )  # fmt: skip
    fit = (candidates * np.repeat(taste, sizes, axis=0)).sum(1) / np.sqrt(width)
    noisy = fit + 0.3 * rng.gumbel(size=total)
    best = [int(noisy[a:b].argmax()) for a, b in pairwise(columns.candidate_start)]
    return replace(
        columns,
        items=items,
        candidates=np.arange(1, total + 1, dtype=np.int32),
        history_start=np.arange(count + 1) * events,
        history=np.arange(total + 1, rows, dtype=np.int32),
        history_feedback=np.ones(count * events, np.float32),
        history_time=np.repeat(columns.time, events) - 1,
        shown_start=np.arange(count + 1),
        shown=np.array(best, np.int32),
        feedback=np.ones((count, 1), np.float32),
    )


def quality(ranker: LinearScores, columns: EncodedRequests) -> float:
    each = [list_ndcg(batch, ranker.eval().rank(batch, 4)) for batch in columns.batches(500)]
    return float(torch.cat(each).nanmean())


def test_linear_ranks_items_that_nobody_met_by_their_vectors() -> None:
    train, test = fresh_items_world(800, 0), fresh_items_world(400, 1)
    spec = spec_of(train)
    found = {}
    for lengths in ((), (12,)):
        ranker = LinearScores(of(spec, lengths))
        ranker.fit_closed_form(train, None, 4, 0)
        found[lengths] = quality(ranker, test)
    chance = quality(LinearScores(spec), test)
    assert found[()] == pytest.approx(chance, abs=0.05)
    assert found[(12,)] > chance + 0.25


def test_scores_of_trees_keep_the_vectors_that_they_read(tmp_path: Path) -> None:
    pytest.importorskip("lightgbm", reason="extra trees: lightgbm")
    train = fresh_items_world(800, 0)
    items = pl.DataFrame({"item_id": range(40), "vector": [[1.0] * 12] * 40})
    table = make_table(40, seed=0)
    encoder = Encoder.fit(Requests(table.frame, items=items, info=table.info))
    assert encoder.spec.item_vectors == (12,)
    encoder, scored, _ = add_tree_scores(encoder, train, folds=2, seed=0)
    scores = encoder.model_scores
    assert isinstance(scores, TreeScores)
    label = np.concatenate(
        [np.arange(n) == best for n, best in zip(np.diff(train.candidate_start), train.shown)]
    )
    chosen, other = (scored.candidate_features[rows, -1].mean() for rows in (label, ~label))
    assert chosen > other + 0.5  # scored by trees that never saw the request's user
    scores.write(tmp_path)
    np.testing.assert_array_equal(
        TreeScores.read(tmp_path, of(spec_of(train), (12,))).of(train), scores.of(train)
    )
