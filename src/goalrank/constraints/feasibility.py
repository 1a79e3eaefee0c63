"""Candidates that a slot may take so that the rest of the list can still obey every rule.

Whether a prefix can be completed is as hard as set packing in general, so the search is bounded. A
whole list that obeys the rules is kept for the prefix (the witness). A candidate may be placed next
if changing the witness at one slot, or at two, gives another whole list; only candidates for which
no such change works are searched for, within a budget.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from goalrank.constraints.constraints import CompiledConstraints, Constraints
from goalrank.constraints.incidence import Incidence, Mask, Positions
from goalrank.errors import InfeasibleError

_LISTS, _STATES = 400_000, 250_000  # candidates looked at
_TRIES = 6  # later slots of a witness that are changed for one candidate


@dataclass
class Budget:
    """Work that the searches of one request may still do; it depends on the request alone.

    Attributes:
        lists: changes of a witness that may be tried.
        states: prefixes that may be searched; beyond, a prefix counts as impossible.
    """

    lists: int
    states: int

    @classmethod
    def of(cls, compiled: CompiledConstraints) -> Budget:
        """The budget of a request: the more candidates, the fewer lists and prefixes.

        Args:
            compiled: its rules.
        """
        n = max(len(compiled.allowed), 1)
        return cls(*(min(max(most // n, 100), 3_000) for most in (_LISTS, _STATES)))

    def share(self, slots: int) -> Budget:
        """What one of the slots that are left may take.

        Args:
            slots: how many are left.
        """
        mine = Budget(-(-max(self.lists, 0) // slots), -(-max(self.states, 0) // slots))
        self.lists -= mine.lists
        self.states -= mine.states
        return mine

    def give_back(self, rest: Budget) -> None:
        """Take back what a slot did not use.

        Args:
            rest: of its share.
        """
        self.lists += max(rest.lists, 0)
        self.states += max(rest.states, 0)

    def take_list(self) -> bool:
        """Whether another change may be tried."""
        self.lists -= 1
        return self.lists >= 0

    def take_state(self) -> bool:
        """Whether another prefix may be searched."""
        self.states -= 1
        return self.states >= 0


class Lookahead:
    """Feasibility of prefixes of one request.

    Exact while the budget lasts. Beyond, what is not known to be possible counts as impossible: the
    policy then loses some lists, but stays normalised over the rest, and every list obeys the rules.

    Args:
        compiled: the rules.
        budget: shared by the searches of one request; None makes one.
    """

    def __init__(self, compiled: CompiledConstraints, budget: Budget | None = None) -> None:
        self.compiled, self.budget = compiled, budget or Budget.of(compiled)
        self.free = compiled.allowed.copy()
        self.free[[p for p in compiled.pins.values() if p >= 0]] = False
        if not compiled.joint:
            return
        self.incidence = Incidence.of(compiled)
        needs = compiled.needs
        none = np.zeros((0, len(self.free)), np.bool_)
        self.member: Mask = np.array([need.member for need in needs]) if needs else none
        self.least = np.array([need.least for need in needs], np.int64)
        self.type = _types(np.hstack([self.incidence.rows, self.member.T]))
        self._witness: Positions | None = None
        self._slot = -1
        self._found: dict[int, Positions] = {}  # type -> whole list with one of it at that slot
        self._dead: set[tuple[object, ...]] = set()

    def feasible(self) -> bool:
        """Whether any list obeys the constraints."""
        compiled = self.compiled
        pins = [p for slot, p in compiled.pins.items() if slot < compiled.length]
        if -1 in compiled.pins.values() or len(pins) < len(compiled.pins):
            return False
        if len(set(pins)) < len(pins):
            return False
        if not compiled.joint:
            return compiled.length - len(pins) <= int(self.free.sum())
        self._witness = self._completed([])
        return self._witness is not None

    def mask(self, prefix: Sequence[int]) -> Mask:
        """[N] True where a candidate may be placed next.

        Args:
            prefix: positions at the first slots.
        """
        compiled, out = self.compiled, np.zeros(len(self.free), np.bool_)
        slot = len(prefix)
        if slot >= compiled.length:
            return out
        if slot in compiled.pins:
            out[compiled.pins[slot]] = True
            return out
        out |= self.free
        out[list(prefix)] = False
        return self._completable(list(prefix), out) if compiled.joint else out

    def _completable(self, prefix: list[int], open_now: Mask) -> Mask:
        """Those of the candidates after which the list can be completed."""
        slot, witness = len(prefix), self._whole(prefix)
        if witness is None:
            return np.zeros_like(open_now)
        self._witness, self._slot, self._found = witness, slot, {}
        good = self._open_at(witness, slot)
        doubtful = open_now & ~good & self._fits(prefix) & self._urgent(prefix)
        share = self.budget.share(self.compiled.length - slot)
        while doubtful.any() and share.lists > 0:
            at = int(doubtful.argmax())
            found = self._changed(witness, slot, at, share)
            alike: Mask = np.logical_and(doubtful, np.equal(self.type, self.type[at]))
            if found is None:
                doubtful &= ~alike
                continue
            # What stands behind the slot serves other candidates too.
            more = doubtful & (alike | self._open_at(found, slot))
            for each in np.unique(self.type[more]).tolist():
                self._found[each] = found
            good |= more
            doubtful &= ~more
        self.budget.give_back(share)
        return good

    def _urgent(self, prefix: list[int]) -> Mask:
        """Candidates [N] that leave enough slots for what the minimums still need."""
        pins = self.compiled.pins
        left = self.compiled.length - len(prefix) - sum(s >= len(prefix) for s in pins)
        due: Mask = np.array(self._lacking(prefix) >= left, np.bool_)
        out: Mask = np.asarray(self.member[due].all(0))
        return out

    def _whole(self, prefix: list[int]) -> Positions | None:
        """A whole list that begins with the prefix."""
        slot, old = len(prefix), self._witness
        if old is not None and slot and (old[: slot - 1] == prefix[:-1]).all():
            at = prefix[-1]
            if old[slot - 1] == at:
                return old
            found = self._found.get(int(self.type[at]))
            if found is not None and self._slot == slot - 1:
                return self._with(found, slot - 1, at)
            if self._open_at(old, slot - 1)[at]:
                return _placed(old, slot - 1, at)
            return None
        if old is not None and not slot:
            return old
        return self._completed(prefix)

    def _with(self, found: Positions, slot: int, at: int) -> Positions:
        """A whole list with a candidate at a slot, from one with another that stands for it."""
        if self.type[found[slot]] == self.type[at]:
            return _exchanged(found, slot, at)
        return _placed(found, slot, at)

    def _one_per_type(self, marked: Mask) -> Iterator[int]:
        """One marked candidate of each type: candidates of one type stand for each other."""
        places = np.flatnonzero(marked)
        _, first = np.unique(self.type[places], return_index=True)
        yield from places[np.sort(first)].tolist()

    def _open_at(self, items: Positions, slot: int) -> Mask:
        """Candidates [N] with which a whole list obeys all rules when they take the slot."""
        closed = self.incidence.closed(items, slot, self.compiled.length)
        if closed is None:
            return np.zeros(len(self.free), np.bool_)
        out: Mask = self.free & ~self.incidence.having(closed)
        others = np.delete(items, slot)
        out[others] = False
        lacking = self.least - self.member[:, others].sum(1)
        if (lacking > 1).any():
            return np.zeros(len(self.free), np.bool_)
        if (lacking > 0).any():
            out &= self.member[lacking > 0].all(0)
        return out

    def _changed(self, witness: Positions, slot: int, at: int, budget: Budget) -> Positions | None:
        """A whole list with a candidate at a slot: the witness changed there and at one later slot.

        If none is found, lists are searched.
        """
        new = _exchanged(witness, slot, at)
        for later in self._later(new, slot, at)[:_TRIES]:
            if not budget.take_list():
                break
            choices = self._open_at(new, later)
            if choices[new[later]]:
                return new
            if choices.any():
                return _placed(new, later, int(choices.argmax()))
        budget.lists -= 1
        if budget.states < len(witness) - slot:
            return None  # too few for a single descent
        return self._completed([*witness[:slot].tolist(), at], budget)

    def _later(self, items: Positions, slot: int, at: int) -> list[int]:
        """Later slots without a pin, first those that share a row with the candidate.

        Then those whose items the minimums need least.
        """
        slots = [s for s in range(slot + 1, len(items)) if s not in self.compiled.pins]
        own = self.incidence.rows[at]
        own = own[own >= 0]
        shared: Mask = np.asarray(np.isin(self.incidence.rows[items], own).any(1))
        serves = self.member[:, items].sum(0)
        return sorted(slots, key=lambda s: (not shared[s], serves[s]))

    def _fits(self, before: Sequence[int]) -> Mask:
        """Candidates [N] that no cap forbids right after a prefix, pins of later slots counted."""
        length, slot = self.compiled.length, len(before)
        items = np.full(length, -1, np.int64)
        items[:slot] = before
        for pinned, at in self.compiled.pins.items():
            items[pinned] = at
        closed = self.incidence.closed(items, slot, length)
        if closed is None:
            return np.zeros(len(self.free), np.bool_)
        return ~self.incidence.having(closed)

    def _completed(self, prefix: Sequence[int], budget: Budget | None = None) -> Positions | None:
        """Search a whole list that begins with a prefix.

        Args:
            prefix: positions at the first slots.
            budget: of this search; None takes the request's, after one descent that is free.
        """
        start = [int(at) for at in prefix]
        stack: list[Iterator[int]] = [self._choices(start)]
        path: list[int] = []
        backed, budget = budget is not None, budget or self.budget
        while stack:
            at = next(stack[-1], None)
            if at is None:
                backed = True
                stack.pop()
                if path:
                    self._dead.add(self._state([*start, *path]))
                    path.pop()
                continue
            path.append(at)
            whole = [*start, *path]
            if len(whole) == self.compiled.length and not (self._lacking(whole) > 0).any():
                return np.array(whole, np.int64)
            if len(whole) >= self.compiled.length or self._state(whole) in self._dead:
                path.pop()
            elif not backed or budget.take_state():
                stack.append(self._choices(whole))
            else:
                return None
        if len(start) == self.compiled.length and not (self._lacking(start) > 0).any():
            return np.array(start, np.int64)
        return None

    def _state(self, before: list[int]) -> tuple[object, ...]:
        """What of a prefix matters for what may follow: its types, and the order of the last ones."""
        types = self.type[before].tolist()
        widest = max(self.incidence.windows, default=1)
        tail = tuple(types[-(widest - 1) :]) if widest > 1 else ()
        return len(before), tail, tuple(sorted(types))

    def _enough(self, before: list[int], rest: Mask, left: int, lacking: NDArray[np.int64]) -> bool:
        """Whether caps on the whole list leave enough candidates for the slots and the minimums."""
        groups = [(rest, left)]
        groups += [(self.member[k] & rest, int(n)) for k, n in enumerate(lacking) if n > 0]
        return all(self.incidence.room(before, which) >= wanted for which, wanted in groups)

    def _lacking(self, before: Sequence[int]) -> NDArray[np.int64]:
        """Number of items that each minimum still needs after a prefix and the later pins."""
        later = [p for slot, p in self.compiled.pins.items() if slot >= len(before)]
        there = np.array([*before, *later], np.int64)
        missing: NDArray[np.int64] = self.least - self.member[:, there].sum(1)
        return missing

    def _choices(self, before: list[int]) -> Iterator[int]:
        """Candidates for the slot after a prefix, one of each type, the most useful first."""
        slot, pins = len(before), self.compiled.pins
        if slot >= self.compiled.length:
            return
        lacking = self._lacking(before)
        left = self.compiled.length - slot - sum(s >= slot for s in pins)
        if (lacking > left).any():
            return
        rest = self.free.copy()  # a window that is full now is not full later
        rest[before] = False
        if not self._enough(before, rest, left, lacking):
            return
        fits = self._fits(before)
        if slot in pins:
            if fits[pins[slot]]:
                yield pins[slot]
            return
        open_now = rest & fits
        places = np.array(list(self._one_per_type(open_now)), np.int64)
        serves = self.member[lacking > 0][:, places].sum(0)
        counts = np.bincount(self.type[open_now], minlength=int(self.type.max()) + 1)
        order = np.lexsort((-counts[self.type[places]], -serves))
        yield from places[order].tolist()


def _types(signature: NDArray[np.int64]) -> NDArray[np.int64]:
    """A number [N] per kind of candidate: those with the same signature have the same."""
    names: dict[bytes, int] = {}
    rows = (row.tobytes() for row in np.ascontiguousarray(signature))
    return np.array([names.setdefault(row, len(names)) for row in rows], np.int64)


def _placed(items: Positions, slot: int, at: int) -> Positions:
    """A list with another item at a slot."""
    new = items.copy()
    new[slot] = at
    return new


def _exchanged(items: Positions, slot: int, at: int) -> Positions:
    """A list with an item at a slot; where it stood before comes what it takes the place of."""
    new = items.copy()
    new[items == at] = items[slot]
    new[slot] = at
    return new


def resolve_infeasible(
    compiled: CompiledConstraints, rules: Constraints
) -> tuple[CompiledConstraints, Lookahead]:
    """Drop rules until some list obeys the rest, and name the dropped ones.

    The first kind in `rules.relax` whose removal alone makes a list possible is dropped; where no
    single kind does, they are dropped one after another.

    Raises:
        InfeasibleError: no list exists and rules must not be relaxed, or nothing more may be.
    """
    budget = Budget.of(compiled)
    lookahead = Lookahead(compiled, budget)
    if lookahead.feasible():
        lookahead.budget = Budget.of(compiled)  # of decoding
        return compiled, lookahead
    culprit = next(
        (k for k in rules.relax if Lookahead(_without(compiled, k, budget), budget).feasible()),
        None,
    )
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
        compiled = _without(compiled, kind, budget)
        lookahead = Lookahead(compiled, budget)
        if lookahead.feasible():
            lookahead.budget = Budget.of(compiled)  # of decoding
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


def _without(compiled: CompiledConstraints, kind: str, budget: Budget) -> CompiledConstraints:
    if kind == "at_least":
        return replace(compiled, needs=())
    if kind == "at_most":
        return replace(compiled, caps=())
    if kind == "pinned":
        return replace(compiled, pins={})
    if kind == "dedupe":
        return replace(compiled, keys=None)
    while compiled.length > 0 and not Lookahead(compiled, budget).feasible():
        compiled = replace(compiled, length=compiled.length - 1)
    return compiled
