"""Schedulers' examples: every command is one that goalrank knows, and check.sh rolls back when it must."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.main import get_command

from goalrank.cli import app

FOLDER = Path(__file__).parents[2] / "deploy" / "retrain"
FILES = sorted(path for path in FOLDER.iterdir() if path.is_file())
_COMMAND = re.compile(r"goalrank ((?:retrain|models) [^\n|;]*)")


def commands(text: str) -> list[list[str]]:
    """Words of every command; a quote that ends a text around it is left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    found = [match.group(1) for line in lines for match in _COMMAND.finditer(line)]
    return [shlex.split(each.rstrip('"') if each.count('"') % 2 else each) for each in found]


def test_the_examples_hold_commands():
    count = {path.name: len(commands(path.read_text())) for path in FILES}
    assert count["crontab"] == 1
    assert count["check.sh"] == 3
    assert count["goalrank-retrain.service"] == 1
    assert count["airflow_dag.py"] == 2


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_command_is_known(path, monkeypatch):
    monkeypatch.setenv("GOALRANK_MODELS", "models")
    for words in commands(path.read_text()):
        command = get_command(app)
        name, *rest = words
        if name == "models":
            command, (name, *rest) = command.commands["models"], rest  # type: ignore[attr-defined]
        found = command.commands[name]  # type: ignore[attr-defined]
        found.make_context(name, rest)  # refuses an unknown option


def fake(folder: Path, code: int, pointer: str) -> dict[str, str]:
    """A `goalrank` that notes its arguments and whose check ends with a code."""
    script = folder / "goalrank"
    script.write_text(f"""#!/bin/sh
echo "$@" >> {folder}/calls
case "$*" in
*--json) echo '[{{"pointer": "{pointer}", "breaches": [1]}}]'; exit {code} ;;
*check*) exit {code} ;;
esac
""")
    script.chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "GOALRANK_EXPERIMENTS": "e.toml",
    }


@pytest.mark.parametrize(
    ("code", "pointer", "rolled_back"),
    [(0, "champion", False), (20, "champion", True), (20, "canary", False), (8, "champion", False)],
)
def test_only_a_champion_that_turned_bad_is_rolled_back(tmp_path, code, pointer, rolled_back):
    environment = fake(tmp_path, code, pointer)
    done = subprocess.run([FOLDER / "check.sh"], env=environment, check=False, timeout=60)
    assert done.returncode == code
    assert ("rollback" in (tmp_path / "calls").read_text()) == rolled_back


def test_units_are_what_systemd_takes():
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is not installed")
    units = [str(path) for path in FILES if path.suffix in (".service", ".timer")]
    done = subprocess.run([tool, "verify", *units], capture_output=True, text=True, timeout=60)
    # A script that is not installed here is no fault of the unit.
    faults = [line for line in done.stderr.splitlines() if "is not executable" not in line]
    assert [line for line in faults if "/deploy/" in line or "goalrank-" in line] == []
