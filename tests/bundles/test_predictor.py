"""Served lists: the library's own without rules, exact policies with them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from goalrank.bundles import Predictor
from goalrank.constraints import AtLeast, AtMost, Constraints, Diversity
from goalrank.errors import ConfigError, InfeasibleError
from goalrank.requests import Requests
from tests.bundles.kit import make_bundle
from tests.tables import make_table

NAMES = ["goalrank", "dnn", "seq2slate"]
BUNDLES = {name: make_bundle(name, reward=False) for name in NAMES}
ITEMS = pl.DataFrame(
    {
        "item_id": range(40),
        "colour": [("red", "blue", "green")[i % 3] for i in range(40)],
        "maker": [i // 4 for i in range(40)],
        "paid": [i % 5 == 0 for i in range(40)],
    }
)


def one(n: int, rows: int = 1, seed: int = 0) -> Requests:
    """Requests of exactly n candidates; the colours and makers recur."""
    rng = np.random.default_rng(seed)
    frame = make_table(rows, seed=seed).frame
    frame = frame.with_columns(
        candidates=pl.Series([rng.choice(12, n, replace=False).tolist() for _ in range(rows)]),
        candidate_score=pl.Series([rng.normal(size=n).tolist() for _ in range(rows)]),
        candidate_features=pl.Series(
            rng.normal(size=(rows, n, 2)).tolist(), dtype=pl.List(pl.Array(pl.Float32, 2))
        ),
        shown=pl.lit([], dtype=pl.List(pl.Int32)),
    ).drop("feedback")
    return Requests(frame, info=make_table(1).info)


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
def test_rules_that_forbid_nothing_change_nothing(name):
    table, bundle = make_table(30, seed=3), BUNDLES[name]
    plain = Predictor(bundle).rank(table, 4)
    ruled = Predictor(bundle, rules=Constraints(blocked=(999,))).rank(table, 4)
    assert [r.positions for r in ruled] == [r.positions for r in plain]
    assert np.allclose([r.log_prob for r in ruled], [r.log_prob for r in plain], atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_the_temperature_is_the_librarys(name, temperature):
    table, bundle = one(6, seed=8), BUNDLES[name]
    batch = bundle.encoder.encode(table).batch(slice(0, 1))
    [ranked] = Predictor(bundle, temperature=temperature).rank(table, 4)
    lists = torch.tensor([[ranked.positions]])
    wanted = bundle.ranker.log_prob(batch, lists, temperature=temperature)
    assert math.isclose(ranked.log_prob, float(wanted.detach()), abs_tol=1e-4)


RULES = [
    Constraints(blocked=(3,), at_most=(AtMost(by="colour", most=1, window=2),)),
    Constraints(at_least=(AtLeast(by="colour", value="red", least=2),), dedupe="maker"),
    Constraints(
        at_most=(AtMost(by="colour", most=1),), diversity=Diversity(by="maker", weight=0.7)
    ),
    Constraints(at_least=(AtLeast(by="paid", value=True, least=1),)),
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rules", RULES)
def test_the_constrained_policy_sums_to_one(name, rules):
    n, slots = 5, 3
    table = one(n, seed=1)
    engine = Predictor(BUNDLES[name], items=ITEMS, rules=rules)
    lists = list(itertools.permutations(range(n), slots))
    many = table.take([0] * len(lists))
    p = np.exp(engine.log_prob(many, lists, slots, temperature=0.8))
    relaxed = engine.rank(table, slots)[0].relaxed
    good = np.array([_obeys(rules, [table.frame["candidates"][0][i] for i in x]) for x in lists])
    assert math.isclose(p.sum(), 1.0, abs_tol=1e-6)
    if not relaxed:
        assert ((p > 0) == good).all()


def _obeys(rules: Constraints, ids: list[int]) -> bool:
    rows = {row["item_id"]: row for row in ITEMS.iter_rows(named=True)}
    for rule in rules.at_most:
        window = rule.window or len(ids)
        for start in range(max(len(ids) - window, 0) + 1):
            values = [rows[i][rule.by] for i in ids[start : start + window]]
            if any(values.count(v) > rule.most for v in values):
                return False
    if any(sum(rows[i][r.by] == r.value for i in ids) < r.least for r in rules.at_least):
        return False
    if rules.dedupe and len({rows[i][rules.dedupe] for i in ids}) < len(ids):
        return False
    if any(slot >= len(ids) or ids[slot] != i for slot, i in rules.pinned.items()):
        return False
    return not set(ids) & set(rules.blocked)


_RANDOM = st.builds(
    Constraints,
    blocked=st.lists(st.integers(0, 11), max_size=2).map(tuple),
    pinned=st.dictionaries(st.integers(0, 3), st.integers(0, 11), max_size=2),
    at_most=st.lists(
        st.builds(AtMost, by=st.just("colour"), most=st.integers(1, 2), window=st.integers(2, 4)),
        max_size=1,
    ).map(tuple),
    at_least=st.lists(
        st.builds(AtLeast, by=st.just("paid"), value=st.just(True), least=st.integers(1, 2)),
        max_size=1,
    ).map(tuple),
    dedupe=st.sampled_from([None, "maker"]),
    on_infeasible=st.just("fail"),
)


@settings(max_examples=60, deadline=None)
@given(rules=_RANDOM, seed=st.integers(0, 50), temperature=st.sampled_from([None, 1.0]))
def test_rules_hold_or_no_list_exists(rules, seed, temperature):
    table, slots = one(6, seed=seed), 4
    ids = table.frame["candidates"][0].to_list()
    slots_left = min(slots, len(set(ids) - set(rules.blocked)))
    possible = any(_obeys(rules, list(x)) for x in itertools.permutations(ids, slots_left))
    engine = Predictor(BUNDLES["dnn"], items=ITEMS, rules=rules, temperature=temperature)
    if not possible:
        with pytest.raises(InfeasibleError):
            engine.rank(table, slots)
        return
    [ranked] = engine.rank(table, slots)
    assert len(ranked.items) == slots_left
    assert _obeys(rules, ranked.items)
    again = engine.log_prob(table, [ranked.positions], slots)[0]
    assert math.isclose(ranked.log_prob, again, abs_tol=1e-5)
    [other] = engine.fallback(table, slots)
    assert _obeys(rules, other.items)
    assert other.degraded


def test_the_rule_that_cannot_hold_is_named_and_relaxed():
    table = one(6, seed=2)
    ids = table.frame["candidates"][0].to_list()
    rules = Constraints(
        pinned={0: ids[3]}, at_least=(AtLeast(by="colour", value="violet", least=1),)
    )
    [ranked] = Predictor(BUNDLES["goalrank"], items=ITEMS, rules=rules).rank(table, 4)
    assert ranked.relaxed == ("at_least:colour=violet",)
    assert ranked.items[0] == ids[3]
    strict = rules.model_copy(update={"on_infeasible": "fail"})
    with pytest.raises(InfeasibleError, match="violet"):
        Predictor(BUNDLES["goalrank"], items=ITEMS, rules=strict).rank(table, 4)


def test_a_requests_draw_does_not_depend_on_its_neighbours():
    table = one(8, rows=12, seed=4)
    engine = Predictor(BUNDLES["goalrank"], temperature=1.5, seed=7)
    together = engine.rank(table, 4)
    alone = [engine.rank(table.take([r]), 4)[0] for r in range(12)]
    assert [r.items for r in together] == [r.items for r in alone]
    other = Predictor(BUNDLES["goalrank"], temperature=1.5, seed=8).rank(table, 4)
    assert [r.items for r in other] != [r.items for r in together]
    assert all(math.isclose(r.propensity, math.exp(r.log_prob)) for r in together)


def test_draws_follow_the_stated_probabilities():
    table = one(3, seed=5)
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
    table = one(6, rows=3, seed=6)
    for ranked, row in zip(
        Predictor(BUNDLES["dnn"]).fallback(table, 4), table.frame.iter_rows(named=True)
    ):
        order = np.argsort(-np.array(row["candidate_score"]), kind="stable")[:4]
        assert ranked.positions == order.tolist()
        assert ranked.propensity is None


def test_wrong_settings_are_refused():
    table = one(6)
    with pytest.raises(ConfigError, match="temperature"):
        Predictor(BUNDLES["dnn"], temperature=0.0)
    with pytest.raises(ConfigError, match="slots"):
        Predictor(BUNDLES["dnn"]).rank(table, 0)
    with pytest.raises(ConfigError, match="shape"):
        Predictor(BUNDLES["dnn"], items=ITEMS, rules=Constraints(dedupe="shape")).rank(table)
    with pytest.raises(ConfigError, match="pinned"):
        Predictor(BUNDLES["dnn"], rules=Constraints(pinned={9: 1})).rank(table, 4)
