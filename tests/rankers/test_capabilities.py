"""What a ranker says it can do it does; what it cannot do it refuses with the remedy."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from goalrank.errors import ConfigError
from goalrank.rankers import Generator
from tests.rankers.kit import FACTORIES, WHOLE_LIST, make_ranker, rich_columns

COLUMNS = rich_columns(8, 6, seed=3)
SLOTS = 4
NAMES = sorted(FACTORIES)


def first_best(logits: Tensor, _: int) -> Tensor:
    best, pick = logits.max(-1)
    return pick.masked_fill(best.isneginf(), -1)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_decoding_with_the_greatest_logit_gives_the_best_list(name):
    ranker, batch = make_ranker(name, COLUMNS), COLUMNS.batch(slice(None))
    state = ranker.encode(batch)
    assert ranker.stepwise == (name not in WHOLE_LIST)
    if not ranker.stepwise:
        with pytest.raises(ConfigError, match=r"chooses whole lists.*remedy"):
            ranker.decode_with(state, batch, SLOTS, first_best)
        return
    found = ranker.decode_with(state, batch, SLOTS, first_best)
    assert torch.equal(found, ranker.best(state, batch, SLOTS))


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_scores_are_had_where_lists_are_sorted_scores(name):
    ranker, batch = make_ranker(name, COLUMNS), COLUMNS.batch(slice(None))
    if not ranker.scores_candidates:
        with pytest.raises(ConfigError, match=r"scores no candidates.*remedy"):
            ranker.scores(batch)
        return
    scores = ranker.scores(batch).masked_fill(~batch.candidate_mask, -torch.inf)
    best = ranker.rank(batch, 1)[:, 0]
    assert torch.equal(scores.gather(1, best[:, None])[:, 0], scores.amax(-1))


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_greedy_lists_come_with_their_probability(name):
    ranker, batch = make_ranker(name, COLUMNS), COLUMNS.batch(slice(None))
    assert ranker.decodes_greedily == ranker.stepwise
    state = ranker.encode(batch)
    if not ranker.decodes_greedily:
        with pytest.raises(ConfigError, match=r"chooses whole lists.*remedy"):
            ranker.greedy(state, batch, SLOTS)
        return
    lists, log_prob = ranker.greedy(state, batch, SLOTS)
    assert torch.equal(lists, ranker.best(state, batch, SLOTS))
    want = ranker.list_log_prob(state, batch, lists[:, None])[:, 0].double()
    torch.testing.assert_close(log_prob, want, atol=1e-5, rtol=0)
    open_to = torch.ones(batch.size, SLOTS, batch.candidates.shape[1], dtype=torch.bool)
    all_open, with_all = ranker.greedy(state, batch, SLOTS, open_to)
    assert torch.equal(all_open, lists)
    torch.testing.assert_close(with_all, want, atol=1e-5, rtol=0)
    open_to[:, 0] = False
    open_to[:, 0, 0] = True
    pinned, after = ranker.greedy(state, batch, SLOTS, open_to)
    assert (pinned[:, 0] == 0).all()
    # The pin itself is certain; what follows has the probability that the policy gives it.
    whole = ranker.list_log_prob(state, batch, pinned[:, None])[:, 0]
    first = ranker.next_log_prob(state, batch, pinned[:, :0])[:, 0]
    torch.testing.assert_close(after, (whole - first).double(), atol=1e-5, rtol=0)


@torch.no_grad()
def test_probabilities_of_large_scores_are_in_double_precision():
    ranker, batch = make_ranker("dnn", COLUMNS), COLUMNS.batch(slice(None))
    state = ranker.encode(batch).masked_fill(~batch.candidate_mask, 0.0) + 3000.0
    lists, log_prob = ranker.greedy(state, batch, SLOTS)
    open_to = torch.ones(batch.size, SLOTS, batch.candidates.shape[1], dtype=torch.bool)
    ruled, with_rules = ranker.greedy(state, batch, SLOTS, open_to)
    assert torch.equal(lists, ruled)
    torch.testing.assert_close(log_prob, with_rules, atol=1e-9, rtol=0)


@torch.no_grad()
def test_only_the_generator_searches_by_beam():
    batch = COLUMNS.batch(slice(None))
    for name in NAMES:
        ranker = make_ranker(name, COLUMNS)
        generator = name.startswith("goalrank") or name == "generator"
        assert ranker.has_beam_search == generator
        if not generator:
            with pytest.raises(ConfigError, match="no beam search"):
                ranker.beam_search(ranker.encode(batch), SLOTS, 2)


def test_a_wide_beam_is_not_greedy():
    ranker = make_ranker("goalrank", COLUMNS)
    assert isinstance(ranker, Generator)
    ranker.beam = 3
    assert not ranker.decodes_greedily
    assert not ranker.exportable


def test_the_size_of_a_pool_is_the_number_of_its_lists():
    batch = COLUMNS.batch(slice(0, 1))
    assert make_ranker("dnn", COLUMNS).pool_size(batch, SLOTS) == 1
    for name in WHOLE_LIST:
        ranker: Any = make_ranker(name, COLUMNS)
        with torch.no_grad():
            assert ranker.pool_size(batch, SLOTS) == ranker.pool(batch, SLOTS).lists.shape[1] > 1


@pytest.mark.parametrize("name", ["goalrank", "prm", "seq2slate", "nlgr"])
def test_the_loss_of_an_encoded_batch_is_the_loss(name):
    ranker, batch = make_ranker(name, COLUMNS), COLUMNS.batch(slice(None))
    found = ranker.supervised_loss(ranker.encode(batch), batch, SLOTS)
    torch.testing.assert_close(found, ranker.loss(batch, SLOTS))
