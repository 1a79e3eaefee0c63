"""The generator: one pass and step-by-step decoding are the same policy."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from goalrank.rankers import Generator
from goalrank.requests import Batch
from goalrank.training import group_cross_entropy, reference_policy
from tests.rankers.kit import (
    SMALL,
    all_lists,
    doubled,
    padded,
    rich_columns,
    shake,
    spec_of,
)

COLUMNS = rich_columns(5, 6, seed=2)


def generator(slots: int = 4, beam: int = 1, size: float = 0.3) -> Generator:
    torch.manual_seed(0)
    model = Generator(spec_of(COLUMNS), replace(SMALL, dropout=0.0), slots, beam=beam)
    shake(model, size=size)
    return model.eval()


def tiny_batch() -> Batch:
    """Requests of up to 5 candidates, one with 2."""
    columns = rich_columns(12, 5, seed=1)
    batch = columns.batch(slice(None))
    return replace(batch, items=COLUMNS.items, users=COLUMNS.users)


def decoded(model: Generator, batch: Batch, slots: int, seed: int) -> tuple[Tensor, Tensor]:
    """Randomly decoded lists and the sum of step log-probabilities on the way."""
    memory = model.encode(batch)
    total = torch.zeros(batch.size, 3)
    torch.manual_seed(seed)
    drawn = torch.rand(slots, batch.size, 3, batch.candidates.shape[1])

    def perturb(logits: Tensor, step: int) -> Tensor:
        noisy = logits - torch.log(-torch.log(drawn[step]))
        best, pick = noisy.max(-1, keepdim=True)
        chosen = logits.log_softmax(-1).gather(-1, pick).squeeze(-1)
        total.add_(torch.where(best.squeeze(-1) > -torch.inf, chosen, 0.0))
        return noisy

    return model.decode(memory, slots, 3, perturb), total


@torch.no_grad()
@pytest.mark.parametrize("slots", [1, 4, 7])
def test_one_pass_equals_step_by_step(slots):
    model, batch = generator(), padded(tiny_batch(), 1)
    lists, total = decoded(model, batch, slots, seed=slots)
    torch.testing.assert_close(model.log_prob(batch, lists), total, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_one_pass_depends_on_order():
    """Were prefixes ignored, any order of the same items would be equally likely."""
    model, batch = generator(), tiny_batch()
    full = batch.candidate_mask.sum(-1) == 5
    log_prob = model.log_prob(batch, all_lists(5, 3).expand(batch.size, -1, -1))[full]
    state = model.encode(batch)
    first = state.bias.log_softmax(-1)[full]
    assert float(log_prob.exp().sum(-1).mean()) == pytest.approx(1.0, abs=1e-4)
    assert not torch.allclose(log_prob[:, 0], first[:, [0, 1, 2]].sum(-1), atol=0.1)


@torch.no_grad()
def test_greedy_is_the_argmax_path():
    model, batch = generator(), tiny_batch()
    lists = torch.full((batch.size, 1, 4), -1)
    state = model.encode(batch)
    for t in range(4):
        best, pick = model.decoder(state, lists)[:, 0, t].max(-1)
        lists[:, 0, t] = pick.masked_fill(best == -torch.inf, -1)
    assert torch.equal(model.rank(batch, 4), lists[:, 0])


@torch.no_grad()
def test_beam_of_one_is_greedy_and_wider_beams_find_likelier_lists():
    model, batch = generator(size=0.6), tiny_batch()
    state = model.encode(batch)
    greedy = model.rank(batch, 4)
    narrow, _ = model.beam_search(state, 4, 1)
    assert torch.equal(narrow[:, 0], greedy)
    before = model.log_prob(batch, greedy.unsqueeze(1))[:, 0]
    lists, total = model.beam_search(state, 4, 12)
    assert (total[:, 0] >= before - 1e-5).all()
    assert (total[:, 1:] <= total[:, :-1]).all()
    real = total > -torch.inf
    again = model.log_prob(batch, lists)
    torch.testing.assert_close(again[real], total[real], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_huge_beam_finds_the_true_best_list():
    better = 0
    for seed in range(4):
        model = generator(size=0.1)
        shake(model.decoder, seed)
        for b, one in enumerate(SINGLES):
            lists = all_lists(int(one.candidate_mask.sum()), 3)
            want = lists[0, model.log_prob(one, lists)[0].argmax()]
            model.beam = 200
            assert torch.equal(model.rank(one, 3)[0], want)
            assert torch.equal(model.rank(tiny_batch(), 3)[b], want)
            model.beam = 1
            better += not torch.equal(model.rank(one, 3)[0], want)
    assert better > 0  # the greedy list was not always the best, so the beam did something


def _single(b: int) -> Batch:
    columns = rich_columns(12, 5, seed=1)
    return replace(columns.batch([b]), items=COLUMNS.items, users=COLUMNS.users)


SINGLES = [_single(b) for b in range(12)]


@torch.no_grad()
def test_longer_lists_than_trained_share_the_last_slot():
    model, batch = generator(slots=2), tiny_batch()
    lists = model.rank(batch, 5)
    assert ((lists >= 0).sum(-1) == batch.candidate_mask.sum(-1)).all()
    total = model.log_prob(batch, lists.unsqueeze(1))
    assert total.isfinite().all()


def test_group_loss_gradient_matches_finite_differences():
    model, batch = generator().double(), doubled(tiny_batch())
    lists = model.propose(batch, 4, 3, torch.Generator().manual_seed(0)).lists
    rewards = torch.randn(lists.shape[:2], generator=torch.Generator().manual_seed(1)).double()
    valid = torch.ones_like(rewards, dtype=torch.bool)
    valid[:, 3] = False

    def loss() -> Tensor:
        log_prob = model.log_prob(batch, lists)
        return group_cross_entropy(log_prob, reference_policy(rewards, valid), valid)

    value = loss()
    assert value.dtype == torch.float64
    value.backward()
    rng = torch.Generator().manual_seed(2)
    checked = 0
    for name, parameter in model.named_parameters():
        if parameter.grad is None:
            continue
        direction = torch.randn(parameter.shape, generator=rng).double()
        want = float((parameter.grad * direction).sum())
        with torch.no_grad():
            ends = []
            for sign in (1, -1):
                parameter.add_(sign * 1e-5 * direction)
                ends.append(float(loss()))
                parameter.sub_(sign * 1e-5 * direction)
        assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(want, rel=1e-4, abs=1e-7), name
        checked += 1
    assert checked > 30


@pytest.mark.parametrize("slots", [1, 4])
def test_supervised_loss_against_a_loop(slots):
    model, batch = generator(), tiny_batch()
    seen = batch.observed.clone()
    seen[:, 1] = False  # of unknown relevance: neither placed nor counted
    batch = replace(batch, observed=seen)
    loss = model.loss(batch, slots)
    known = batch.candidate_mask & seen
    state = model.encode(batch)
    state = replace(state, bias=state.bias.detach().masked_fill(~known, -torch.inf))
    own, weights = model.decode(state, slots)[:, 0], [1 / math.log2(t + 2) for t in range(slots)]
    each = []
    for b in range(batch.size):
        left = {i: float(batch.relevance[b, i]) for i in known[b].nonzero()[:, 0].tolist()}
        if sum(left.values()) == 0:
            continue
        total = 0.0
        for t, weight in enumerate(weights):
            amount = sum(left.values())
            if amount == 0:
                break
            log_p = model.next_log_prob(state, batch, own[:, :t])[b].detach()
            total -= weight * sum(y * float(log_p[i]) for i, y in left.items() if y) / amount
            left.pop(int(own[b, t]))
        each.append(total)
    assert 0 < len(each) < batch.size
    assert float(loss.detach()) == pytest.approx(sum(each) / len(each) / sum(weights), rel=1e-4)
    nothing = replace(batch, relevance=torch.zeros_like(batch.relevance))
    assert float(model.loss(nothing, 3).detach()) == 0.0


def test_dropout_makes_training_differ_from_evaluation():
    model = Generator(spec_of(COLUMNS), SMALL, 4)
    shake(model)  # untrained its networks give 0
    batch = tiny_batch()
    lists = model.eval().rank(batch, 3).unsqueeze(1)
    quiet = [model.log_prob(batch, lists) for _ in range(2)]
    assert torch.equal(*quiet)
    model.train()
    assert not torch.equal(model.log_prob(batch, lists), model.log_prob(batch, lists))
