"""Over HTTP too, inputs of training that a request lacks are refused by name or marked as means."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from goalrank.requests import Requests
from goalrank.serving.http.app import create_app
from goalrank.serving.ranking.service import Service
from goalrank.serving.store.export import stored_requests
from goalrank.serving.store.store import Store
from tests.bundles.test_missing_inputs import BUNDLE, INPUTS, varied, without

ASKED = Requests(varied().frame, info=varied().info)  # a request brings no side tables
ROW = int(ASKED.frame["history"].list.len().arg_max() or 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return BUNDLE.save(tmp_path_factory.mktemp("b") / "bundle")


def opened(folder, tmp_path, missing="refuse"):
    store = Store(f"sqlite:///{tmp_path / 's.db'}")
    service = Service(folder, store, deadline=30.0, missing=missing)
    return service, TestClient(create_app(service), raise_server_exceptions=False)


def body(row: int = ROW, *lacking: str, **changes) -> dict[str, object]:
    found = ASKED.frame.row(row, named=True)
    names = ("request_id", "user_id", "history", "candidates", *INPUTS)
    out = {name: found[name] for name in names if name not in lacking}
    out["time"] = found["time"].isoformat()
    if "history_time" in out:
        out["history_time"] = [each.isoformat() for each in found["history_time"]]
    return out | changes


@pytest.mark.parametrize("name", INPUTS)
def test_what_is_lacking_is_refused_and_not_stored(folder, tmp_path, name):
    service, client = opened(folder, tmp_path)
    with client:
        for path, sent in (
            ("/v1/rank", body(ROW, name)),
            ("/v1/rank:batch", {"requests": [body(0), body(ROW, name)]}),
        ):
            answer = client.post(path, json=sent)
            assert answer.status_code == 422
            error = answer.json()["error"]
            assert error["code"] == "missing_input"
            assert error["message"].startswith(name)
            assert "option: missing" in error["message"]
        assert list(service.store.rows()) == []


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("by", ["server", "request"])
def test_means_are_the_librarys_and_marked(folder, tmp_path, name, by):
    wanted = BUNDLE.rank(without(name, ASKED).take([ROW]), missing="mean")
    _, client = opened(folder, tmp_path, "mean" if by == "server" else "refuse")
    sent = body(ROW, name, **({} if by == "server" else {"missing": "mean"}))
    with client:
        answer = client.post("/v1/rank", json=sent).json()
        assert answer["items"] == wanted["items"][0].to_list()
        assert abs(answer["log_prob"] - wanted["log_prob"][0]) < 1e-4
        assert answer["filled"] == [name]
        metrics = client.get("/metrics").text
        assert f'goalrank_filled_total{{input="{name}"}} 1.0' in metrics


def test_a_request_may_refuse_where_the_server_does_not(folder, tmp_path):
    _, client = opened(folder, tmp_path, "mean")
    with client:
        sent = body(ROW, "candidate_score", missing="refuse")
        assert client.post("/v1/rank", json=sent).status_code == 422
        assert client.post("/v1/rank", json=body()).json()["filled"] == []


def test_a_batch_may_mix_complete_and_lacking_requests(folder, tmp_path):
    service, client = opened(folder, tmp_path, "mean")
    sent = [body(row, *(INPUTS if row % 2 else ())) for row in range(10)]
    with client:
        lists = client.post("/v1/rank:batch", json={"requests": sent}).json()["lists"]
        assert [bool(each["filled"]) for each in lists] == [row % 2 == 1 for row in range(10)]
        tables = list(stored_requests(service.store))
    assert [table.validate() for table in tables] == [[]], "the store keeps what the model saw"
    again = BUNDLE.rank(tables[0])
    given = dict(zip(again["request_id"], again["items"].to_list()))
    assert [given[each["request_id"]] for each in lists] == [each["items"] for each in lists]
