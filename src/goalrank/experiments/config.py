"""Settings of online experiments, and the assignment of units, the same in every process."""

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
    """A variant of an experiment.

    Attributes:
        name: name, unique in the experiment.
        weight: share of the experiment's units, relative to the other variants' weights.
        bundle: folder of the bundle to serve; None serves the default bundle (A/A or control).
    """

    name: str = Field(pattern=_NAME)
    weight: float = Field(default=1.0, gt=0)
    bundle: str | None = None


class Metric(_Strict):
    """A metric by which variants are compared.

    Attributes:
        name: name, unique in the experiment.
        kind: feedback type, summed over a list.
        per: `unit` averages the sums of units; `request` and `item` divide them by the units'
            requests or shown items (a ratio metric, by the delta method).
        guardrail: largest loss that is tolerated, relative to the variant compared with, in [0, 1);
            None makes it no guardrail. See `broken_guardrails`.
        harm: whether a rise is the loss, as with reports or hides.
    """

    name: str = Field(pattern=_NAME)
    kind: str
    per: Literal["unit", "request", "item"] = "request"
    guardrail: float | None = Field(default=None, ge=0, lt=1)
    harm: bool = False


RESERVED = (
    "page"  # label of lists that were made on the server's page, which belong to no experiment
)


class Experiment(_Strict):
    """An experiment: variants assigned to a part of a layer's units.

    Attributes:
        name: name, unique on the server.
        salt: key of the assignment; another salt gives an independent assignment.
        variants: two or more; the first is control unless a report says otherwise.
        metrics: what reports compare.
        unit: column that is assigned, `user_id` or `request_id`.
        layer: experiments of one layer never share a unit.
        range: interval within [0, 1], the part of the layer's units that may take part.
        share: share of `range` that takes part now, in [0, 1]. Raising it only adds units.
        interleave: names of the two variants; then units are not assigned to variants, and each
            list is interleaved from both variants' lists (see `team_draft`).
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
        if self.name == RESERVED:
            raise ValueError(f"'{RESERVED}' labels what the server's page stores; use another name")
        low, high = self.range
        if not 0 <= low < high <= 1:
            raise ValueError(f"range [{low}, {high}] must be within 0 … 1 and not be empty")
        for field, members in (("variants", self.variants), ("metrics", self.metrics)):
            names = [each.name for each in members]
            if len(set(names)) < len(names):
                raise ValueError(f"{field} of '{self.name}' share a name: {names}")
        names = sorted(variant.name for variant in self.variants)
        if self.interleave is not None and sorted(self.interleave) != names:
            raise ValueError(f"interleave {list(self.interleave)} must name its variants {names}")
        return self

    def takes_part(self, unit: int | str) -> bool:
        """Whether a unit takes part in the experiment now.

        Args:
            unit: value of the column `unit`.
        """
        low, high = self.range
        return low <= _uniform("layer", self.layer, unit) < low + (high - low) * self.share

    def assign(self, unit: int | str) -> Variant | None:
        """The variant of a unit; None if it takes no part or the experiment interleaves.

        Args:
            unit: value of the column `unit`.
        """
        if self.interleave is not None or not self.takes_part(unit):
            return None
        total = sum(variant.weight for variant in self.variants)
        remaining = _uniform("arm", f"{self.name}\0{self.salt}", unit) * total
        for variant in self.variants:
            remaining -= variant.weight
            if remaining < 0:
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

        Args:
            path: the file.

        Raises:
            ConfigError: the file is missing or not TOML, or a setting is unknown or out of range.
        """
        remedy = "correct the file (option: experiments)"
        return checked(cls, read_toml(path, "experiments", remedy), "the experiments", remedy)

    def assign(self, user_id: int | str, request_id: str) -> tuple[str | None, str | None]:
        """Assign a request to the variants of all experiments.

        Args:
            user_id: user of the request.
            request_id: id of the request.

        Returns:
            Labels "experiment:variant" in file order, joined by commas, and the folder of the
            bundle to serve; each is None where there is none.
        """
        labels, bundle = [], None
        for each in self.experiment:
            variant = each.assign(user_id if each.unit == "user_id" else request_id)
            if variant is not None:
                labels.append(f"{each.name}:{variant.name}")
                bundle = variant.bundle or bundle
        return ",".join(labels) or None, bundle

    def interleaving(self, user_id: int | str, request_id: str) -> Interleaving | None:
        """The interleaving experiment of a request; None without one.

        `assign` gives no label for such an experiment; `draft_label` makes it from the teams.

        Args:
            user_id: user of the request.
            request_id: id of the request.
        """
        for each in self.experiment:
            if each.interleave is not None and each.takes_part(
                user_id if each.unit == "user_id" else request_id
            ):
                bundles = {variant.name: variant.bundle for variant in each.variants}
                first, second = each.interleave
                return Interleaving(each, (bundles[first], bundles[second]))
        return None

    @property
    def bundles(self) -> tuple[str, ...]:
        """Folders of the variants' bundles, sorted."""
        return tuple(
            sorted({v.bundle for each in self.experiment for v in each.variants if v.bundle})
        )


@dataclass(frozen=True)
class Interleaving:
    """The interleaving of one request: two bundles whose lists are merged.

    Attributes:
        experiment: an experiment with `interleave`.
        bundles: folders of its first and second variant; None is the default bundle.
    """

    experiment: Experiment
    bundles: tuple[str | None, str | None]


def _uniform(use: str, salt: str, unit: int | str) -> float:
    """A number in [0, 1) that depends on the arguments only; ids of different types differ."""
    text = f"{use}\0{salt}\0{type(unit).__name__}\0{unit}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") / 2**64
