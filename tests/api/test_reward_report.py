"""The reward-model report: planted models get the figures that they deserve."""

from __future__ import annotations

import pytest
import torch

from goalrank.api import fit_itemwise, reward_report
from goalrank.api.model import _fit
from goalrank.encoders import solve_logit
from goalrank.requests import Encoder
from goalrank.rewards import Ensemble, ListReward
from goalrank.training import RunOptions, feedback_at, load_config
from tests.api.kit import TINY
from tests.bundles.kit import SIZES
from tests.tables import make_table


class Knowing(ListReward):
    """Nearly certain of what was really answered (`sign` -1: of the opposite)."""

    sign = 1.0

    def slot_logits(self, batch, lists, encoded=None):
        truth = feedback_at(batch, lists)[..., self.kind_index]
        return self.sign * (truth - 0.5) * 20


def make(encoder: Encoder, sign: float = 1.0) -> Knowing:
    model = Knowing(encoder.spec, SIZES, ("click", "long"), (1.0, 0.0), slots=6).eval()
    model.sign = sign
    return model


@pytest.fixture(scope="module", params=["exposed", "retrieved"])
def material(request):
    table = make_table(80, protocol=request.param)
    encoder = Encoder.fit(table)
    return encoder, encoder.encode(table)


def test_who_knows_the_answers_gets_full_marks(material):
    encoder, columns = material
    report = reward_report(make(encoder), columns, slots=4)
    assert set(report["kinds"]) == {"click", "long"}
    for row in report["kinds"].values():
        assert row["auc"] == pytest.approx(1.0)
        assert row["gain_over_constant"] > 0.99
        assert row["calibration_error"] < 0.01
    for spread in report["correlation"].values():
        assert spread["mean"] == pytest.approx(1.0, abs=1e-3)
        assert spread["count"] > 10
    assert report["calibration"]["kind"] == "click"


def test_who_is_always_wrong_gets_none(material):
    encoder, columns = material
    report = reward_report(make(encoder, -1.0), columns, slots=4)
    assert report["kinds"]["click"]["auc"] == pytest.approx(0.0)
    assert report["kinds"]["click"]["gain_over_constant"] < 0
    assert all(spread["mean"] < -0.99 for spread in report["correlation"].values())


def test_an_ensemble_is_judged_by_its_mean(material):
    encoder, columns = material
    both = Ensemble([make(encoder), make(encoder, -1.0)])
    report = reward_report(both, columns, slots=4)
    assert report["kinds"]["click"]["auc"] == pytest.approx(0.5)


def test_gains_over_the_itemwise_model(material):
    encoder, columns = material
    same = reward_report(make(encoder), columns, itemwise=make(encoder), slots=4)
    assert same["kinds"]["click"]["gain_over_itemwise"] == pytest.approx(0.0)
    better = reward_report(make(encoder), columns, itemwise=make(encoder, -1.0), slots=4)
    assert better["kinds"]["click"]["gain_over_itemwise"] > 0.99
    assert better["kinds"]["click"]["itemwise_auc"] == pytest.approx(0.0)


def test_itemwise_model_is_blind_to_order_and_neighbours(tmp_path):
    table = make_table()
    options = RunOptions(tmp_path / "run", progress=False)
    model = _fit(table, None, load_config(None, [*TINY, "objective.name='supervised'"]), options)
    assert model.job is not None
    blind = fit_itemwise(model.job)
    batch = model.job.train.batch(slice(0, 20))
    batch = model.job.train.batch([i for i in range(20) if batch.candidate_mask[i].sum() >= 4])
    lists = torch.tensor([[0, 1, 2, 3], [3, 2, 1, 0], [2, 3, 0, 1]]).expand(batch.size, 3, 4)
    with torch.inference_mode():
        logits = blind.slot_logits(batch, lists)
    assert torch.allclose(logits[:, 0], logits[:, 1].flip(1), atol=1e-5)
    assert torch.allclose(logits[:, 0, :2], logits[:, 2, 2:], atol=1e-5)


def test_the_itemwise_model_attends_to_no_other_candidate(tmp_path):
    """Attention among the candidates, which the recipe has, would show it the others."""
    options = RunOptions(tmp_path / "run", progress=False)
    recipe = [*TINY, "objective.name='supervised'", "reward.layers=1", "reward.heads=2"]
    model = _fit(make_table(80), None, load_config(None, recipe), options)
    assert model.job is not None
    alone = fit_itemwise(model.job)
    batch = model.job.train.batch(slice(0, 20))
    first = torch.zeros(batch.size, 1, dtype=torch.long)
    with torch.inference_mode():  # refused by an encoder in which candidates attend to each other
        one = alone.encoder(batch, at=first).candidates
        every = alone.encoder(batch).candidates
    assert torch.allclose(one, every[:, :1], atol=1e-5)


def test_the_itemwise_model_takes_the_linear_solutions_of_its_job(tmp_path, monkeypatch):
    model = _fit(
        make_table(80), None, load_config(None, TINY), RunOptions(tmp_path / "run", progress=False)
    )
    assert model.job is not None
    solved = []

    def solve(*arguments, **options):
        solved.append(arguments)
        return solve_logit(*arguments, **options)

    monkeypatch.setattr("goalrank.training.linear_start.solve_logit", solve)
    alone = fit_itemwise(model.job)
    assert alone.wide is not None
    assert any(value.abs().max() > 0 for value in alone.wide.parameters())
    assert not solved
