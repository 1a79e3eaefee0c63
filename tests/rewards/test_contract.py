"""Every reward of ours keeps the published contract; no reward escapes."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable

import pytest

import goalrank.rewards
from goalrank.requests import InputSpec
from goalrank.rewards import Ensemble, ListReward, ObservedGain, Reward, Weighted
from goalrank.testing import RewardCase, RewardContract
from tests.rankers.kit import SMALL, rich_columns, spec_of


def _list_reward(spec: InputSpec, **options: object) -> ListReward:
    return ListReward(spec, SMALL, ("click", "long"), (1.0, 0.5), slots=4, **options)  # type: ignore[arg-type]


def _ensemble(spec: InputSpec) -> Ensemble:
    return Ensemble([_list_reward(spec), _list_reward(spec)], 0.3)


FACTORIES: dict[str, Callable[[InputSpec], Reward]] = {
    "list": _list_reward,
    "list, not causal": lambda spec: _list_reward(spec, causal=False, slot_weights=[1.0, 0.6, 0.5]),
    "list, item-wise": lambda spec: _list_reward(spec, list_layers=0, relations=0, positions=False),
    "list, deep": lambda spec: _list_reward(spec, list_layers=2, relations=2),
    "list, product": lambda spec: _list_reward(spec, link="product"),
    "observed": lambda _: ObservedGain(),
    "ensemble": _ensemble,
    "mean": lambda spec: Ensemble([_list_reward(spec), _list_reward(spec)]),
    "weighted": lambda spec: Weighted([_ensemble(spec), ObservedGain()], [0.5, 2.0]),
}


class TestRewards(RewardContract):
    @pytest.fixture(params=sorted(FACTORIES))
    def case(self, request: pytest.FixtureRequest) -> RewardCase:
        return RewardCase(FACTORIES[request.param])


class TestByName(RewardContract):
    reward = "observed_gain"


def test_no_reward_escapes():
    found: set[type[Reward]] = set()
    for info in pkgutil.walk_packages(goalrank.rewards.__path__, "goalrank.rewards."):
        for value in vars(importlib.import_module(info.name)).values():
            if isinstance(value, type) and issubclass(value, Reward) and value is not Reward:
                found.add(value)
    spec = spec_of(rich_columns(5, 6, kinds=("click", "long")))
    missing = {c.__name__ for c in found} - {type(f(spec)).__name__ for f in FACTORIES.values()}
    assert not missing, f"give {missing} a line in this file"
