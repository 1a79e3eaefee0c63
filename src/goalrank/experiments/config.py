"""Online experiments: a TOML file, and an assignment that any process repeats."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from goalrank.settings import checked, read_toml

_NAME = r"^[A-Za-z0-9_.-]{1,64}$"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Variant(_Strict):
    """An arm.

    Attributes:
        weight: share of the experiment's units, relative to the other arms'.
        bundle: folder to serve; None keeps what is served otherwise (an A/A arm, or control).
    """

    name: str = Field(pattern=_NAME)
    weight: float = Field(default=1.0, gt=0)
    bundle: str | None = None


class Metric(_Strict):
    """What is compared.

    Attributes:
        kind: of feedback, summed over a list.
        per: `unit` averages a unit's sum; `request` and `item` divide it by the unit's requests or
            shown items (a ratio metric, by the delta method).
    """

    name: str = Field(pattern=_NAME)
    kind: str
    per: Literal["unit", "request", "item"] = "request"


class Experiment(_Strict):
    """Arms for a part of a layer's units.

    Attributes:
        unit: what is assigned; a request has these.
        salt: another salt is another, independent assignment.
        layer: experiments of one layer never share a unit.
        range: part of the layer's units, from 0 to 1, that this experiment may take.
        share: ramp-up: the part of `range` that takes part now. Raising it only adds units.
        interleave: the two variants' names; then units are not split, each list is drafted from
            both variants' lists (see `team_draft`).
    """

    name: str = Field(pattern=_NAME)
    salt: str
    variants: tuple[Variant, ...] = Field(min_length=2)
    metrics: tuple[Metric, ...] = ()
    unit: Literal["user_id", "request_id"] = "user_id"
    layer: str = "default"
    range: tuple[float, float] = (0.0, 1.0)
    share: float = Field(default=1.0, ge=0, le=1)
    interleave: tuple[str, str] | None = None

    @model_validator(mode="after")
    def _check(self) -> Experiment:
        low, high = self.range
        if not 0 <= low < high <= 1:
            raise ValueError(f"range [{low}, {high}] must lie within 0 … 1 and not be empty")
        for what, named in (("variants", self.variants), ("metrics", self.metrics)):
            names = [each.name for each in named]
            if len(set(names)) < len(names):
                raise ValueError(f"{what} of '{self.name}' share a name: {names}")
        names = sorted(variant.name for variant in self.variants)
        if self.interleave is not None and sorted(self.interleave) != names:
            raise ValueError(f"interleave {list(self.interleave)} must name its variants {names}")
        return self

    def takes_part(self, unit: int | str) -> bool:
        """Whether the experiment has a unit now."""
        low, high = self.range
        return low <= _uniform("layer", self.layer, unit) < low + (high - low) * self.share

    def assign(self, unit: int | str) -> Variant | None:
        """The arm of a unit, None where it takes no part (or sees both arms, interleaved)."""
        if self.interleave is not None or not self.takes_part(unit):
            return None
        total = sum(variant.weight for variant in self.variants)
        left = _uniform("arm", f"{self.name}\0{self.salt}", unit) * total
        for variant in self.variants:
            left -= variant.weight
            if left < 0:
                return variant
        return self.variants[-1]


class Experiments(_Strict):
    """All experiments of a server."""

    experiment: tuple[Experiment, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Experiments:
        names = [each.name for each in self.experiment]
        if len(set(names)) < len(names):
            raise ValueError(f"experiments share a name: {names}")
        layers: dict[str, list[Experiment]] = {}
        for each in self.experiment:
            layers.setdefault(each.layer, []).append(each)
        for layer, members in layers.items():
            for a, b in pairwise(sorted(members, key=lambda e: e.range)):
                if a.range[1] > b.range[0]:
                    raise ValueError(f"'{a.name}' and '{b.name}' overlap in layer '{layer}'")
            if len({each.unit for each in members}) > 1:
                raise ValueError(f"experiments of layer '{layer}' assign different units")
        serving = {
            e.layer for e in self.experiment if e.interleave or any(v.bundle for v in e.variants)
        }
        if len(serving) > 1:
            raise ValueError(
                f"layers {sorted(serving)} all choose bundles, but a request is ranked by one; put "
                f"those experiments into one layer"
            )
        return self

    @classmethod
    def read(cls, path: str | Path) -> Experiments:
        """Read a TOML file with `[[experiment]]` tables.

        Raises:
            ConfigError: no such file, no TOML, or a setting that is unknown or out of range.
        """
        remedy = "mend the file (option: experiments)"
        return checked(cls, read_toml(path, "experiments", remedy), "the experiments", remedy)

    def assign(self, user_id: int | str, request_id: str) -> tuple[str | None, str | None]:
        """(experiment:variant, … in file order; the bundle to serve), None where there is none."""
        labels, bundle = [], None
        for each in self.experiment:
            variant = each.assign(user_id if each.unit == "user_id" else request_id)
            if variant is not None:
                labels.append(f"{each.name}:{variant.name}")
                bundle = variant.bundle or bundle
        return ",".join(labels) or None, bundle

    def duel(self, user_id: int | str, request_id: str) -> Duel | None:
        """The interleaving experiment that drafts this request's list, None without one.

        `assign` gives such an experiment no label: the draft makes it, with the slots' teams.
        """
        for each in self.experiment:
            if each.interleave is not None and each.takes_part(
                user_id if each.unit == "user_id" else request_id
            ):
                found = {variant.name: variant.bundle for variant in each.variants}
                first, second = each.interleave
                return Duel(each, (found[first], found[second]))
        return None

    @property
    def bundles(self) -> tuple[str, ...]:
        """Folders that variants name."""
        return tuple(
            sorted({v.bundle for each in self.experiment for v in each.variants if v.bundle})
        )


@dataclass(frozen=True)
class Duel:
    """Two rankers that draft one list.

    Attributes:
        experiment: with `interleave`.
        bundles: folders of its first and second variant; None is what is served otherwise.
    """

    experiment: Experiment
    bundles: tuple[str | None, str | None]


def _uniform(use: str, salt: str, unit: int | str) -> float:
    """A number in [0, 1) that depends on nothing but its arguments; ids are typed."""
    text = f"{use}\0{salt}\0{type(unit).__name__}\0{unit}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") / 2**64
