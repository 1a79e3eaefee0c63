"""Arrays of the log: laws against numpy's own."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from goalrank.logs.events.arrays import distinct


@given(st.lists(st.integers(-(2**62), 2**62) | st.integers(-3, 3)))
def test_distinct_values_are_numpys(values):
    given_ = np.array(values, dtype=np.int64)
    np.testing.assert_array_equal(distinct(given_), np.unique(given_))
