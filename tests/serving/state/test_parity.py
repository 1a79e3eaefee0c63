"""The law: for any events, a state knows of a request what the import of these events knows."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.serving.state.kit import ITEMS, empty_state, imported, served

HOUR = 3_600_000_000
# Hours, so that decay and sessions are seen, in a grid so coarse that events share a time.
moments = st.integers(0, 40).map(lambda n: n * HOUR // 4 + (n // 20) * 90 * 24 * HOUR)
event = st.tuples(
    st.integers(0, 2), st.sampled_from(ITEMS[:6]), moments, st.integers(0, 1), st.integers(0, 1)
)
# Events in the order in which they arrive, cut into batches; after each a request is made.
story = st.lists(
    st.tuples(st.lists(event, min_size=1, max_size=12), moments, st.integers(0, 2)),
    min_size=1,
    max_size=3,
)


def frame(events, shown):
    ids = dict.fromkeys(("user_id", "item_id", "time"), pl.Int64)
    values = dict.fromkeys(("click", "like"), pl.Float32)
    made = pl.DataFrame(events, schema={**ids, **values}, orient="row")
    return made.with_columns(shown=pl.col("item_id") % 5 > 0) if shown else made


@pytest.mark.parametrize("shape", ["interactions", "exposures"])
@pytest.mark.parametrize("shown", [False, True])
@settings(max_examples=60, deadline=None)
@given(story)
def test_state_and_import_agree(shape, shown, batches):
    state, received = empty_state(shape), frame([], shown)
    for events, moment, user in batches:
        batch = frame(events, shown).unique(maintain_order=True)
        new = batch.join(received, on=batch.columns, how="anti", maintain_order="left")
        received = pl.concat([received, new])
        state.add(new)
        now = max(moment, state.clock)
        if user not in received["user_id"]:
            continue
        candidates = [*received["item_id"].unique().sort(), 77]
        history, values = imported(received, shape, user, now, candidates)
        mine, features = served(state, user, now, candidates)
        assert mine == history
        assert list(features) == list(values)
        for name, column in values.items():
            np.testing.assert_allclose(features[name], column, rtol=0, atol=1e-6, err_msg=name)
