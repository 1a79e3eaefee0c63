"""Effects of constraints on a list, found by ranking the request again without each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import polars as pl

from goalrank.bundles import Ranked
from goalrank.constraints import Constraints
from goalrank.requests import Requests
from goalrank.wording import counted

Rank = Callable[[Requests, Sequence[Constraints]], list[Ranked]]
Item = int | str
_MOST_RULES = 16  # each costs one more list


def explain(
    rank: Rank, table: Requests, ranked: Ranked, rules: Constraints, slots: int
) -> list[dict[str, Any]]:
    """Compare a list with the lists that the request would get without each of its constraints.

    Args:
        rank: ranks a table, each request under its own constraints.
        table: one request.
        ranked: its list under `rules`.
        rules: the constraints, of which the first 16 are explained.
        slots: L.

    Returns:
        One entry per constraint: `label`, `state` ("changed"; "idle" if the list is the same
        without it; "given up" if it was relaxed) and `changes` (`slot`, the `item` there, and the
        item that would be there `instead`).
    """
    parts = _parts(rules, table.frame["candidates"][0].to_list())[:_MOST_RULES]
    if not parts:
        return []
    many = Requests(
        pl.concat([table.frame] * len(parts)), items=table.items, users=table.users, info=table.info
    )
    lists = rank(many, [without for _, _, without in parts])
    out = []
    for (label, name, _), other in zip(parts, lists):
        changes = _changes(ranked.items, other.items)
        state = "given up" if name in ranked.relaxed else "changed" if changes else "idle"
        out.append({"label": label, "state": state, "changes": changes})
    if "length" in ranked.relaxed:
        label = f"{counted(slots, 'slot')} (shortened: the rules leave no more)"
        out.append({"label": label, "state": "given up", "changes": []})
    return out


def _changes(items: list[Item], without: list[Item]) -> list[dict[str, Any]]:
    longest = max(len(items), len(without))
    pairs = [(_at(items, slot), _at(without, slot)) for slot in range(longest)]
    return [{"slot": s, "item": a, "instead": b} for s, (a, b) in enumerate(pairs) if a != b]


def _at(items: list[Item], slot: int) -> Item | None:
    return items[slot] if slot < len(items) else None


def _parts(rules: Constraints, candidates: list[Item]) -> list[tuple[str, str, Constraints]]:
    """List (label, name in `Ranked.relaxed`, the constraints without it) of each constraint."""

    def less(**changes: object) -> Constraints:
        return rules.model_copy(update=changes)

    out: list[tuple[str, str, Constraints]] = []
    blocked = len(set(rules.blocked) & set(candidates))
    if rules.blocked:
        out.append((f"Blocked: {blocked} of the candidates", "", less(blocked=())))
    for slot, item in sorted(rules.pinned.items()):
        rest = {s: i for s, i in rules.pinned.items() if s != slot}
        out.append((f"Slot {slot + 1} holds item {item}", f"pinned:{slot}", less(pinned=rest)))
    for k, cap in enumerate(rules.at_most):
        where = f"in any {cap.window} slots" if cap.window else "in the list"
        rest_caps = rules.at_most[:k] + rules.at_most[k + 1 :]
        label = f"At most {cap.most} of one {cap.by} {where}"
        out.append((label, f"at_most:{cap.by}", less(at_most=rest_caps)))
    for k, need in enumerate(rules.at_least):
        rest_needs = rules.at_least[:k] + rules.at_least[k + 1 :]
        label = f"At least {need.least} with {need.by} {need.value}"
        out.append((label, f"at_least:{need.by}={need.value}", less(at_least=rest_needs)))
    if rules.dedupe:
        out.append((f"No two of one {rules.dedupe}", "dedupe", less(dedupe=None)))
    if rules.diversity:
        label = f"Variety of {rules.diversity.by}, weight {rules.diversity.weight:g}"
        out.append((label, "", less(diversity=None)))
    return out
