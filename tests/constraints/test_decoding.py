"""Decoding under constraints: exact policies over the lists that obey them, whatever the ranker."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goalrank.bundles import Predictor
from goalrank.constraints import AtLeast, AtMost, Constraints, Diversity
from goalrank.errors import InfeasibleError
from tests.bundles.kit import ITEMS, make_bundle, requests_of

NAMES = ["goalrank", "dnn", "seq2slate"]
BUNDLES = {name: make_bundle(name, reward=False) for name in NAMES}
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
def test_the_constrained_policy_sums_to_requests_of(name, rules):
    n, slots = 5, 3
    table = requests_of(n, seed=1)
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
    table, slots = requests_of(6, seed=seed), 4
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
    table = requests_of(6, seed=2)
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
