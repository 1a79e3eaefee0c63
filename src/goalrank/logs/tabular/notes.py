"""Notes of an import: every guess that was made and every row or request that was left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

_LARGE = 0.05
_OPTIONS = ("columns", "kinds", "target", "layout", "timezone", "feedback", "candidate-features",
            "text")  # fmt: skip


def how_to_tell(option: str) -> str:
    """How a user decides what was guessed: an option of the command line, by its setting.

    Args:
        option: a setting, maybe with its value: "columns time=NAME", "separator".
    """
    if option == "source":
        return "the first argument"
    if option.split()[0] in _OPTIONS:
        return f"--{option}"
    return ", ".join(f"--set {each.strip()}=…" for each in option.split(","))


@dataclass(frozen=True)
class LeftOut:
    """Rows or requests that an import did not use.

    Attributes:
        what: "rows" or "requests".
        count: how many; at least 1.
        total: how many there were of that kind before.
        reason: why, as a clause: "shown before the log's first refit".
        option: the option that decides, without dashes; empty where none does.
    """

    what: str
    count: int
    total: int
    reason: str
    option: str = ""

    @property
    def share(self) -> float:
        """Part of the total, in [0, 1]."""
        return self.count / self.total if self.total else 0.0

    @property
    def is_large(self) -> bool:
        """Whether it is more than 5 % of the total: the share and the option are told as well."""
        return self.share > _LARGE

    def __str__(self) -> str:
        share = f" ({self.share:.0%})" if self.is_large else ""
        told = f"{self.count:,} of {self.total:,} {self.what}{share}: {self.reason}"
        decides = self.is_large and self.option
        return f"{told}  (otherwise: {how_to_tell(self.option)})" if decides else told


@dataclass
class ImportNotes:
    """What an import guessed and left out, in the order in which it happened.

    Attributes:
        guesses: what was found out instead of told, as (what, found, option that overrides).
        left_out: rows and requests that were not used.
        merged: what was combined, as (what, count).
    """

    guesses: list[tuple[str, str, str]] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    merged: list[tuple[str, int]] = field(default_factory=list)

    def guess(self, what: str, found: str, option: str) -> None:
        """Note a guess; `option` is what a user gives to decide otherwise."""
        if (what, found, option) not in self.guesses:  # a file may be looked at twice
            self.guesses.append((what, found, option))

    def leave_out(self, what: str, count: int, total: int, reason: str, option: str = "") -> None:
        """Note rows or requests that are not used; nothing is noted for a count of 0."""
        if count:
            self.left_out.append(LeftOut(what, int(count), int(total), reason, option))

    def merge(self, what: str, count: int) -> None:
        """Note rows that were combined; nothing is noted for a count of 0."""
        if count:
            self.merged.append((what, int(count)))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for import.json."""
        return {
            "guesses": [
                {"what": what, "found": found, "option": option}
                for what, found, option in self.guesses
            ],
            "left_out": [
                {
                    "what": part.what,
                    "count": part.count,
                    "of": part.total,
                    "reason": part.reason,
                    "option": part.option,
                }
                for part in self.left_out
            ],
            "merged": [{"what": what, "count": count} for what, count in self.merged],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ImportNotes:
        """Notes from the plain values of `to_dict`."""
        guesses = [(g["what"], g["found"], g["option"]) for g in values["guesses"]]
        left_out = [
            LeftOut(p["what"], p["count"], p["of"], p["reason"], p["option"])
            for p in values["left_out"]
        ]
        return cls(guesses, left_out, [(p["what"], p["count"]) for p in values["merged"]])

    def joined(self, other: ImportNotes) -> ImportNotes:
        """Notes of two readings as one: counts of the same kind are added up."""
        both = ImportNotes(list(self.guesses))
        for guess in other.guesses:
            both.guess(*guess)
        left: dict[tuple[str, str, str], LeftOut] = {}
        for part in (*self.left_out, *other.left_out):
            key = (part.what, part.reason, part.option)
            count, total = (left[key].count, left[key].total) if key in left else (0, 0)
            left[key] = replace(part, count=part.count + count, total=part.total + total)
        both.left_out = list(left.values())
        merged: dict[str, int] = {}
        for what, number in (*self.merged, *other.merged):
            merged[what] = merged.get(what, 0) + number
        both.merged = list(merged.items())
        return both
