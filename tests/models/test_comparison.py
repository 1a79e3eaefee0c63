"""What differs between two versions, in words."""

from __future__ import annotations

from goalrank.models.comparison import Change


def test_long_lists_are_shortened():
    said = str(Change("train.users", [f"u{n}" for n in range(5000)], ["u1", "u2"]))
    assert said == "train.users: [u0, …, u4999] (5,000 values) -> ['u1', 'u2']"
