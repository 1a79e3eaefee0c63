"""The probability of each shown item given those before it: written, checked, multiplying up."""

from __future__ import annotations

import polars as pl
import pytest
import torch

from goalrank.errors import SchemaError
from goalrank.requests import Requests
from goalrank.worlds import EPOCH_US, LoggingConfig, LoggingPolicy, World, enumerate_lists
from goalrank.worlds.sampling.request_draws import draw_requests
from tests.worlds.conftest import rich

STRAIGHT = World(rich(logging=LoggingConfig(shuffle=0.0)))


def test_a_slots_probabilities_are_those_of_the_enumerated_lists():
    drawn = draw_requests(STRAIGHT, 0, 4, EPOCH_US, torch.Generator().manual_seed(0))
    policy = LoggingPolicy(STRAIGHT.config.logging)
    lists = enumerate_lists(6, 3)
    chance = torch.stack(
        [policy.log_prob(STRAIGHT, drawn, x.expand(4, -1)).exp() for x in lists], 1
    )
    one = lists[37]
    steps = policy.slot_propensity(STRAIGHT, drawn, one.expand(4, -1))
    assert steps is not None
    before = torch.ones(4, dtype=torch.float64)
    for t in range(3):
        same = (lists[:, : t + 1] == one[: t + 1]).all(1)
        upto = chance[:, same].sum(1)
        torch.testing.assert_close(steps[:, t], upto / before)
        before = upto


def test_the_table_has_slot_propensities_where_they_are_known(tmp_path):
    table = STRAIGHT.sample(50, seed=1)
    assert table.validate() == []
    product = table.frame["slot_propensity"].list.eval(pl.element().log()).list.sum().exp()
    assert (product - table.frame["propensity"]).abs().to_numpy().max() < 1e-12
    again = Requests.read(table.write(tmp_path / "t.parquet"))
    assert again.frame.equals(table.frame)
    assert "slot_propensity" not in World(rich()).sample(5).frame.columns


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (pl.col("slot_propensity").list.head(2), "length"),
        (pl.col("slot_propensity").list.eval(pl.element() * 0.0), "propensity"),
        (pl.col("slot_propensity").list.eval(pl.element() * 0.9), "slot_product"),
    ],
)
def test_invalid_slot_propensities_are_refused(change, rule):
    table = STRAIGHT.sample(3)
    bad = Requests(table.frame.with_columns(slot_propensity=change), info=table.info)
    assert rule in {fault.rule for fault in bad.validate()}
    assert {fault.column for fault in bad.validate()} == {"slot_propensity"}


def test_unknown_slot_propensities_are_null_and_wrong_types_are_refused():
    frame = STRAIGHT.sample(3).frame
    unknown = pl.when(pl.int_range(pl.len()) > 0).then("slot_propensity")
    assert Requests(frame.with_columns(slot_propensity=unknown)).validate() == []
    with pytest.raises(SchemaError, match="slot_propensity"):
        Requests(frame.with_columns(slot_propensity=pl.lit("a")))
