"""What a slot may take: exact on small requests, bounded work on any, and every list obeys the rules."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goalrank.constraints import AtLeast, AtMost, Constraints, compile_constraints
from goalrank.constraints.feasibility import Lookahead, resolve_infeasible
from goalrank.constraints.incidence import Incidence
from goalrank.errors import InfeasibleError

Columns = dict[str, list[object]]


def obeys(rules: Constraints, columns: Columns, picks: list[int]) -> bool:
    """Whether a list of positions obeys rules; written plainly, to check the search against."""

    def values(name: str, at: int) -> set[object]:
        value = columns[name][at]
        return set(value) if isinstance(value, list) else {value} - {None}

    for cap in rules.at_most:
        width = min(cap.window or len(picks), len(picks))
        for start in range(len(picks) - width + 1):
            near = [v for at in picks[start : start + width] for v in values(cap.by, at)]
            if any(near.count(v) > cap.most for v in near):
                return False
    for need in rules.at_least:
        if sum(need.value in values(need.by, at) for at in picks) < need.least:
            return False
    keys = [columns[rules.dedupe][at] for at in picks] if rules.dedupe else []
    known = [tuple(k) if isinstance(k, list) else k for k in keys if k is not None]
    if len(set(known)) < len(known):
        return False
    pinned = all(picks[slot] == at for slot, at in rules.pinned.items())
    return pinned and not set(picks) & set(rules.blocked)


N, SLOTS = 7, 4
COLUMNS = st.fixed_dictionaries(
    {
        "colour": st.lists(st.sampled_from([*"rgb", None]), min_size=N, max_size=N),
        "maker": st.lists(st.integers(0, 4), min_size=N, max_size=N),
        "tags": st.lists(st.lists(st.sampled_from("xyz"), max_size=2), min_size=N, max_size=N),
    }
)
CAP = st.builds(
    AtMost,
    by=st.sampled_from(["colour", "tags", "maker"]),
    most=st.integers(1, 2),
    window=st.sampled_from([None, 2, 3]),
)
NEED = st.builds(AtLeast, by=st.just("tags"), value=st.sampled_from("xy"), least=st.integers(1, 3))
RULES = st.builds(
    Constraints,
    blocked=st.lists(st.integers(0, N - 1), max_size=1).map(tuple),
    pinned=st.dictionaries(st.integers(0, SLOTS - 1), st.integers(0, N - 1), max_size=2),
    at_most=st.lists(CAP, max_size=3).map(tuple),
    at_least=st.lists(NEED, max_size=2).map(tuple),
    dedupe=st.sampled_from([None, "maker", "tags"]),
    on_infeasible=st.just("fail"),
)


@settings(max_examples=150, deadline=None)
@given(rules=RULES, columns=COLUMNS, seed=st.integers(0, 99))
def test_a_slot_may_take_what_some_list_goes_on_with(rules, columns, seed):
    lists = [x for x in itertools.permutations(range(N), SLOTS) if obeys(rules, columns, list(x))]
    compiled = compile_constraints(rules, list(range(N)), columns, SLOTS)
    if not lists:
        with pytest.raises(InfeasibleError):
            resolve_infeasible(compiled, rules)
        return
    _, lookahead = resolve_infeasible(compiled, rules)
    prefix: list[int] = []
    rng = np.random.default_rng(seed)
    for slot in range(SLOTS):
        wanted = {x[slot] for x in lists if list(x[:slot]) == prefix}
        got = set(np.flatnonzero(lookahead.mask(prefix)).tolist())
        assert got == wanted
        prefix.append(int(rng.choice(sorted(got))))


def hard(n: int, seed: int) -> Columns:
    rng = np.random.default_rng(seed)
    return {
        "colour": rng.choice(list("abcdefgh"), n).tolist(),
        "maker": rng.integers(0, n // 3, n).tolist(),
        "paid": (rng.random(n) < 0.2).tolist(),
    }


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("n", "slots"), [(60, 20), (500, 50)])
def test_hard_rules_cost_bounded_work(monkeypatch, seed, n, slots):
    looks = []
    closed = Incidence.closed

    def counted(self: Incidence, *arguments: object) -> object:
        looks.append(1)
        return closed(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Incidence, "closed", counted)
    rules = Constraints(
        at_most=(AtMost(by="colour", most=2, window=5), AtMost(by="colour", most=9)),
        at_least=(AtLeast(by="paid", value=True, least=slots * 2 // 5),),
        dedupe="maker",
    )
    columns = hard(n, seed)
    compiled, lookahead = resolve_infeasible(
        compile_constraints(rules, list(range(n)), columns, slots), rules
    )
    score = np.random.default_rng(seed).normal(size=n)
    prefix: list[int] = []
    open_to = []
    for _ in range(compiled.length):
        mask = lookahead.mask(prefix)
        open_to.append(int(mask.sum()))
        prefix.append(int(np.where(mask, score, -np.inf).argmax()))
    print(
        f"N {n}, L {slots}, seed {seed}: {len(looks)} looks at a list, "
        f"{np.mean(open_to):.0f} candidates open per slot, relaxed {compiled.relaxed}"
    )
    assert len(prefix) == slots
    assert len(looks) < 12_000
    if not compiled.relaxed:
        assert obeys(rules, columns, prefix)


def test_the_same_prefixes_are_open_whenever_they_are_asked_for():
    rules = Constraints(at_most=(AtMost(by="colour", most=1, window=3),), dedupe="maker")
    compiled = compile_constraints(rules, list(range(60)), hard(60, 0), 10)
    one, other = Lookahead(compiled), Lookahead(compiled)
    assert one.feasible()
    assert other.feasible()
    prefix: list[int] = []
    for _ in range(10):
        mask = one.mask(prefix)
        assert (mask == other.mask(prefix)).all()
        assert (mask == one.mask(prefix)).all()
        prefix.append(int(mask.argmax()))


def test_a_cap_that_another_one_implies_costs_nothing():
    many = [AtMost(by="colour", most=1 + i % 7, window=2 + i % 40) for i in range(2_000)]
    rules = Constraints(
        at_most=tuple(many), at_least=(AtLeast(by="paid", value=True, least=1),) * 3
    )
    compiled = compile_constraints(rules, list(range(100)), hard(100, 0), 50)
    strict = {(cap.window, cap.most) for cap in compiled.caps}
    assert len(strict) == len(compiled.caps) <= 7
    assert len(compiled.needs) == 1
    tight = {(c.window or 50, c.most) for c in many}
    for width, most in tight:
        assert any(w >= width and m <= most for w, m in strict)
