"""A reward that travels in a bundle comes back as it was."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from goalrank.rewards import Ensemble, ListReward, describe_reward, rebuild_reward
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
