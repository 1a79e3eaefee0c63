"""Families of features: what a feature is, and what each family must say and compute."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from goalrank.features.categories import ItemCategories
from goalrank.features.past import Needs, Past

__all__ = ["Feature", "FeatureFamily", "FeatureInputs", "Values"]

Values = NDArray[np.float32]


@dataclass(frozen=True)
class Feature:
    """One number of a candidate.

    Attributes:
        name: its name in the requests table.
        unit: of the value, e.g. "log(1 + rows)".
        meaning: one sentence.
        memory: what a server keeps for it, per key.
    """

    name: str
    unit: str
    meaning: str
    memory: str


@dataclass(frozen=True)
class FeatureInputs:
    """What the features of a log depend on beside its rows.

    Attributes:
        kinds: feedback types in [0, 1] that are averaged; the engine's values follow this order.
        categories: column of the items' side table → categories of items.
        repeats: whether candidates may be items of the user's earlier rows.
    """

    kinds: tuple[str, ...] = ()
    categories: Mapping[str, ItemCategories] = field(default_factory=dict)
    repeats: bool = True


class FeatureFamily(ABC):
    """Features that share what they need to know.

    Args:
        inputs: what the features depend on beside the rows.
    """

    def __init__(self, inputs: FeatureInputs) -> None:
        self.inputs = inputs

    @property
    @abstractmethod
    def features(self) -> tuple[Feature, ...]:
        """The features, in the order of `values`; none where the inputs allow none."""

    @property
    @abstractmethod
    def needs(self) -> Needs:
        """What `values` asks of the past."""

    @abstractmethod
    def values(self, past: Past) -> Sequence[Values]:
        """The features at the moment of each request, each [B, N] or [B, 1].

        A value depends on the rows strictly before the request alone.

        Args:
            past: what was before B requests.
        """
