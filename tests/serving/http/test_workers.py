"""Several processes on one port: one store, one set of numbers, swaps and stops reach all."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from goalrank.serving import Store
from tests.bundles.kit import make_bundle

pytestmark = pytest.mark.slow
BODY = {
    "user_id": 1, "candidates": [3, 4, 5, 6, 7], "candidate_score": [5, 4, 3, 2, 1],
    "candidate_features": [[0, 1]] * 5,
}  # fmt: skip


def _start(folder: Path, port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "from goalrank.cli import main; main()", "serve"]
    command += ["--bundle", "bundle", "--port", str(port), "--workers", "2"]
    command += ["--store", "sqlite:///s.db", "--deadline", "20"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stderr=subprocess.DEVNULL, start_new_session=True
    )


@pytest.fixture
def server(tmp_path):
    make_bundle(reward=False).save(tmp_path / "bundle")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = _start(tmp_path, port)
    yield process, f"http://127.0.0.1:{port}", tmp_path
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _ask(url: str) -> dict[str, Any]:
    """One list on a connection of its own, so that any worker may take it."""
    return httpx.post(f"{url}/v1/rank", json=BODY, timeout=30).raise_for_status().json()


def _workers(process: subprocess.Popen[bytes]) -> set[int]:
    """Children that listen; the first child may be multiprocessing's tracker."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    lines = {int(c): Path(f"/proc/{c}/cmdline").read_bytes() for c in children}
    return {pid for pid, line in lines.items() if b"spawn_main" in line}


def _until(ready, limit: float = 120.0) -> None:
    end = time.monotonic() + limit
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.1)


def _up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def test_two_workers_swap_count_and_stop_together(server):
    process, url, folder = server
    _until(lambda: _up(url))
    _until(lambda: len(_workers(process)) == 2)
    before = {_ask(url)["policy"] for _ in range(20)}
    assert len(before) == 1

    make_bundle("dnn", reward=False).save(folder / "bundle", overwrite=True)
    streak: list[str] = []

    def swapped() -> bool:
        streak.append(_ask(url)["policy"])
        return len(streak) >= 40 and set(streak[-40:]).isdisjoint(before)

    _until(swapped)
    assert set(streak) - before == {streak[-1]}
    assert streak[-1].startswith("dnn@")

    asked = 20 + len(streak)
    text = httpx.get(f"{url}/metrics", timeout=10).text
    counted = re.search(r'goalrank_answers_total\{route="/v1/rank",status="200"\} (\d+)', text)
    assert counted is not None
    assert int(counted[1]) == asked
    with Store(f"sqlite:///{folder / 's.db'}") as store:
        assert store.count() == (asked, 0)

    workers, answers = _workers(process), []

    def keep_asking() -> None:
        try:
            while True:
                answers.append(_ask(url))
        except httpx.TransportError:
            return

    threads = [threading.Thread(target=keep_asking) for _ in range(3)]
    for thread in threads:
        thread.start()
    _until(lambda: len(answers) > 5)
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    for thread in threads:
        thread.join(60)
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]
    with Store(f"sqlite:///{folder / 's.db'}") as store:
        there = {row["request_id"] for part in store.rows() for row in part}
    assert {each["request_id"] for each in answers} <= there
    assert process.returncode in (0, -signal.SIGTERM, 143)


def test_a_killed_supervisor_leaves_no_worker_and_its_port_is_free(server):
    process, url, folder = server
    _until(lambda: _up(url))
    _until(lambda: len(_workers(process)) == 2)
    workers = _workers(process)
    process.kill()  # SIGKILL: the supervisor can tell nobody
    process.wait()
    again = _start(folder, int(url.rsplit(":", 1)[1]))
    try:
        _until(lambda: not [pid for pid in workers if Path(f"/proc/{pid}").exists()], 30)
        _until(lambda: _up(url) and len(_workers(again)) == 2)
        assert again.poll() is None
        assert _ask(url)["logged"]
    finally:
        os.killpg(again.pid, signal.SIGKILL)
        again.wait()
    print(f"workers {sorted(workers)} ended after SIGKILL of their supervisor")


def test_what_cannot_be_served_ends_the_command(tmp_path):
    command = [sys.executable, "-c", "from goalrank.cli import main; main()", "serve"]
    command += ["--bundle", "nowhere", "--workers", "2", "--store", "none"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert "nowhere" in done.stderr + done.stdout
