"""A real browser for the page: Debian's chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

CHROMIUM = os.environ.get("GOALRANK_CHROMIUM") or shutil.which("chromium")
PATIENCE = 40_000  # milliseconds; a busy machine is slow, not wrong


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One browser per module; each visit has a context of its own.

    Not one for all: while it is open this thread has a running event loop, which other tests cannot
    start their own beside."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="browser tests need playwright (the extra dev)"
    )
    if CHROMIUM is None:
        pytest.skip("browser tests need chromium (apt-get install chromium)")
    with playwright.sync_playwright() as running:
        # Root has no user namespaces to put a sandbox in.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        opened = running.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield opened
        opened.close()


@dataclass
class Visit:
    """A page and all that it asked for and complained about."""

    page: Any
    url: str
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def strangers(self) -> list[str]:
        """Requests to any other host."""
        mine = urlsplit(self.url).netloc
        return [url for url in self.asked if urlsplit(url).netloc != mine]


Open = Callable[..., Visit]


@pytest.fixture
def visit(browser: Any) -> Iterator[Open]:
    """Opens pages; after the test none may have complained or asked another host."""
    visits: list[tuple[Visit, Any, bool]] = []

    def go(
        url: str,
        width: int = 1380,
        height: int = 900,
        *,
        scheme: str = "light",
        ready: bool = True,
        forgiving: bool = False,
    ) -> Visit:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            reduced_motion="reduce",
        )
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        made = Visit(page, url)
        page.on("request", lambda request: made.asked.append(request.url))
        page.on("pageerror", lambda error: made.complaints.append(str(error)))
        page.on(
            "console",
            lambda line: (
                made.complaints.append(line.text) if line.type in ("error", "warning") else None
            ),
        )
        visits.append((made, context, forgiving))
        page.goto(url)
        if ready:
            page.wait_for_selector(".side-b .slot")
        return made

    yield go
    for made, context, forgiving in visits:
        context.close()
        assert made.strangers() == []
        if not forgiving:
            assert made.complaints == []


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Where screenshots go: docs/images with GOALRANK_SCREENSHOTS=1, else nowhere that stays."""
    if os.environ.get("GOALRANK_SCREENSHOTS") == "1":
        return Path(__file__).parents[2] / "docs" / "images"
    return tmp_path
