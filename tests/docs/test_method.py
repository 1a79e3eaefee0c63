"""docs/method.md: the worked example is what the code computes."""

from __future__ import annotations

import re

import pytest
import torch

from goalrank.training import group_cross_entropy, group_statistics, reference_policy
from tests.docs.leaderboards import cells
from tests.docs.runner import ROOT

TEXT = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
TUTORIAL = (ROOT / "docs" / "tutorials" / "reward-and-groups.md").read_text(encoding="utf-8")


def numbers(column: int) -> list[float]:
    """A column of the example's table, the sum left out."""
    rows = [cells(line) for line in TEXT.splitlines() if line.startswith("| ") and "," in line]
    return [float(row[column].replace("−", "-")) for row in rows]


def test_the_example_is_computed():
    rewards, policy = (torch.tensor([numbers(column)]).double() for column in (1, 4))
    valid = torch.ones_like(rewards, dtype=torch.bool)
    found = group_statistics(rewards, valid)
    z = (rewards - found.mean) / found.std
    reference = reference_policy(rewards, valid, temperature=1.0)
    loss = group_cross_entropy(policy.log(), reference, valid).item()
    assert z[0].tolist() == pytest.approx(numbers(2), abs=5e-4)
    assert reference[0].tolist() == pytest.approx(numbers(3), abs=5e-4)
    assert (-reference * policy.log())[0].tolist() == pytest.approx(numbers(5), abs=5e-4)
    lowest = -(reference * reference.log()).sum().item()
    for said in (
        f"mean of {found.mean.item():.3f} and a standard deviation of {found.std.item():.4f}",
        f"the loss is {loss:.3f}",
        f"It is lowest, {lowest:.3f},",
    ):
        assert said in TEXT
    for row in reference[0].tolist():
        assert f"reference {row:.3f}" in TUTORIAL
    assert f"loss {loss:.3f};" in TUTORIAL


def test_lists_are_as_many_as_said():
    assert torch.arange(45, 51).prod().item() > 11e9
    assert re.search("more than 11 billion lists", TEXT)
