"""Rankers: policies over lists."""

from goalrank.rankers.base import Proposal, Ranker, Scorer, top_slots
from goalrank.rankers.best_of import BestOf
from goalrank.rankers.build import (
    PRESETS,
    RankerConfig,
    build_ranker,
    parameter_count,
    ranker_names,
)
from goalrank.rankers.dnn import DNN
from goalrank.rankers.generator import Generator
from goalrank.rankers.heuristics import (
    Constant,
    FeatureOrder,
    InputOrder,
    ItemStatistic,
    LastItemTransitions,
    RandomOrder,
    RetrieverOrder,
)
from goalrank.rankers.prm import PRM

__all__ = [
    "DNN",
    "PRESETS",
    "PRM",
    "BestOf",
    "Constant",
    "FeatureOrder",
    "Generator",
    "InputOrder",
    "ItemStatistic",
    "LastItemTransitions",
    "Proposal",
    "RandomOrder",
    "Ranker",
    "RankerConfig",
    "RetrieverOrder",
    "Scorer",
    "build_ranker",
    "parameter_count",
    "ranker_names",
    "top_slots",
]
