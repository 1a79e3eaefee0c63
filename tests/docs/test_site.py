"""The documentation site: built strictly, complete, and asking nothing of other hosts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from tests.docs.runner import ROOT

DOCS = ROOT / "docs"
ELSEWHERE = re.compile(r"(?:https?:)?//")
_PIPE = re.compile(r"(?<!\\)\|")
_RULE = re.compile(r"\|(?: ?:?-+:? ?\|)+")
IN_STYLE = re.compile(r"(?:url\(|@import\s)\s*['\"]?((?:https?:)?//[^'\")\s]+)")


class Loaded(HTMLParser):
    """Addresses that a browser loads by itself for a page: scripts, styles, icons, images."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        loads = {values.get("src"), values.get("srcset")}
        if tag == "link" and values.get("rel") not in ("canonical", "next", "prev"):
            loads.add(values.get("href"))
        self.addresses += [address for address in loads if address]
        self.addresses += IN_STYLE.findall(values.get("style") or "")
        self.ids.add(values.get("id") or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a warning of the build is an error."""
    pytest.importorskip("material", reason="the docs site needs the extra [docs]")
    pytest.importorskip("mkdocstrings", reason="the docs site needs the extra [docs]")
    folder = tmp_path_factory.mktemp("built") / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def site_hooks() -> Callable[[str], ModuleType]:
    """Hooks of the site by name."""
    pytest.importorskip("mkdocs", reason="the docs site needs the extra [docs]")

    def load(name: str) -> ModuleType:
        spec = spec_from_file_location(name, DOCS / "hooks" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def pages(site: Path) -> Iterator[tuple[str, Loaded]]:
    for path in sorted(site.rglob("*.html")):
        yield path.relative_to(site).as_posix(), Loaded(path.read_text("utf-8"))


def _package(page: Path) -> str:
    return "goalrank" if page.stem == "index" else f"goalrank.{page.stem}"


def _public(door: ModuleType) -> list[str]:
    own = [
        name
        for name, each in vars(door).items()
        if getattr(each, "__module__", "") == door.__name__
    ]
    return list(getattr(door, "__all__", own))


@pytest.mark.slow
def test_no_page_loads_anything_from_elsewhere(site):
    found = [
        f"{name}: {address}"
        for name, page in pages(site)
        for address in page.addresses
        if ELSEWHERE.match(address)
    ]
    styles = [
        f"{path.name}: {address}"
        for path in site.rglob("*.css")
        for address in IN_STYLE.findall(path.read_text("utf-8"))
    ]
    assert found + styles == []


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted((DOCS / "reference" / "api").glob("*.md")), ids=_package)
def test_every_public_name_has_an_entry(site, page):
    """Under the package's name, or the file's where the two share a name."""
    door = import_module(_package(page))
    entries = Loaded((site / "reference" / "api" / f"{page.stem}.html").read_text("utf-8")).ids
    missing = [
        name
        for name in _public(door)
        if entries.isdisjoint(
            {f"{door.__name__}.{name}", f"{getattr(getattr(door, name), '__module__', '')}.{name}"}
        )
    ]
    assert missing == []


@pytest.mark.slow
def test_files_outside_the_docs_travel_with_the_site(site):
    """The pages' links to them lead to files: mkdocs checks only that it knows the target."""
    theory = (site / "theory.html").read_text("utf-8")
    linked = re.findall(r'(?:src|href)="(repository/[^"#]+)"', theory)
    assert "repository/results/theory/error_by_k.png" in linked
    assert [link for link in linked if not (site / link).is_file()] == []


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    listed = sorted(re.findall(r"[\w/-]+\.md$", text[text.index("\nnav:") :], re.MULTILINE))
    assert listed == sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


def test_pages_have_the_same_title_everywhere():
    """A title in the navigation would stand beside the page's own heading."""
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    entries = re.findall(r"^ +- (.+\.md)$", text[text.index("\nnav:") :], re.MULTILINE)
    assert entries
    assert [entry for entry in entries if ": " in entry] == []


def test_search_shows_answers_before_references(site_hooks):
    weight = site_hooks("search_weights").weight_of
    answers = [
        "how-to.md", "tutorials/own-log.md", "your-logs.md", "extending.md", "live.md",
    ]  # fmt: skip
    others = ["reference/api/evaluation.md", "decisions/0018-what.md", "reference/cli.md"]
    assert min(map(weight, answers)) > max(map(weight, others))
    assert weight("repository/CHANGELOG.md") is None
    # A word in a heading counts 1,000 times one in the text.
    assert 1000 * weight("reference/api/logs.md") < weight("your-logs.md")


@pytest.mark.slow
def test_the_search_knows_the_weights_of_pages(site):
    entries = json.loads((site / "search" / "search_index.json").read_text("utf-8"))["docs"]
    assert [
        each["location"] for each in entries if each["location"].startswith("repository/")
    ] == []
    boosts = {each["location"]: each.get("boost", 1.0) for each in entries}
    assert boosts["how-to.html#how-do-i-add-a-metric"] > 1 > boosts["reference/api/logs.html"]


def test_lists_and_tables_begin_after_an_empty_line():
    """In the repository's view they may follow a line of text; on the site they would be text."""
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in [*DOCS.rglob("*.md")]
        for number, (before, line) in _followed(path.read_text("utf-8"))
        if _opens(line) and before.strip() and not _belongs(before, line)
    ]
    assert found == []


def test_tables_are_whole():
    """A row without a heading is text on the site, and cells beyond the heading's are lost."""
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in [*DOCS.rglob("*.md")]
        for number, rows in _tables(path.read_text("utf-8"))
        if len(rows) < 2 or not _RULE.fullmatch(rows[1]) or len({*map(_cells, rows)}) > 1
    ]
    assert found == []


def _tables(text: str) -> Iterator[tuple[int, list[str]]]:
    """First line's number and the lines of each run that begins with "|", outside fences."""
    rows: list[str] = []
    for number, (_, line) in _followed(f"{text}\n\n"):
        if line.startswith("|"):
            rows.append(line)
        elif rows:
            yield number - len(rows), rows
            rows = []


def _cells(row: str) -> int:
    """Cells of a row; a pipe in code, or after a backslash, is text."""
    return len(_PIPE.findall(re.sub(r"`[^`]*`", "", row))) - 1


def _followed(text: str) -> Iterator[tuple[int, tuple[str, str]]]:
    """Pairs of lines outside fences, with the second one's number."""
    before, is_code = "", False
    for number, line in enumerate(text.splitlines(), 1):
        is_code ^= line.lstrip().startswith("```")
        if not is_code:
            yield number, (before, line)
        before = line


def _opens(line: str) -> bool:
    return bool(re.match(r"(?:[-*] |\d+\. |\| )", line))


def _belongs(before: str, line: str) -> bool:
    """Whether a line goes on with what stands above it: the same list or table, or a heading."""
    same = line.startswith("| ") and before.startswith("|")
    return same or _opens(before) or before.startswith(("#", " ", "<!--"))
