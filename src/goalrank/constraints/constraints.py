"""Constraints that served lists obey, and their compiled form for one request's candidates."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

from goalrank.errors import ConfigError
from goalrank.settings import checked, read_toml

Id = StrictInt | StrictStr
Kind = Literal["at_least", "at_most", "dedupe", "pinned", "length"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AtMost(_Strict):
    """At most `most` items of one value of column `by` in any `window` slots in a row.

    Attributes:
        window: None is the whole list.
    """

    by: str
    most: int = Field(ge=1)
    window: int | None = Field(default=None, ge=2)


class AtLeast(_Strict):
    """At least `least` items whose column `by` has (or holds) `value`."""

    by: str
    value: StrictBool | StrictInt | StrictStr
    least: int = Field(ge=1)


class Diversity(_Strict):
    """Each placed item lowers the logits of items that share its value of `by` by `weight`."""

    by: str
    weight: float = Field(gt=0, le=1e6)


class Constraints(_Strict):
    """Rules that a list must obey.

    Attributes:
        blocked: item ids that never appear; never relaxed.
        pinned: slot (from 0) → id of the item in that slot.
        at_most, at_least: see the classes.
        dedupe: column; no two items share a value of it.
        diversity: a preference, not a strict rule.
        on_infeasible: `relax` drops rules, in the order of `relax`, until a list exists, and names
            them; `fail` raises.
        relax: kinds in the order in which they are dropped; `length` shortens the list.
    """

    blocked: tuple[Id, ...] = ()
    pinned: dict[int, Id] = Field(default_factory=dict)
    at_most: tuple[AtMost, ...] = ()
    at_least: tuple[AtLeast, ...] = ()
    dedupe: str | None = None
    diversity: Diversity | None = None
    on_infeasible: Literal["relax", "fail"] = "relax"
    relax: tuple[Kind, ...] = ("at_least", "at_most", "dedupe", "pinned", "length")

    @property
    def hold_for_drafts(self) -> bool:
        """Whether a list drafted from two valid lists is valid too: only with blocking alone."""
        others = (self.pinned, self.at_most, self.at_least, self.dedupe, self.diversity)
        return not any(others)

    @property
    def columns(self) -> tuple[str, ...]:
        """Item columns that the rules read, sorted."""
        names = {rule.by for rule in self.at_most} | {rule.by for rule in self.at_least}
        names |= {self.dedupe} if self.dedupe else set()
        return tuple(sorted(names | ({self.diversity.by} if self.diversity else set())))

    @property
    def searched(self) -> int:
        """Number of rules for which lists must be searched, as slots depend on each other."""
        return (
            len(self.at_most)
            + len(self.at_least)
            + bool(self.dedupe)
            + (self.diversity is not None)
        )

    @property
    def empty(self) -> bool:
        """Whether there is no rule."""
        return not (
            self.blocked or self.pinned or self.at_most or self.at_least or self.dedupe
            or self.diversity
        )  # fmt: skip

    def merged(self, more: Constraints | None) -> Constraints:
        """Combine these rules with a request's own, which win where both set a single value."""
        if more is None:
            return self
        return Constraints(
            blocked=self.blocked + more.blocked,
            pinned=self.pinned | more.pinned,
            at_most=self.at_most + more.at_most,
            at_least=self.at_least + more.at_least,
            dedupe=more.dedupe or self.dedupe,
            diversity=more.diversity or self.diversity,
            on_infeasible=more.on_infeasible
            if "on_infeasible" in more.model_fields_set
            else self.on_infeasible,
            relax=more.relax if "relax" in more.model_fields_set else self.relax,
        )


def read_constraints(path: str | Path) -> Constraints:
    """Read constraints from a TOML file.

    Raises:
        ConfigError: no such file, or an unknown or wrong rule.
    """
    remedy = "correct the file (option: rules)"
    return checked(Constraints, read_toml(path, "rules", remedy), "the rules", remedy)


@dataclass(frozen=True)
class Cap:
    """An `AtMost` compiled for N candidates: the values of each."""

    name: str
    values: list[frozenset[Hashable]]
    most: int
    window: int


@dataclass(frozen=True)
class Need:
    """An `AtLeast` compiled for N candidates: which of them count."""

    name: str
    member: NDArray[np.bool_]
    least: int


@dataclass(frozen=True)
class CompiledConstraints:
    """Constraints compiled for one request of N candidates.

    Attributes:
        length: T, slots to fill.
        allowed: [N] False = blocked.
        pins: slot → position, -1 where the item is no candidate or blocked.
        keys: [N] dedupe key, None = never a duplicate.
        groups: [N] values for the diversity weight.
        relaxed: names of the dropped rules.
    """

    length: int
    allowed: NDArray[np.bool_]
    pins: dict[int, int]
    caps: tuple[Cap, ...] = ()
    needs: tuple[Need, ...] = ()
    keys: list[Hashable | None] | None = None
    groups: list[frozenset[Hashable]] | None = None
    weight: float = 0.0
    relaxed: tuple[str, ...] = ()

    @property
    def joint(self) -> bool:
        """Whether a pick can make later slots impossible to fill."""
        return bool(self.caps or self.needs or self.keys is not None)


def compile_constraints(
    rules: Constraints, candidates: Sequence[Any], attributes: dict[str, list[Any]], slots: int
) -> CompiledConstraints:
    """Compile rules for one request.

    Args:
        rules: the constraints.
        candidates: N ids.
        attributes: column → N values (None: unknown; a list: several values).
        slots: L.

    Raises:
        ConfigError: a pinned slot outside the list.
    """
    outside = [slot for slot in rules.pinned if not 0 <= slot < slots]
    if outside:
        raise ConfigError(
            f"slot {outside[0]} is pinned, but slots run from 0 to {slots - 1}; remedy: pin a slot of "
            f"the list; option: rules.pinned"
        )
    at = {identity: i for i, identity in enumerate(candidates)}
    allowed = np.ones(len(candidates), np.bool_)
    allowed[[at[identity] for identity in rules.blocked if identity in at]] = False
    pins = {slot: at.get(identity, -1) for slot, identity in rules.pinned.items()}
    pins = {slot: p if p >= 0 and allowed[p] else -1 for slot, p in pins.items()}
    values = {name: _values(attributes[name]) for name in rules.columns}
    caps = tuple(
        Cap(f"at_most:{by}", values[by], most, window) for by, window, most in _caps(rules, slots)
    )
    needs = tuple(
        Need(
            f"at_least:{r.by}={r.value}",
            np.array([r.value in own for own in values[r.by]], np.bool_),
            r.least,
        )
        for r in _needs(rules)
    )
    return CompiledConstraints(
        length=min(slots, int(allowed.sum())), allowed=allowed, pins=pins, caps=caps, needs=needs,
        keys=[_key(v) for v in attributes[rules.dedupe]] if rules.dedupe else None,
        groups=values[rules.diversity.by] if rules.diversity else None,
        weight=rules.diversity.weight if rules.diversity else 0.0,
    )  # fmt: skip


def _caps(rules: Constraints, slots: int) -> list[tuple[str, int, int]]:
    """Column, window and greatest number of each cap that no other one implies."""
    tight: dict[tuple[str, int], int] = {}
    for rule in rules.at_most:
        key = rule.by, min(rule.window or slots, slots)
        tight[key] = min(tight.get(key, rule.most), rule.most)
    return [
        (by, window, most)
        for (by, window), most in tight.items()
        if not any(
            name == by and width > window and least <= most
            for (name, width), least in tight.items()
        )
    ]


def _needs(rules: Constraints) -> list[AtLeast]:
    """The largest minimum of each value."""
    by_value: dict[tuple[str, object], AtLeast] = {}
    for rule in rules.at_least:
        old = by_value.get((rule.by, rule.value))
        if old is None or old.least < rule.least:
            by_value[rule.by, rule.value] = rule
    return list(by_value.values())


def attribute_columns(
    names: Sequence[str], ids: pl.Series, items: pl.DataFrame | None
) -> dict[str, list[Any]]:
    """Look up values [n] of item columns for ids [n]; None where an item is not in the table.

    Raises:
        ConfigError: no items table, or no such column.
    """
    if not names:
        return {}
    missing = [name for name in names if items is None or name not in items.columns]
    if items is None or missing:
        have = "there is no items table" if items is None else f"it has {items.columns}"
        raise ConfigError(
            f"a rule reads item column '{missing[0]}', but {have}; remedy: give items with that "
            f"column (option: items), or change the rule"
        )
    wanted = ids.alias("item_id").to_frame()
    table = items.select("item_id", *names).with_columns(pl.col("item_id").cast(ids.dtype))
    joined = wanted.join(table, on="item_id", how="left", maintain_order="left")
    return {name: joined[name].to_list() for name in names}


def _values(column: list[Any]) -> list[frozenset[Hashable]]:
    return [
        frozenset() if v is None else frozenset(v) if isinstance(v, list) else frozenset([v])
        for v in column
    ]


def _key(value: Any) -> Hashable | None:
    return tuple(value) if isinstance(value, list) else value
