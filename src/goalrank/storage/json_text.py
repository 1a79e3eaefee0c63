"""JSON text of results: values that JSON cannot hold are converted first."""

from __future__ import annotations

import json
import math
from typing import Any


def json_values(value: Any) -> Any:
    """Make a value of what JSON holds.

    NaN and infinities become None, tuples lists, keys strings; numbers and arrays of numpy become
    Python's own. What is left (dates, paths) is up to the writer.
    """
    if isinstance(value, dict):
        return {str(key): json_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_values(item) for item in value]
    if hasattr(value, "tolist"):  # numpy's numbers and arrays, and tensors
        return json_values(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_text(value: Any, indent: int = 2) -> str:
    """Write a value as JSON, see `json_values`; anything else by its `str`."""
    return json.dumps(json_values(value), indent=indent, default=str)
