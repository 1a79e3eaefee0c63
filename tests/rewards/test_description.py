"""A reward that travels in a bundle comes back as it was."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import torch

from goalrank.errors import BundleError, ConfigError
from goalrank.rewards import (
    Ensemble,
    ListReward,
    ObservedGain,
    Reward,
    Weighted,
    describe_reward,
    rebuild_reward,
    slot_rewards,
)
from tests.helpers import make_columns
from tests.rankers.kit import SMALL, spec_of

COLUMNS = make_columns(6, 6, kinds=("click", "like"))
SIZES = {
    "plain": SMALL,
    "users": replace(SMALL, user_ids=True),
    "narrow ids": replace(SMALL, user_ids=True, id_width=4),
    "induced": replace(SMALL, layers=1, inducing=3),
}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("link", ["sum", "product"])
@torch.no_grad()
def test_rebuilt_from_its_description(sizes, link):
    spec, batch = spec_of(COLUMNS), COLUMNS.batch(slice(None))

    def member(seed: int) -> ListReward:
        torch.manual_seed(seed)
        return ListReward(spec, sizes, COLUMNS.kinds, [1.0, 0.5], slots=4, link=link).eval()

    reward = Ensemble([member(0), member(1)], pessimism=0.5).eval()
    again = rebuild_reward(describe_reward(reward), spec).eval()
    again.load_state_dict(reward.state_dict())
    torch.testing.assert_close(again(batch, batch.lists_of_one), reward(batch, batch.lists_of_one))


def model(seed: int = 0) -> ListReward:
    torch.manual_seed(seed)
    return ListReward(spec_of(COLUMNS), SMALL, COLUMNS.kinds, [1.0, 0.5], slots=4).eval()


class Whole(Reward):
    """Knows whole lists only."""

    def forward(self, batch, lists):
        return lists.clamp_min(0).sum(-1).float()


@torch.no_grad()
def test_a_description_of_0_1_0_is_read():
    """Arguments of composites lay beside the class."""
    spec, batch = spec_of(COLUMNS), COLUMNS.batch(slice(None))
    arguments = {
        "sizes": asdict(SMALL), "kinds": list(COLUMNS.kinds), "weights": [1.0, 0.5],
        "list_layers": 1, "relations": 4, "slots": 4, "slot_weights": [1.0], "causal": True,
        "positions": True, "link": "sum",
    }  # fmt: skip
    one = {"class": "ListReward", "arguments": arguments}
    ensemble = {"class": "Ensemble", "members": [one, one], "pessimism": 0.5}
    old = {
        "class": "Weighted",
        "members": [ensemble, {"class": "ObservedGain"}],
        "weights": [1.0, 2.0],
    }
    reward = Weighted([Ensemble([model(0), model(1)], 0.5), ObservedGain()], [1.0, 2.0]).eval()
    again = rebuild_reward(old, spec).eval()
    again.load_state_dict(reward.state_dict())
    lists = batch.lists_of_one
    assert torch.equal(again(batch, lists), reward(batch, lists))
    assert (
        rebuild_reward(describe_reward(again), spec).state_dict().keys()
        == dict(again.state_dict()).keys()
    )


def test_names_in_saved_weights_stay():
    names = set(Weighted([Ensemble([model()]), ObservedGain()], [1.0, 1.0]).state_dict())
    assert {"weights", "rewards.0.members.0.head.weight"} <= names


def test_what_rewards_are_made_of():
    first, second, observed = model(0), model(1), ObservedGain()
    ensemble = Ensemble([first, second])
    taught = Weighted([observed, ensemble], [1.0, 1.0])
    assert first.members == (first,)
    assert first.parts == ()
    assert ensemble.members == ensemble.parts == (first, second)
    assert taught.members == (taught,)
    assert taught.parts == (observed, ensemble)
    assert observed.encoder_state() is None
    found = taught.encoder_state()
    assert found is not None
    assert torch.equal(found["cross.out.weight"], first.encoder.cross.out.weight)


@torch.no_grad()
def test_rewards_of_slots_are_asked_for_first():
    batch = COLUMNS.batch(slice(None))
    lists, whole = batch.shown[:, None, :3], Whole()
    members = [model(0), model(1)]
    have = [members[0], ObservedGain(), Ensemble(members), Weighted([whole, *members], [1.0] * 3)]
    for reward in have:
        assert reward.has_slot_rewards
        total = reward.by_slot(batch, lists).sum(-1)
        torch.testing.assert_close(total, reward(batch, lists))
    for reward in (whole, Ensemble(members, 0.5), Ensemble([whole, whole]), Weighted([whole], [1])):
        assert not reward.has_slot_rewards
        with pytest.raises(ConfigError, match=rf"{type(reward).__name__}.*has_slot_rewards"):
            reward.by_slot(batch, lists)
        found = slot_rewards(reward, batch, lists)
        torch.testing.assert_close(found.sum(-1), reward(batch, lists))
        assert ((found != 0).sum(-1) <= 1).all()


def test_a_reward_that_predicts_no_feedback_says_so():
    whole, batch = Whole(), COLUMNS.batch(slice(None))
    assert whole.kind_index == ()
    with pytest.raises(ConfigError, match="Whole predicts no feedback"):
        whole.slot_probabilities(batch, batch.lists_of_one)


class Scaled(Whole):
    """Has an option, and forgets it."""

    def __init__(self, *, factor: float = 1.0) -> None:
        super().__init__()
        self._factor = factor


class Wrapped(Whole):
    """Made from another reward, which options cannot say."""

    def __init__(self, inner: Reward) -> None:
        super().__init__()
        self.inner = inner


def test_a_class_of_any_package_is_described_by_its_path():
    description = describe_reward(Ensemble([Whole()]))
    assert description["members"] == [{"class": f"{__name__}:Whole", "arguments": {}}]
    again = rebuild_reward(description, spec_of(COLUMNS))
    assert type(again.parts[0]) is Whole


@pytest.mark.parametrize(
    ("reward", "lost"), [(Scaled(factor=2.0), "factor"), (Wrapped(Whole()), "inner")]
)
def test_a_reward_whose_arguments_are_lost_is_not_saved(reward, lost):
    with pytest.raises(BundleError, match=rf"{type(reward).__name__}.*{lost}.*remedy"):
        describe_reward(Weighted([reward], [1.0]))


def test_a_class_that_options_cannot_make_or_nobody_knows_is_refused():
    with pytest.raises(ConfigError, match=r"Wrapped.*'inner'.*remedy"):
        Wrapped.from_config(spec_of(COLUMNS), {}, ())
    with pytest.raises(BundleError, match="no reward 'Whole'"):
        rebuild_reward({"class": "Whole"}, spec_of(COLUMNS))
