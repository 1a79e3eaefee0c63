"""Words around numbers, for messages to people."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["counted", "named_values", "ordinal", "signed"]


def counted(count: int, one: str, many: str = "") -> str:
    """Write a number with its noun: "1 request", "2,000 requests".

    Args:
        count: the number.
        one: the noun of one.
        many: the noun of several; empty adds an s.
    """
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def ordinal(number: int) -> str:
    """Write a place: "1st", "2nd", "11th".

    Args:
        number: from 1.
    """
    tail = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if 10 < number % 100 < 14 else tail}"


def signed(value: float, digits: int = 3) -> str:
    """Write a difference with its sign: "+0.012"; what rounds to 0 has none.

    Args:
        value: the difference.
        digits: after the point.
    """
    told = f"{value:+.{digits}f}"
    return told[1:] if float(told) == 0 else told


def named_values(values: Mapping[str, object]) -> str:
    """Write names with their values: "a 3, b 2".

    Args:
        values: name → value; whole numbers get separators of thousands.
    """
    return ", ".join(
        f"{name} {value:,}" if isinstance(value, int) else f"{name} {value}"
        for name, value in values.items()
    )
