"""Rankers: policies over lists."""

from goalrank.rankers.base import Proposal, Ranker, Scorer, at_next, top_slots
from goalrank.rankers.best_of import BestOf
from goalrank.rankers.build import (
    PRESETS,
    RankerConfig,
    build_ranker,
    parameter_count,
    ranker_names,
    ranker_options,
)
from goalrank.rankers.diversity import DPP, MMR
from goalrank.rankers.dlcm import DLCM
from goalrank.rankers.dnn import DNN
from goalrank.rankers.evaluator_sort import EvaluatorSort
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
from goalrank.rankers.lambdamart import LambdaMART
from goalrank.rankers.mir import MIR
from goalrank.rankers.multi_generator import (
    Member,
    MultiGenerator,
    copies,
    diverse_members,
    member_lists,
    select_members,
)
from goalrank.rankers.nar4rec import NAR4Rec
from goalrank.rankers.nlgr import NLGR, neighbours
from goalrank.rankers.pier import PIER
from goalrank.rankers.pool import Pool, PoolPolicy
from goalrank.rankers.prm import PRM
from goalrank.rankers.prs import PRS
from goalrank.rankers.rankmixer import RankMixer
from goalrank.rankers.seq2slate import EGRank, Seq2Slate
from goalrank.rankers.setrank import SetRank
from goalrank.rankers.step_policy import StepPolicy

__all__ = [
    "DLCM",
    "DNN",
    "DPP",
    "MIR",
    "MMR",
    "NLGR",
    "PIER",
    "PRESETS",
    "PRM",
    "PRS",
    "BestOf",
    "Constant",
    "EGRank",
    "EvaluatorSort",
    "FeatureOrder",
    "Generator",
    "InputOrder",
    "ItemStatistic",
    "LambdaMART",
    "LastItemTransitions",
    "Member",
    "MultiGenerator",
    "NAR4Rec",
    "Pool",
    "PoolPolicy",
    "Proposal",
    "RandomOrder",
    "RankMixer",
    "Ranker",
    "RankerConfig",
    "RetrieverOrder",
    "Scorer",
    "Seq2Slate",
    "SetRank",
    "StepPolicy",
    "at_next",
    "build_ranker",
    "copies",
    "diverse_members",
    "member_lists",
    "neighbours",
    "parameter_count",
    "ranker_names",
    "ranker_options",
    "select_members",
    "top_slots",
]
