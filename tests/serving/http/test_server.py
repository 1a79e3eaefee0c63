"""A real server process: exposures survive its death, and the commands read what it kept."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from goalrank.cli.application import app
from goalrank.requests import Requests
from goalrank.serving import Store
from tests.bundles.kit import make_bundle

_TOML = """
[[experiment]]
name = "aa"
salt = "1"
variants = [{ name = "a" }, { name = "b" }]
metrics = [{ name = "clicks", kind = "click" }]
"""


@pytest.fixture(params=["1", pytest.param("2", marks=pytest.mark.slow)], ids="workers={}".format)
def server(request, tmp_path):
    make_bundle(reward=False).save(tmp_path / "bundle")
    (tmp_path / "e.toml").write_text(_TOML)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "from goalrank.cli import main; main()", "serve"]
    command += ["--bundle", "bundle", "--port", str(port), "--experiments", "e.toml"]
    command += ["--workers", request.param]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GOALRANK_STORE": "sqlite:///s.db"}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL, start_new_session=True
    )
    url = f"http://127.0.0.1:{port}"
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            if httpx.get(f"{url}/health/ready").status_code == 200:
                break
        except httpx.TransportError:
            time.sleep(0.1)
    yield process, url, tmp_path
    with suppress(ProcessLookupError):  # the workers too
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _ask(url: str, user: int, acknowledged: list[dict[str, Any]]) -> None:
    body = {
        "user_id": user, "candidates": [3, 4, 5, 6, 7], "candidate_score": [5, 4, 3, 2, 1],
        "candidate_features": [[0, 1]] * 5,
    }  # fmt: skip
    with httpx.Client(base_url=url, timeout=10) as client:
        try:
            while True:
                answer = client.post("/v1/rank", json=body)
                if answer.status_code == 200:
                    acknowledged.append(answer.json())
        except httpx.TransportError:
            return


def test_sigkill_under_load_then_export_and_report(server):
    process, url, folder = server
    acknowledged: list[dict[str, Any]] = []
    threads = [threading.Thread(target=_ask, args=(url, user, acknowledged)) for user in range(4)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 60
    while len(acknowledged) < 100 and time.monotonic() < end:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)  # with its workers, all at the same moment
    for thread in threads:
        thread.join()
    store = f"sqlite:///{folder / 's.db'}"
    with Store(store) as opened:
        there = {row["request_id"] for part in opened.rows() for row in part}
    missing = [each for each in acknowledged if each["request_id"] not in there]
    print(f"{len(acknowledged)} acknowledged before SIGKILL, {len(missing)} missing")
    assert len(acknowledged) >= 100
    assert missing == []
    assert {each["experiment"] for each in acknowledged} <= {"aa:a", "aa:b"}

    out = folder / "export"
    done = CliRunner().invoke(
        app, ["store", "export", "--store", store, "--out", str(out), "--json"]
    )
    assert done.exit_code == 0, done.output
    counts = json.loads(done.stdout)["requests"]
    assert sum(counts.values()) == len(there)
    assert len(Requests.read(out / "train")) == counts["train"]

    command = ["ab", "report", "aa", "--experiments", str(folder / "e.toml"), "--store", store]
    done = CliRunner().invoke(app, command)
    assert done.exit_code in (0, 3), done.output  # four users may all be in one arm
    assert re.search(r"units", done.output)


def test_sigterm_answers_what_is_under_way(server):
    process, url, _ = server
    acknowledged: list[dict[str, Any]] = []
    thread = threading.Thread(target=_ask, args=(url, 1, acknowledged))
    thread.start()
    while not acknowledged:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    thread.join(20)
    process.wait(20)
    assert not thread.is_alive()
    assert process.returncode in (0, -signal.SIGTERM, 143)
