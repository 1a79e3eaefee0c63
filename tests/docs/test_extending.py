"""docs/extending.md does what it says."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from goalrank.evaluation import METRICS, from_lists
from goalrank.features import FEATURES
from goalrank.logs import CHANNELS, SOURCES, import_log
from goalrank.rankers import RANKERS
from goalrank.registry import GROUPS
from goalrank.rewards import REWARDS
from goalrank.testing import RankerContract, RewardContract
from goalrank.training import OBJECTIVES
from tests.docs.runner import blocks
from tests.logs.logs_data import movielens_folder, ratings

GUIDE = Path(__file__).parents[2] / "docs" / "extending.md"


@pytest.fixture(scope="module", autouse=True)
def guide() -> Any:
    """The guide's Python, as a module that can be imported."""
    module = ModuleType("guide")
    for block in blocks(GUIDE):
        if block.language == "python" and "RankerContract" not in block.text:
            exec(compile(block.text, f"extending.md:{block.line}", "exec"), vars(module))
    sys.modules["guide"] = module
    yield module
    del sys.modules["guide"]


class TestTwoTower(RankerContract):
    ranker = "guide:TwoTower"


class TestEarlyGain(RewardContract):
    reward = "guide:EarlyGain"


def test_reader(tmp_path):
    log = ratings().rename({"user_id": "who", "item_id": "what", "timestamp": "when"})
    log.write_csv(tmp_path / "views.csv")
    settings = {"quotas": {"popularity": 1.0}, "candidates": 10, "first_fit": 50}
    assert len(import_log("guide:read_views", tmp_path / "views.csv", settings).train) > 0


def test_family_of_features(tmp_path):
    settings = {"features": ["popularity", "guide:Freshness"], "first_fit": 50, "factors": 4}
    train = import_log("movielens", movielens_folder(tmp_path / "m"), settings).train
    assert train.info.computed is not None
    assert train.info.computed.families == ("popularity", "guide:Freshness")
    at = train.info.candidate_features.index("freshness")
    values = train.frame["candidate_features"].explode().arr.get(at)
    assert values.is_between(0, 1).all()
    assert (values > 0).any()


def test_metric(guide):
    lists, relevance = torch.tensor([[1, 0]]), torch.tensor([[0.0, 1.0]])
    values = from_lists(lists, relevance, torch.ones(1, 2, dtype=torch.bool))
    assert float(METRICS["guide:rank_biased_precision"](values)) == pytest.approx(0.2)


def test_objective():
    log_prob, rewards = torch.tensor([[-1.0, -2.0]]), torch.tensor([[0.0, 1.0]])
    valid = torch.ones(1, 2, dtype=torch.bool)
    loss = OBJECTIVES["guide:best_list"](log_prob, rewards, valid, valid, 1.0)
    assert float(loss) == 2.0


def test_every_group_is_named():
    every = (CHANNELS, FEATURES, METRICS, OBJECTIVES, RANKERS, REWARDS, SOURCES)
    named = set(re.findall(r"`(goalrank\.[a-z]+)` \|", GUIDE.read_text(encoding="utf-8")))
    assert named == set(GROUPS) == {registry.group for registry in every}
