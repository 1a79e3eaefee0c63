"""Where a request breaks which rule, in the names of its own fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["broken_rules"]

_MOST = 20  # places that are told
_ABSENT = "missing"  # the validator's word for a field that is not there


def broken_rules(errors: Sequence[Any], body: Any) -> list[dict[str, str]]:
    """Places of a request and the rules that are broken there.

    The validator names the types that it tried on the way, and tells each of them on its own. Here
    a place is the fields and numbers that lead to it, and what would have been right there is
    joined.

    Args:
        errors: of the validator.
        body: that was sent.
    """
    rules: dict[str, list[str]] = {}
    for error in errors:
        found = rules.setdefault(_place(error["loc"], body, error["type"] == _ABSENT), [])
        if error["msg"] not in found:
            found.append(error["msg"])
    return [
        {"where": where, "rule": "; or: ".join(said)} for where, said in list(rules.items())[:_MOST]
    ]


def _place(loc: Sequence[str | int], body: Any, absent: bool) -> str:
    """Names and numbers that lead to a place, e.g. `body.events.0.item_id`."""
    part, *rest = loc
    if part != "body":
        return ".".join(map(str, loc))
    names, value = [str(part)], body
    for number, name in enumerate(rest, 1):
        inside = _inside(value, name)
        if inside or (absent and number == len(rest)):
            names.append(str(name))
        if inside:
            value = value[name]
    return ".".join(names)


def _inside(value: Any, name: str | int) -> bool:
    if isinstance(value, list):
        return isinstance(name, int) and name < len(value)
    return isinstance(value, dict) and name in value
