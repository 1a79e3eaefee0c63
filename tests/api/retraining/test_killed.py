"""A retraining that is really killed (SIGKILL) once its version is registered: the next run finishes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from goalrank.models import ModelRegistry
from tests.api.retraining.kit import warm

# The command in a process of its own, which dies at the call of a function of the registry.
KILLED = """
import os, signal, sys
from goalrank.cli import main
from goalrank.models import registry

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

owner = registry.ModelRegistry if sys.argv[1] == "promote" else registry
setattr(owner, sys.argv.pop(1), die)
main()
"""
PLAIN = "from goalrank.cli import main; main()"


SETTINGS = """
settle_minutes = 0

[recipe]
light = []
ranker = { name = "linear", slots = 4 }
objective = { name = "supervised" }

[gate]
bootstrap = 50
audit = false
"""


def retrain(folder: Path, program: str, *before: str) -> subprocess.CompletedProcess[str]:
    (folder / "retrain.toml").write_text(SETTINGS)
    return subprocess.run(
        [sys.executable, "-c", program, *before, "retrain", "--data", folder / "data", "--models",
         folder / "models", "--store", "none", "--settings", folder / "retrain.toml", "--json"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("at", "moves", "outcome", "said"),
    [
        ("promote", 0, "promoted", "version 1 passed the gate and is the champion"),
        ("replace_link", 1, "known", "a promotion that was killed is finished"),
    ],
)
def test_the_next_run_finishes_what_a_sigkill_left(tmp_path, at, moves, outcome, said):
    """Killed before the history knows of the promotion, and after it and before the links."""
    warm(tmp_path / "data")
    registry = ModelRegistry(tmp_path / "models")
    killed = retrain(tmp_path, KILLED, at)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(registry.versions()) == 1
    assert len(registry.history().moves) == moves
    assert not registry.pointer().exists()
    done = retrain(tmp_path, PLAIN)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["outcome"] == outcome
    assert said in "\n".join(found["said"])
    assert registry.pointer().readlink().name == "0001"
    assert [version.state for version in registry.versions()] == ["champion"]
    assert len(registry.history().moves) == 1
    assert not registry.settle()
