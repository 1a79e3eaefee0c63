"""What the site's search shows first: answers before references, references before reasons.

A reader who searches wants to do something. Entries of the Python API and of decisions are many and
short, so without weights they come first for nearly every word. A word in a heading counts a
thousand times one in the text, hence their small weights. Names that only they have are found as
before.
"""

from __future__ import annotations

from typing import Any

from mkdocs.structure.pages import Page

# Of the first path that a page's begins with; None: not found by the search at all.
WEIGHTS: tuple[tuple[str, float | None], ...] = (
    ("repository/", None),
    ("how-to.md", 8.0),
    ("index.md", 4.0),
    ("tutorials/", 4.0),
    ("your-logs.md", 4.0),
    ("extending.md", 4.0),
    ("live.md", 4.0),
    ("operations.md", 4.0),
    ("retraining.md", 4.0),
    ("when-not.md", 4.0),
    ("which-ranker.md", 4.0),
    ("reference/api/", 0.002),
    ("decisions/", 0.002),
    ("reference/", 1.0),
    ("", 2.0),
)


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Give the page its weight, unless it sets one itself."""
    weight = weight_of(page.file.src_uri)
    page.meta.setdefault("search", {"exclude": True} if weight is None else {"boost": weight})
    return markdown


def weight_of(path: str) -> float | None:
    """Weight of a page by its path among the site's sources."""
    return next(weight for start, weight in WEIGHTS if path.startswith(start))
