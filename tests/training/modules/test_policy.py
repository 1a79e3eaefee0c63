"""Validation of a policy: where every relevance is known its lists are made once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from goalrank.errors import ConfigError
from goalrank.evaluation import known_only
from goalrank.rankers import DNN, PIER
from goalrank.requests import Batch
from goalrank.rewards import ListReward
from goalrank.training import GroupBuilder, GroupConfig, GroupTask, LoopConfig, ObjectiveConfig
from goalrank.training.modules.supervised import list_ndcg
from tests.rankers.kit import SMALL, rich_columns, shake, spec_of


@pytest.mark.parametrize(("protocol", "rankings"), [("retrieved", 1), ("exposed", 2)])
@torch.no_grad()
def test_ndcg_is_that_of_the_lists_of_known_candidates(monkeypatch, protocol, rankings):
    columns = rich_columns(12, 9, shown=4, protocol=protocol, seed=4)
    torch.manual_seed(0)
    spec = spec_of(columns)
    policy, reward = DNN(spec, SMALL).eval(), ListReward(spec, SMALL, columns.kinds, [1.0]).eval()
    shake(policy)
    task = GroupTask(
        policy, LoopConfig(), 0, reward=reward, groups=GroupBuilder(GroupConfig(light=0), 4),
        objective=ObjectiveConfig(),
    )  # fmt: skip
    batch = columns.batch(slice(None))
    known = known_only(batch)
    want = list_ndcg(known, policy.rank(known, 4))
    lists = policy.rank(batch, 4)
    asked: list[int] = []
    rank = policy.rank

    def counted(batch: Batch, slots: int) -> Tensor:
        asked.append(slots)
        return rank(batch, slots)

    monkeypatch.setattr(policy, "rank", counted)
    found = task.validate_batch(batch)
    assert len(asked) == rankings
    torch.testing.assert_close(found["ndcg"], want, equal_nan=True)
    torch.testing.assert_close(found["reward"], reward(batch, lists[:, None])[:, 0])


def test_a_policy_that_most_lists_are_impossible_for_is_refused():
    """PIER chooses from lists of its own: eq. 5 on a group would be infinite."""
    columns = rich_columns(4, 6, seed=1)
    spec = spec_of(columns)
    reward = ListReward(spec, SMALL, columns.kinds, [1.0])
    with pytest.raises(ConfigError, match=r"PIER.*probability 0.*objective\.name"):
        GroupTask(
            PIER(spec, SMALL), LoopConfig(), 0, reward=reward,
            groups=GroupBuilder(GroupConfig(light=0), 4), objective=ObjectiveConfig(),
        )  # fmt: skip
