"""JSON text: what JSON cannot hold is made plain."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from goalrank.storage import json_text, json_values

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


def test_numbers_that_json_lacks_and_numpy():
    found = json_values(
        {
            1: (math.nan, math.inf, -math.inf, 2.5),
            "numpy": [np.float32(0.5), np.int64(3), np.bool_(True), np.float64("nan")],
            "array": np.array([[1.0, np.nan]]),
        }
    )
    assert found == {
        "1": [None, None, None, 2.5],
        "numpy": [0.5, 3, True, None],
        "array": [[1.0, None]],
    }
    assert type(found["numpy"][1]) is int


@given(_VALUES)
def test_any_plain_value_is_strict_json(value):
    read = json.loads(json_text(value), parse_constant=_refuse)
    assert read == json_values(value)


def _refuse(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def test_other_values_are_written_as_text():
    assert json.loads(json_text({"path": Path("a") / "b"})) == {"path": "a/b"}
    assert json_text({"a": 1}, indent=1) == '{\n "a": 1\n}'
