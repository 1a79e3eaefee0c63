"""Candidates that a slot may take so that the rest of the list can still obey every rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from goalrank.constraints.constraints import CompiledConstraints, Constraints
from goalrank.errors import InfeasibleError

_BUDGET = 20_000  # states searched per request; beyond, a prefix counts as impossible


class Lookahead:
    """Exact feasibility of prefixes of one request.

    Candidates that no rule can tell apart are one type, and the candidates that may follow a prefix
    depend on its types only, so each state is searched once. A search that exceeds its budget
    counts as impossible: the policy then loses some lists, but stays normalised over the rest.
    """

    def __init__(self, compiled: CompiledConstraints, budget: int = _BUDGET) -> None:
        self.compiled, self.budget = compiled, budget
        pinned = set(compiled.pins.values())
        self.free = compiled.allowed.copy()
        self.free[[p for p in pinned if p >= 0]] = False
        shared = Counter(compiled.keys or ())
        # A key of a single candidate forbids nothing; without it more candidates are of one type.
        self.keys = [k if k is not None and shared[k] > 1 else None for k in compiled.keys or ()]
        self.type, self.stock = self._types()
        self.sample = {t: i for i, t in reversed(list(enumerate(self.type)))}
        self.window = max((cap.window for cap in compiled.caps), default=1)
        self.pin_keys = {self._key(p) for p in pinned if p >= 0} - {None}
        self.member: list[list[bool]] = [need.member.tolist() for need in compiled.needs]
        self.orders: dict[tuple[int, ...], list[int]] = {}
        self.known: dict[tuple[Hashable, ...], bool] = {}

    def _types(self) -> tuple[list[int], Counter[int]]:
        """Type [N] of each candidate, and the number of free candidates of each type."""
        compiled = self.compiled
        names: dict[Hashable, int] = {}
        types = []
        for i in range(len(compiled.allowed)):
            signature = (
                tuple(cap.values[i] for cap in compiled.caps),
                tuple(bool(need.member[i]) for need in compiled.needs),
                self._key(i),
            )
            types.append(names.setdefault(signature, len(names)))
        return types, Counter(t for t, free in zip(types, self.free) if free)

    def _key(self, position: int) -> Hashable | None:
        return self.keys[position] if self.keys else None

    def feasible(self) -> bool:
        """Whether any list obeys the constraints."""
        pins = [p for slot, p in self.compiled.pins.items() if slot < self.compiled.length]
        if -1 in self.compiled.pins.values() or len(pins) < len(self.compiled.pins):
            return False
        return len(set(pins)) == len(pins) and self._fill([])

    def mask(self, prefix: Sequence[int]) -> NDArray[np.bool_]:
        """[N] True where a candidate may be placed next.

        Args:
            prefix: positions at the first slots.
        """
        compiled, out = self.compiled, np.zeros(len(self.type), np.bool_)
        slot = len(prefix)
        if slot >= compiled.length:
            return out
        if slot in compiled.pins:
            out[compiled.pins[slot]] = True
            return out
        out |= self.free
        out[list(prefix)] = False
        if not compiled.joint:
            return out
        before = [self.type[p] for p in prefix]
        good = {t for t in self._choices(before) if self._fill([*before, t])}
        return out & np.array([t in good for t in self.type], np.bool_)

    def _choices(self, before: list[int]) -> Iterator[int]:
        """Types that no rule forbids right after the prefix, the most useful first."""
        slot = len(before)
        if slot in self.compiled.pins:
            at = self.compiled.pins[slot]
            if self._fits(before, at, pinned=True):
                yield self.type[at]
            return
        used = Counter(t for s, t in enumerate(before) if s not in self.compiled.pins)
        lacking = tuple(i for i, left in enumerate(self._lacking(before)) if left > 0)
        for t in self._order(lacking):
            if self.stock[t] > used[t] and self._fits(before, self.sample[t], pinned=False):
                yield t

    def _order(self, lacking: tuple[int, ...]) -> list[int]:
        """Free types, first those that count for most of the unmet minimums."""
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
        for cap in self.compiled.caps:
            near = before[-(cap.window - 1) :] if cap.window > 1 else []
            for value in cap.values[at]:
                if sum(value in cap.values[self.sample[t]] for t in near) >= cap.most:
                    return False
        return True

    def _lacking(self, before: list[int]) -> list[int]:
        """Number of items that each minimum still needs after the prefix and the later pins."""
        later = [p for slot, p in self.compiled.pins.items() if slot >= len(before)]
        there = [self.sample[t] for t in before] + later
        return [
            need.least - sum(member[at] for at in there)
            for need, member in zip(self.compiled.needs, self.member)
        ]

    def _fill(self, before: list[int]) -> bool:
        """Whether the prefix of types can be completed."""
        slot = len(before)
        lacking = self._lacking(before)
        free = self.compiled.length - slot - sum(s >= slot for s in self.compiled.pins)
        if any(left > free for left in lacking):
            return False
        if slot == self.compiled.length:
            return True
        tail = tuple(before[-(self.window - 1) :]) if self.window > 1 else ()
        state = (slot, tail, tuple(sorted(before)))
        if state not in self.known:
            if len(self.known) >= self.budget:
                return False
            self.known[state] = any(self._fill([*before, t]) for t in self._choices(before))
        return self.known[state]


def resolve_infeasible(
    compiled: CompiledConstraints, rules: Constraints
) -> tuple[CompiledConstraints, Lookahead]:
    """Drop rules until some list obeys the rest, and name the dropped ones.

    The first kind in `rules.relax` whose removal alone makes a list possible is dropped; where no
    single kind does, they are dropped one after another.

    Raises:
        InfeasibleError: no list exists and rules must not be relaxed, or nothing more may be.
    """
    lookahead = Lookahead(compiled)
    if lookahead.feasible():
        return compiled, lookahead
    culprit = next((k for k in rules.relax if Lookahead(_without(compiled, k)).feasible()), None)
    if rules.on_infeasible == "fail":
        named = (
            _names(compiled, culprit)
            if culprit
            else [n for k in rules.relax for n in _names(compiled, k)]
        )
        raise InfeasibleError(
            f"no list of {compiled.length} obeys all rules: {', '.join(named) or 'the rules'} cannot "
            f"hold; remedy: weaken it, ask for fewer slots, or set rules.on_infeasible to relax"
        )
    dropped: list[str] = []
    for kind in [culprit] if culprit else rules.relax:
        dropped += _names(compiled, kind)
        compiled = _without(compiled, kind)
        lookahead = Lookahead(compiled)
        if lookahead.feasible():
            return replace(compiled, relaxed=tuple(dropped)), lookahead
    raise InfeasibleError(
        f"no list obeys the rules even without {', '.join(dropped) or 'any of them'}; remedy: add "
        f"kinds to rules.relax ({', '.join(rules.relax)})"
    )


def _names(compiled: CompiledConstraints, kind: str) -> list[str]:
    if kind == "at_least":
        return [need.name for need in compiled.needs]
    if kind == "at_most":
        return [cap.name for cap in compiled.caps]
    if kind == "pinned":
        return [f"pinned:{slot}" for slot in sorted(compiled.pins)]
    if kind == "dedupe":
        return ["dedupe"] if compiled.keys is not None else []
    return ["length"]


def _without(compiled: CompiledConstraints, kind: str) -> CompiledConstraints:
    if kind == "at_least":
        return replace(compiled, needs=())
    if kind == "at_most":
        return replace(compiled, caps=())
    if kind == "pinned":
        return replace(compiled, pins={})
    if kind == "dedupe":
        return replace(compiled, keys=None)
    while compiled.length > 0 and not Lookahead(compiled).feasible():
        compiled = replace(compiled, length=compiled.length - 1)
    return compiled
