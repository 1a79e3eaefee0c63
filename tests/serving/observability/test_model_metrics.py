"""Drift, calibration and reward as a server counts them, against what was planted."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from prometheus_client import CollectorRegistry

from goalrank.requests import Requests, stable_hash
from goalrank.serving import Event, Service, Store
from goalrank.serving.http.schemas import RankBody
from goalrank.serving.observability import model_metrics as module
from goalrank.serving.observability.model_metrics import (
    ModelMetrics,
    feature_shift,
    predicted_feedback,
    predicted_kinds,
)
from tests.bundles.kit import make_bundle, requests_of
from tests.tables import make_table

BUNDLE = make_bundle()
NAMES = BUNDLE.encoder.info.candidate_features


def moved(by: tuple[float, float]) -> Requests:
    """The training table whose features are moved by so many deviations of training."""
    table = make_table()
    step = np.array(by) * BUNDLE.encoder.candidate[:, 1]
    features = [
        [(np.array(each) + step).tolist() for each in row]
        for row in table.frame["candidate_features"].to_list()
    ]
    frame = table.frame.with_columns(
        candidate_features=pl.Series(features, dtype=pl.List(pl.Array(pl.Float32, 2)))
    )
    return Requests(frame, items=table.items, users=table.users, info=table.info)


def value(registry: CollectorRegistry, name: str, **labels: str) -> float:
    return registry.get_sample_value(name, labels) or 0.0


@pytest.mark.parametrize("by", [(0.0, 0.0), (2.0, -0.5)])
def test_a_moved_feature_is_seen_in_deviations_of_training(by):
    columns = BUNDLE.encoder.encode(moved(by))
    np.testing.assert_allclose(feature_shift(columns), by, atol=1e-3)


def test_the_shift_is_that_of_the_latest_requests():
    registry = CollectorRegistry()
    metrics = ModelMetrics(registry)
    lists = torch.full((1, 4), -1)
    before, after = (BUNDLE.encoder.encode(moved((by, 0.0))) for by in (0.0, 3.0))
    for columns, times in ((before, 1000), (after, 1000)):
        size = len(columns)
        for _ in range(times // size):
            metrics.look(BUNDLE, columns, lists.expand(size, 4))
    found = value(registry, "goalrank_feature_shift", feature=NAMES[0])
    assert found == pytest.approx(3 * 2 / 3, abs=0.05)  # 1,000 old requests count half
    assert value(registry, "goalrank_feature_shift", feature=NAMES[1]) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("odd", [(3e38, -3e38), (1e20, 0.0)])
def test_one_absurd_request_does_not_end_the_shift(odd):
    """Infinite deviations of both signs made the mean NaN until the next bundle, and no alert."""
    registry = CollectorRegistry()
    metrics = ModelMetrics(registry)
    usual = BUNDLE.encoder.encode(moved((2.0, 0.0)))
    absurd = moved((0.0, 0.0))
    features = [
        [odd if at == 0 else [-each for each in odd] for at in range(len(row))]
        for row in absurd.frame["candidate_features"].to_list()
    ]
    values = pl.Series(features, dtype=pl.List(pl.Array(pl.Float32, 2)))
    frame = absurd.frame.with_columns(candidate_features=values)[:1]
    table = Requests(frame, items=absurd.items, users=absurd.users, info=absurd.info)
    metrics.look(BUNDLE, BUNDLE.encoder.encode(table), torch.full((1, 4), -1))
    for _ in range(3):
        metrics.look(BUNDLE, usual, torch.full((len(usual), 4), -1))
    share = 1 / (1 + 3 * len(usual))
    found = value(registry, "goalrank_feature_shift", feature=NAMES[0])
    assert found == pytest.approx(2.0, abs=10 * share + 0.05)


def test_expected_feedback_is_the_reward_models():
    columns = BUNDLE.encoder.encode(requests_of(8, rows=5))
    lists = torch.tensor([[0, 3, 2, -1]]).expand(5, 4)
    found = predicted_feedback(BUNDLE, columns, lists)
    assert tuple(found) == predicted_kinds(BUNDLE) == ("click", "long")
    assert BUNDLE.reward is not None
    batch = columns.batch(slice(0, 5))
    with torch.inference_mode():
        each = [m.slot_probabilities(batch, lists.unsqueeze(1)) for m in BUNDLE.reward.members]
    wanted = torch.stack(each).mean(0)[:, 0, :3].sum((0, 1))
    np.testing.assert_allclose(list(found.values()), wanted, rtol=1e-5)
    assert predicted_feedback(make_bundle(reward=False), columns, lists) == {}


def test_predictions_and_observations_are_of_the_same_requests(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_SAMPLED", 3)
    folder = make_bundle().save(tmp_path / "bundle")
    service = Service(folder, Store(f"sqlite:///{tmp_path / 's.db'}"), deadline=30)
    registry = service.metrics.registry
    try:
        names = [f"r{number}" for number in range(30)]
        rows = list(requests_of(6, rows=30).frame.iter_rows(named=True))
        bodies = [
            RankBody(
                request_id=name, user_id=row["user_id"], candidates=row["candidates"],
                candidate_score=row["candidate_score"], candidate_features=row["candidate_features"],
                history=[], history_feedback=[], history_time=[],
            )
            for name, row in zip(names, rows)
        ]  # fmt: skip
        answers = service.rank(bodies)
        clicks = [Event(a.request_id, item, "click", 1.0) for a in answers for item in a.items]
        assert service.feedback(clicks).stored == len(clicks)
        assert service.feedback(clicks).duplicates == len(clicks)  # and counts nothing
    finally:
        service.close()
    chosen = sum(key % 3 == 0 for key in stable_hash(names).astype(np.int64).tolist())
    assert 3 < chosen < 20
    assert value(registry, "goalrank_feedback_total", kind="click") == 30 * 4
    assert value(registry, "goalrank_observed_feedback_total", kind="click") == chosen * 4
    predicted = value(registry, "goalrank_predicted_feedback_total", kind="click")
    assert 0.1 * chosen < predicted < 4 * chosen
