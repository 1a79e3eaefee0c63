"""The digest of a table tells whether two tables hold the same."""

from __future__ import annotations

import polars as pl
import pytest
from tests.tables import make_table

from goalrank.requests import Requests, table_digest


def test_equal_tables_have_equal_digests_whatever_holds_them(tmp_path):
    made = make_table(30, seed=1)
    made.write(tmp_path / "t.parquet")
    chunked = Requests(
        pl.concat([made.frame[:7], made.frame[7:]], rechunk=False),
        items=made.items, users=made.users, info=made.info,
    )  # fmt: skip
    digests = {
        table_digest(table) for table in (made, chunked, Requests.read(tmp_path / "t.parquet"))
    }
    assert len(digests) == 1
    assert len(digests.pop()) == 64


@pytest.mark.parametrize("column", make_table(3).frame.columns)
def test_every_column_counts(column):
    made = make_table(30, seed=1)
    values = made.frame[column]
    if values.n_unique() == 1:
        pytest.skip("nothing to exchange in this column")
    swapped = made.frame.with_columns(values.reverse())
    other = Requests(swapped, items=made.items, users=made.users, info=made.info)
    assert table_digest(other) != table_digest(made)


@pytest.mark.parametrize("side", ["items", "users"])
def test_side_tables_and_the_order_of_rows_count(side):
    made = make_table(30, seed=1)
    sides = {"items": made.items, "users": made.users}
    table = sides[side]
    assert table is not None
    without = Requests(made.frame, **{**sides, side: table.reverse()}, info=made.info)
    assert table_digest(without) != table_digest(made)
    turned = Requests(made.frame.reverse(), **sides, info=made.info)
    assert table_digest(turned) != table_digest(made)


def test_lists_of_equal_values_but_other_lengths_differ():
    """Flattened, both tables have the same candidates."""

    def digest(candidates: list[list[str]]) -> str:
        time = pl.Series(["2026-01-05T10:00:00Z"] * 2).str.to_datetime(time_zone="UTC")
        frame = pl.DataFrame(
            {
                "request_id": ["a", "b"],
                "user_id": ["u", "u"],
                "time": time,
                "candidates": candidates,
            }
        )
        return table_digest(Requests(frame))

    assert digest([["x", "y"], ["z"]]) != digest([["x"], ["y", "z"]])
