"""What every ranker promises; no ranker escapes."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import goalrank.rankers
from goalrank.rankers import Ranker
from goalrank.rankers.composite.pool import PoolPolicy
from goalrank.requests import Batch, EncodedRequests, EntityTable
from tests.rankers.kit import (
    BY_INPUT,
    FACTORIES,
    WHOLE_LIST,
    WITH_TIES,
    all_lists,
    blocked,
    make_ranker,
    padded,
    permuted,
    rich_columns,
)

COLUMNS = rich_columns(6, 6, seed=2)
LOOSE = {"rtol": 1e-4, "atol": 1e-4}
every = pytest.mark.parametrize("name", sorted(FACTORIES))


def whole_batch() -> Batch:
    return COLUMNS.batch(slice(None))


def tiny(n: int) -> Batch:
    """One request of n candidates."""
    columns = rich_columns(20, n, seed=3)
    row = int((columns.candidate_start[1:] - columns.candidate_start[:-1] == n).nonzero()[0][0])
    return replace(columns.batch([row]), items=COLUMNS.items, users=COLUMNS.users)


def rng(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def concrete_rankers() -> set[type[Ranker]]:
    """Every class of the rankers' room that could be instantiated."""
    found: set[type[Ranker]] = set()
    for info in pkgutil.walk_packages(goalrank.rankers.__path__, "goalrank.rankers."):
        for value in vars(importlib.import_module(info.name)).values():
            if not (isinstance(value, type) and issubclass(value, Ranker)):
                continue
            members = (getattr(value, n, None) for n in dir(value))
            if not any(getattr(m, "__isabstractmethod__", False) for m in members):
                found.add(value)
    return found


def test_every_ranker_is_tested():
    covered = {type(make_ranker(name, COLUMNS)) for name in FACTORIES}
    missing = {c.__name__ for c in concrete_rankers() - covered}
    assert not missing, f"give {missing} a line in tests/rankers/kit.py"


def assert_lists_valid(lists: Tensor, batch: Batch, slots: int) -> None:
    """[B, G, L]: real, distinct, allowed, as long as possible, then -1."""
    length = batch.candidate_mask.sum(-1).clamp_max(slots)[:, None, None]
    assert torch.equal(lists >= 0, (torch.arange(slots) < length).expand_as(lists))
    for b in range(batch.size):
        for one in lists[b]:
            chosen = one[one >= 0]
            assert len(chosen.unique()) == len(chosen)
            assert batch.candidate_mask[b, chosen].all()


@every
@pytest.mark.parametrize("slots", [1, 4, 9])
def test_lists_are_valid(name, slots):
    ranker, batch = make_ranker(name, COLUMNS), whole_batch()
    assert_lists_valid(ranker.rank(batch, slots).unsqueeze(1), batch, slots)
    proposal = ranker.propose(batch, 5, slots, rng(), temperature=2.0)
    assert_lists_valid(proposal.lists, batch, slots)
    assert proposal.log_prob.shape == (batch.size, 5)


@every
def test_blocked_candidates_are_as_if_absent(name):
    ranker, batch = make_ranker(name, COLUMNS), whole_batch()
    batch = replace(batch, candidate_mask=torch.ones_like(batch.candidate_mask))
    left = torch.tensor([0, 1, 3, 4, 5])
    shut, absent = blocked(batch, 2), permuted(batch, left)
    absent = replace(absent, shown=torch.full_like(absent.shown, -1))
    assert_lists_valid(ranker.rank(shut, 6).unsqueeze(1), shut, 6)
    drawn = ranker.propose(shut, 7, 6, rng())
    assert_lists_valid(drawn.lists, shut, 6)
    torch.testing.assert_close(ranker.rank(shut, 5), left[ranker.rank(absent, 5)])
    if name in BY_INPUT:  # its probabilities depend on the place that others leave empty
        return
    renumbered = torch.tensor([0, 1, -9, 2, 3, 4, -1])[drawn.lists[..., :5]]
    want = ranker.log_prob(absent, renumbered)
    torch.testing.assert_close(ranker.log_prob(shut, drawn.lists[..., :5]), want, **LOOSE)


@every
@pytest.mark.parametrize(("n", "slots"), [(4, 3), (4, 4), (2, 3), (1, 2)])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_probabilities_of_all_lists_sum_to_one(name, n, slots, temperature):
    ranker = make_ranker(name, COLUMNS)
    for batch in (tiny(n), padded(tiny(n), 2, 1)):
        log_prob = ranker.log_prob(batch, all_lists(n, slots), temperature=temperature)
        assert float(log_prob.exp().sum().detach()) == pytest.approx(1.0, abs=1e-4)


@every
@pytest.mark.parametrize("length", [0, 2])
@torch.no_grad()
def test_next_log_prob_equals_lists_of_one_more_slot(name, length):
    rows = np.flatnonzero(np.diff(COLUMNS.candidate_start) > length)
    ranker, batch = make_ranker(name, COLUMNS), padded(COLUMNS.batch(rows), 2, 1)
    prefix = ranker.propose(batch, 1, length + 1, rng()).lists[:, 0, :length]
    found = ranker.next_log_prob(ranker.encode(batch), batch, prefix)
    free = batch.candidate_mask.clone().scatter_(1, prefix, False)
    assert torch.isneginf(found[~free]).all()
    some = torch.isfinite(found).any(-1)  # a pool may hold no list with this prefix
    assert some.all() or isinstance(ranker, PoolPolicy)
    torch.testing.assert_close(found.exp().sum(-1), some.float(), **LOOSE)
    each = torch.arange(free.shape[1]).expand_as(free)[..., None]
    lists = torch.cat([prefix[:, None].expand(-1, free.shape[1], -1), each], -1)
    whole = ranker.log_prob(batch, lists).masked_fill(~free, -torch.inf)
    torch.testing.assert_close(found[some], whole[some].log_softmax(-1), **LOOSE)


@every
def test_log_prob_of_proposals_is_theirs(name):
    ranker, batch = make_ranker(name, COLUMNS), whole_batch()
    for temperature in (1.0, 3.0):
        drawn = ranker.propose(batch, 6, 4, rng(), temperature=temperature)
        again = ranker.log_prob(batch, drawn.lists, temperature=temperature)
        torch.testing.assert_close(drawn.log_prob, again, **LOOSE)
        assert (drawn.log_prob <= 1e-5).all()


@every
def test_neighbours_and_padding_change_nothing(name):
    ranker, batch = make_ranker(name, COLUMNS), whole_batch()
    together = ranker.propose(batch, 4, 5, rng())
    best = ranker.rank(batch, 5)
    wide = padded(batch, 3, 2)
    torch.testing.assert_close(ranker.rank(wide, 5), best)
    again = ranker.propose(wide, 4, 5, rng())
    torch.testing.assert_close(again.lists, together.lists)
    torch.testing.assert_close(again.log_prob, together.log_prob, **LOOSE)
    for row in range(len(COLUMNS)):
        alone = COLUMNS.batch([row])
        one = ranker.propose(alone, 4, 5, rng())
        torch.testing.assert_close(one.lists[0], together.lists[row])
        torch.testing.assert_close(one.log_prob[0], together.log_prob[row], **LOOSE)
        torch.testing.assert_close(ranker.rank(alone, 5)[0], best[row])


@pytest.mark.parametrize("name", sorted(set(FACTORIES) - BY_INPUT))
def test_permuting_candidates_permutes_the_lists(name):
    ranker, batch = make_ranker(name, COLUMNS), whole_batch()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    back = torch.cat([order, torch.tensor([-1])])  # so that -1 stays
    changed = permuted(batch, order)
    best = back[ranker.rank(changed, 4)]
    if name not in WITH_TIES:
        torch.testing.assert_close(best, ranker.rank(batch, 4))
        drawn = ranker.propose(batch, 5, 4, rng())
        moved = ranker.propose(changed, 5, 4, rng())
        torch.testing.assert_close(back[moved.lists], drawn.lists)
        torch.testing.assert_close(moved.log_prob, drawn.log_prob, **LOOSE)
    mine = ranker.log_prob(batch, ranker.rank(batch, 4).unsqueeze(1))
    torch.testing.assert_close(ranker.log_prob(batch, best.unsqueeze(1)), mine, **LOOSE)


@every
def test_state_dict_round_trip(name, tmp_path: Path):
    ranker, batch = make_ranker(name, COLUMNS), whole_batch()
    save_file(ranker.state_dict(), tmp_path / "weights.safetensors")
    other = make_ranker(name, COLUMNS, seed=9)
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(other.rank(batch, 4), ranker.rank(batch, 4))
    mine, theirs = (r.propose(batch, 4, 4, rng()) for r in (ranker, other))
    assert torch.equal(mine.lists, theirs.lists)
    assert torch.equal(mine.log_prob, theirs.log_prob)


def longer(table: EntityTable, rows: int) -> EntityTable:
    """With `rows` new rows that share the ids' last bucket but have features of their own."""
    last = int(table.bucket_row.max())
    bucket = torch.full((rows,), last)
    generator = rng(7)
    numeric = torch.randn(rows, table.numeric.shape[1], generator=generator)
    return EntityTable(
        torch.cat([table.id_row, bucket]),
        torch.cat([table.bucket_row, bucket]),
        torch.cat([table.numeric, numeric]),
        torch.cat([table.category, table.category[1 : rows + 1]]),
        torch.cat([table.category_weight, table.category_weight[1 : rows + 1]]),
    )


@every
def test_unknown_items_and_users(name):
    ranker, batch = make_ranker(name, COLUMNS), whole_batch()
    known = len(batch.items)
    candidates = batch.candidates.clone()
    candidates[:, 0] = known - 1  # in a bucket
    candidates[:, 1] = known  # with features of its own
    unknown = replace(
        batch,
        items=longer(batch.items, 2),
        candidates=candidates,
        history=batch.history.masked_fill(batch.history_mask, known + 1),
        user=torch.full_like(batch.user, len(batch.users) - 1),
    )
    drawn = ranker.propose(unknown, 4, 4, rng())
    assert_lists_valid(drawn.lists, unknown, 4)
    assert drawn.log_prob.isfinite().all()


@every
def test_empty_history(name):
    ranker = make_ranker(name, COLUMNS)
    columns: EncodedRequests = replace(
        COLUMNS, history_start=COLUMNS.history_start * 0, history=COLUMNS.history[:0],
        history_feedback=COLUMNS.history_feedback[:0], history_time=COLUMNS.history_time[:0],
    )  # fmt: skip
    batch = columns.batch(slice(None))
    drawn = ranker.propose(batch, 3, 4, rng())
    assert_lists_valid(drawn.lists, batch, 4)
    assert drawn.log_prob.isfinite().all()
    assert_lists_valid(ranker.rank(batch, 4).unsqueeze(1), batch, 4)


@every
def test_best_list_is_the_most_probable(name):
    """Slot by slot: the likeliest candidate given the prefix (or the likeliest list at once)."""
    ranker, batch = make_ranker(name, COLUMNS), tiny(4)
    lists = all_lists(4, 3)
    probability = ranker.log_prob(batch, lists)[0].exp()
    best = ranker.rank(batch, 3)[0]
    if name in WHOLE_LIST:
        assert torch.equal(best, lists[0, probability.argmax()])
        return
    fits = torch.ones(lists.shape[1], dtype=torch.bool)
    for t, chosen in enumerate(best.tolist()):
        mass = torch.stack([probability[fits & (lists[0, :, t] == i)].sum() for i in range(4)])
        assert mass[chosen] >= mass.max() - 1e-6
        fits &= lists[0, :, t] == chosen


@torch.no_grad()
def chi_square(ranker: Ranker, batch: Batch, n: int, slots: int, temperature: float) -> float:
    """Distance of 4000 drawn lists from their probabilities."""
    lists = all_lists(n, slots)
    expected = 4000 * ranker.log_prob(batch, lists, temperature=temperature)[0].exp()
    drawn = ranker.propose(batch, 4000, slots, rng(), temperature=temperature).lists[0]
    seen = (drawn[:, None, :] == lists).all(-1).sum(0)
    assert int(seen.sum()) == 4000
    assert (seen[expected < 1e-6] == 0).all()
    rare = expected < 5
    both = [torch.cat([x[~rare], x[rare].sum()[None]]) for x in (seen.double(), expected.double())]
    return float(((both[0] - both[1]).square() / both[1].clamp_min(1)).sum())


LIMIT = 29.9  # of chi-square with 5 degrees of freedom, exceeded once in 60 000


@every
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_frequencies_match_probabilities(name, temperature):
    assert chi_square(make_ranker(name, COLUMNS), tiny(3), 3, 2, temperature) < LIMIT


@every
def test_items_of_one_bucket_are_drawn_apart(name):
    """Two unknown items may share a row; they are still two candidates."""
    batch = tiny(3)
    same = batch.candidates.clone()
    same[:, 1] = same[:, 0]
    batch = replace(batch, candidates=same)
    assert chi_square(make_ranker(name, COLUMNS), batch, 3, 2, 1.0) < LIMIT


@every
def test_gradients_are_finite(name):
    ranker, batch = make_ranker(name, COLUMNS), whole_batch()
    if not ranker.trainable or name in WHOLE_LIST:
        pytest.skip("no gradient")
    for slots in (3, 8):  # 8: every list ends early
        ranker.zero_grad()
        lists = ranker.propose(batch, 4, slots, rng()).lists
        (ranker.log_prob(batch, lists).sum() + ranker.loss(batch, slots)).backward()
        grads = [p.grad for p in ranker.parameters() if p.grad is not None]
        assert grads
        assert all(g.isfinite().all() for g in grads)
