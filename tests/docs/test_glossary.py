"""The glossary gives each term one meaning, and words that were given up stay away."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
GLOSSARY = ROOT / "docs" / "glossary.md"
GIVEN_UP = re.compile(
    r"rules? without (?:any )?learning|LocalEngine|RayEngine|--engine ray|"
    r"goalrank\.(?:engines|benchmark|simulation|theory|reports)\b"
)


def _terms() -> list[str]:
    rows = re.findall(r"^\| ([^|]+?) \|", GLOSSARY.read_text(encoding="utf-8"), re.MULTILINE)
    return [row for row in rows if row != "term" and not row.startswith("---")]


def test_each_term_stands_once():
    terms = _terms()
    assert len(terms) > 50
    assert sorted(terms) == sorted(set(terms))


def test_words_that_were_given_up_are_gone():
    texts = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    texts += [*(ROOT / "docs").glob("*.md"), *(ROOT / "src").rglob("*.py")]
    found = [
        f"{path.relative_to(ROOT)}:{number} {line.strip()[:80]}"
        for path in texts
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if GIVEN_UP.search(line)
    ]
    assert found == []
