"""Start of a server: only what it needs is loaded, and nothing is looked through twice."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

from tests.bundles.kit import make_bundle

# Each costs memory and a good part of a start, and no request needs it.
_UNNEEDED = (
    "torch._dynamo", "torch._inductor", "torch.distributed.tensor", "torch.onnx", "sympy", "scipy",
    "lightning", "lightgbm", "implicit", "matplotlib", "jinja2", "pandas", "sklearn", "onnx", "rich",
    "ray", "fsspec", "psycopg", "sqlalchemy.dialects.postgresql", "opentelemetry.sdk",
    "goalrank.training", "goalrank.api", "goalrank.studies", "goalrank.worlds",
    "goalrank.reporting", "goalrank.logs.importer", "goalrank.logs.readers",
    "goalrank.logs.preview", "goalrank.recipes",
)  # fmt: skip
_CODE = """
import gc, json, sys
from goalrank.cli.application import app
import goalrank.serving.http.server as server
server.uvicorn.Server.run = lambda self, sockets: print(json.dumps(
    {"modules": sorted(sys.modules), "collects": gc.isenabled(), "frozen": gc.get_freeze_count()}
))
app(["serve", "--bundle", "bundle", "--store", "sqlite:///s.db", "--port", sys.argv[1]])
"""


def test_a_server_loads_only_what_it_needs(tmp_path):
    make_bundle().save(tmp_path / "bundle")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    done = subprocess.run(
        [sys.executable, "-c", _CODE, port], cwd=tmp_path, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[0])
    loaded = set(found["modules"])
    assert "torch" in loaded
    assert "goalrank.serving.ranking.service" in loaded
    assert [name for name in _UNNEEDED if name in loaded] == []
    assert found["collects"]
    assert found["frozen"] > 100_000
