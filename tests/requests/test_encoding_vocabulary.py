"""Ids to rows: known ones their own, unknown ones a stable bucket."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goalrank.errors import DataError
from goalrank.requests.encoding.vocabulary import Vocabulary, mix64, stable_hash

INTEGERS = st.lists(st.integers(-(2**63), 2**63 - 1), max_size=8)
STRINGS = st.lists(st.text(max_size=4), max_size=8)
IDS = st.tuples(INTEGERS, INTEGERS) | st.tuples(STRINGS, STRINGS)


def series(ids: list[int] | list[str], like: list[int] | list[str]) -> pl.Series:
    text = any(isinstance(i, str) for i in [*ids, *like])
    return pl.Series(ids, dtype=pl.String if text else pl.Int64)


def test_hashes_never_change() -> None:
    """Models keep bucket rows: another hash would mix up all of their unknown ids."""
    assert stable_hash(pl.Series([0, 1, 7, -1, 2**63 - 1])).tolist() == [
        16294208416658607535,  # SplitMix64's published first output for seed 0
        10451216379200822465,
        7191089600892374487,
        16490336266968443936,
        3055647633038352039,
    ]
    assert stable_hash(pl.Series(["", "a", "7", "ключ"])).tolist() == [
        13020603013274838756,
        3405396810240292928,
        9407870976149377255,
        2362285139686184012,
    ]
    assert Vocabulary(pl.Series([1, 2]), 8).bucket(pl.Series([99, 1])).tolist() == [6, 4]
    assert stable_hash(pl.Series([7])) != stable_hash(pl.Series(["7"]))


def test_hash_spreads() -> None:
    rows = Vocabulary(pl.Series([], dtype=pl.Int64), 16).rows(pl.Series(range(16_000)))
    counts = np.bincount(rows, minlength=17)
    assert counts[0] == 0
    assert np.abs(counts[1:] - 1000).max() < 150
    assert len(np.unique(mix64(np.arange(100_000)))) == 100_000


@given(IDS, st.integers(1, 5))
@settings(max_examples=80, deadline=None)
def test_rows_by_their_definition(ids, buckets) -> None:
    known, asked = ids
    vocabulary = Vocabulary(series(known, asked), buckets)
    order = sorted(set(known), key=lambda v: v.encode() if isinstance(v, str) else v)
    assert vocabulary.size == len(order)
    assert vocabulary.rows_total == 1 + len(order) + buckets
    asked = [*asked, *known]
    column = series(asked, known)
    rows = vocabulary.rows(column)
    hashes = stable_hash(column)
    for value, row, hashed in zip(asked, rows.tolist(), hashes.tolist(), strict=True):
        want = order.index(value) + 1 if value in order else len(order) + 1 + hashed % buckets
        assert row == want
    assert vocabulary.contains(column).tolist() == [v in order for v in asked]


@given(STRINGS)
@settings(max_examples=10, deadline=None)
def test_many_strings_are_looked_up_alike(known) -> None:
    """A join serves many ids, a dictionary few."""
    vocabulary = Vocabulary(pl.Series(known, dtype=pl.String), 3)
    many = pl.Series([*known, None, *(f"x{i}" for i in range(5000))], dtype=pl.String)
    rows = vocabulary.rows(many)
    few = np.concatenate([vocabulary.rows(many[i : i + 1000]) for i in range(0, len(many), 1000)])
    assert np.array_equal(rows, few)


@pytest.mark.parametrize("known", [[5, 0, -3], ["b", "", "a"], []])
def test_null_is_padding(known) -> None:
    vocabulary = Vocabulary(series(known, []), 2)
    nulls = pl.Series([None, None], dtype=vocabulary.ids.dtype)
    assert vocabulary.rows(nulls).tolist() == [0, 0]
    assert vocabulary.rows(pl.Series([None, None])).tolist() == [0, 0]
    assert vocabulary.contains(nulls).tolist() == [False, False]
    mixed = pl.Series([None, *known], dtype=vocabulary.ids.dtype)
    assert (vocabulary.rows(mixed)[1:] > 0).all()


def test_nulls_and_repeats_are_not_learned() -> None:
    assert Vocabulary(pl.Series([3, None, 3, 1])).ids.to_list() == [1, 3]


def test_small_integers_are_the_same_ids() -> None:
    vocabulary = Vocabulary(pl.Series([1, 2], dtype=pl.UInt8), 2)
    assert vocabulary.rows(pl.Series([2, 9], dtype=pl.Int32))[0] == 2


@pytest.mark.parametrize(("known", "asked"), [([1], ["1"]), (["1"], [1])])
def test_the_other_type_is_refused(known, asked) -> None:
    with pytest.raises(DataError, match="remedy: cast"):
        Vocabulary(pl.Series(known), 2).rows(pl.Series(asked))
