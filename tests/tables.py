"""A small requests table with every type of feature, for tests that need files and encoders."""

from __future__ import annotations

from goalrank.testing import NOON, make_table

__all__ = ["NOON", "make_table"]
