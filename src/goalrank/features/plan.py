"""The features of a log: chosen families with what they depend on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import or_

import numpy as np
from numpy.typing import NDArray

from goalrank.errors import ConfigError
from goalrank.features.categories import ItemCategories
from goalrank.features.family import Feature, FeatureFamily, FeatureInputs
from goalrank.features.linked_meanings import linked_meaning
from goalrank.features.past import Needs, Past
from goalrank.features.registry import FEATURES
from goalrank.registry import class_path
from goalrank.requests import ComputedFeatures

__all__ = ["FeaturePlan", "feature_meanings"]


class FeaturePlan:
    """Families in their order.

    Args:
        families: names or class paths.
        inputs: what their features depend on beside the rows.

    Attributes:
        inputs: as given.
        families: the families.
        names: of all features, in the order of `values`.
        needs: what the families ask of the past, together.

    Raises:
        ConfigError: an unknown family, or two features of one name.
    """

    def __init__(self, families: Sequence[str], inputs: FeatureInputs) -> None:
        self.inputs = inputs
        self.families: list[FeatureFamily] = [FEATURES[name](inputs) for name in families]
        self.names = tuple(feature.name for feature in self.features)
        self.needs = reduce(or_, (family.needs for family in self.families), Needs())
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise ConfigError(
                f"families {list(families)} give the features {twice} twice; remedy: name each family "
                f"once, and no two that share a feature (option: features)"
            )

    @property
    def features(self) -> list[Feature]:
        """All features, in the order of `values`."""
        return [feature for family in self.families for feature in family.features]

    @property
    def described(self) -> ComputedFeatures:
        """The plan as tables and bundles keep it; families of others by their class paths."""
        own = {FEATURES.builtin(name): name for name in FEATURES.builtin_names}
        return ComputedFeatures(
            families=tuple(own.get(type(f)) or class_path(f) for f in self.families),
            kinds=self.inputs.kinds,
            categories=tuple(self.inputs.categories),
            repeats=self.inputs.repeats,
        )

    @classmethod
    def recorded(
        cls, kept: ComputedFeatures, categories: Mapping[str, ItemCategories]
    ) -> FeaturePlan:
        """The plan that a table or a bundle keeps.

        Args:
            kept: its description.
            categories: those of items, for each column that it names.

        Raises:
            ConfigError: a family cannot be found, or the categories of a column are missing.
        """
        missing = [column for column in kept.categories if column not in categories]
        if missing:
            raise ConfigError(
                f"the features look at the categories {missing} of items, which are not given; "
                f"remedy: give a side table with these columns (option: items)"
            )
        inputs = FeatureInputs(
            kept.kinds, {column: categories[column] for column in kept.categories}, kept.repeats
        )
        return cls(kept.families, inputs)

    def values(self, past: Past) -> dict[str, NDArray[np.float32]]:
        """Features of the candidates: name → [B, N].

        Args:
            past: what was before B requests.
        """
        shape = past.items.shape
        out: dict[str, NDArray[np.float32]] = {}
        for family in self.families:
            for feature, values in zip(family.features, family.values(past), strict=True):
                out[feature.name] = np.broadcast_to(values, shape)
        return out


def feature_meanings(kept: ComputedFeatures | None, names: Sequence[str] = ()) -> dict[str, str]:
    """What the features are that an import made: name → what it is, with the unit of a computed one.

    Features of other packages have none: code that a table names is not loaded to describe it.

    Args:
        kept: what a table keeps of those that it computed; None where it computed none.
        names: of all candidate features, of which some may come from linked models.
    """
    linked = {name: meaning for name in names if (meaning := linked_meaning(name))}
    if kept is None:
        return linked
    none = np.zeros(0, np.int64)
    categories = {column: ItemCategories.from_pairs(none, none) for column in kept.categories}
    own = tuple(family for family in kept.families if family in FEATURES.builtin_names)
    plan = FeaturePlan.recorded(kept.model_copy(update={"families": own}), categories)
    return linked | {each.name: f"{each.meaning} ({each.unit})" for each in plan.features}
