"""`goalrank serve` says that it serves when it does, and not before it refuses."""

from __future__ import annotations

import socket

import pytest


@pytest.fixture
def served(monkeypatch) -> list[object]:
    """Servers that would run."""
    runs: list[object] = []

    def run(_: object, sockets: list[socket.socket]) -> None:
        runs.append(sockets[0].getsockname()[1])

    monkeypatch.setattr("uvicorn.Server.run", run)
    monkeypatch.setattr("goalrank.serving.http.server.PORT_S", 0.1)
    return runs


@pytest.mark.parametrize("workers", [1, 2])
def test_refused_experiments(goalrank, bundle, tmp_path, served, workers):
    (tmp_path / "e.toml").write_text("[[experiment]]\nname = 1\n")
    result = goalrank(
        "serve", "--bundle", bundle, "--store", "none", "--experiments", tmp_path / "e.toml",
        "--workers", workers,
    )  # fmt: skip
    assert result.exit_code != 0
    assert "option: experiments" in result.stderr
    assert "serving /" not in result.stderr
    assert served == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_that_is_taken(goalrank, bundle, served, workers):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = goalrank(
            "serve", "--bundle", bundle, "--store", "none", "--port", port, "--workers", workers
        )
    assert result.exit_code == 2
    assert f"127.0.0.1:{port}" in result.stderr
    assert "remedy" in result.stderr
    assert "serving /" not in result.stderr
    assert served == []


def test_said_once_it_serves(goalrank, bundle, served):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    result = goalrank("serve", "--bundle", bundle, "--store", "none", "--port", port)
    assert result.exit_code == 0, result.stderr
    assert f"at http://127.0.0.1:{port}" in result.stderr
    assert served == [port]
