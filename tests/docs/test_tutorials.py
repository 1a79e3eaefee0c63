"""The tutorials: every command runs, and prints what the page shows, numbers aside."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.runner import ROOT, blocks, outputs

FOLDER = ROOT / "docs" / "tutorials"
_NUMBER = re.compile(r"[-+]?\d[\d,.]*")
_KEPT = re.compile(r"the (?:trained model|linear start) is kept")


def shown(path: Path) -> Iterator[str]:
    """For each bash or python block, the texts that the page shows before the next one."""
    texts: list[str] = []
    for block in reversed(blocks(path)):
        if block.language == "text":
            texts.append(block.text)
        else:
            yield "".join(reversed(texts))
            texts = []


def lines(text: str) -> list[str]:
    """Lines without what may differ between machines: numbers, widths, which weights were kept."""
    plain = _KEPT.sub("one of the two is kept", _NUMBER.sub("#", text))
    return [" ".join(line.split()) for line in plain.splitlines() if line.strip()]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.md")), ids=lambda path: path.stem)
def test_every_command_prints_what_the_page_shows(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    texts = [*shown(path)][::-1]
    ran = 0
    for (command, printed), text in zip(outputs(path), texts, strict=True):
        missing = [line for line in lines(text) if line not in lines(printed)]
        assert missing == [], f"{command}\n{printed}"
        ran += 1
    assert ran >= 5
