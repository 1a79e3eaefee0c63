"""Features of candidates, each defined once: a fold over events, and a value at a moment.

A `FeatureFamily` says what it needs to know of the past and computes values from it. What the past
is comes from an engine with the interface `Past`: the import answers for many requests of a sorted
log at once, a server for the request of now. Both run the same formulas.
"""

from goalrank.features.categories import ItemCategories
from goalrank.features.decay import DecayedTotals, HalfLife
from goalrank.features.family import Feature, FeatureFamily, FeatureInputs
from goalrank.features.fixed_point import MOST_SUMMED, ONE, fixed_point
from goalrank.features.online.item_sets import ItemSets
from goalrank.features.online.key_totals import KeyTotals
from goalrank.features.online.memory import COUNTED, FeatureMemory
from goalrank.features.online.pair_table import PairTable
from goalrank.features.online.row_pool import RowPool
from goalrank.features.past import (
    DecayedRows,
    EarlierRows,
    Key,
    LatestRows,
    Needs,
    Past,
)
from goalrank.features.plan import FeaturePlan, feature_meanings
from goalrank.features.registry import DEFAULT_FAMILIES, FEATURES

__all__ = [
    "COUNTED",
    "DEFAULT_FAMILIES",
    "FEATURES",
    "MOST_SUMMED",
    "ONE",
    "DecayedRows",
    "DecayedTotals",
    "EarlierRows",
    "Feature",
    "FeatureFamily",
    "FeatureInputs",
    "FeatureMemory",
    "FeaturePlan",
    "HalfLife",
    "ItemCategories",
    "ItemSets",
    "Key",
    "KeyTotals",
    "LatestRows",
    "Needs",
    "PairTable",
    "Past",
    "RowPool",
    "feature_meanings",
    "fixed_point",
]
