"""Rewards spoilt on purpose."""

from __future__ import annotations

import pytest
import torch

from goalrank.nn import gumbel
from goalrank.rankers import ItemStatistic, top_slots
from goalrank.rewards import Reward
from goalrank.studies.common import BiasSpec
from goalrank.studies.common.biased_reward import BiasedReward
from tests.helpers import make_columns

COLUMNS = make_columns(120, n=10)
BATCH = COLUMNS.batch(slice(0, 120))


class _Sum(Reward):
    def forward(self, batch, lists):
        """Sum of the second feature."""
        values = batch.candidate_features[..., 1]
        taken = values.gather(1, lists.clamp_min(0).flatten(1)).view(lists.shape)
        return (taken * (lists >= 0)).sum(-1)


def _lists():
    noise = gumbel(BATCH.key, BATCH.candidates, 6)
    return top_slots(noise, BATCH.candidate_mask[:, None, :].expand_as(noise), 3)


def _spoilt(**bias) -> torch.Tensor:
    reward = BiasedReward(_Sum(), BiasSpec(**bias), COLUMNS, 3)
    with torch.inference_mode():
        return reward(BATCH, _lists())


def test_no_bias_changes_nothing():
    assert torch.equal(_spoilt(), _Sum()(BATCH, _lists()))


def test_noise_is_fixed_standard_normal_and_unrelated():
    once, again = _spoilt(noise=1.0), _spoilt(noise=1.0)
    assert torch.equal(once, again)
    scale = float(BiasedReward(_Sum(), BiasSpec(), COLUMNS, 3).scale)
    distinct = once.unique() / scale
    assert abs(float(distinct.mean())) < 0.15
    assert float(distinct.std()) == pytest.approx(1.0, abs=0.15)
    both = torch.stack([once.flatten(), _Sum()(BATCH, _lists()).flatten()])
    assert abs(float(torch.corrcoef(both)[0, 1])) < 0.15


@pytest.mark.parametrize("kind", ["popularity", "position"])
def test_structured_bias_lifts_lists_of_the_kind(kind):
    lift = _spoilt(**{kind: 2.0}) - _spoilt()
    lists = _lists()
    scores = (
        ItemStatistic.popularity(COLUMNS).scores(BATCH)
        if kind == "popularity"
        else BATCH.candidate_score
    )
    mean = scores.gather(1, lists.clamp_min(0).flatten(1)).view(lists.shape)
    mean = (mean * (lists >= 0)).sum(-1) / (lists >= 0).sum(-1)
    same = torch.corrcoef(torch.stack([lift.flatten(), mean.flatten()]))[0, 1]
    assert float(same) > 0.6
