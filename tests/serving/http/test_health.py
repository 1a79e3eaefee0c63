"""Health checks: they wait for nothing, and say what is wrong."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient

from goalrank.errors import StoreError
from goalrank.serving.http.app import create_app
from goalrank.serving.ranking.service import Service
from goalrank.serving.store.probe import StoreProbe
from goalrank.serving.store.store import Store
from tests.bundles.kit import make_bundle
from tests.serving.databases import fill, small_disk
from tests.serving.http.test_app import body, code
from tests.serving.live import live
from tests.serving.store.test_withdrawn import stalled

REFUSES = re.compile(r"the store refuses \([^)]*\)")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_bundle(reward=False).save(tmp_path_factory.mktemp("b") / "bundle")


def test_callers_who_wait_for_the_store_hold_up_no_health_check(store_url, folder):
    service = Service(folder, Store(store_url), deadline=10.0)
    service.store_timeout = 2.0
    statuses: list[int] = []

    limits = httpx.Limits(max_connections=100)

    def post(event: dict[str, object]) -> None:
        sent = client.post("/v1/feedback", json={"events": [event]})
        statuses.append(sent.status_code)

    with (
        live(create_app(service), timeout_graceful_shutdown=1) as url,
        httpx.Client(base_url=url, timeout=60, limits=limits) as client,
    ):
        shown = client.post("/v1/rank", json=body()).json()
        event = {"request_id": shown["request_id"], "item": shown["items"][0], "kind": "click"}
        with stalled(store_url):
            threads = [threading.Thread(target=post, args=(event,)) for _ in range(60)]
            for thread in threads:
                thread.start()
            time.sleep(0.5)
            checks = [client.get("/health/live", timeout=1.5) for _ in range(5)]
            for thread in threads:
                thread.join()
    print(f"60 posts of feedback to a stalled store: {sorted(set(statuses))}, 5 checks answered")
    assert [each.status_code for each in checks] == [200] * 5
    assert set(statuses) == {503}


def test_a_server_ends_though_its_store_does_not_answer(tmp_path, folder):
    store_url = f"sqlite:///{tmp_path / 's.db'}"
    service = Service(folder, Store(store_url), deadline=10.0)
    with TestClient(create_app(service)) as client, stalled(store_url):
        service.store_timeout = 0.1
        assert code(client.post("/v1/rank", json=body(1))) == (503, "store_unavailable")
        began = time.monotonic()
        client.__exit__(None, None, None)
        seconds = time.monotonic() - began
        print(f"closed in {seconds:.1f} s while the store was stalled")
        assert seconds < 15.0
        client.__enter__()


def wait_for(client: TestClient, status: int) -> httpx.Response:
    end = time.monotonic() + 20
    while (found := client.get("/health/ready")).status_code != status and time.monotonic() < end:
        time.sleep(0.05)
    assert found.status_code == status, found.text
    return found


@pytest.fixture
def quick(monkeypatch):
    """Probes that look often."""
    monkeypatch.setattr(
        "goalrank.serving.ranking.service.StoreProbe",
        lambda store: StoreProbe(store, every=0.05, patience=0.3),
    )


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("policy", ["fail", "serve-unlogged"])
@pytest.mark.parametrize("what", ["removed", "replaced"])
def test_a_file_that_is_gone_is_no_store(folder, tmp_path, policy, what):
    path = tmp_path / "s.db"
    service = Service(folder, Store(f"sqlite:///{path}"), deadline=10.0, on_store_failure=policy)
    with TestClient(create_app(service)) as client:
        assert client.post("/v1/rank", json=body(0)).json()["logged"]
        aside = [Path(f"{path}{end}") for end in ("", "-wal", "-shm")]
        for file in aside:
            file.rename(tmp_path / f"kept{file.name}")
        if what == "replaced":
            Store(f"sqlite:///{path}").close()
        got = client.post("/v1/rank", json=body(1))
        # The probe may have opened the new file before the request: then the list is stored there.
        stored = got.status_code == 200 and got.json()["logged"]
        assert what == "replaced" or not stored
        if policy == "fail":
            assert stored or code(got) == (503, "store_unavailable")
        else:
            assert got.status_code == 200, got.text
        if what == "removed":
            found = wait_for(client, 503 if policy == "fail" else 200)
            end = time.monotonic() + 20
            while "removed" not in found.text and time.monotonic() < end:
                found = client.get("/health/ready")
            assert "removed" in found.text
            assert not path.exists()
            for file in aside:
                (tmp_path / f"kept{file.name}").rename(file)
        wait_for(client, 200)
        assert client.post("/v1/rank", json=body(2)).json()["logged"]
    with Store(f"sqlite:///{path}") as store:
        there = {row["request_id"] for part in store.rows() for row in part}
    assert body(2)["request_id"] in there
    assert (body(1)["request_id"] in there) == stored


@pytest.mark.usefixtures("quick")
def test_a_full_disk_is_not_ready(folder):
    with small_disk(4) as disk:
        if disk is None:
            pytest.skip("a small disk needs root and the right to mount")
        service = Service(folder, Store(f"sqlite:///{disk / 's.db'}"), deadline=10.0)
        with TestClient(create_app(service)) as client:
            assert client.get("/health/ready").status_code == 200
            ballast = fill(disk)
            for row in range(20):
                client.post("/v1/rank", json=body(row))
            assert "full" in wait_for(client, 503).text
            ballast.unlink()
            wait_for(client, 200)


def overwrite(path: Path) -> None:
    """Overwrite a store in place with noise, as a bad disk or a wrong copy does."""
    for file in (path, path.with_name(f"{path.name}-wal")):
        with file.open("r+b") as opened:
            size = file.stat().st_size
            opened.write(b"\x5a" * size)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("policy", ["fail", "serve-unlogged"])
def test_a_damaged_store_is_not_ready(folder, tmp_path, policy):
    path = tmp_path / "s.db"
    service = Service(folder, Store(f"sqlite:///{path}"), deadline=10.0, on_store_failure=policy)
    with TestClient(create_app(service)) as client:
        assert client.post("/v1/rank", json=body(0)).json()["logged"]
        assert client.get("/health/ready").status_code == 200
        overwrite(path)
        answers = [client.post("/v1/rank", json=body(row)) for row in range(1, 6)]
        found = wait_for(client, 503 if policy == "fail" else 200)
        end = time.monotonic() + 20
        while not (said := REFUSES.search(found.text)) and time.monotonic() < end:
            found = client.get("/health/ready")
        assert said, found.text
        answers += [client.post("/v1/rank", json=body(row)) for row in range(6, 9)]
        if policy == "fail":
            assert {code(each) for each in answers} == {(503, "store_unavailable")}
        else:
            assert not any(each.json()["logged"] for each in answers)
        Store(f"sqlite:///{tmp_path / 'copy.db'}").close()
        for end_of_name in ("-wal", "-shm"):
            Path(f"{path}{end_of_name}").unlink(missing_ok=True)
        (tmp_path / "copy.db").replace(path)
        end = time.monotonic() + 20
        while "refuses" in client.get("/health/ready").text and time.monotonic() < end:
            time.sleep(0.05)
        assert client.post("/v1/rank", json=body(9)).json()["logged"]
    with Store(f"sqlite:///{path}") as store:
        assert body(9)["request_id"] in {row["request_id"] for part in store.rows() for row in part}
    print(f"damaged store ({policy}): {[each.status_code for each in answers]}; {said[0]}")


def test_a_damaged_store_is_not_started_with(folder, tmp_path):
    path = tmp_path / "s.db"
    Store(f"sqlite:///{path}").close()
    path.write_bytes(b"\x5a" * path.stat().st_size)
    with pytest.raises(StoreError, match=r"cannot be opened \(.*not a database"):
        Store(f"sqlite:///{path}")
