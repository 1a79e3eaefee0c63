"""The plug-in keeps goalrank's contracts."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from goalrank_example.best_list import best_list
from goalrank_example.rank_biased_precision import rank_biased_precision
from goalrank_example.two_tower import TwoTower
from goalrank_example.varied_gain import VariedGain

from goalrank.errors import ConfigError, DataError
from goalrank.evaluation import METRICS, from_lists, from_scores
from goalrank.logs import SOURCES, ImportOptions
from goalrank.rankers import RANKERS
from goalrank.testing import RankerContract, ReaderContract, RewardContract
from goalrank.training import OBJECTIVES


class TestTwoTower(RankerContract):
    ranker = "two_tower"
    options: ClassVar = {"scale": 2.0}


class TestVariedGain(RewardContract):
    reward = "varied_gain"
    options: ClassVar = {"repeat": 0.25}


class TestImpressions(ReaderContract):
    source = "impressions"
    settings: ClassVar = {"min_list": 2}

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return write_impressions(tmp_path / "log.jsonl")


def write_impressions(path: Path, views: int = 120) -> Path:
    """Lists of six that twelve users were shown; even items are clicked more often."""
    draw = random.Random(0)
    lines = []
    for view in range(views):
        for slot, item in enumerate(draw.sample(range(30), 6)):
            clicked = draw.random() < (0.7 if item % 2 == 0 else 0.1)
            lines.append(
                {"view": f"v{view}", "user": f"u{view % 12}", "item": f"i{item}", "slot": slot,
                 "at": 1_714_564_800 + 3600 * view, "clicked": clicked}
            )  # fmt: skip
    path.write_text("\n".join(json.dumps(line) for line in lines))
    return path


def test_the_names_are_known() -> None:
    assert RANKERS["two_tower"] is TwoTower
    assert METRICS["rbp"] is rank_biased_precision
    assert OBJECTIVES["best_list"] is best_list


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "JSON"), ('{"view": "v", "user": "u", "item": "i", "slot": 0, "at": 1}', "clicked")],
)
def test_a_faulty_log_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        SOURCES["impressions"](path, ImportOptions())
    with pytest.raises(ConfigError, match="path"):
        SOURCES["impressions"](None, ImportOptions())


def test_metric_of_a_planted_list() -> None:
    relevance, mask = torch.tensor([[0.0, 1.0, 1.0]]), torch.ones(1, 3, dtype=torch.bool)
    values = from_lists(torch.tensor([[1, 0, 2]]), relevance, mask)
    assert float(rank_biased_precision(values)) == pytest.approx(0.2 * (1 + 0.8**2))


def test_metric_under_ties_is_the_mean_over_orders() -> None:
    relevance, mask = torch.tensor([[0.0, 1.0]]), torch.ones(1, 2, dtype=torch.bool)
    tied = rank_biased_precision(from_scores(torch.zeros(1, 2), relevance, mask, 2))
    assert float(tied) == pytest.approx(0.2 * (1 + 0.8) / 2)


def test_objective_prefers_the_best_valid_list() -> None:
    log_prob = torch.zeros(1, 3, requires_grad=True)
    rewards, valid = torch.tensor([[1.0, 3.0, 9.0]]), torch.tensor([[True, True, False]])
    best_list(log_prob, rewards, valid, valid, 1.0).backward()
    assert log_prob.grad is not None
    assert log_prob.grad.tolist() == [[0.0, -1.0, 0.0]]


def test_repeated_categories_cost() -> None:
    from goalrank.testing import make_rich_requests

    batch = make_rich_requests(6, 6, seed=1).batch(slice(None))
    lists = torch.tensor([[[0, 1]]]).expand(6, 1, 2)
    plain, varied = VariedGain(repeat=0.0), VariedGain(repeat=1.0)
    here = batch.items.category[batch.candidates[:, :2]]
    shared = ((here[:, 1, :, None] == here[:, 0, None, :]) & (here[:, 1, :, None] > 0)).any((1, 2))
    lost = plain(batch, lists)[:, 0] - varied(batch, lists)[:, 0]
    want = torch.where(shared, plain.by_slot(batch, lists)[:, 0, 1], 0.0)
    torch.testing.assert_close(lost, want)
