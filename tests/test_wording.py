"""Words around numbers."""

from __future__ import annotations

import pytest

from goalrank.wording import counted, named_values, ordinal, signed


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
