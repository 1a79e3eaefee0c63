"""Work of a request: decided before it begins, and not in the way of others."""

from __future__ import annotations

import threading
import time

import httpx
import polars as pl
import pytest
from fastapi.testclient import TestClient

from goalrank.bundles import Predictor
from goalrank.constraints import AtLeast, AtMost, Constraints, Diversity
from goalrank.serving.http.app import create_app
from goalrank.serving.ranking.service import Service
from tests.bundles.kit import ITEMS, make_bundle, requests_of
from tests.serving.http.test_app import body, code

TAGGED = ITEMS.with_columns(
    tags=pl.Series([["new"] if i % 3 else ["new", "cheap"] for i in range(40)])
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_bundle(reward=False).save(tmp_path_factory.mktemp("b") / "bundle")


@pytest.fixture
def client(folder):
    with TestClient(create_app(Service(folder, items=ITEMS, deadline=30.0))) as opened:
        yield opened


def wide(count: int = 500, **changes):
    ids = list(range(count))
    return body(
        candidates=ids, candidate_score=[float(-i) for i in ids],
        candidate_features=[[0.0, 0.0]] * count, **changes,
    )  # fmt: skip


def test_more_rules_than_can_be_searched_in_time_are_refused(client):
    cap = {"by": "colour", "most": 1, "window": 2}
    refused = client.post("/v1/rank", json=wide(slots=50, rules={"at_most": [cap] * 2_000}))
    assert code(refused) == (422, "invalid_request")
    assert "500 candidates × 50 slots × 2000 rules" in refused.json()["error"]["message"]
    few = client.post("/v1/rank", json=wide(slots=50, rules={"at_most": [cap] * 20}))
    assert few.status_code == 200


@pytest.mark.parametrize(
    "rules",
    [
        Constraints(at_most=(AtMost(by="tags", most=1),), relax=("length",)),
        Constraints(at_least=(AtLeast(by="tags", value="cheap", least=2),)),
        Constraints(dedupe="tags", relax=("length",)),
        Constraints(diversity=Diversity(by="tags", weight=5.0)),
    ],
    ids=["at_most", "at_least", "dedupe", "diversity"],
)
@pytest.mark.parametrize("rows", [True, False])
def test_rules_on_a_column_of_lists(rules, rows):
    table = requests_of(6)
    predictor = Predictor(make_bundle(reward=False), items=TAGGED, rules=rules)
    asked = table.frame.to_dicts() if rows else table
    [ranked] = predictor.rank(asked, 4)
    tags = [TAGGED["tags"][item].to_list() for item in ranked.items]
    cheap = sum("cheap" in each for each in tags)
    if rules.at_most:
        assert len(ranked.items) == 1
    if rules.at_least:
        assert cheap >= 2
    if rules.dedupe:
        assert len({tuple(each) for each in tags}) == len(tags) == 2


def post(client: TestClient, asked: dict[str, object], answers: list[httpx.Response]) -> None:
    answers.append(client.post("/v1/rank", json=asked))


def test_others_do_not_wait_for_what_takes_long(folder, monkeypatch):
    service = Service(folder, items=ITEMS, deadline=5.0)
    predictor = service.predictors["default"]
    begun, go_on = threading.Event(), threading.Event()
    rank = Predictor.rank

    def slow(self, requests, *arguments, **options):
        if len(requests[0]["candidates"]) > 1_000 or options["rules"] != [None]:
            begun.set()
            go_on.wait(20)
        return rank(self, requests, *arguments, **options)

    monkeypatch.setattr(predictor, "rank", slow.__get__(predictor))
    cap = {"at_most": [{"by": "colour", "most": 1, "window": 2}]}
    with TestClient(create_app(service)) as client:
        for asked in (wide(1_001), body(1, rules=cap)):
            begun.clear()
            go_on.clear()
            answers: list[httpx.Response] = []
            thread = threading.Thread(target=post, args=(client, asked, answers))
            thread.start()
            assert begun.wait(10)
            others = [client.post("/v1/rank", json=body(row)).json() for row in range(5)]
            assert not any(each["degraded"] for each in others)
            assert not answers
            go_on.set()
            thread.join()
            assert not answers[0].json()["degraded"]


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_memory_of_a_large_request_goes_back(folder, backend):
    if backend == "onnx":
        pytest.importorskip("onnxruntime")
    service = Service(folder, deadline=60.0, backend=backend)
    with TestClient(create_app(service)) as client:
        client.post("/v1/rank", json=wide(1_500))
        before = resident()
        for number in range(2):
            asked = wide(8_000, request_id=f"large{number}")
            assert not client.post("/v1/rank", json=asked).json()["degraded"]
        end = time.monotonic() + 5
        while resident() - before > 100e6 and time.monotonic() < end:
            time.sleep(0.1)
        print(f"{backend}: {(resident() - before) / 1e6:+.0f} MB after 8,000 candidates")
        assert resident() - before < 100e6
