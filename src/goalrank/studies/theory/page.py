"""Numbers in a Markdown page that come from ``theory.json`` and can be checked against it.

A number is followed by a comment that says where it comes from and how it is written::

    the error is 0.114<!--=families/single/w8/E:.3f--> nats

The path walks through objects by key and through arrays by number; the text after the last colon is
a Python format. Spaces within a value are written as hyphens, as a mark belongs to one word. The
comment does not show in the rendered page.
"""

from __future__ import annotations

import re
from typing import Any

from goalrank.errors import DataError

_MARK = re.compile(r"(?P<shown>[^\s|(<>]*)<!--=(?P<path>[^:>]+):(?P<form>[^>]*?)-->")


def _look_up(results: Any, path: str) -> Any:
    value = results
    for part in path.split("/"):
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value


def _written(results: Any, mark: re.Match[str]) -> str:
    path = mark["path"]
    try:
        return format(_look_up(results, path), mark["form"]).replace(" ", "-")
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise DataError(
            f"the page asks for '{path}' as '{mark['form']}', which theory.json does not hold "
            f"({type(error).__name__}: {error}); remedy: mend the path in the page"
        ) from error


def refresh_page(text: str, results: Any) -> str:
    """The page with every marked number written anew from ``results``.

    Raises:
        DataError: a mark asks for what is not there.
    """
    return _MARK.sub(lambda m: f"{_written(results, m)}<!--={m['path']}:{m['form']}-->", text)


def page_faults(text: str, results: Any) -> list[str]:
    """One line for each marked number that differs from ``results``; empty if all agree.

    Raises:
        DataError: a mark asks for what is not there.
    """
    faults = []
    for mark in _MARK.finditer(text):
        wanted = _written(results, mark)
        if mark["shown"] != wanted:
            faults.append(f"{mark['path']}: the page says {mark['shown']!r}, it is {wanted!r}")
    return faults
