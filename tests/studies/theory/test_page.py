from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from goalrank.errors import DataError
from goalrank.studies.theory import page_faults, refresh_page

ROOT = Path(__file__).parents[3]
RESULTS = {"a": {"k2_a0.5": [0.1234, {"E": 5}]}}


def test_marks_are_checked_and_rewritten() -> None:
    page = "E is 0.12<!--=a/k2_a0.5/0:.3f--> and |7<!--=a/k2_a0.5/1/E:d-->|"
    assert page_faults(page, RESULTS) == [
        "a/k2_a0.5/0: the page says '0.12', it is '0.123'",
        "a/k2_a0.5/1/E: the page says '7', it is '5'",
    ]
    fresh = refresh_page(page, RESULTS)
    assert fresh == "E is 0.123<!--=a/k2_a0.5/0:.3f--> and |5<!--=a/k2_a0.5/1/E:d-->|"
    assert page_faults(fresh, RESULTS) == []
    words = "(old<!--=said:s-->)"
    assert refresh_page(words, {"said": "not so"}) == "(not-so<!--=said:s-->)"
    assert page_faults(refresh_page(words, {"said": "not so"}), {"said": "not so"}) == []


@pytest.mark.parametrize("mark", ["b:.3f", "a/k2_a0.5/9:.3f", "a/k2_a0.5/0:d"])
def test_a_path_that_leads_nowhere_is_refused(mark: str) -> None:
    with pytest.raises(DataError, match=mark.split(":")[0]):
        page_faults(f"x<!--={mark}-->", RESULTS)


def test_the_theory_page_shows_the_committed_numbers() -> None:
    page = (ROOT / "docs" / "theory.md").read_text("utf-8")
    results = json.loads((ROOT / "results" / "theory" / "theory.json").read_text("utf-8"))
    assert len(re.findall("<!--=", page)) > 40
    assert page_faults(page, results) == []


def test_the_theory_page_links_to_files_that_exist() -> None:
    page = (ROOT / "docs" / "theory.md").read_text("utf-8")
    links = re.findall(r"\]\((\.\./[^)#]+)\)", page)
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
