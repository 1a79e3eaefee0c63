"""The contract of rewards, as tests to inherit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from goalrank.bundles import Bundle
from goalrank.rankers import RandomOrder, RankerConfig, build_ranker
from goalrank.requests import Batch, EncodedRequests, Encoder, InputSpec
from goalrank.rewards import REWARDS, Reward
from goalrank.testing.batches import fresh_model, padded, permuted, with_unknown
from goalrank.testing.data import make_rich_requests, make_table, spec_of

_LISTS = 5


@dataclass(frozen=True)
class RewardCase:
    """A reward under test.

    Attributes:
        make: gives a fresh reward for requests of these sizes; the kinds of feedback are among them.
        saved: whether a bundle can hold it.
    """

    make: Callable[[InputSpec], Reward]
    saved: bool = True

    def reward(self, spec: InputSpec, seed: int = 0) -> Reward:
        """Make the reward in evaluation mode, with weights that matter."""
        return fresh_model(self.make, spec, seed)


class RewardContract:
    """What every reward promises.

    Inherit it in a class whose name begins with Test and say which reward ::

        class TestMine(RewardContract):
            reward = "package.module:Mine"
            options = {"weight": 0.5}

    or, for rewards that are made in another way, override the fixture `case`.

    Attributes:
        reward: registered name or class path.
        options: its own options, as `[reward.options]` of a recipe has them.
    """

    reward: ClassVar[str] = ""
    options: ClassVar[Mapping[str, Any]] = {}

    @pytest.fixture
    def case(self) -> RewardCase:
        """The reward under test."""
        cls = REWARDS[self.reward]
        return RewardCase(lambda spec: cls.from_config(spec, self.options, ()))

    @torch.no_grad()
    @pytest.mark.parametrize("slots", [1, 4, 9])
    def test_a_number_per_list(self, case: RewardCase, slots: int) -> None:
        """Lists of any length, over any number of candidates, get one finite number each."""
        reward = case.reward(_spec())
        batch, lists = _lists(slots)
        values = reward(batch, lists)
        assert values.shape == lists.shape[:2]
        assert values.isfinite().all()

    @torch.no_grad()
    def test_a_list_is_judged_by_itself(self, case: RewardCase) -> None:
        """Neither the other lists of the group, nor other requests of the batch, nor padding count."""
        reward = case.reward(_spec())
        batch, lists = _lists()
        want = reward(batch, lists)
        longer = torch.cat([lists, torch.full((*lists.shape[:2], 3), -1)], -1)
        _close(reward(batch, longer), want)
        more = torch.cat([lists, torch.full_like(lists, -1), lists[:, :2]], 1)
        got = reward(batch, more)
        assert got.isfinite().all()
        _close(got[:, :_LISTS], want)
        _close(got[:, 2 * _LISTS :], want[:, :2])
        _close(reward(padded(batch, 2, 2), lists), want)
        for row in range(batch.size):
            _close(reward(_requests().batch([row]), lists[row : row + 1])[0], want[row])

    @torch.no_grad()
    def test_candidates_have_no_order(self, case: RewardCase) -> None:
        """The order of the candidates in the input does not matter."""
        reward = case.reward(_spec())
        batch, lists = _lists()
        order = torch.tensor([3, 0, 5, 1, 4, 2])
        place = torch.cat([order.argsort(), torch.tensor([-1])])
        _close(reward(permuted(batch, order), place[lists]), reward(batch, lists))

    @torch.no_grad()
    def test_slots_add_up_to_the_list(self, case: RewardCase) -> None:
        """Where a reward is divided over slots, the shares sum to it and empty slots have none."""
        reward = case.reward(_spec())
        if not reward.has_slot_rewards:
            pytest.skip("the reward values whole lists")
        batch, lists = _lists(9)
        shares = reward.by_slot(batch, lists)
        assert shares.shape == lists.shape
        assert (shares[lists < 0] == 0).all()
        _close(shares.sum(-1), reward(batch, lists))

    @torch.no_grad()
    def test_unknown_ids_and_empty_histories(self, case: RewardCase) -> None:
        """Ids that training never saw, and users without a history, get numbers as well."""
        reward = case.reward(_spec())
        batch, lists = _lists()
        assert reward(with_unknown(batch), lists).isfinite().all()
        bare = replace(batch, history_mask=torch.zeros_like(batch.history_mask))
        assert reward(bare, lists).isfinite().all()

    @torch.no_grad()
    def test_bundle_round_trip(self, case: RewardCase, tmp_path: Path) -> None:
        """Saved in a bundle and loaded again, the reward gives the same numbers."""
        if not case.saved:
            pytest.skip("no bundle holds this reward")
        encoder = Encoder.fit(make_table())
        config = RankerConfig(name="dnn", width=8, layers=1, heads=2, slots=4)
        reward = case.reward(encoder.spec)
        bundle = Bundle(build_ranker(encoder.spec, config), config, encoder, reward)
        again = Bundle.load(bundle.save(tmp_path / "bundle"), allow=["*"]).reward
        batch = encoder.encode(make_table(20, seed=2)).batch(slice(0, 20))
        lists = _drawn(batch, 4)
        assert again is not None
        assert not again.training
        assert torch.equal(again(batch, lists), reward(batch, lists))


@cache
def _requests() -> EncodedRequests:
    return make_rich_requests(5, 6, seed=0, shown=6, kinds=("click", "long"))


def _spec() -> InputSpec:
    return spec_of(_requests())


def _lists(slots: int = 4) -> tuple[Batch, Tensor]:
    """Requests and random lists [B, G, L]."""
    batch = _requests().batch(slice(None))
    return batch, _drawn(batch, slots)


def _drawn(batch: Batch, slots: int) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return RandomOrder().propose(batch, _LISTS, slots, rng).lists


def _close(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
