"""Constraints: rules that a list must obey, and decoding under them."""

from goalrank.constraints.constraints import (
    AtLeast,
    AtMost,
    Constraints,
    Diversity,
    attribute_columns,
    compile_constraints,
    read_constraints,
)
from goalrank.constraints.decoding import Resolved, constrained_lists
from goalrank.constraints.feasibility import resolve_infeasible
from goalrank.constraints.open_slots import is_prefix_free, open_slots

__all__ = [
    "AtLeast",
    "AtMost",
    "Constraints",
    "Diversity",
    "Resolved",
    "attribute_columns",
    "compile_constraints",
    "constrained_lists",
    "is_prefix_free",
    "open_slots",
    "read_constraints",
    "resolve_infeasible",
]
