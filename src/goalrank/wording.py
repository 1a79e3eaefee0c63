"""Words around numbers, for messages to people."""

from __future__ import annotations

import math
from collections.abc import Mapping

__all__ = ["counted", "decimal", "named_values", "ordinal", "p_value", "signed", "signed_percent"]


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


def decimal(value: float, digits: int = 3) -> str:
    """Write a number that may be below 0: "-0.012"; what rounds to 0 has no sign.

    Args:
        value: the number; "–" where it is none.
        digits: after the point.
    """
    return "–" if math.isnan(value) else f"{value:z.{digits}f}"


def signed(value: float, digits: int = 3) -> str:
    """Write a difference with its sign: "+0.012"; what rounds to 0 has none.

    Args:
        value: the difference; "–" where it is none.
        digits: after the point.
    """
    told = decimal(value, digits)
    return f"+{told}" if value > 0 and float(told) != 0 else told


def signed_percent(share: float, digits: int = 2) -> str:
    """Write a relative difference as a percentage: "+1.23%"; what rounds to 0 has no sign.

    Args:
        share: the relative difference, 0.0123 for 1.23 %; "–" where it is none.
        digits: after the point.
    """
    told = signed(100 * share, digits)
    return told if told == "–" else f"{told}%"


def p_value(value: float) -> str:
    """Write a p-value: "0.013"; one that three digits cannot tell from 0 is "<0.001".

    Args:
        value: in [0, 1]; "–" where it is none.
    """
    return "<0.001" if value < 0.001 else decimal(value)


def named_values(values: Mapping[str, object]) -> str:
    """Write names with their values: "a 3, b 2".

    Args:
        values: name → value; whole numbers get separators of thousands.
    """
    return ", ".join(
        f"{name} {value:,}" if isinstance(value, int) else f"{name} {value}"
        for name, value in values.items()
    )
