"""Events in, lists out: the routes of state, against the library's own lists."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from fastapi.testclient import TestClient

from goalrank import fit, load
from goalrank.errors import ConfigError
from goalrank.logs import import_dataset
from goalrank.logs.options import ImportOptions
from goalrank.logs.readers.sources import SOURCES
from goalrank.logs.retrieval.refits import refit_moments
from goalrank.requests import Requests
from goalrank.serving import Service, Store, create_app, export_store
from goalrank.serving.http import admission
from goalrank.serving.http.access import Keys
from goalrank.serving.http.server import keep_state
from goalrank.serving.ranking.batcher import THREAD
from goalrank.serving.state.event_log import EventLog
from goalrank.serving.state.keeper import StateKeeper
from goalrank.serving.state.live import LiveState
from goalrank.serving.state.snapshots import load_snapshot
from goalrank.serving.store.database import open_engine
from goalrank.serving.store.records import micros
from tests.logs.logs_data import movielens_folder

OPTIONS = {"first_fit": 100, "factors": 4, "candidates": 12, "stride": 5, "history": 20}
LINEAR = {"ranker.name": "linear", "objective.name": "supervised", "light": []}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run, its test requests after the latest refit, and the raw log."""
    folder = tmp_path_factory.mktemp("events")
    path = movielens_folder(folder / "log")
    import_dataset("movielens", path, OPTIONS, out=folder / "data")
    fit(folder / "data" / "train.parquet", overrides=LINEAR, out=folder / "run", progress=False)
    raw = SOURCES["movielens"](path, ImportOptions.from_mapping(OPTIONS))
    since = refit_moments(np.sort(raw.events["time"].to_numpy()), 100, 1.5)[-1]
    test = Requests.read(folder / "data" / "test.parquet")
    return folder / "run", test.filter(pl.col("time").cast(pl.Int64) >= int(since)), raw


class Server:
    """A server in this process, which can be ended and started again."""

    def __init__(self, run, folder):
        self.run, self.folder = run, folder
        self.start()

    def start(self):
        self.service = Service(self.run, Store(f"sqlite:///{self.folder / 's.db'}"), deadline=30)
        self.keeper = keep_state(self.service, self.folder / "state")
        self.service.keep(self.keeper)
        self.client = TestClient(create_app(self.service))
        self.client.__enter__()

    def stop(self):
        self.client.__exit__(None, None, None)

    def send(self, events, status=200):
        answer = self.client.post("/v1/events", json={"events": events})
        assert answer.status_code == status, answer.text
        return answer.json()

    def rank(self, row, **more):
        body = {"user_id": row["user_id"], "candidates": row["candidates"], "slots": 5, **more}
        answer = self.client.post("/v1/rank", json={**body, "time": row["time"].isoformat()})
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
def server(made, tmp_path):
    running = Server(made[0], tmp_path)
    yield running
    running.stop()


def interactions(raw, most=None):
    rows = raw.events.head(most or raw.events.height).iter_rows(named=True)
    return [
        {
            "type": "interaction", "user_id": row["user_id"], "item_id": row["item_id"],
            "time": datetime.fromtimestamp(row["time"] / 1e6, UTC).isoformat(),
            "values": {"rating": row["rating"], "like": row["like"]},
        }
        for row in rows
    ]  # fmt: skip


def test_lists_from_events_are_those_of_the_library(made, server):
    run, late, raw = made
    sent = interactions(raw)
    np.random.default_rng(0).shuffle(sent)  # they arrive in any order
    stored = [server.send(sent[start : start + 500])["stored"] for start in range(0, 2400, 500)]
    assert sum(stored) == len(sent) == 2400
    expected = load(run).rank(late, slots=5)["items"].to_list()
    assert len(expected) > 20
    answers = [server.rank(row) for row in late.frame.iter_rows(named=True)]
    assert [answer["items"] for answer in answers] == expected
    assert all(answer["filled"] == [] and answer["state_age"] >= 0 for answer in answers)


def test_what_a_request_gives_is_used(made, server):
    _, late, raw = made
    server.send(interactions(raw))
    row = next(late.frame.iter_rows(named=True))
    lists = [server.rank(row), server.rank(row, candidate_features=row["candidate_features"])]
    worst = np.array(row["candidate_features"])[::-1].tolist()
    lists.append(server.rank(row, candidate_features=worst))
    assert lists[0]["items"] == lists[1]["items"]
    assert lists[0]["items"] != lists[2]["items"]


def test_an_event_counts_for_the_next_list(made, server):
    _, _, raw = made
    server.send(interactions(raw, 600))
    before = server.client.get("/v1/users/1").json()
    now = datetime.now(UTC) - timedelta(seconds=1)
    server.send([{"type": "interaction", "user_id": 1, "item_id": 179, "time": now.isoformat(),
                  "values": {"rating": 5, "like": 1}}])  # fmt: skip
    answer = server.client.post("/v1/rank", json={"user_id": 1, "candidates": [100, 101, 102]})
    assert answer.json()["state_age"] < 60
    after = server.client.get("/v1/users/1").json()
    assert after["events"] == before["events"] + 1
    assert after["history"][-1] == 179
    assert after["sums"]["like"] == before["sums"]["like"] + 1


def test_recommended_items_are_new_to_the_user(made, server):
    _, late, raw = made
    server.send(interactions(raw))
    row = next(late.frame.iter_rows(named=True))
    body = {"user_id": row["user_id"], "time": row["time"].isoformat(), "slots": 5}
    answer = server.client.post("/v1/recommend", json=body)
    assert answer.status_code == 200, answer.text
    assert set(answer.json()["items"]) <= set(row["candidates"])
    assert answer.json()["items"] == server.rank(row)["items"]
    seen = set(raw.events.filter(pl.col("user_id") == row["user_id"])["item_id"])
    again = server.client.post("/v1/recommend", json={**body, "exclude_seen": False})
    assert set(again.json()["items"]) & seen


def test_how_far_the_state_is_ahead_is_that_of_the_moment_when_it_gave_the_candidates(
    made, server, monkeypatch
):
    """Others may move its clock on while the list is ranked."""
    server.send(interactions(made[2]))
    moment, plain = made[1].frame["time"].max(), server.service.rank_async

    async def later(*args):
        server.keeper.live.state.advance(micros(moment) + 60_000_000)
        return await plain(*args)

    monkeypatch.setattr(server.service, "rank_async", later)
    body = {"user_id": 424242, "time": moment.isoformat()}
    answers = [server.client.post("/v1/recommend", json=body).json() for _ in range(2)]
    assert [answer["state_ahead"] for answer in answers] == [0.0, 60.0]


def test_recommendations_are_shed_while_one_is_retrieved(made, server, monkeypatch):
    server.stop()
    monkeypatch.setattr(admission, "_FIRST", 1.0)
    server.start()
    begun, go_on, plain = threading.Event(), threading.Event(), server.keeper.live.retrieve

    def slow(*args, **options):
        begun.set()
        assert go_on.wait(10), "the event loop waits for the retrieval"
        return plain(*args, **options)

    monkeypatch.setattr(server.keeper.live, "retrieve", slow)
    ask = {"user_id": 1, "slots": 5}
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(server.client.post, "/v1/recommend", json=ask)
        assert begun.wait(10)
        second = server.client.post("/v1/recommend", json=ask)
        healthy = server.client.get("/health/live")
        go_on.set()
        assert (first.result(30).status_code, second.status_code) == (200, 503)
    assert healthy.status_code == 200
    assert "goalrank_shed_total 1.0" in server.client.get("/metrics").text


def test_a_server_that_ended_leaves_no_thread_that_works(made, tmp_path):
    def queues() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name == THREAD}

    before = queues()
    server = Server(made[0], tmp_path)
    assert len(queues() - before) == 5  # state, retrieval, small and large lists, feedback
    server.stop()
    assert queues() <= before


def test_a_user_whom_nobody_knows_gets_a_list(made, server):
    server.send(interactions(made[2]))
    answer = server.client.post("/v1/recommend", json={"user_id": 424242, "slots": 3})
    assert len(answer.json()["items"]) == 3


def test_sending_again_changes_nothing(made, server):
    events = [{**event, "event_id": f"e{n}"} for n, event in enumerate(interactions(made[2], 50))]
    assert server.send(events)["stored"] == 50
    assert server.send(events)["duplicates"] == 50
    before = server.client.get("/v1/items/120").json()
    server.send(events[:10])
    assert server.client.get("/v1/items/120").json() == before
    other = {**events[3], "values": {"rating": 1, "like": 0}, "item_id": 100}
    assert server.send([other], 409)["error"]["code"] == "duplicate_request"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"values": {"click": 1}}, "feedback type 'click' is unknown"),
        ({"user_id": "1"}, "id '1' is a str"),
        ({"time": "2150-01-01T00:00:00Z"}, "ahead of this server"),
        ({"time": "1950-01-01T00:00:00Z"}, "before 1970"),
        ({"time": "2020-01-01T00:00:00"}, "breaks rules"),
        ({"values": {"rating": "five"}}, "breaks rules"),
        ({"type": "purchase"}, "breaks rules"),
        ({"values": {"like": 1e7}}, "values.like is 1e+07, but features average it"),
    ],
)
def test_bad_events_are_refused_whole(made, server, change, said):
    good, bad = interactions(made[2], 2)
    assert said in server.send([good, {**bad, **change}], 422)["error"]["message"]
    assert server.keeper.position == 0


def test_an_event_without_time_may_be_sent_again(made, server):
    event = {
        "type": "interaction", "event_id": "e1", "user_id": 1, "item_id": 100, "values": {"like": 1},
    }  # fmt: skip
    shown = {
        "type": "exposure", "event_id": "x1", "user_id": 1, "items": [101, 102],
        "values": {"like": [1, 0]},
    }  # fmt: skip
    assert server.send([event, shown])["stored"] == 3
    assert server.send([event, shown])["duplicates"] == 3
    for change in ({"item_id": 101}, {"values": {"like": 0}}):
        assert server.send([{**event, **change}], 409)["error"]["code"] == "duplicate_request"
    assert server.client.get("/v1/users/1").json()["events"] == 3


def test_what_an_event_does_not_name_does_not_depend_on_others(made, server):
    base = {"type": "interaction", "user_id": 77_777}
    server.send([{**base, "item_id": 100, "values": {"rating": 5}}])
    server.send([{**base, "item_id": 101, "values": {"rating": 5, "like": 0}}])
    before = server.client.get("/v1/users/77777").json()
    assert before["sums"]["like"] == 1
    server.stop()
    shutil.rmtree(server.folder / "state")
    server.start()
    assert server.client.get("/v1/users/77777").json() == before


@pytest.mark.parametrize("time", ["9998-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00"])
def test_nothing_is_recommended_at_impossible_times(made, server, time):
    server.send(interactions(made[2]))
    answer = server.client.post("/v1/recommend", json={"user_id": 1, "slots": 3, "time": time})
    assert answer.status_code == 422
    assert "at most a day ahead" in answer.text


def test_a_request_of_tomorrow_moves_no_clock(made, server):
    _, late, raw = made
    server.send(interactions(raw))
    row = next(late.frame.iter_rows(named=True))
    tomorrow = datetime.now(UTC) + timedelta(hours=20)
    server.rank({**row, "time": tomorrow})
    body = {"user_id": row["user_id"], "slots": 3, "time": tomorrow.isoformat()}
    assert server.client.post("/v1/recommend", json=body).status_code == 200
    assert server.keeper.live.state.clock <= micros(datetime.now(UTC))


def test_the_answer_says_how_far_the_state_is_ahead(made, server):
    server.send(interactions(made[2]))
    server.client.get("/v1/users/1")  # moves the clock on to now
    hour = {"time": (datetime.now(UTC) - timedelta(hours=1)).isoformat(), "user_id": 1}
    width = len(server.service.info.candidate_features)
    given = {
        "history": [], "candidate_features": [[0.0] * width] * 3, "candidate_score": [0.0] * 3,
    }  # fmt: skip
    ask = {"candidates": [100, 101, 102]}
    for path, body in (("rank", {**hour, **ask}), ("recommend", hour)):
        late = server.client.post(f"/v1/{path}", json=body).json()
        assert late["state_ahead"] == pytest.approx(3600, abs=60)
        now = server.client.post(f"/v1/{path}", json={**body, "time": None}).json()
        assert now["state_ahead"] == pytest.approx(0, abs=1)
    whole = server.client.post("/v1/rank", json={**hour, **ask, **given, "missing": "mean"})
    assert whole.json()["state_ahead"] is None


def test_sums_and_means_are_of_what_features_need(made, server):
    seen = [
        {"type": "interaction", "user_id": 77_777, "item_id": item, "values": {"rating": 5, "like": like}}
        for item, like in ((100, 1), (101, 0), (102, 1), (103, 1))
    ]  # fmt: skip
    server.send(seen)
    known = server.client.get("/v1/users/77777").json()
    assert known["events"] == 4
    assert known["sums"] == {"rating": None, "like": 3.0}  # no feature averages ratings
    assert known["means"] == {"rating": None, "like": 0.75}
    nobody = server.client.get("/v1/users/88888").json()
    assert (nobody["sums"]["like"], nobody["means"]["like"]) == (0.0, None)


@pytest.mark.parametrize("name", ["1_0", "%207", "\u0663", "+7", "007", str(2**63), "9" * 256, "x"])
def test_an_id_in_a_path_is_written_in_one_way(made, server, name):
    for method in ("get", "delete"):
        answer = getattr(server.client, method)(f"/v1/users/{name}")
        assert answer.status_code == 422
        assert "no integer of 64 bits" in answer.json()["error"]["message"]


def test_too_many_events(made, server):
    event = {"type": "interaction", "user_id": 1, "item_id": 100}
    assert server.send([event] * 10_001, 422)["error"]["code"] == "invalid_request"
    shown = {"type": "exposure", "user_id": 1, "items": list(range(1000))}
    faults = server.send([shown] * 20 + [event], 422)["error"]["details"]
    assert "events have 20,001 items together" in faults[0]["rule"]


def test_a_user_is_forgotten_everywhere(made, server):
    _, late, raw = made
    server.send(interactions(raw))
    row = next(late.frame.iter_rows(named=True))
    user = row["user_id"]
    server.rank(row)
    server.rank({**row, "user_id": user % 60 + 1})
    gone = server.client.delete(f"/v1/users/{user}").json()
    mine = raw.events.filter(pl.col("user_id") == user).height
    assert gone == {"known": True, "events": mine, "exposures": 1}
    assert server.client.get(f"/v1/users/{user}").json()["known"] is False
    export_store(server.service.store, server.folder / "out", validation=0.0)
    assert user not in Requests.read(server.folder / "out" / "train").frame["user_id"]
    server.stop()
    shutil.rmtree(server.folder / "state")
    server.start()
    assert server.client.get(f"/v1/users/{user}").json()["known"] is False
    assert server.client.delete(f"/v1/users/{user}").json()["known"] is False


def test_a_restart_reads_the_snapshot_and_the_events_after_it(made, server):
    _, late, raw = made
    events = interactions(raw)
    row = next(late.frame.iter_rows(named=True))
    server.send(events[:2000])
    server.keeper.save()
    server.send(events[2000:])
    expected = server.rank(row)["items"]
    shutil.copytree(server.folder / "state", server.folder / "kept")
    server.stop()
    shutil.rmtree(server.folder / "state")
    shutil.move(server.folder / "kept", server.folder / "state")  # as if killed before the end
    server.start()
    assert server.keeper.replayed == 400
    assert server.rank(row)["items"] == expected
    server.stop()
    (server.folder / "state" / "arrays.npz").write_bytes(b"damaged")
    server.start()
    assert server.keeper.replayed == 2400
    assert server.rank(row)["items"] == expected


def test_two_processes_see_each_others_events(made, server):
    log = EventLog(open_engine(f"sqlite:///{server.folder / 's.db'}"))
    info, learnt = server.service.info, server.keeper.live.linked.learnt
    other = StateKeeper(info, learnt, log, server.folder / "other")
    server.send(interactions(made[2], 300))
    other.follow(now=True)
    assert other.position == 300
    now = 2 * 10**15
    assert other.live.user(1, now) == server.keeper.live.user(1, now)
    other.close()


def test_a_user_is_forgotten_by_all_processes(made, server):
    log = EventLog(open_engine(f"sqlite:///{server.folder / 's.db'}"))
    info, learnt = server.service.info, server.keeper.live.linked.learnt
    folder, now = server.folder / "other", 2 * 10**15
    other = StateKeeper(info, learnt, log, folder)
    sent = interactions(made[2], 300)
    user = sent[-1]["user_id"]  # whose deletion takes the newest event along
    server.send(sent)
    other.follow(now=True)
    other.save()
    assert other.live.user(user, now)["known"]
    server.client.delete(f"/v1/users/{user}")
    again = {**sent[-1], "event_id": "again"}
    server.send([again])
    other.follow(now=True)
    assert other.live.user(user, now)["events"] == 1
    late = StateKeeper(info, learnt, log, folder)  # from a snapshot that still knows the user
    assert late.replayed == 1
    for each in (other, late):
        assert each.live.user(user, now) == server.keeper.live.user(user, now)
        each.close()


def test_a_bundle_put_in_place_keeps_the_state(made, tmp_path):
    data, run = made[0].parent / "data" / "train.parquet", tmp_path / "run"
    shutil.copytree(made[0], run)
    server = Server(run, tmp_path)
    server.send(interactions(made[2], 200))
    before, known = server.keeper.live, server.keeper.live.user(1, 2 * 10**15)
    other = fit(data, overrides=LINEAR | {"seed": 1}, progress=False)
    other.save(run / "bundle", overwrite=True)
    assert server.service.reload() == ["default"]
    assert server.keeper.live is not before
    assert server.keeper.live.user(1, 2 * 10**15) == known
    server.stop()


def test_metrics_count_events(made, server):
    server.send(interactions(made[2], 30))
    server.send(interactions(made[2], 10))
    text = server.client.get("/metrics").text
    assert 'goalrank_events_total{result="stored"} 30.0' in text
    assert 'goalrank_events_total{result="duplicate"} 10.0' in text
    assert "goalrank_state_bytes" in text


@pytest.mark.parametrize("route", ["events", "recommend"])
def test_a_body_is_not_read_without_a_key(server, route):
    app = create_app(server.service, Keys("shop:0123456789abcdef"))
    asked = TestClient(app).post(
        f"/v1/{route}", content=b"{", headers={"Content-Type": "application/json"}
    )
    assert asked.status_code == 401


def test_state_needs_a_store(made, tmp_path):
    service = Service(made[0])
    with pytest.raises(ConfigError, match="keeps none"):
        keep_state(service, tmp_path)
    service.close()


def test_no_snapshot_keeps_a_user_whose_events_are_gone(made, server, monkeypatch):
    server.send(interactions(made[2], 300))
    server.keeper.save()
    forget, known = EventLog.forget, []

    def look_and_forget(log, user):
        kept = LiveState(server.service.info, server.keeper.live.linked.learnt)
        load_snapshot(kept.state, server.folder / "state", log.identity)
        known.append(kept.user(user, 2 * 10**15)["known"])  # as after a kill at this moment
        return forget(log, user)

    monkeypatch.setattr(EventLog, "forget", look_and_forget)
    gone = server.client.delete("/v1/users/1").json()
    assert known == [False]
    assert gone["known"] is True
    assert gone["events"] > 0
    kept = LiveState(server.service.info, server.keeper.live.linked.learnt)
    log = EventLog(server.service.store.engine)
    assert (
        load_snapshot(kept.state, server.folder / "state", log.identity) == server.keeper.position
    )
    assert kept.user(1, 2 * 10**15)["known"] is False
