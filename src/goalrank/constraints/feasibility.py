"""Which candidates a slot may take so that the rest of the list can still obey every rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from goalrank.constraints.constraints import CompiledConstraints, Constraints
from goalrank.errors import InfeasibleError

_BUDGET = 20_000  # states looked at a request; beyond, a prefix counts as impossible


class Lookahead:
    """Exact feasibility of prefixes of one request.

    Candidates that no rule can tell apart are one type, and what may follow a prefix depends on
    its types only, so each state is looked at once. A search that exceeds its budget counts as
    impossible: the policy then gives up some lists, but stays normalised over the rest.
    """

    def __init__(self, plan: CompiledConstraints, budget: int = _BUDGET) -> None:
        self.plan, self.budget = plan, budget
        pinned = set(plan.pins.values())
        self.free = plan.allowed.copy()
        self.free[[p for p in pinned if p >= 0]] = False
        shared = Counter(plan.keys or ())
        # A key that nobody shares forbids nothing; without it more candidates are alike.
        self.keys = [k if k is not None and shared[k] > 1 else None for k in plan.keys or ()]
        self.type, self.stock = self._types()
        self.sample = {t: i for i, t in reversed(list(enumerate(self.type)))}
        self.window = max((cap.window for cap in plan.caps), default=1)
        self.pin_keys = {self._key(p) for p in pinned if p >= 0} - {None}
        self.member: list[list[bool]] = [need.member.tolist() for need in plan.needs]
        self.orders: dict[tuple[int, ...], list[int]] = {}
        self.known: dict[tuple[Hashable, ...], bool] = {}

    def _types(self) -> tuple[list[int], Counter[int]]:
        """Type [N] of each candidate, and how many free candidates each has."""
        plan = self.plan
        names: dict[Hashable, int] = {}
        types = []
        for i in range(len(plan.allowed)):
            signature = (
                tuple(cap.values[i] for cap in plan.caps),
                tuple(bool(need.member[i]) for need in plan.needs),
                self._key(i),
            )
            types.append(names.setdefault(signature, len(names)))
        return types, Counter(t for t, free in zip(types, self.free) if free)

    def _key(self, position: int) -> Hashable | None:
        return self.keys[position] if self.keys else None

    def feasible(self) -> bool:
        """Whether any list obeys the plan."""
        pins = [p for slot, p in self.plan.pins.items() if slot < self.plan.length]
        if -1 in self.plan.pins.values() or len(pins) < len(self.plan.pins):
            return False
        return len(set(pins)) == len(pins) and self._fill([])

    def mask(self, prefix: Sequence[int]) -> NDArray[np.bool_]:
        """[N] True where a candidate may stand next.

        Args:
            prefix: positions at the first slots.
        """
        plan, out = self.plan, np.zeros(len(self.type), np.bool_)
        slot = len(prefix)
        if slot >= plan.length:
            return out
        if slot in plan.pins:
            out[plan.pins[slot]] = True
            return out
        out |= self.free
        out[list(prefix)] = False
        if not plan.joint:
            return out
        before = [self.type[p] for p in prefix]
        good = {t for t in self._choices(before) if self._fill([*before, t])}
        return out & np.array([t in good for t in self.type], np.bool_)

    def _choices(self, before: list[int]) -> Iterator[int]:
        """Types that may stand after the prefix as far as the prefix alone says; useful first."""
        slot = len(before)
        if slot in self.plan.pins:
            at = self.plan.pins[slot]
            if self._fits(before, at, pinned=True):
                yield self.type[at]
            return
        used = Counter(t for s, t in enumerate(before) if s not in self.plan.pins)
        lacking = tuple(i for i, left in enumerate(self._lacking(before)) if left > 0)
        for t in self._order(lacking):
            if self.stock[t] > used[t] and self._fits(before, self.sample[t], pinned=False):
                yield t

    def _order(self, lacking: tuple[int, ...]) -> list[int]:
        """Free types, those first that serve most of the minimums still lacking."""
        if lacking not in self.orders:
            serves = {t: sum(self.member[i][at] for i in lacking) for t, at in self.sample.items()}
            self.orders[lacking] = sorted(self.stock, key=lambda t: -serves[t])
        return self.orders[lacking]

    def _fits(self, before: list[int], at: int, *, pinned: bool) -> bool:
        key = self._key(at)
        if key is not None:
            if any(self._key(self.sample[t]) == key for t in before):
                return False
            if not pinned and key in self.pin_keys:
                return False
        for cap in self.plan.caps:
            near = before[-(cap.window - 1) :] if cap.window > 1 else []
            for value in cap.values[at]:
                if sum(value in cap.values[self.sample[t]] for t in near) >= cap.most:
                    return False
        return True

    def _lacking(self, before: list[int]) -> list[int]:
        """What each minimum still needs beside the prefix and the pins to come."""
        later = [p for slot, p in self.plan.pins.items() if slot >= len(before)]
        there = [self.sample[t] for t in before] + later
        return [
            need.least - sum(member[at] for at in there)
            for need, member in zip(self.plan.needs, self.member)
        ]

    def _fill(self, before: list[int]) -> bool:
        """Whether the prefix of types can be completed."""
        slot = len(before)
        lacking = self._lacking(before)
        free = self.plan.length - slot - sum(s >= slot for s in self.plan.pins)
        if any(left > free for left in lacking):
            return False
        if slot == self.plan.length:
            return True
        tail = tuple(before[-(self.window - 1) :]) if self.window > 1 else ()
        state = (slot, tail, tuple(sorted(before)))
        if state not in self.known:
            if len(self.known) >= self.budget:
                return False
            self.known[state] = any(self._fill([*before, t]) for t in self._choices(before))
        return self.known[state]


def resolve_infeasible(
    plan: CompiledConstraints, rules: Constraints
) -> tuple[CompiledConstraints, Lookahead]:
    """A plan that some list obeys, with the rules given up for it named.

    The first kind in `rules.relax` whose rules alone stand in the way is given up; where no single
    kind does, they go one after another.

    Raises:
        InfeasibleError: no list exists and rules must not be relaxed, or nothing more may be.
    """
    look = Lookahead(plan)
    if look.feasible():
        return plan, look
    culprit = next((k for k in rules.relax if Lookahead(_without(plan, k)).feasible()), None)
    if rules.on_infeasible == "fail":
        named = (
            _names(plan, culprit) if culprit else [n for k in rules.relax for n in _names(plan, k)]
        )
        raise InfeasibleError(
            f"no list of {plan.length} obeys all rules: {', '.join(named) or 'the rules'} cannot "
            f"hold; remedy: weaken it, ask for fewer slots, or set rules.on_infeasible to relax"
        )
    given: list[str] = []
    for kind in [culprit] if culprit else rules.relax:
        given += _names(plan, kind)
        plan = _without(plan, kind)
        look = Lookahead(plan)
        if look.feasible():
            return replace(plan, relaxed=tuple(given)), look
    raise InfeasibleError(
        f"no list obeys the rules even without {', '.join(given) or 'any of them'}; remedy: add "
        f"kinds to rules.relax ({', '.join(rules.relax)})"
    )


def _names(plan: CompiledConstraints, kind: str) -> list[str]:
    if kind == "at_least":
        return [need.name for need in plan.needs]
    if kind == "at_most":
        return [cap.name for cap in plan.caps]
    if kind == "pinned":
        return [f"pinned:{slot}" for slot in sorted(plan.pins)]
    if kind == "dedupe":
        return ["dedupe"] if plan.keys is not None else []
    return ["length"]


def _without(plan: CompiledConstraints, kind: str) -> CompiledConstraints:
    if kind == "at_least":
        return replace(plan, needs=())
    if kind == "at_most":
        return replace(plan, caps=())
    if kind == "pinned":
        return replace(plan, pins={})
    if kind == "dedupe":
        return replace(plan, keys=None)
    while plan.length > 0 and not Lookahead(plan).feasible():
        plan = replace(plan, length=plan.length - 1)
    return plan
