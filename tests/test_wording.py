"""Words around numbers."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

import goalrank
from goalrank.wording import (
    counted,
    decimal,
    named_values,
    ordinal,
    p_value,
    signed,
    signed_percent,
)


def test_one_is_singular():
    assert counted(1, "request") == "1 request"
    assert counted(0, "request") == "0 requests"
    assert counted(2000, "request") == "2,000 requests"
    assert counted(2, "entry", "entries") == "2 entries"
    assert counted(1, "cell has", "cells have") == "1 cell has"


@pytest.mark.parametrize(
    ("number", "said"),
    [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (12, "12th"), (21, "21st"),
     (111, "111th"), (122, "122nd")],
)  # fmt: skip
def test_places(number: int, said: str):
    assert ordinal(number) == said


def test_values_are_written_without_braces():
    assert named_values({"champion": 12345, "challenger": 3}) == "champion 12,345, challenger 3"
    assert named_values({}) == ""


def test_a_difference_has_a_sign_unless_it_rounds_to_nothing():
    assert [signed(v) for v in (0.0123, -0.0123, 0.0004, -0.0004)] == [
        "+0.012",
        "-0.012",
        "0.000",
        "0.000",
    ]
    assert signed(-0.04, 1) == "0.0"
    assert signed_percent(-0.00004) == "0.00%"
    assert [signed_percent(v, 1) for v in (0.0123, -0.5)] == ["+1.2%", "-50.0%"]
    assert signed(math.inf) == "+inf"
    assert signed(math.nan) == signed_percent(math.nan) == decimal(math.nan) == "–"


def test_no_number_is_minus_nothing():
    assert [decimal(v) for v in (-0.0004, -0.0, 0.0004, -0.0005001)] == ["0.000"] * 3 + ["-0.001"]
    assert decimal(0.25, 1) == "0.2"


def test_no_p_value_is_nothing():
    assert [p_value(v) for v in (0.0, 1e-12, 0.00099, 0.001, 0.0128, 1.0)] == [
        "<0.001", "<0.001", "<0.001", "0.001", "0.013", "1.000",
    ]  # fmt: skip
    assert p_value(math.nan) == "–"


def test_signs_are_written_here_alone():
    """A format such as ":+.2f" makes "-0.00" and "+nan" somewhere else."""
    room = Path(goalrank.__file__).parent
    found = [
        f"{file.relative_to(room)}: {hit}"
        for file in room.rglob("*.py")
        for hit in re.findall(r"\{[^{}]*:[^{}]*\+[.,]?\d*[f%eg]\}", file.read_text("utf-8"))
    ]
    assert found == []
