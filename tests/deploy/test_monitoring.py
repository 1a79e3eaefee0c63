"""Alert rules and the dashboard: by Debian's Prometheus, against a server that is really asked."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import polars as pl
import pytest
from prometheus_client import Metric

from goalrank.serving import Service, Store, create_app
from goalrank.serving.observability import model_metrics
from goalrank.serving.observability.metrics import Metrics
from goalrank.serving.state.event_log import Appended
from goalrank.serving.state.live import LiveState
from goalrank.serving.state.metrics import StateMetrics
from tests.bundles.kit import make_bundle
from tests.serving.live import live
from tests.serving.state.kit import empty_state

FOLDER = Path(__file__).parents[2] / "deploy" / "monitoring"
RULES = (FOLDER / "alerts.yml").read_text(encoding="utf-8")
BOARD = json.loads((FOLDER / "grafana-dashboard.json").read_text(encoding="utf-8"))
QUERIES = [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]
# Panels that are empty on a healthy server: these counters begin with the first trouble.
TROUBLE = ("goalrank_degraded", "goalrank_filled", "goalrank_store_failures", 'status=~"[45]..')


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian's package prometheus has it)")
    return found


@pytest.mark.parametrize("arguments", [("check", "rules"), ("test", "rules")])
def test_promtool_takes_the_rules_and_each_rings_when_it_must(arguments):
    file = "alerts.yml" if arguments[0] == "check" else "alerts.test.yml"
    done = subprocess.run(
        [tool("promtool"), *arguments, file],
        cwd=FOLDER, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_rule_is_tried_in_trouble():
    alerts = re.findall(r"- alert: (\w+)", RULES)
    tried = re.findall(r'alertname="(\w+)"', (FOLDER / "alerts.test.yml").read_text("utf-8"))
    assert sorted(alerts) == sorted(tried)
    assert len(alerts) == 14


def all_metrics() -> Iterator[Metric]:
    """Of a server that keeps state."""
    registry = Metrics().registry
    StateMetrics(registry)
    yield from registry.collect()


def test_rules_and_panels_name_metrics_that_exist():
    known = {family.name for family in all_metrics()}
    for text in (RULES, *QUERIES):
        for name in re.findall(r"\bgoalrank_\w+", text):
            assert re.sub(r"_(total|bucket|sum|count)$", "", name) in known, name


def test_every_metric_of_a_server_has_a_panel():
    shown = " ".join(QUERIES)
    for family in all_metrics():
        assert family.name in shown, family.name


@pytest.fixture(scope="module")
def every_request_valued() -> Iterator[None]:
    """Instead of one in 128, for which the test would wait."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_metrics, "_SAMPLED", 1)
        yield


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory, every_request_valued) -> Iterator[str]:
    """Debian's Prometheus, which scrapes a server of this process every second."""
    program, folder = tool("prometheus"), tmp_path_factory.mktemp("prometheus")
    bundle = make_bundle().save(folder / "bundle")
    service = Service(bundle, Store(f"sqlite:///{folder / 's.db'}"), deadline=30.0)
    keep_state_metrics(service)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with live(create_app(service)) as url:
        config = (FOLDER / "prometheus.yml").read_text(encoding="utf-8")
        config = config.replace("15s", "1s").replace("127.0.0.1:8000", url.removeprefix("http://"))
        (folder / "prometheus.yml").write_text(config)
        shutil.copy(FOLDER / "alerts.yml", folder)
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [program, f"--config.file={folder / 'prometheus.yml'}",
                 f"--web.listen-address=127.0.0.1:{port}", f"--storage.tsdb.path={folder / 'db'}"],
                stdout=log, stderr=log,
            )  # fmt: skip
            try:
                ask(url, f"http://127.0.0.1:{port}")
                yield f"http://127.0.0.1:{port}"
            finally:
                process.terminate()
                process.wait(30)


def keep_state_metrics(service: Service) -> None:
    """Metrics as a server with state has them: an event now, and one that was there already."""
    state = empty_state("interactions")
    now = int(time.time() * 1e6)
    state.add(pl.DataFrame({"user_id": [1], "item_id": [1], "time": [now], "click": [1.0]}))
    metrics = StateMetrics(service.metrics.registry)
    metrics.look(cast(LiveState, SimpleNamespace(state=state)))
    metrics.count(Appended(stored=1, duplicates=1, last=1))


def ask(url: str, prometheus: str) -> None:
    """Ask for lists until Prometheus has seen the counters grow for some scrapes."""
    body: dict[str, Any] = {
        "user_id": 1, "candidates": [1, 2, 3, 4, 5, 6], "candidate_score": [0.0] * 6,
        "candidate_features": [[0.0, 0.0]] * 6, "history": [], "history_feedback": [],
        "history_time": [],
    }  # fmt: skip
    end = time.monotonic() + 120
    with httpx.Client(timeout=30) as client:
        while time.monotonic() < end:
            answer = client.post(f"{url}/v1/rank", json=body)
            assert answer.status_code == 200, answer.text
            shown = answer.json()
            clicks = [
                {"request_id": shown["request_id"], "item": item, "kind": "click"}
                for item in shown["items"]
            ]
            assert client.post(f"{url}/v1/feedback", json={"events": clicks}).status_code == 200
            if len(values(client, prometheus, "increase(goalrank_ranked_total[10s]) > 2")):
                return
            time.sleep(0.2)
    pytest.fail("Prometheus did not see the counters grow")


def values(client: httpx.Client, prometheus: str, query: str) -> list[Any]:
    try:
        answer = client.get(f"{prometheus}/api/v1/query", params={"query": query})
    except httpx.ConnectError:  # it is starting
        return []
    if answer.status_code == 503:
        return []
    assert answer.status_code == 200, f"{query}: {answer.text}"
    return list(answer.json()["data"]["result"])


def test_every_panel_shows_something_on_a_server_at_work(prometheus):
    empty = []
    with httpx.Client(timeout=30) as client:
        for query in QUERIES:
            plain = query.replace("$__rate_interval", "30s").replace("$instance", ".*")
            if not values(client, prometheus, plain):
                empty.append(query)
    assert [query for query in empty if not any(name in query for name in TROUBLE)] == []


def test_prometheus_loads_the_rules_and_none_rings(prometheus):
    with httpx.Client(timeout=30) as client:
        groups = client.get(f"{prometheus}/api/v1/rules").json()["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) == 14
    assert [rule["name"] for rule in rules if rule["health"] == "err"] == []
    assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []
