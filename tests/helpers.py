"""Small encoded data for tests, made directly from numpy: no table, no files."""

from __future__ import annotations

from goalrank.testing import make_entities
from goalrank.testing import make_requests as make_columns

__all__ = ["make_columns", "make_entities"]
