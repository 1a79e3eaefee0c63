"""Runs the fenced commands of a document one after another, in an empty folder."""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from goalrank.cli import app

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, text and the line it starts on."""

    language: str
    text: str
    line: int


def blocks(path: Path) -> list[Block]:
    """All fenced blocks that name a language."""
    text = path.read_text(encoding="utf-8")
    return [
        Block(m.group(1), m.group(2), text[: m.start()].count("\n") + 2)
        for m in _FENCE.finditer(text)
    ]


def commands(block: Block) -> list[str]:
    """Shell lines, with continued lines joined; comments left out."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]


def run(path: Path, keep: Callable[[str], bool] = lambda command: True) -> list[str]:
    """Run bash and python blocks in the present folder; python blocks share their names.

    Args:
        keep: which shell commands to run.

    Returns:
        the commands that were run.
    """
    return [command for command, _ in outputs(path, keep)]


def outputs(
    path: Path, keep: Callable[[str], bool] = lambda command: True
) -> Iterator[tuple[str, str]]:
    """As `run`, but gives each command with what it printed, right after it ran."""
    names: dict[str, Any] = {"__name__": "document"}
    for block in blocks(path):
        where = f"{path.name}, line {block.line}"
        if block.language == "python":
            printed = io.StringIO()
            with redirect_stdout(printed):
                exec(compile(block.text, where, "exec"), names)
            yield where, printed.getvalue()
        for command in commands(block) if block.language == "bash" else []:
            if keep(command):
                yield command, _shell(command, where)


def _shell(command: str, where: str) -> str:
    """`goalrank …` within this process (loading torch once), anything else as it is."""
    if command.startswith("goalrank "):
        result = CliRunner().invoke(app, shlex.split(os.path.expandvars(command))[1:])
        assert result.exit_code == 0, f"{where}: {command}\n{result.output}\n{result.exception!r}"
        return result.output
    path = (
        f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # goalrank of these tests
    )
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        check=True, timeout=60, stdout=subprocess.PIPE, text=True, env={**os.environ, "PATH": path},
    )  # fmt: skip
    return done.stdout
