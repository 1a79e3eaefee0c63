"""Groups: every list is one the policy could have emitted, and comes from where it says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from goalrank.requests import Batch
from goalrank.testing import assert_lists_valid
from goalrank.training import SOURCES, GroupBuilder, GroupConfig
from goalrank.training.groups.cached_scores import CachedScores, cache_scores
from goalrank.training.groups.group import repeats, thin
from goalrank.training.groups.slot_groups import slot_group
from goalrank.training.groups.sources import heuristic_lists, logged_list, perturb
from tests.rankers.kit import make_ranker, padded, rich_columns

COLUMNS = rich_columns(10, 7, seed=4)
SLOTS = 5


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def whole_batch() -> Batch:
    return COLUMNS.batch(slice(None))


def test_a_whole_group():
    policy, batch = make_ranker("goalrank", COLUMNS), whole_batch()
    light = [make_ranker(name, COLUMNS) for name in ("dnn", "prm")]
    config = GroupConfig(own=4, light=4, heuristic=3, perturbed=5, logged=1, random=2)
    group = GroupBuilder(config, SLOTS, light)(policy, policy.encode(batch), batch, rng())
    count = torch.bincount(group.source, minlength=len(SOURCES)).tolist()
    assert dict(zip(SOURCES, count)) == {
        "own": 4, "light": 4, "heuristic": 3, "perturbed": 5, "logged": 1, "random": 2,
    }  # fmt: skip
    for b in range(batch.size):
        one = COLUMNS.batch([b])
        n = one.candidates.shape[1]
        kept = group.lists[b, group.valid[b]]
        assert (kept < n).all()
        assert_lists_valid(kept.unsqueeze(0), one, SLOTS)
        distinct = {tuple(x) for x in group.lists[b].tolist() if x[0] >= 0}
        assert len(kept) == len(distinct)
    best = light[0].rank(batch, SLOTS)
    assert torch.equal(group.lists[:, group.source == SOURCES.index("light")][:, 0], best)


def test_groups_do_not_depend_on_the_batch():
    policy = make_ranker("goalrank", COLUMNS)
    build = GroupBuilder(GroupConfig(), SLOTS, [make_ranker("dnn", COLUMNS)])
    batch = whole_batch()
    together = build(policy, policy.encode(batch), batch, rng())
    wide = padded(batch, 2, 1)
    again = build(policy, policy.encode(wide), wide, rng())
    assert torch.equal(again.lists, together.lists)
    alone = COLUMNS.batch([3])
    one = build(policy, policy.encode(alone), alone, rng())
    assert torch.equal(one.lists[0], together.lists[3])
    assert torch.equal(one.valid[0], together.valid[3])
    other = build(policy, policy.encode(batch), batch, rng(1))
    assert not torch.equal(other.lists, together.lists)


def distance(a: Tensor, b: Tensor) -> int:
    return int((a != b).sum())


@given(st.integers(0, 10**6), st.integers(1, 9))
@settings(max_examples=25, deadline=None)
def test_perturbed_lists_are_neighbours(seed, slots):
    batch = padded(rich_columns(6, 6, seed=seed % 50).batch(slice(None)), 1)
    ranker = make_ranker("random", COLUMNS)
    lists = ranker.propose(batch, 4, slots, rng(seed)).lists
    moved = perturb(lists, batch, rng(seed + 1))
    assert_lists_valid(moved, batch, slots)
    for b in range(batch.size):
        n = int(batch.candidate_mask[b].sum())
        for g in range(4):
            d = distance(lists[b, g], moved[b, g])
            assert d <= 2
            # With one candidate there is no neighbour; a swap moves two slots.
            assert (d > 0) == (n > 1) or (slots == 1 and d == 0)


def test_perturbation_swaps_and_replaces_everywhere():
    batch = rich_columns(1, 30, seed=1).batch([0])
    lists = make_ranker("random", COLUMNS).rank(batch, 4).expand(1, 2000, 4)
    moved = perturb(lists, batch, rng())
    changed = moved != lists
    swaps = changed.sum(-1) == 2
    assert float(swaps.float().mean()) == pytest.approx(0.5, abs=0.05)
    for kind in (swaps, ~swaps):
        where = changed[kind].float().mean(0)
        assert (where / where.mean() - 1).abs().max() < 0.2
    n = int(batch.candidate_mask.sum())
    new = moved[~swaps][changed[~swaps]]
    assert len(new.unique()) == n - 4


@given(st.integers(0, 2**31), st.integers(0, SLOTS - 1), st.integers(2, 9))
@settings(max_examples=30, deadline=None)
def test_slot_groups_change_one_slot(seed, slot, tries):
    policy, batch = make_ranker("goalrank", COLUMNS), padded(whole_batch(), 1, 0)
    own = policy.propose(batch, 1, SLOTS, rng(seed)).lists[:, 0]
    group = slot_group(own, slot, batch, rng(seed + 1), tries)
    for b in range(batch.size):
        here = int(own[b, slot])
        length = int(batch.candidate_mask[b].sum())
        tried = group.tried[b, group.valid[b]].tolist()
        assert len(tried) == (min(length - slot, tries) if here >= 0 else 0) == len(set(tried))
        assert here < 0 or here in tried
        for one, candidate in zip(group.lists[b, group.valid[b]].tolist(), tried, strict=True):
            want = own[b].tolist()
            if candidate in want:
                want[want.index(candidate)] = here
            want[slot] = candidate
            assert one == want
            assert candidate not in own[b, :slot].tolist()
            assert one[:slot] == group.prefix[b].tolist()


def test_slot_groups_do_not_depend_on_the_batch():
    policy, batch = make_ranker("goalrank", COLUMNS), whole_batch()
    own = policy.propose(batch, 1, SLOTS, rng()).lists[:, 0]
    together = slot_group(own, 1, batch, rng(5), 3)
    alone = slot_group(own[3:4], 1, COLUMNS.batch([3]), rng(5), 3)
    assert torch.equal(alone.lists[0], together.lists[3])
    assert not torch.equal(slot_group(own, 1, batch, rng(6), 3).lists, together.lists)


def test_repeats_against_a_loop():
    lists = torch.randint(0, 2, (5, 6, 2), generator=rng())
    got = repeats(lists)
    for b in range(5):
        for g in range(6):
            assert got[b, g] == any(torch.equal(lists[b, g], lists[b, h]) for h in range(g))


def test_logged_list():
    batch = whole_batch()
    shown = torch.full_like(batch.shown, -1)
    shown[0, :3] = torch.tensor([2, 0, 1])
    shown[1, :2] = torch.tensor([1, 0])
    batch = replace(batch, shown=shown)
    got = logged_list(batch, 3)
    assert got.shape == (batch.size, 1, 3)
    assert got[0, 0].tolist() == [2, 0, 1]
    assert (got[1:] == -1).all()  # cut short or not shown
    assert logged_list(batch, 2)[:2, 0].tolist() == [[2, 0], [1, 0]]
    short = replace(batch, candidate_mask=torch.arange(7).expand(batch.size, -1) < 2)
    assert logged_list(short, 4)[1, 0].tolist() == [1, 0, -1, -1]  # all there were


def test_heuristic_lists_sort_by_a_column():
    columns = rich_columns(8, 7, seed=6)
    batch = columns.batch(slice(None))
    lists = heuristic_lists(batch, 12, 7, rng())
    assert_lists_valid(lists, batch, 7)
    plain = torch.cat([batch.candidate_score[..., None], batch.candidate_features], -1)
    wanted = {}
    for column in range(3):
        for sign in (1, -1):
            values = (sign * plain[..., column]).masked_fill(~batch.candidate_mask, -torch.inf)
            order = values.argsort(-1, descending=True)
            wanted[column, sign] = order.masked_fill(~batch.candidate_mask.gather(1, order), -1)
    used = set()
    for g in range(12):
        match = [key for key, want in wanted.items() if torch.equal(lists[:, g], want)]
        assert len(match) == 1
        used.add(match[0])
    assert len(used) >= 4


def test_heuristic_ties_are_not_broken_by_input_order():
    batch = whole_batch()
    flat = replace(
        batch,
        candidate_score=torch.zeros_like(batch.candidate_score),
        candidate_features=torch.zeros_like(batch.candidate_features),
    )
    lists = heuristic_lists(flat, 200, 1, rng())[batch.candidate_mask.sum(1) == 7]
    share = torch.bincount(lists.flatten(), minlength=7) / lists.numel()
    assert (share - 1 / 7).abs().max() < 0.05


@given(st.integers(0, 10**6), st.integers(2, 12))
@settings(max_examples=60, deadline=None)
def test_thin_keeps_the_ends_and_the_number(seed, keep):
    generator = rng(seed)
    rewards = torch.randn(4, 10, generator=generator)
    valid = torch.rand(4, 10, generator=generator) < 0.7
    valid[:, 0] = True
    kept = thin(rewards, valid, keep)
    assert not (kept & ~valid).any()
    assert torch.equal(kept.sum(-1), valid.sum(-1).clamp_max(keep) if keep < 10 else valid.sum(-1))
    low = rewards.masked_fill(~valid, torch.inf)
    high = rewards.masked_fill(~valid, -torch.inf)
    assert kept.gather(1, high.argmax(-1, keepdim=True)).all()
    assert kept.gather(1, low.argmin(-1, keepdim=True)).all()
    for b in range(4):  # evenly spaced by rank
        order = high[b].argsort(descending=True)[: int(valid[b].sum())]
        place = kept[b, order].nonzero().flatten()
        assert len(place) < 2 or int(place.diff().max()) - int(place.diff().min()) <= 1


def test_thin_zero_keeps_all():
    valid = torch.tensor([[True, False, True]])
    assert torch.equal(thin(torch.zeros(1, 3), valid, 0), valid)


@pytest.mark.parametrize(
    ("name", "visits", "cached"),
    [("prm", 1.0, True), ("prm", 0.9, False), ("goalrank", 3.0, False)],
)
def test_scores_are_kept_where_training_sees_every_request(name, visits, cached):
    light = make_ranker(name, COLUMNS).train()
    found = cache_scores(light, COLUMNS, round(visits * len(COLUMNS)))
    assert isinstance(found, CachedScores) == cached
    assert cached or found is light
    assert not light.training


def test_cached_scores_are_the_scorers():
    scorer = make_ranker("prm", COLUMNS)
    cached = CachedScores(scorer, COLUMNS, batch_size=3)
    batch = COLUMNS.batch([7, 2, 9])
    assert torch.allclose(
        cached.scores(batch)[batch.candidate_mask], scorer.scores(batch)[batch.candidate_mask]
    )
    assert torch.equal(cached.rank(batch, 4), scorer.rank(batch, 4))
