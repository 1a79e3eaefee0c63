"""Rankers: policies over lists."""

from goalrank.rankers.base import Choose, Proposal, Ranker, Scorer, at_next, top_slots
from goalrank.rankers.baselines.diversity import DPP, MMR
from goalrank.rankers.baselines.heuristics import (
    Constant,
    FeatureOrder,
    InputOrder,
    ItemStatistic,
    LastItemTransitions,
    RandomOrder,
    RetrieverOrder,
)
from goalrank.rankers.build import (
    RANKERS,
    build_ranker,
    parameter_count,
    ranker_names,
    ranker_options,
)
from goalrank.rankers.composite.best_of import BestOf
from goalrank.rankers.composite.evaluator_sort import EvaluatorSort
from goalrank.rankers.composite.multi_generator import (
    Member,
    MultiGenerator,
    copies,
    diverse_members,
    member_lists,
    select_members,
)
from goalrank.rankers.composite.pier import PIER
from goalrank.rankers.composite.pool import Pool, PoolPolicy
from goalrank.rankers.composite.prs import PRS
from goalrank.rankers.composite.score_mean import ScoreMean
from goalrank.rankers.composite.trees_over_scores import (
    TreesOverScores,
    user_folds,
    with_score_feature,
)
from goalrank.rankers.config import PRESETS, IdDropout, RankerConfig, known_id_dropout
from goalrank.rankers.goalrank.generator import Generator
from goalrank.rankers.scorers.boosted_trees import BoostedTrees
from goalrank.rankers.scorers.dcn import DCN
from goalrank.rankers.scorers.din import DIN
from goalrank.rankers.scorers.dlcm import DLCM
from goalrank.rankers.scorers.dnn import DNN
from goalrank.rankers.scorers.hstu import HSTU
from goalrank.rankers.scorers.lambdamart import LambdaMART
from goalrank.rankers.scorers.linear import LinearScores
from goalrank.rankers.scorers.mir import MIR
from goalrank.rankers.scorers.prm import PRM
from goalrank.rankers.scorers.rankmixer import RankMixer
from goalrank.rankers.scorers.sasrec import SASRec
from goalrank.rankers.scorers.setrank import SetRank
from goalrank.rankers.scorers.xgboost_trees import XGBoost
from goalrank.rankers.sequential.nar4rec import NAR4Rec
from goalrank.rankers.sequential.nlgr import NLGR, neighbours
from goalrank.rankers.sequential.seq2slate import EGRank, Seq2Slate
from goalrank.rankers.step_policy import StepPolicy

__all__ = [
    "DCN",
    "DIN",
    "DLCM",
    "DNN",
    "DPP",
    "HSTU",
    "MIR",
    "MMR",
    "NLGR",
    "PIER",
    "PRESETS",
    "PRM",
    "PRS",
    "RANKERS",
    "BestOf",
    "BoostedTrees",
    "Choose",
    "Constant",
    "EGRank",
    "EvaluatorSort",
    "FeatureOrder",
    "Generator",
    "IdDropout",
    "InputOrder",
    "ItemStatistic",
    "LambdaMART",
    "LastItemTransitions",
    "LinearScores",
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
    "SASRec",
    "ScoreMean",
    "Scorer",
    "Seq2Slate",
    "SetRank",
    "StepPolicy",
    "TreesOverScores",
    "XGBoost",
    "at_next",
    "build_ranker",
    "copies",
    "diverse_members",
    "known_id_dropout",
    "member_lists",
    "neighbours",
    "parameter_count",
    "ranker_names",
    "ranker_options",
    "select_members",
    "top_slots",
    "user_folds",
    "with_score_feature",
]
