"""Numbers of a Markdown page that are taken from ``theory.json`` and checked against it.

A comment after a number says where it comes from and how it is written::

    the error is 0.114<!--=families/single/w8/E:.3f--> nats

The path goes through objects by key and through arrays by index; the text after the last colon is a
Python format. Spaces in a value are written as hyphens, as a comment belongs to one word. The
comment is not visible in the rendered page.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from goalrank.errors import DataError

_MARK = re.compile(r"(?P<shown>[^\s|(<>]*)<!--=(?P<path>[^:>]+):(?P<form>[^>]*?)-->")


def _look_up(results: Mapping[str, Any], path: str) -> object:
    value: Any = results
    for part in path.split("/"):
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value


def _written(results: Mapping[str, Any], mark: re.Match[str]) -> str:
    path = mark["path"]
    try:
        return format(_look_up(results, path), mark["form"]).replace(" ", "-")
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise DataError(
            f"the page asks for '{path}' as '{mark['form']}', which theory.json does not hold "
            f"({type(error).__name__}: {error}); remedy: correct the path in the page"
        ) from error


def refresh_page(text: str, results: Mapping[str, Any]) -> str:
    """Write every marked number of a page again.

    Args:
        text: the page.
        results: the content of theory.json.

    Returns:
        The new page.

    Raises:
        DataError: a path does not exist in the results.
    """
    return _MARK.sub(lambda m: f"{_written(results, m)}<!--={m['path']}:{m['form']}-->", text)


def page_faults(text: str, results: Mapping[str, Any]) -> list[str]:
    """Find the marked numbers of a page that differ from the results.

    Args:
        text: the page.
        results: the content of theory.json.

    Returns:
        One line per number that differs.

    Raises:
        DataError: a path does not exist in the results.
    """
    faults = []
    for mark in _MARK.finditer(text):
        wanted = _written(results, mark)
        if mark["shown"] != wanted:
            faults.append(f"{mark['path']}: the page says {mark['shown']!r}, it is {wanted!r}")
    return faults
