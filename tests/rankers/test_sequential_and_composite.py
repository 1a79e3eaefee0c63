"""Rankers that make lists, each in a world where its own idea pays and a control without it fails."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from goalrank.errors import ConfigError
from goalrank.rankers import DNN, NLGR, PIER, PRS, NAR4Rec, Ranker, Seq2Slate
from goalrank.rankers.composite.prs import permutation_beam
from goalrank.rankers.sequential.nar4rec import _target_shares
from goalrank.rankers.step_policy import remaining_cross_entropy
from goalrank.requests import EncodedRequests
from goalrank.testing import shake
from tests.rankers.kit import spec_of
from tests.rankers.planted import SIZES, columns_of, fit, one_hot, precision, types_at
from tests.rankers.test_scorers import neighbour_world


def test_seq2slate_reads_the_order():
    """Liked iff the candidate above it in the initial list is of type 1."""
    train, test = (neighbour_world(k, s, below=False) for k, s in ((600, 0), (200, 1)))
    spec = spec_of(train)
    ours = precision(fit(Seq2Slate(spec, SIZES), train, 3), test, 3)
    control = precision(fit(DNN(spec, SIZES), train, 3), test, 3)
    assert ours > 0.85
    assert control < 0.7


def test_remaining_labels_by_hand():
    """Uniform logits, two liked of three: after the first is placed one of two is left."""
    logits = torch.zeros(1, 2, 3)
    logits[0, 1, 0] = -torch.inf
    loss = remaining_cross_entropy(logits, torch.tensor([[0, 1]]), torch.tensor([[1.0, 0.0, 1.0]]))
    weights = 1.0, 1 / np.log2(3)
    want = (weights[0] * np.log(3) + weights[1] * np.log(2)) / sum(weights)
    assert float(loss) == pytest.approx(want, rel=1e-5)


SLOTS = 4
TYPES = np.arange(32) % SLOTS
BY_ROW = torch.from_numpy(np.concatenate([[-1], TYPES, [-1, -1]]))


def place_world(requests: int, seed: int) -> EncodedRequests:
    """Two candidates of each of four types, shown at random; type t is liked at slot t alone."""
    rng = np.random.default_rng(seed)
    pools = np.stack([np.flatnonzero(k == TYPES) + 1 for k in range(SLOTS)])
    picks = np.argsort(rng.random((requests, SLOTS, 8)), 2)[..., :2]
    candidates = pools[np.arange(SLOTS)[:, None], picks].reshape(requests, 8)
    shown = np.argsort(rng.random((requests, 8)), 1)[:, :SLOTS]
    kind = TYPES[np.take_along_axis(candidates, shown, 1) - 1]
    relevance = np.zeros((requests, 8))
    np.put_along_axis(relevance, shown, (kind == np.arange(SLOTS)).astype(float), 1)
    return columns_of(candidates, relevance, one_hot(TYPES, SLOTS), shown=shown)


def in_place(ranker: Ranker, columns: EncodedRequests) -> float:
    """Share of slots that hold their type."""
    lists = ranker.rank(columns.batch(slice(None)), SLOTS)
    return float((types_at(columns, BY_ROW, lists) == torch.arange(SLOTS)).float().mean())


def test_nar4rec_learns_slots():
    train, test = place_world(600, 0), place_world(200, 1)
    spec = spec_of(train)
    ours = in_place(fit(NAR4Rec(spec, SIZES, SLOTS), train, SLOTS), test)
    control = in_place(fit(DNN(spec, SIZES), train, SLOTS), test)
    assert ours > 0.9
    assert control < 0.5


def window(requests: int, seed: int, liked: int) -> EncodedRequests:
    """Two candidates of each type, all shown at random; those of the first types are liked."""
    rng = np.random.default_rng(seed)
    pools = np.stack([np.flatnonzero(k == TYPES) + 1 for k in range(SLOTS)])
    picks = np.argsort(rng.random((requests, SLOTS, 8)), 2)[..., :2]
    candidates = pools[np.arange(SLOTS)[:, None], picks].reshape(requests, 8)
    shown = np.argsort(rng.random((requests, 8)), 1)
    relevance = (TYPES[candidates - 1] < liked).astype(float)
    return columns_of(candidates, relevance, one_hot(TYPES, SLOTS), shown=shown)


def test_nar4rec_learns_from_labels_where_everything_was_shown():
    """A window of a feed: its order was nobody's choice, so imitating it would teach nothing."""
    train, test = window(600, 0, 2), window(200, 1, 2)
    ranker = fit(NAR4Rec(spec_of(train), SIZES, 8), train, 8)
    assert precision(ranker, test, 3) > 0.9


def test_nar4rec_learns_no_order_among_equals():
    """More are liked than fit the list: all must be learned, not only those it prefers already."""
    train = window(300, 0, 3)
    ranker = fit(NAR4Rec(spec_of(train), SIZES, 1), train, 1).eval()
    batch = train.batch(slice(None))
    with torch.no_grad():
        p = ranker.log_prob(batch, batch.lists_of_one).exp()
    of_type = p.view(300, SLOTS, 2).sum(-1).mean(0)
    assert of_type[:3].min() > 0.2
    assert of_type[3] < 0.1


def test_nar4rec_good_lists_are_counted_over_all_their_orders():
    """Against every order written out: grades 2, 1, 1, 1 and a candidate that is not liked."""
    relevance = torch.tensor([[1.0, 2.0, 0.0, 1.0, 1.0]])
    counts, orders = torch.zeros(3, 5), 0
    for order in itertools.permutations([0, 1, 3, 4]):
        if all(relevance[0, i] >= relevance[0, j] for i, j in itertools.pairwise(order)):
            orders += 1
            for slot, item in enumerate(order[:3]):
                counts[slot, item] += 1
    assert orders == 6
    assert torch.allclose(_target_shares(relevance, relevance > 0, 3)[0], counts / orders)
    assert not _target_shares(relevance * 0, relevance < 0, 3).any()


def test_nar4rec_unlikelihood_avoids_bad_lists():
    """Without it a bad list is merely not a good one."""
    train, test = place_world(600, 0), place_world(200, 1)
    spec = spec_of(train)
    batch = test.batch(slice(None))
    gain = batch.relevance.gather(1, batch.shown).sum(-1)
    found = {}
    for weight in (0.0, 4.0):
        torch.manual_seed(0)
        ranker = NAR4Rec(spec, SIZES, SLOTS, unlikelihood=weight)
        ranker = fit(ranker, train, SLOTS, steps=60)
        log_prob = ranker.log_prob(batch, batch.shown.unsqueeze(1)).squeeze(1)
        found[weight] = float(log_prob[gain == 0].exp().mean().detach())
    assert found[4.0] < 0.7 * found[0.0]


def test_nar4rec_contrast_spreads_the_list():
    data = place_world(100, 0)
    batch = data.batch(slice(None))
    distinct = []
    for contrast in (0.0, 50.0):
        torch.manual_seed(3)
        ranker = NAR4Rec(spec_of(data), replace(SIZES, layers=0), SLOTS, contrast=contrast).eval()
        kinds = types_at(data, BY_ROW, ranker.rank(batch, SLOTS))
        distinct.append(float((kinds.sort(-1).values.diff(dim=-1) != 0).float().sum(-1).mean()))
    assert distinct[1] > distinct[0] + 0.5


def fatigue(kinds: Tensor) -> Tensor:
    """Feedback [..., L] of types [..., L]: type 0 is best, but nobody likes a type twice running."""
    base = torch.tensor([0.9, 0.6, 0.3, 0.1])[kinds.clamp_min(0)]
    repeat = torch.zeros_like(base, dtype=torch.bool)
    repeat[..., 1:] = kinds[..., 1:] == kinds[..., :-1]
    return base * ~repeat


def fatigue_world(requests: int, seed: int) -> EncodedRequests:
    """Eight candidates, two of each type; four shown at random, feedback with fatigue."""
    rng = np.random.default_rng(seed)
    pools = np.stack([np.flatnonzero(k == TYPES) + 1 for k in range(4)])
    picks = np.argsort(rng.random((requests, 4, 8)), 2)[..., :2]
    candidates = pools[np.arange(4)[:, None], picks].reshape(requests, 8)
    shown = np.argsort(rng.random((requests, 8)), 1)[:, :4]
    chance = fatigue(torch.from_numpy(TYPES[np.take_along_axis(candidates, shown, 1) - 1])).numpy()
    relevance = np.zeros((requests, 8))
    np.put_along_axis(relevance, shown, (rng.random(chance.shape) < chance).astype(float), 1)
    return columns_of(candidates, relevance, one_hot(TYPES, 4), shown=shown)


def worth(ranker: Ranker, columns: EncodedRequests) -> float:
    """True expected feedback of the best lists."""
    with torch.no_grad():
        lists = ranker.rank(columns.batch(slice(None)), 4)
    return float(fatigue(types_at(columns, BY_ROW, lists)).sum(-1).mean())


# Sorted by type: 0 0 1 1 → 0.9 + 0.6 = 1.5. Best: 0 1 0 1 → 3.0.
@pytest.mark.parametrize(("kind", "steps"), [("prs", 220), ("pier", 110)])
def test_list_models_see_fatigue(kind, steps):
    train, test = fatigue_world(900, 0), fatigue_world(100, 1)
    spec = spec_of(train)
    ranker = PRS(spec, SIZES, beams=60) if kind == "prs" else PIER(spec, SIZES, 4, keep=60)
    ours = worth(fit(ranker, train, 4, steps=steps), test)
    control = worth(fit(DNN(spec, SIZES), train, 4), test)
    assert ours > 2.2
    assert control < 2.0


def test_pier_keeps_permutations_near_the_users_interest():
    """Users go through types in runs 0 1 2 3 or 3 2 1 0; kept lists go their way round."""
    rng = np.random.default_rng(0)
    pools = np.stack([np.flatnonzero(k == TYPES) + 1 for k in range(4)])
    r = 400
    upward = rng.random(r) < 0.5
    kinds = np.where(upward[:, None], [0, 1, 2, 3] * 2, [3, 2, 1, 0] * 2)
    history = pools[kinds, rng.integers(0, 8, kinds.shape)]
    candidates = pools[np.arange(4)[None, :].repeat(r, 0), rng.integers(0, 8, (r, 4))]
    shown = np.argsort(rng.random((r, 4)), 1)
    right = np.where(upward[:, None], shown == np.arange(4), shown == np.arange(4)[::-1])
    relevance = np.zeros((r, 4))
    np.put_along_axis(relevance, shown, right.astype(float), 1)
    data = columns_of(candidates, relevance, one_hot(TYPES, 4), shown=shown, history=history)
    batch = data.batch(slice(None))

    def agreement(ranker: PIER) -> float:
        """Share of the pool's slots whose type is the one of the user's run."""
        with torch.no_grad():
            lists = ranker.pool(batch, 4).lists
        want = torch.arange(4)
        ways = torch.where(torch.from_numpy(upward)[:, None], want, want.flip(0))
        return float((lists == ways[:, None]).float().mean())

    torch.manual_seed(0)
    ranker = fit(PIER(spec_of(data), SIZES, 4, keep=10, contrast=1.0), data, 4)
    kept = agreement(ranker)
    ranker.keep = ranker.proposals
    everything = agreement(ranker)
    assert kept > everything + 0.15


def test_pier_proposes_around_the_item_level_order():
    """The narrower the spread, the more all proposals are worth by the item-level model."""
    data = fatigue_world(60, 0)
    batch = data.batch(slice(None))
    ranker = PIER(spec_of(data), SIZES, 4, proposals=20, keep=20).eval()
    last = ranker.like[-1]
    assert isinstance(last, torch.nn.Linear)
    torch.nn.init.normal_(last.weight)

    def worth_of_pool(spread: float) -> float:
        ranker.spread = spread
        with torch.no_grad():
            like, lists = ranker._encode(batch).item_logits, ranker.pool(batch, 4).lists
        return float(like[:, None, :].expand(-1, lists.shape[1], -1).gather(2, lists).mean())

    values = [worth_of_pool(spread) for spread in (0.0, 0.3, 3.0)]
    assert values[0] > values[1] > values[2]
    with pytest.raises(ConfigError, match=r"ranker\.options\.spread"):
        PIER(spec_of(data), SIZES, 4, spread=-1.0)


def test_beam_finds_the_best_permutation():
    """Wide enough, it is exhaustive; the value is the paper's, summed by hand."""
    rng = torch.Generator().manual_seed(0)
    like, go_on = torch.rand(3, 5, generator=rng), torch.rand(3, 5, generator=rng)
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[1, 2] = False
    alpha, beta = 0.3, 1.0

    def value(b: int, order: tuple[int, ...]) -> float:
        reach, total = 1.0, 0.0
        for i in order:
            total += reach * (beta * float(like[b, i]) + alpha * float(go_on[b, i]))
            reach *= float(go_on[b, i])
        return total

    lists = permutation_beam(like, go_on, mask, 3, 200, (alpha, beta))
    for b in range(3):
        real = [i for i in range(5) if mask[b, i]]
        best = max(itertools.permutations(real, 3), key=lambda order: value(b, order))
        assert tuple(lists[b, 0].tolist()) == best


@pytest.mark.parametrize("kind", [PRS, PIER])
@pytest.mark.parametrize("world", [fatigue_world, lambda r, s: neighbour_world(r, s, True)])
def test_pool_rankers_have_finite_gradients(kind, world):
    data = world(12, 0)
    ranker = kind(spec_of(data), SIZES)
    ranker.loss(data.batch(slice(None)), 4).backward()
    touched = [p.grad for p in ranker.parameters() if p.grad is not None]
    assert touched
    assert all(g.isfinite().all() for g in touched)


def test_what_nlgr_puts_next_does_not_depend_on_how_far_it_has_come():
    """The chances along a list, asked one by one, are those of the whole list."""
    columns = place_world(6, 0)
    spec = spec_of(columns)
    model = NLGR(spec, SIZES, slots=SLOTS).eval()
    shake(model)
    batch = columns.batch(slice(0, 6))
    with torch.inference_mode():
        state = model.encode(batch)
        lists = model.draw(state, batch, 3, SLOTS, torch.Generator().manual_seed(0))
        whole = model.list_log_prob(state, batch, lists)
        for g in range(3):
            total = torch.zeros(6)
            for t in range(SLOTS):
                after = model.next_log_prob(state, batch, lists[:, g, :t])
                total += after.gather(1, lists[:, g, t : t + 1]).squeeze(1)
            torch.testing.assert_close(total, whole[:, g])
            short = model.list_log_prob(state, batch, lists[:, g : g + 1, :2])
            both = model.slot_log_prob(state, batch, lists[:, g : g + 1])[..., :2].sum(-1)
            torch.testing.assert_close(short, both)
