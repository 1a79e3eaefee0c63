"""Which batch comes at a step depends on the step alone."""

from __future__ import annotations

import itertools

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from goalrank.training.loop.batch_stream import BatchList, BatchStream
from tests.helpers import make_columns

COLUMNS = make_columns(11, 4)


def rows(stream: BatchStream) -> list[list[int]]:
    return [shared.batch.index.tolist() for shared in stream]


@given(st.integers(0, 20), st.integers(0, 12), st.integers(1, 12), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_a_resumed_stream_goes_on_where_it_was(first, count, batch_size, seed):
    whole = rows(BatchStream(COLUMNS, batch_size, seed, 0, first + count))
    assert len(whole) == first + count
    part = BatchStream(COLUMNS, batch_size, seed, first, count)
    assert len(part) == count
    assert rows(part) == whole[first:]


def test_every_pass_holds_every_request_in_another_order():
    stream = rows(BatchStream(COLUMNS, 4, 7, 0, 9))
    passes = [list(itertools.chain(*stream[i : i + 3])) for i in (0, 3, 6)]
    for one in passes:
        assert sorted(one) == list(range(11))
    assert passes[0] != passes[1]
    assert rows(BatchStream(COLUMNS, 4, 8, 0, 3)) != stream[:3]


def test_validation_is_one_pass_in_order():
    batches = list(BatchList(COLUMNS, 4))
    assert len(BatchList(COLUMNS, 4)) == len(batches) == 3
    assert torch.equal(torch.cat([b.batch.index for b in batches]), torch.arange(11))
