"""Why there is no cluster: nobody answers, or the cluster refuses this process."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from goalrank.compute.ray_executor import _listens, _start
from goalrank.errors import ExecutorError

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra [ray]")
NONE = "start one by 'ray start --head'"


def refuse(error: Exception) -> Any:
    """Ray, whose `init` fails so."""
    import ray

    def init(**options: object) -> None:
        raise error

    return SimpleNamespace(init=init, exceptions=ray.exceptions)


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "auto"])
def test_a_cluster_that_is_there_is_not_to_be_started(monkeypatch, listening, address):
    monkeypatch.setenv("RAY_ADDRESS", address.format(listening))
    error = ConnectionError(f"Failed to connect to Ray cluster at 127.0.0.1:{listening}")
    with pytest.raises(ExecutorError, match=r"refuses this process.*RAY_AUTH_MODE=token") as met:
        _start(refuse(error), 1)
    assert NONE not in str(met.value)


def test_a_token_that_is_missing(monkeypatch):
    from ray.exceptions import AuthenticationError

    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    error = AuthenticationError("Token authentication is enabled but no token was found")
    with pytest.raises(ExecutorError, match=r"refuses this process.*RAY_AUTH_TOKEN") as met:
        _start(refuse(error), 1)
    assert NONE not in str(met.value)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "auto", "nowhere", "127.0.0.1:99999"])
def test_nobody_answers(monkeypatch, address):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ExecutorError, match=NONE):
        _start(refuse(ConnectionError("no running Ray instance")), 1)


@pytest.mark.slow
def test_a_real_cluster_with_a_token(tmp_path):
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("0123456789abcdef" * 2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    place = tempfile.mkdtemp(prefix="r")  # Ray's sockets need a short path
    theirs = {
        **os.environ, "HOME": str(tmp_path), "RAY_AUTH_MODE": "token",
        "RAY_USAGE_STATS_ENABLED": "0", "RAY_ADDRESS": "",
    }  # fmt: skip
    head = subprocess.Popen(
        [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus",
         "1", "--port", str(port), "--include-dashboard=false", "--temp-dir", place],
        env=theirs, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        code = "from goalrank.compute import open_executor\nwith open_executor('ray'): print('in')"
        mine = {**theirs, "RAY_ADDRESS": f"127.0.0.1:{port}"}
        said = ""
        end = time.monotonic() + 60
        while "in" not in said and time.monotonic() < end:
            said = subprocess.run(
                [sys.executable, "-c", code], env=mine, capture_output=True, text=True, timeout=120
            ).stdout
        assert said.strip() == "in"
        (tmp_path / "other").mkdir()
        without = {**mine, "HOME": str(tmp_path / "other"), "RAY_AUTH_MODE": "disabled"}
        done = subprocess.run(
            [sys.executable, "-c", code], env=without, capture_output=True, text=True, timeout=120
        )
        last = done.stderr.strip().splitlines()[-1]
        assert "refuses this process" in last
        assert NONE not in last
    finally:
        os.killpg(head.pid, signal.SIGTERM)
        head.wait(60)
        shutil.rmtree(place, ignore_errors=True)


def test_a_port_that_cannot_be_is_no_listener():
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
        assert _listens("", f"127.0.0.1:{port}")
        assert not _listens("", f"127.0.0.1:{port + 65_536}")
