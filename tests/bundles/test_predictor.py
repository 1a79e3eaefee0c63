"""Served lists: the library's own without rules, exact policies with them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import polars as pl
import pytest
import torch

from goalrank.bundles import Predictor
from goalrank.constraints import Constraints
from goalrank.errors import ConfigError
from goalrank.requests import Requests
from tests.bundles.kit import ITEMS, make_bundle, requests_of
from tests.tables import make_table

NAMES = ["goalrank", "dnn", "seq2slate"]
BUNDLES = {name: make_bundle(name, reward=False) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_without_rules_it_is_the_librarys_rank(name):
    table, bundle = make_table(30, seed=3), BUNDLES[name]
    wanted = bundle.rank(table, 4)
    got = Predictor(bundle).rank(table, 4)
    assert [r.positions for r in got] == wanted["positions"].to_list()
    assert [r.items for r in got] == wanted["items"].to_list()
    assert np.allclose([r.log_prob for r in got], wanted["log_prob"], atol=1e-4)
    assert all(r.propensity == 1.0 for r in got)


@pytest.mark.parametrize("name", NAMES)
def test_a_request_without_candidates_has_an_empty_list_and_spoils_no_other(name):
    table, bundle = make_table(6, seed=3), BUNDLES[name]
    lists = [c for c in table.frame.columns if c.startswith(("candidate", "shown", "feedback"))]
    lists += [c for c in ("relevance",) if c in table.frame.columns]
    second = pl.int_range(pl.len()) == 1
    emptied = [
        pl.when(second).then(pl.lit([], dtype=table.frame.schema[c])).otherwise(c).alias(c)
        for c in lists
        if isinstance(table.frame.schema[c], pl.List)
    ]
    few = Requests(table.frame.with_columns(emptied), items=table.items, info=table.info)
    whole, got = Predictor(bundle).rank(table, 4), Predictor(bundle).rank(few, 4)
    assert got[1].items == []
    assert got[1].log_prob == 0.0
    assert [r.items for r in got[:1] + got[2:]] == [r.items for r in whole[:1] + whole[2:]]
    [alone] = Predictor(bundle).rank(few.take([1]), 4)
    assert alone.items == []


@pytest.mark.parametrize("name", NAMES)
def test_rules_that_forbid_nothing_change_nothing(name):
    table, bundle = make_table(30, seed=3), BUNDLES[name]
    plain = Predictor(bundle).rank(table, 4)
    ruled = Predictor(bundle, rules=Constraints(blocked=(999,))).rank(table, 4)
    assert [r.positions for r in ruled] == [r.positions for r in plain]
    assert np.allclose([r.log_prob for r in ruled], [r.log_prob for r in plain], atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_the_temperature_is_the_librarys(name, temperature):
    table, bundle = requests_of(6, seed=8), BUNDLES[name]
    batch = bundle.encoder.encode(table).batch(slice(0, 1))
    [ranked] = Predictor(bundle, temperature=temperature).rank(table, 4)
    lists = torch.tensor([[ranked.positions]])
    wanted = bundle.ranker.log_prob(batch, lists, temperature=temperature)
    assert math.isclose(ranked.log_prob, float(wanted.detach()), abs_tol=1e-4)


def test_a_requests_draw_does_not_depend_on_its_neighbours():
    table = requests_of(8, rows=12, seed=4)
    engine = Predictor(BUNDLES["goalrank"], temperature=1.5, seed=7)
    together = engine.rank(table, 4)
    alone = [engine.rank(table.take([r]), 4)[0] for r in range(12)]
    assert [r.items for r in together] == [r.items for r in alone]
    other = Predictor(BUNDLES["goalrank"], temperature=1.5, seed=8).rank(table, 4)
    assert [r.items for r in other] != [r.items for r in together]
    assert all(math.isclose(r.propensity or 0, math.exp(r.log_prob)) for r in together)


def test_draws_follow_the_stated_probabilities():
    table = requests_of(3, seed=5)
    many = 3000
    frame = table.take([0] * many).frame.with_columns(
        request_id=pl.Series([f"d{i}" for i in range(many)])
    )
    drawn = Predictor(BUNDLES["dnn"], temperature=1.0, rules=Constraints(blocked=(-1,))).rank(
        Requests(frame, info=table.info), 2
    )
    for positions in itertools.permutations(range(3), 2):
        rows = [r for r in drawn if r.positions == list(positions)]
        expected = Predictor(BUNDLES["dnn"]).log_prob(table, [positions], 2)[0]
        p = math.exp(expected)
        assert abs(len(rows) / many - p) < 4 * math.sqrt(p * (1 - p) / many)


def test_degraded_is_the_retrievers_order():
    table = requests_of(6, rows=3, seed=6)
    for ranked, row in zip(
        Predictor(BUNDLES["dnn"]).fallback(table, 4), table.frame.iter_rows(named=True)
    ):
        order = np.argsort(-np.array(row["candidate_score"]), kind="stable")[:4]
        assert ranked.positions == order.tolist()
        assert ranked.propensity is None


def test_wrong_settings_are_refused():
    table = requests_of(6)
    with pytest.raises(ConfigError, match="temperature"):
        Predictor(BUNDLES["dnn"], temperature=0.0)
    with pytest.raises(ConfigError, match="slots"):
        Predictor(BUNDLES["dnn"]).rank(table, 0)
    with pytest.raises(ConfigError, match="shape"):
        Predictor(BUNDLES["dnn"], items=ITEMS, rules=Constraints(dedupe="shape")).rank(table)
    with pytest.raises(ConfigError, match="pinned"):
        Predictor(BUNDLES["dnn"], rules=Constraints(pinned={9: 1})).rank(table, 4)


def test_new_items_are_ranked_by_the_predictors_rows_alone():
    bundle, table = BUNDLES["goalrank"], make_table(12, seed=5)
    shift = 1000  # ids that training never saw, with the features of known ones
    moved = table.frame.with_columns(pl.col("candidates").list.eval(pl.element() + shift))
    assert table.items is not None
    news = table.items.with_columns(pl.col("item_id") + shift)
    every = pl.concat([news.with_columns(pl.col("item_id") + shift), news])
    asked = Requests(moved, items=news, info=table.info)
    bare = Requests(moved, info=table.info)
    wanted = Predictor(bundle).rank(asked)
    engine = Predictor(bundle, items=every)
    for got in (engine.rank(bare), engine.rank(list(moved.iter_rows(named=True)))):
        assert [each.items for each in got] == [each.items for each in wanted]
        assert np.allclose([r.log_prob for r in got], [r.log_prob for r in wanted], atol=1e-5)
    known = Predictor(bundle).rank(bare)
    assert not np.allclose([r.log_prob for r in known], [r.log_prob for r in wanted], atol=1e-3)
