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

from tests.browser import conftest as browsers
from tests.docs.runner import ROOT

browser = browsers.browser
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
        self.all_ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        loads = {values.get("src"), values.get("srcset")}
        if tag == "link" and values.get("rel") not in ("canonical", "next", "prev"):
            loads.add(values.get("href"))
        self.addresses += [address for address in loads if address]
        self.addresses += IN_STYLE.findall(values.get("style") or "")
        self.all_ids += [values["id"] or ""] if "id" in values else []

    @property
    def ids(self) -> set[str]:
        return set(self.all_ids)


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


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Loaded]:
    """Each page of the site by its address."""
    return {
        path.relative_to(site).as_posix(): Loaded(path.read_text("utf-8"))
        for path in sorted(site.rglob("*.html"))
    }


def _heading(page: Path) -> str:
    return page.read_text("utf-8").partition("\n")[0].removeprefix("# ")


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
def test_no_page_loads_anything_from_elsewhere(site, pages):
    found = [
        f"{name}: {address}"
        for name, page in pages.items()
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
def test_an_address_within_a_page_means_one_place(pages):
    found = {
        name: sorted({each for each in page.all_ids if page.all_ids.count(each) > 1})[:3]
        for name, page in pages.items()
        if len(page.all_ids) > len(page.ids)
    }
    assert found == {}


@pytest.mark.slow
def test_pages_that_are_opened_as_files_can_be_searched(site, browser):
    """No worker may run there, and nothing may be asked of other hosts instead."""
    page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((site / "index.html").as_uri())
    page.locator(".md-search__input").click()
    page.keyboard.type("roll back")
    first = page.locator(".md-search-result__item").first
    assert "How do I roll back?" in first.inner_text(timeout=browsers.PATIENCE)
    assert [url for url in asked if not url.startswith("file:")] == []
    page.close()


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted((DOCS / "reference" / "api").glob("*.md")), ids=_package)
def test_every_public_name_has_an_entry(pages, page):
    """Under the package's name, or the file's where the two share a name."""
    door = import_module(_package(page))
    entries = pages[f"reference/api/{page.stem}.html"].ids
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


def test_no_page_is_named_like_its_section():
    """Beside each other in the navigation, two equal names say nothing."""
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    section, found = "", []
    for name, page in re.findall(r"^ +- (?:([\w -]+):|(.+\.md))$", text, re.MULTILINE):
        section = name or section
        if page and not page.endswith("index.md") and _heading(DOCS / page) == section:
            found.append(page)
    assert section
    assert found == []


def test_the_decisions_are_listed():
    listed = (DOCS / "decisions" / "index.md").read_text("utf-8")
    for path in sorted((DOCS / "decisions").glob("0*.md")):
        number, _, title = _heading(path).partition(". ")
        assert f"\n{number}. [{title}]({path.name})\n" in listed


def test_links_say_where_they_lead():
    """A file's name says little on a site whose pages have titles."""
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in DOCS.rglob("*.md")
        for name in re.findall(r"\[([^\]]*\.md)\]\(", path.read_text("utf-8"))
    ]
    assert found == []


def test_every_picture_says_what_it_shows():
    texts = [*DOCS.rglob("*.md"), ROOT / "README.md"]
    shown = [
        (path.relative_to(ROOT).as_posix(), alternative)
        for path in texts
        for alternative in re.findall(r"!\[([^\]]*)\]\(", path.read_text("utf-8"))
    ]
    assert len(shown) > 20
    assert [each for each in shown if len(each[1].split()) < 3] == []


@pytest.mark.parametrize(
    ("html", "marked"),
    [
        (
            "<code>--set a_b=1</code>",
            '<code><span class="whole">--set</span> a_<wbr>b=<wbr>1</code>',
        ),
        ("<code>goalrank serve</code>", "<code>goalrank serve</code>"),
        ("<code>two-tower, x -1</code>", "<code>two-tower, x -1</code>"),
        ("<pre><span></span><code>--set a_b\n</code></pre>", None),
        ('<code><a href="a_b.html">a_b</a></code>', None),
    ],
)
def test_options_stay_whole_and_long_names_may_break(site_hooks, html, marked):
    assert site_hooks("inline_code").on_page_content(html) == (marked or html)


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
