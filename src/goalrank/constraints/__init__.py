"""Constraints: rules that a list must obey, and decoding under them."""

from goalrank.constraints.constraints import (
    AtLeast,
    AtMost,
    Diversity,
    Rules,
    attribute_columns,
    compile_rules,
    read_rules,
)
from goalrank.constraints.decoding import Settled, constrained, stepwise
from goalrank.constraints.feasibility import settle
from goalrank.constraints.greedy import decodes_greedily, fixed, greedy_lists, open_slots

__all__ = [
    "AtLeast",
    "AtMost",
    "Diversity",
    "Rules",
    "Settled",
    "attribute_columns",
    "compile_rules",
    "constrained",
    "decodes_greedily",
    "fixed",
    "greedy_lists",
    "open_slots",
    "read_rules",
    "settle",
    "stepwise",
]
