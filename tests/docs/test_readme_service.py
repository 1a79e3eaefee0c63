"""The README's two terminals: serve the demo's bundle, ask, answer, report."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from goalrank.api import run_demo
from tests.api.kit import TINY

pytest.importorskip("fastapi")
ROOT = Path(__file__).parents[2]
GOALRANK = f'{shlex.quote(sys.executable)} -c "from goalrank.cli import main; main()"'


def terminals() -> tuple[str, str]:
    """The two blocks of the section, without comments."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text[text.index("## Serve") :], re.DOTALL)
    first, second = (re.sub(r"\s*#.*", "", block) for block in blocks[:2])
    return first, second


def test_the_two_terminals(tmp_path):
    run_demo("kuairand", tmp_path / "demo-out", overrides=[*TINY, "ranker.slots=6"], progress=False)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    first, second = terminals()
    body = (tmp_path / "demo-out" / "request.json").read_text()
    found = re.search(r'"candidates": \[\s*(\d+)', body)
    assert found is not None
    item = found.group(1)
    served, asked = (
        re.sub(r"\bgoalrank (?=serve|ab|store)", lambda _: f"{GOALRANK} ", text)
        for text in (
            first.strip() + f" --port {port}",
            second.replace("127.0.0.1:8000", f"127.0.0.1:{port}").replace("5969", item),
        )
    )
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    options = {"cwd": tmp_path, "env": environment}
    log = (tmp_path / "server.log").open("wb")
    server = subprocess.Popen(
        ["bash", "-c", f"exec {served}"], stdout=log, stderr=log, start_new_session=True, **options
    )
    try:
        wait(port, server)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", asked],
            capture_output=True, text=True, timeout=120, check=False, **options,
        )  # fmt: skip
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
        log.close()
    assert done.returncode == 0, done.stderr + done.stdout
    assert '"request_id":"first"' in done.stdout
    assert '"stored":1' in done.stdout
    assert "50 users asked" in done.stdout
    assert re.search(r"clicks-per-list +again", done.stdout)


def wait(port: int, server: subprocess.Popen[str]) -> None:
    """Until the server is ready."""
    end = time.monotonic() + 60
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    pytest.fail("the server was not ready")
