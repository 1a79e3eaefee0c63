"""One store under changing models: what cannot be trained stays out, and nothing else is lost."""

from __future__ import annotations

import dataclasses

import httpx
import pytest
from fastapi.testclient import TestClient

from goalrank.errors import ConfigError
from goalrank.requests import Encoder, Requests, TableInfo
from goalrank.serving.http.app import create_app
from goalrank.serving.ranking.service import Service
from goalrank.serving.store.export import export_store
from goalrank.serving.store.layouts import Layout, merged_info
from goalrank.serving.store.records import Event
from goalrank.serving.store.store import Store
from goalrank.training.rewards import probability_kinds
from tests.bundles.kit import make_bundle
from tests.serving.http.test_app import body, code
from tests.serving.store.test_store import exposures
from tests.tables import make_table


def renamed(kind: str) -> Requests:
    """The requests of `make_table` with `kind` in place of their kind "long"."""
    table = make_table()
    feedback = table.frame["feedback"].struct.rename_fields(["click", kind])
    info = TableInfo(**table.info.model_dump() | {"feedback_kinds": ("click", kind)})
    return Requests(
        table.frame.with_columns(feedback=feedback), items=table.items, users=table.users, info=info
    )


def train_part(store: Store, folder) -> Requests:
    export_store(store, folder, validation=0)
    return Requests.read(folder / "train")  # validates


def answer(client: TestClient, row: int, kind: str, value: float) -> httpx.Response:
    got = client.post("/v1/rank", json=body(row)).json()
    event = {"request_id": got["request_id"], "item": got["items"][0], "kind": kind, "value": value}
    return client.post("/v1/feedback", json={"events": [event]})


def test_feedback_that_nothing_could_be_trained_on_is_refused(tmp_path):
    folder = make_bundle(reward=False).save(tmp_path / "b")
    store = Store(f"sqlite:///{tmp_path / 's.db'}")
    with TestClient(create_app(Service(folder, store, deadline=10.0))) as client:
        refused = answer(client, 0, "click", 2)
        assert code(refused) == (422, "invalid_request")
        assert "lies in [0.0, 1.0]" in refused.json()["error"]["message"]
        assert answer(client, 1, "click", 1).json()["stored"] == 1
        train = train_part(store, tmp_path / "out")
    assert train.info.feedback_ranges == {"click": (0.0, 1.0), "long": (0.0, 1.0)}
    assert probability_kinds(Encoder.fit(train).encode(train)) == ("click", "long")


def test_a_kind_keeps_its_declared_range_though_no_answer_came():
    table = make_table()
    info = table.info.replace(feedback_ranges={"long": (0.0, 5.0)})
    encoder = Encoder.fit(Requests(table.frame, info=info))
    assert encoder.info.feedback_ranges == {"click": (0.0, 1.0), "long": (0.0, 5.0)}


def test_what_an_earlier_version_accepted_is_left_out_and_counted(tmp_path):
    table = make_table(4)
    with Store(f"sqlite:///{tmp_path / 's.db'}") as store:
        store.record(exposures(table))
        item = table.frame["candidates"][1][int(table.frame["shown"][1][0])]
        store.feedback([Event("s0r1", item, "click", 2.0), Event("s0r1", item, "long", 1.0)])
        store.describe(Encoder.fit(table).info)
        done = export_store(store, tmp_path / "out", validation=0)
        assert done.left_out == {"click": 1}
    train = Requests.read(tmp_path / "out" / "train")
    assert train.frame["feedback"][1] == {
        kind: [float(kind == "long"), *[0.0] * (len(table.frame["shown"][1]) - 1)]
        for kind in ("click", "long")
    }


def test_answers_to_another_bundle_are_in_the_export(tmp_path):
    folder = make_bundle(reward=False).save(tmp_path / "b")
    store = Store(f"sqlite:///{tmp_path / 's.db'}")
    service = Service(folder, store, deadline=10.0)
    with TestClient(create_app(service)) as client:
        assert answer(client, 0, "long", 1).json()["stored"] == 1
        make_bundle(train=renamed("rated"), reward=False).save(folder, overwrite=True)
        assert service.reload() == ["default"]
        assert answer(client, 1, "rated", 1).json()["stored"] == 1
        assert answer(client, 2, "long", 1).json()["stored"] == 1  # it comes late, or from a site
        train = train_part(store, tmp_path / "out")
    assert train.info.feedback_kinds == ("click", "long", "rated")
    feedback = train.frame.sort("request_id")["feedback"].to_list()
    known = [{kind: row[kind] and sum(row[kind]) for kind in row} for row in feedback]
    assert known == [
        {"click": 0, "long": 1, "rated": None},
        {"click": 0, "long": None, "rated": 1},
        {"click": 0, "long": 1, "rated": 0},
    ]
    columns = Encoder.fit(train).encode(train)
    assert columns.feedback.sum(0).tolist() == [0, 2, 1]
    assert len(train.relevance("long")) == 3


@pytest.mark.parametrize("order", ["with first", "without first"])
def test_features_of_one_bundle_are_kept_and_null_for_the_other(tmp_path, order):
    table = make_table(6)
    given = exposures(table)
    plain = [dataclasses.replace(row, candidate_features=[]) for row in given]
    infos = [table.info, table.info.replace(candidate_features=())]
    if order == "without first":
        infos = infos[::-1]
    with Store(f"sqlite:///{tmp_path / 's.db'}") as store:
        for turn, info in enumerate([*infos, *infos]):
            store.describe(info)
            rows = given if info.candidate_features else plain
            mine = [r for i, r in enumerate(rows) if i % 4 == turn]
            store.record([dataclasses.replace(r, layout=Layout.of(info).name) for r in mine])
        train = train_part(store, tmp_path / "out")
    assert train.info.candidate_features == table.info.candidate_features
    vectors = train.frame["candidate_features"]
    without = 1 if order == "with first" else 0
    assert vectors.is_null().to_list() == [i % 2 == without for i in range(6)]
    wanted = table.frame.filter(vectors.is_not_null())["candidate_features"]
    assert vectors.drop_nulls().equals(wanted)
    assert Encoder.fit(train).encode(train).candidate_features.shape[1] == 2


def test_features_of_several_models_side_by_side(tmp_path):
    table = make_table(2)
    second = table.info.replace(candidate_features=("f1", "new"))
    given = exposures(table)
    with Store(f"sqlite:///{tmp_path / 's.db'}") as store:
        for row, info in zip(given, (table.info, second)):
            store.describe(info)
            store.record([dataclasses.replace(row, layout=Layout.of(info).name)])
        train = train_part(store, tmp_path / "out")
    names = train.info.candidate_features
    assert names == (
        *table.info.candidate_features,
        *sorted({"f1", "new"} - {*table.info.candidate_features}),
    )
    [vector] = {tuple(v is None for v in vector) for vector in train.frame["candidate_features"][1]}
    assert vector == tuple(name not in second.candidate_features for name in names)
    assert Encoder.fit(train).encode(train, "mean").candidate_features.shape[1] == len(names)


def test_the_range_of_a_kind_holds_all_models():
    a = TableInfo(feedback_kinds=("x", "y"), feedback_ranges={"x": (0, 1)})
    b = TableInfo(
        feedback_kinds=("z", "x"), feedback_ranges={"x": (None, 5), "z": (1, 2)}, target="z"
    )
    both = merged_info(a, b)
    assert both.feedback_kinds == ("x", "y", "z")
    assert both.feedback_ranges == {"x": (None, 5), "z": (1, 2)}
    assert both.target == "z"
    with pytest.raises(ConfigError, match=r"feedback_ranges\['x'\].*remedy"):
        a.replace(feedback_ranges={"x": (2, 1)})
