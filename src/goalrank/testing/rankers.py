"""The contract of rankers, as tests to inherit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from goalrank.bundles import Bundle
from goalrank.rankers import Ranker, RankerConfig, build_ranker
from goalrank.requests import Batch, EncodedRequests, Encoder
from goalrank.testing.batches import all_lists, blocked, fresh_model, padded, permuted, with_unknown
from goalrank.testing.data import make_rich_requests, make_table, spec_of

_LIMIT = 29.9  # of chi-square with 5 degrees of freedom, exceeded once in 60 000
_DRAWS = 4000


@dataclass(frozen=True)
class RankerCase:
    """A ranker under test.

    Attributes:
        make: gives a fresh ranker for requests of these sizes.
        config: what `build_ranker` makes it from; None where it cannot, and then no bundle holds it.
        whole_list: the best list is the most probable whole list, and not the most probable
            candidate slot by slot.
        may_tie: different candidates may be worth exactly the same.
        by_input: probabilities depend on the order of the candidates in the input.
        sparse: some lists have probability 0, as where a ranker chooses from a pool.
    """

    make: Callable[[EncodedRequests], Ranker]
    config: RankerConfig | None = None
    whole_list: bool = False
    may_tie: bool = False
    by_input: bool = False
    sparse: bool = False

    def ranker(self, columns: EncodedRequests, seed: int = 0) -> Ranker:
        """Make the ranker in evaluation mode, with weights that matter."""
        return fresh_model(self.make, columns, seed)


class RankerContract:
    """What every ranker promises.

    Inherit it in a class whose name begins with Test and say which ranker ::

        class TestMine(RankerContract):
            ranker = "package.module:Mine"
            options = {"gain": 2.0}

    or, for rankers that are not made by name, override the fixture `case`.

    Attributes:
        ranker: registered name or class path.
        options: its own options.
        whole_list, may_tie, by_input, sparse: see `RankerCase`.
    """

    ranker: ClassVar[str] = ""
    options: ClassVar[Mapping[str, bool | int | float | str]] = {}
    whole_list: ClassVar[bool] = False
    may_tie: ClassVar[bool] = False
    by_input: ClassVar[bool] = False
    sparse: ClassVar[bool] = False

    @pytest.fixture
    def case(self) -> RankerCase:
        """The ranker under test."""
        config = RankerConfig(
            name=self.ranker, width=16, layers=1, heads=2, slots=4, options=dict(self.options)
        )
        return RankerCase(
            lambda columns: build_ranker(spec_of(columns), config),
            config,
            whole_list=self.whole_list,
            may_tie=self.may_tie,
            by_input=self.by_input,
            sparse=self.sparse,
        )

    @pytest.mark.parametrize("slots", [1, 4, 9])
    def test_lists_are_valid(self, case: RankerCase, slots: int) -> None:
        """Lists hold distinct real candidates, as many as there are, then -1."""
        ranker, batch = case.ranker(_requests()), _batch()
        assert_lists_valid(ranker.rank(batch, slots).unsqueeze(1), batch, slots)
        proposal = ranker.propose(batch, 5, slots, _rng(), temperature=2.0)
        assert_lists_valid(proposal.lists, batch, slots)
        assert proposal.log_prob.shape == (batch.size, 5)

    def test_blocked_candidates_are_as_if_absent(self, case: RankerCase) -> None:
        """A candidate that the mask leaves out changes nothing for the others."""
        ranker, batch = case.ranker(_requests()), _batch()
        spare = torch.arange(20, 20 + batch.candidates.shape[1])  # distinct, so that none tie
        batch = replace(
            batch,
            candidates=torch.where(batch.candidate_mask, batch.candidates, spare),
            candidate_mask=torch.ones_like(batch.candidate_mask),
        )
        left = torch.tensor([0, 1, 3, 4, 5])
        shut, absent = blocked(batch, 2), permuted(batch, left)
        absent = replace(absent, shown=torch.full_like(absent.shown, -1))
        assert_lists_valid(ranker.rank(shut, 6).unsqueeze(1), shut, 6)
        drawn = ranker.propose(shut, 7, 6, _rng())
        assert_lists_valid(drawn.lists, shut, 6)
        torch.testing.assert_close(ranker.rank(shut, 5), left[ranker.rank(absent, 5)])
        if case.by_input:  # its probabilities depend on the place that others leave empty
            return
        renumbered = torch.tensor([0, 1, -9, 2, 3, 4, -1])[drawn.lists[..., :5]]
        _close(ranker.log_prob(shut, drawn.lists[..., :5]), ranker.log_prob(absent, renumbered))

    @pytest.mark.parametrize(("n", "slots"), [(4, 3), (4, 4), (2, 3), (1, 2)])
    @pytest.mark.parametrize("temperature", [1.0, 0.5])
    def test_probabilities_of_all_lists_sum_to_one(
        self, case: RankerCase, n: int, slots: int, temperature: float
    ) -> None:
        """Log-probabilities are exact: those of all lists of a request sum to one."""
        ranker = case.ranker(_requests())
        for batch in (one_request(n), padded(one_request(n), 2, 1)):
            log_prob = ranker.log_prob(batch, all_lists(n, slots), temperature=temperature)
            assert float(log_prob.exp().sum().detach()) == pytest.approx(1.0, abs=1e-4)

    @pytest.mark.parametrize("length", [0, 2])
    @torch.no_grad()
    def test_next_log_prob_equals_lists_of_one_more_slot(
        self, case: RankerCase, length: int
    ) -> None:
        """`next_log_prob` agrees with the probabilities of lists one slot longer."""
        columns = _requests()
        rows = np.flatnonzero(np.diff(columns.candidate_start) > length)
        ranker, batch = case.ranker(columns), padded(columns.batch(rows), 2, 1)
        prefix = ranker.propose(batch, 1, length + 1, _rng()).lists[:, 0, :length]
        found = ranker.next_log_prob(ranker.encode(batch), batch, prefix)
        free = batch.candidate_mask.clone().scatter_(1, prefix, False)
        assert torch.isneginf(found[~free]).all()
        some = torch.isfinite(found).any(-1)
        assert some.all() or case.sparse
        _close(found.exp().sum(-1), some.float())
        each = torch.arange(free.shape[1]).expand_as(free)[..., None]
        lists = torch.cat([prefix[:, None].expand(-1, free.shape[1], -1), each], -1)
        whole = ranker.log_prob(batch, lists).masked_fill(~free, -torch.inf)
        _close(found[some], whole[some].log_softmax(-1))

    def test_log_prob_of_proposals_is_theirs(self, case: RankerCase) -> None:
        """`propose` and `log_prob` agree on the probability of a list."""
        ranker, batch = case.ranker(_requests()), _batch()
        for temperature in (1.0, 3.0):
            drawn = ranker.propose(batch, 6, 4, _rng(), temperature=temperature)
            again = ranker.log_prob(batch, drawn.lists, temperature=temperature)
            _close(drawn.log_prob, again)
            assert (drawn.log_prob <= 1e-5).all()

    def test_neighbours_and_padding_change_nothing(self, case: RankerCase) -> None:
        """A request's lists depend neither on its batch nor on padding."""
        ranker, batch = case.ranker(_requests()), _batch()
        together, best = ranker.propose(batch, 4, 5, _rng()), ranker.rank(batch, 5)
        wide = padded(batch, 3, 2)
        torch.testing.assert_close(ranker.rank(wide, 5), best)
        again = ranker.propose(wide, 4, 5, _rng())
        torch.testing.assert_close(again.lists, together.lists)
        _close(again.log_prob, together.log_prob)
        for row in range(len(_requests())):
            alone = _requests().batch([row])
            one = ranker.propose(alone, 4, 5, _rng())
            torch.testing.assert_close(one.lists[0], together.lists[row])
            _close(one.log_prob[0], together.log_prob[row])
            torch.testing.assert_close(ranker.rank(alone, 5)[0], best[row])

    def test_permuting_candidates_permutes_the_lists(self, case: RankerCase) -> None:
        """The order of the candidates in the input does not matter."""
        if case.by_input:
            pytest.skip("the ranker depends on the input's order")
        ranker, batch = case.ranker(_requests()), _batch()
        order = torch.tensor([3, 0, 5, 1, 4, 2])
        back = torch.cat([order, torch.tensor([-1])])  # so that -1 stays
        changed = permuted(batch, order)
        best = back[ranker.rank(changed, 4)]
        if not case.may_tie:
            torch.testing.assert_close(best, ranker.rank(batch, 4))
            drawn = ranker.propose(batch, 5, 4, _rng())
            moved = ranker.propose(changed, 5, 4, _rng())
            torch.testing.assert_close(back[moved.lists], drawn.lists)
            _close(moved.log_prob, drawn.log_prob)
        mine = ranker.log_prob(batch, ranker.rank(batch, 4).unsqueeze(1))
        _close(ranker.log_prob(batch, best.unsqueeze(1)), mine)

    def test_state_dict_round_trip(self, case: RankerCase, tmp_path: Path) -> None:
        """Weights, kept without pickle, are all that there is to keep."""
        ranker, batch = case.ranker(_requests()), _batch()
        save_file(ranker.state_dict(), tmp_path / "weights.safetensors")
        other = case.ranker(_requests(), seed=9)
        other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
        assert torch.equal(other.rank(batch, 4), ranker.rank(batch, 4))
        mine, theirs = (r.propose(batch, 4, 4, _rng()) for r in (ranker, other))
        assert torch.equal(mine.lists, theirs.lists)
        assert torch.equal(mine.log_prob, theirs.log_prob)

    def test_bundle_round_trip(self, case: RankerCase, tmp_path: Path) -> None:
        """Saved in a bundle and loaded again, the ranker gives the same lists."""
        if case.config is None:
            pytest.skip("not made by name, so no bundle holds it")
        train, new = make_table(), make_table(30, seed=1, items=60, users=20)
        encoder = Encoder.fit(train)
        torch.manual_seed(0)
        ranker = build_ranker(encoder.spec, case.config)
        if ranker.closed_form:
            ranker.fit_closed_form(encoder.encode(train), None, 4, 0)
        bundle = Bundle(ranker, case.config, encoder)
        again = Bundle.load(bundle.save(tmp_path / "bundle"), allow=["*"])
        assert again.config == bundle.config
        assert again.rank(new).equals(bundle.rank(new))

    def test_unknown_items_and_users(self, case: RankerCase) -> None:
        """Ids that training never saw are ranked all the same."""
        ranker, batch = case.ranker(_requests()), with_unknown(_batch())
        drawn = ranker.propose(batch, 4, 4, _rng())
        assert_lists_valid(drawn.lists, batch, 4)
        assert drawn.log_prob.isfinite().all()

    def test_empty_history(self, case: RankerCase) -> None:
        """Users without a history get lists."""
        columns = _requests()
        ranker = case.ranker(columns)
        columns = replace(
            columns,
            history_start=columns.history_start * 0,
            history=columns.history[:0],
            history_feedback=columns.history_feedback[:0],
            history_time=columns.history_time[:0],
        )
        batch = columns.batch(slice(None))
        drawn = ranker.propose(batch, 3, 4, _rng())
        assert_lists_valid(drawn.lists, batch, 4)
        assert drawn.log_prob.isfinite().all()
        assert_lists_valid(ranker.rank(batch, 4).unsqueeze(1), batch, 4)

    def test_best_list_is_the_most_probable(self, case: RankerCase) -> None:
        """Slot by slot the likeliest candidate given the prefix, or the likeliest list at once."""
        ranker, batch = case.ranker(_requests()), one_request(4)
        lists = all_lists(4, 3)
        probability = ranker.log_prob(batch, lists)[0].exp()
        best = ranker.rank(batch, 3)[0]
        if case.whole_list:
            assert torch.equal(best, lists[0, probability.argmax()])
            return
        fits = torch.ones(lists.shape[1], dtype=torch.bool)
        for t, chosen in enumerate(best.tolist()):
            mass = torch.stack([probability[fits & (lists[0, :, t] == i)].sum() for i in range(4)])
            assert mass[chosen] >= mass.max() - 1e-6
            fits &= lists[0, :, t] == chosen

    @pytest.mark.parametrize("temperature", [1.0, 2.0])
    def test_frequencies_match_probabilities(self, case: RankerCase, temperature: float) -> None:
        """Drawn lists are as frequent as their probabilities say."""
        ranker = case.ranker(_requests())
        assert _chi_square(ranker, one_request(3), 3, 2, temperature) < _LIMIT

    def test_items_of_one_bucket_are_drawn_apart(self, case: RankerCase) -> None:
        """Two unknown items may share a row; they are still two candidates."""
        batch = one_request(3)
        same = batch.candidates.clone()
        same[:, 1] = same[:, 0]
        batch = replace(batch, candidates=same)
        assert _chi_square(case.ranker(_requests()), batch, 3, 2, 1.0) < _LIMIT

    def test_a_network_begins_as_its_wide_path(self, case: RankerCase) -> None:
        """Before training a ranker with a wide path is linear: the first slot's scores are its."""
        columns, batch = _requests(), _batch()
        ranker = case.make(columns).eval()
        wide = ranker.wide_path
        if wide is None or case.sparse:
            pytest.skip("no wide path, or lists from a pool")
        with torch.no_grad():
            for number, parameter in enumerate(wide.parameters()):
                parameter.copy_(torch.randn(parameter.shape, generator=_rng(number)))
            scores = wide(batch).squeeze(-1).masked_fill(~batch.candidate_mask, -torch.inf)
            first = ranker.next_log_prob(ranker.encode(batch), batch, batch.shown[:, :0])
        _close(first.exp(), scores.softmax(-1))

    def test_gradients_are_finite(self, case: RankerCase) -> None:
        """Gradients of log-probabilities and of the ranker's own loss are finite."""
        ranker, batch = case.ranker(_requests()), _batch()
        if not ranker.trainable or case.whole_list:
            pytest.skip("no gradient")
        for slots in (3, 8):  # 8: every list ends early
            ranker.zero_grad()
            lists = ranker.propose(batch, 4, slots, _rng()).lists
            loss = ranker.log_prob(batch, lists).sum()
            if type(ranker).loss is not Ranker.loss:
                loss = loss + ranker.loss(batch, slots)
            loss.backward()
            grads = [p.grad for p in ranker.parameters() if p.grad is not None]
            assert grads
            assert all(g.isfinite().all() for g in grads)


def assert_lists_valid(lists: Tensor, batch: Batch, slots: int) -> None:
    """Check lists [B, G, L]: real, distinct, allowed, as long as possible, then -1."""
    length = batch.candidate_mask.sum(-1).clamp_max(slots)[:, None, None]
    assert torch.equal(lists >= 0, (torch.arange(slots) < length).expand_as(lists))
    for b in range(batch.size):
        for one in lists[b]:
            chosen = one[one >= 0]
            assert len(chosen.unique()) == len(chosen)
            assert batch.candidate_mask[b, chosen].all()


def one_request(n: int) -> Batch:
    """Give one request of n candidates."""
    requests = make_rich_requests(20, n, seed=3)
    sizes = requests.candidate_start[1:] - requests.candidate_start[:-1]
    row = int((sizes == n).nonzero()[0][0])
    ours = _requests()
    return replace(requests.batch([row]), items=ours.items, users=ours.users)


@cache
def _requests() -> EncodedRequests:
    return make_rich_requests(6, 6, seed=2)


def _batch() -> Batch:
    return _requests().batch(slice(None))


def _rng(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _close(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def _chi_square(ranker: Ranker, batch: Batch, n: int, slots: int, temperature: float) -> float:
    """Distance of drawn lists' frequencies from their probabilities."""
    lists = all_lists(n, slots)
    expected = _DRAWS * ranker.log_prob(batch, lists, temperature=temperature)[0].exp()
    drawn = ranker.propose(batch, _DRAWS, slots, _rng(), temperature=temperature).lists[0]
    seen = (drawn[:, None, :] == lists).all(-1).sum(0)
    assert int(seen.sum()) == _DRAWS
    assert (seen[expected < 1e-6] == 0).all()
    rare = expected < 5
    both = [torch.cat([x[~rare], x[rare].sum()[None]]) for x in (seen.double(), expected.double())]
    return float(((both[0] - both[1]).square() / both[1].clamp_min(1)).sum())
