"""A generator whose encoder begins as the reward model's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from goalrank.errors import ConfigError
from goalrank.rankers import Generator
from goalrank.requests import EncodedRequests
from goalrank.rewards import Ensemble, ListReward, ObservedGain, Reward, Weighted
from goalrank.training import FitConfig, Job, RunOptions, build_reward
from tests.helpers import make_columns
from tests.rankers.kit import spec_of

LOGGED = make_columns(12, 6, protocol="exposed", seed=4)
SIZES = {"width": 16, "heads": 2, "user_ids": True}
# One step too small to be seen: what is left is where the generator began.
STILL = {"steps": 1, "lr": 1e-12, "weight_decay": 0.0, "batch_size": 4}


def config(**objective: object) -> FitConfig:
    return FitConfig.model_validate(
        {
            "light": (),
            "group": {"light": 0},
            "ranker": {**SIZES, "layers": 1, "slots": 4},
            "reward": {**SIZES, "layers": 0},
            "objective": {"warm_start": True, "monitor": "none", **objective},
            "training": STILL,
        }
    )


def list_reward(columns: EncodedRequests) -> ListReward:
    made = build_reward(spec_of(columns), config().reward, columns, 4)
    assert isinstance(made, ListReward)
    return made


def models(count: int) -> list[ListReward]:
    torch.manual_seed(1)
    return [list_reward(LOGGED) for _ in range(count)]


def begun(settings: FitConfig, reward: Reward, tmp_path) -> dict[str, Tensor]:
    job = Job(spec_of(LOGGED), LOGGED, None, settings, RunOptions(tmp_path, progress=False))
    ranker = job.fit_generator(reward)
    assert isinstance(ranker, Generator)
    return ranker.encoder.state_dict()


def shared(columns: EncodedRequests) -> set[str]:
    """Names of what both encoders have: all but the layers between candidates."""
    torch.manual_seed(2)
    return set(list_reward(columns).encoder.state_dict())


@pytest.mark.parametrize("wrap", ["alone", "ensemble", "observed"])
def test_it_begins_as_the_first_reward_model(wrap, tmp_path):
    first, second = models(2)
    ensemble = Ensemble([first, second])
    reward = {
        "alone": first,
        "ensemble": ensemble,
        "observed": Weighted([ensemble, ObservedGain()], [1.0, 2.0]),
    }[wrap]
    found = begun(config(), reward.eval(), tmp_path)
    its = first.encoder.state_dict()
    assert shared(LOGGED) == set(its)
    assert {"items.ids.weight", "users.ids.weight"} <= set(its) & set(found)
    for name in its:
        torch.testing.assert_close(found[name], its[name], atol=1e-6, rtol=0)


def test_without_it_the_start_is_its_own(tmp_path):
    (reward,) = models(1)
    found = begun(config(warm_start=False), reward.eval(), tmp_path)
    its = reward.encoder.state_dict()["items.ids.weight"]
    assert not torch.allclose(found["items.ids.weight"], its, atol=1e-3)


def test_the_reward_model_keeps_its_own(tmp_path):
    (reward,) = models(1)
    before = {k: v.clone() for k, v in reward.state_dict().items()}
    moving = config().model_copy(
        update={"training": config().training.model_copy(update={"steps": 3, "lr": 0.1})}
    )
    begun(moving, reward.eval(), tmp_path)
    for name, value in reward.state_dict().items():
        torch.testing.assert_close(value, before[name], atol=0, rtol=0)


def test_a_reward_without_an_encoder_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"without an encoder.*objective\.warm_start"):
        begun(config(), ObservedGain(), tmp_path)


@pytest.mark.parametrize(
    ("section", "values", "said"),
    [
        ("reward", {"width": 32}, r"ranker\.width = 16 and reward\.width = 32"),
        ("ranker", {"user_ids": False}, r"ranker\.user_ids = False and reward\.user_ids = True"),
        ("reward", {"id_width": 4}, r"ranker\.id_width = 0 and reward\.id_width = 4"),
    ],
)
def test_encoders_that_cannot_agree_are_refused(section, values, said):
    settings = config().model_dump()
    settings[section] |= values
    with pytest.raises(ValueError, match=said):
        FitConfig.model_validate(settings)
