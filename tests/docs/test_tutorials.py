"""The tutorials: every command runs, and prints what the page shows, numbers aside."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

import pytest

from tests.docs.runner import ROOT, blocks, commands, outputs

PAGES = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
_NUMBER = re.compile(r"[-+]?\d[\d,.]*")
_KEPT = re.compile(r"the (?:trained model|linear start) is kept")


def shown(path: Path) -> list[tuple[int, str]]:
    """Of each bash or python block, in order: how many outputs it has, and the texts below it."""
    steps: list[tuple[int, str]] = []
    for block in blocks(path):
        if block.language == "text":
            count, text = steps.pop()
            steps.append((count, text + block.text))
        else:
            steps.append((1 if block.language == "python" else len(commands(block)), ""))
    return steps


def lines(text: str) -> list[str]:
    """Lines without what may differ between machines: numbers, widths, which weights were kept."""
    plain = _KEPT.sub("one of the two is kept", _NUMBER.sub("#", text))
    return [" ".join(line.split()) for line in plain.splitlines() if line.strip()]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to work in; what a page leaves running there is ended."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield work
    if (work / "server.pid").exists():
        with suppress(ProcessLookupError):
            os.kill(int((work / "server.pid").read_text()), signal.SIGTERM)


def with_free_port(path: Path, to: Path) -> Path:
    """A copy of a page whose server listens where no other does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    text = path.read_text(encoding="utf-8")
    copy = to / path.name
    copy.write_text(
        re.sub(r"(127\.0\.0\.1:|--port )8000", lambda m: f"{m[1]}{port}", text), "utf-8"
    )
    return copy


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_is_short_and_leads_on(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert re.search(r"\(\S+\.md", text[text.index("## What next") :])


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_command_prints_what_the_page_shows(path, folder):
    if path.stem == "serve-learn-roll-back":
        pytest.importorskip("fastapi")
        pytest.importorskip("sqlalchemy")
    path = with_free_port(path, folder.parent)
    ran = 0
    done = outputs(path)
    for count, text in shown(path):
        said = [*islice(done, count)]
        printed = "".join(each for _, each in said)
        missing = [line for line in lines(text) if line not in lines(printed)]
        assert missing == [], f"{said[-1][0]}\n{printed}"
        ran += count
    assert ran >= 5
    assert next(done, None) is None
