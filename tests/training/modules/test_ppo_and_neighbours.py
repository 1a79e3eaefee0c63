"""Rivals taught by a reward: EGRank's PPO and NLGR's neighbouring lists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from goalrank.encoders import EncoderSizes
from goalrank.rankers import DNN, NLGR, EGRank, Ranker, neighbours
from goalrank.requests import Batch, EncodedRequests
from goalrank.rewards import Ensemble, ListReward, ObservedGain, Reward, Weighted, slot_rewards
from goalrank.training import LoopConfig, NeighbourTask, PPOTask
from goalrank.training.modules.neighbours import neighbour_gradient
from goalrank.training.modules.ppo import clipped_surrogate, slot_advantages
from goalrank.training.objectives.group_objectives import reinforce
from tests.rankers.kit import rich_columns, spec_of
from tests.rankers.planted import SIZES, columns_of, one_hot

TYPES = np.arange(24) % 4
KIND = torch.from_numpy(np.concatenate([[-1], TYPES, [-1, -1]]))
SLOTS = 4


class DistinctTypes(Reward):
    """Share of the four types that a list holds: no sort by scores of single items gets it."""

    def forward(self, batch: Batch, lists: Tensor) -> Tensor:
        at = batch.candidates.gather(1, lists.clamp_min(0).flatten(1)).view(lists.shape)
        kinds = KIND[at].masked_fill(lists < 0, -1)
        return torch.stack([(kinds == k).any(-1) for k in range(4)], -1).float().mean(-1)


def mixed_world(requests: int, seed: int) -> EncodedRequests:
    """Ten candidates whose types vary in number; nothing tells which of a type to take."""
    rng = np.random.default_rng(seed)
    candidates = np.stack([rng.permutation(24)[:10] + 1 for _ in range(requests)])
    return columns_of(candidates, np.ones((requests, 10)), one_hot(TYPES, 4))


def teach(
    ranker: Ranker, loss: Callable[[Batch, torch.Generator], Tensor], steps: int, lr: float = 6e-3
) -> None:
    data = mixed_world(400, 0)
    optimizer = torch.optim.AdamW(ranker.parameters(), lr=lr, weight_decay=0.0)
    rng = np.random.default_rng(0)
    for step in range(steps):
        batch = data.batch(rng.choice(len(data), 48, replace=False))
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, 2 * (1 - step / steps))
        optimizer.zero_grad()
        loss(batch, torch.Generator().manual_seed(step)).backward()
        torch.nn.utils.clip_grad_norm_(ranker.parameters(), 1.0)
        optimizer.step()


def worth(ranker: Ranker) -> float:
    batch = mixed_world(150, 1).batch(slice(None))
    with torch.no_grad():
        lists = ranker.eval().rank(batch, SLOTS)
    return float(DistinctTypes()(batch, lists.unsqueeze(1)).mean())


@pytest.fixture(scope="module")
def sorted_by_reinforce() -> float:
    """What a pointwise scorer gets out of the same reward."""
    torch.manual_seed(0)
    ranker, reward = DNN(spec_of(mixed_world(2, 0)), SIZES), DistinctTypes()

    def loss(batch: Batch, rng: torch.Generator) -> Tensor:
        lists = ranker.propose(batch, 8, SLOTS, rng).lists
        every = torch.ones(lists.shape[:2], dtype=torch.bool)
        return reinforce(ranker.log_prob(batch, lists), reward(batch, lists), every, every, 1.0)

    teach(ranker, loss, 60)
    return worth(ranker)


def test_egrank_learns_order_effects_by_ppo(sorted_by_reinforce):
    torch.manual_seed(1)
    ranker = EGRank(spec_of(mixed_world(2, 0)), SIZES)
    task = PPOTask(ranker, LoopConfig(), 0, reward=DistinctTypes(), slots=SLOTS)
    count = 0

    def loss(batch: Batch, rng: torch.Generator) -> Tensor:
        nonlocal count
        if count % 2 == 0:
            task.behaviour.load_state_dict(ranker.state_dict())
        count += 1
        return task.surrogate(batch, rng)

    before = worth(ranker)
    teach(ranker.train(), loss, 300)
    after = worth(ranker)
    assert after > 0.9  # 0.93 to 0.98 of four seeds
    assert after > max(before, sorted_by_reinforce) + 0.1


def test_nlgr_learns_from_neighbours(sorted_by_reinforce):
    torch.manual_seed(0)
    ranker = NLGR(spec_of(mixed_world(2, 0)), SIZES, SLOTS)
    task = NeighbourTask(ranker, LoopConfig(), 0, reward=DistinctTypes(), slots=SLOTS)
    before = worth(ranker)
    teach(ranker.train(), task.neighbour_loss, 600, lr=2.5e-3)
    after = worth(ranker)
    assert after > 0.9  # 0.92 to 0.98 of five seeds
    assert after > max(before, sorted_by_reinforce) + 0.1


def test_nlgr_keeps_its_first_list_when_it_points_at_it():
    """Pointing at what stands there leaves the list: log-probability 0 when nothing else counts."""
    data = mixed_world(3, 0)
    batch = data.batch(slice(None))
    ranker = NLGR(spec_of(data), SIZES, SLOTS).eval()
    state = ranker.encode(batch)
    start = ranker.begin(state, 1, SLOTS)
    kept = ranker.sweep(
        state._replace(first=state.first * 0), batch, 2, SLOTS, 0, torch.Generator()
    )
    assert kept.shape == (3, 2, SLOTS)
    for step in range(SLOTS):
        start = ranker.advance(state, start, start[..., step], step)
    assert torch.equal(start, ranker.begin(state, 1, SLOTS))


def test_sweeps_hold_distinct_candidates():
    data = rich_columns(6, 6, seed=2)
    batch = data.batch(slice(None))
    ranker = NLGR(spec_of(data), SIZES, SLOTS).eval()
    state = ranker.encode(batch)
    for upto in range(SLOTS + 1):
        lists = ranker.sweep(state, batch, 5, SLOTS, upto, torch.Generator().manual_seed(upto))
        length = batch.candidate_mask.sum(-1).clamp_max(SLOTS)[:, None]
        assert torch.equal((lists >= 0).sum(-1), length.expand(-1, 5))
        ordered = lists.sort(-1).values
        assert not ((ordered[..., 1:] == ordered[..., :-1]) & (ordered[..., 1:] >= 0)).any()


def test_neighbours_by_hand():
    lists = torch.tensor([[[4, 2, 7]]])
    got = neighbours(lists, torch.tensor([[1]]), torch.tensor([[[9, 7, 2]]]))
    assert got.tolist() == [[[[4, 9, 7], [4, 7, 2], [4, 2, 7]]]]


def test_surrogate_by_hand():
    """Ratio 1.5 with clip 0.2: a good slot counts 1.2 times, a bad one in full."""
    new, old = torch.tensor([[[1.5, 1.5]]]).log(), torch.zeros(1, 1, 2)
    real = torch.ones(1, 1, 2, dtype=torch.bool)
    loss = clipped_surrogate(new, old, torch.tensor([[[1.0, -1.0]]]), real, 0.2)
    assert float(loss) == pytest.approx(-(1.2 - 1.5) / 2)


def test_advantages_are_standard_and_ignore_empty_slots():
    rng = torch.Generator().manual_seed(0)
    rewards = torch.rand(3, 5, 4, generator=rng)
    real = torch.ones(3, 5, 4, dtype=torch.bool)
    real[1, :, 2:] = False
    rewards[2] = 0.5
    got = slot_advantages(rewards, real)
    torch.testing.assert_close(got[0].mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(got[0].std(0, correction=0), torch.ones(4))
    assert (got[1, :, 2:] == 0).all()
    assert (got[2] == 0).all()
    ahead = rewards[0].flip(-1).cumsum(-1).flip(-1)
    assert torch.equal(ahead.argsort(0), got[0].argsort(0))


def test_neighbour_gradient_by_hand():
    logits = torch.zeros(1, 1, 3)
    rewards = torch.tensor([[[0.0, 2.0, 100.0]]])
    valid = torch.tensor([[[True, True, False]]])
    logits[..., 1] = np.log(3.0)  # p = 1/4, 3/4; standardised rewards -1, 1
    assert float(neighbour_gradient(logits, rewards, valid)) == pytest.approx(-0.5)
    assert float(neighbour_gradient(logits, rewards * 0, valid)) == 0.0
    none = neighbour_gradient(logits.requires_grad_(), rewards, valid & False)
    none.backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_slot_rewards_sum_to_the_reward():
    data = rich_columns(4, 6, seed=2)
    batch, spec = data.batch(slice(None)), spec_of(data)
    lists = DNN(spec, SIZES).propose(batch, 3, 4, torch.Generator()).lists
    small = replace(SIZES, width=16)
    assert isinstance(small, EncoderSizes)
    weights = [1.0, 0.5, 0.25, 0.2]
    models = [
        ListReward(spec, small, data.kinds, [1.0], slot_weights=weights).eval() for _ in range(2)
    ]
    taught = Weighted([models[0], ObservedGain()], [1.0, 2.0])
    for reward in (models[0], Ensemble(models), Ensemble(models, 0.5), ObservedGain(), taught):
        want = reward(batch, lists)
        torch.testing.assert_close(slot_rewards(reward, batch, lists).sum(-1), want)
