"""Slot propensities that serving writes: position-wise estimates need nothing else."""

from __future__ import annotations

import math

import pytest
from fastapi.testclient import TestClient

from goalrank.constraints import AtMost, Constraints
from goalrank.requests import Requests
from goalrank.serving.http.app import create_app
from goalrank.serving.ranking.service import Service
from goalrank.serving.store.export import export_store
from goalrank.serving.store.store import Store
from tests.bundles.kit import ITEMS, make_bundle
from tests.serving.http.test_app import body

RULES = Constraints(at_most=(AtMost(by="colour", most=1, window=2),))


@pytest.mark.parametrize("rules", [None, RULES], ids=["free", "ruled"])
@pytest.mark.parametrize("temperature", [None, 1.5])
@pytest.mark.parametrize("name", ["goalrank", "dnn"])
def test_they_multiply_to_the_propensity(tmp_path, name, temperature, rules):
    folder = make_bundle(name, reward=False).save(tmp_path / "b")
    store = Store(f"sqlite:///{tmp_path / 's.db'}")
    service = Service(
        folder, store, deadline=30.0, temperature=temperature, rules=rules, items=ITEMS, seed=3
    )
    with TestClient(create_app(service)) as client:
        asked = {"requests": [body(row) for row in range(8)]}
        lists = client.post("/v1/rank:batch", json=asked).json()["lists"]
        export_store(store, tmp_path / "out", validation=0)
    train = Requests.read(tmp_path / "out" / "train")  # validates, products included
    slots = train.frame["slot_propensity"].to_list()
    for row, answer in zip(slots, sorted(lists, key=lambda each: each["request_id"])):
        assert len(row) == len(answer["items"])
    for row, whole in zip(slots, train.frame["propensity"]):
        assert math.isclose(math.prod(row), whole, rel_tol=1e-6)
        assert (row == [1.0] * len(row)) == (temperature is None)


def test_a_list_in_the_retrievers_order_has_none(tmp_path, monkeypatch):
    folder = make_bundle(reward=False).save(tmp_path / "b")
    service = Service(folder, Store(f"sqlite:///{tmp_path / 's.db'}"), deadline=10.0)

    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(service.predictors["default"], "_lists", fail)
    with TestClient(create_app(service)) as client:
        assert client.post("/v1/rank", json=body()).json()["degraded"]
        assert service.store is not None
        [[row]] = list(service.store.rows())
    assert row["propensity"] is None
    assert row["slot_propensity"] is None
