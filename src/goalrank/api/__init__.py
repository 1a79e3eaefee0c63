"""The whole job in a few calls: fit, evaluate, save, load, rank.

Names are loaded on first use, so that ranking and evaluating wait for no training library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from goalrank._lazy import lazy_door

if TYPE_CHECKING:
    from goalrank.api.bulk import load, rank_dataset
    from goalrank.api.competition import Competition, compete
    from goalrank.api.demo import DEMOS, run_demo
    from goalrank.api.model import Model, fit, learnt_beside
    from goalrank.api.retraining.online_check import OnlineCheck, check_online
    from goalrank.api.retraining.retrain import Retrained, retrain
    from goalrank.api.retraining.settings import RetrainSettings, load_retrain_settings
    from goalrank.api.reward_reports import fit_itemwise, reward_report
    from goalrank.api.scorecard import Scorecard, audit_table, evaluate
    from goalrank.api.world_cards import RegretParts, WorldCard, WorldRow, world_card
    from goalrank.evaluation import evaluate_off_policy
    from goalrank.recipes import recipe_names, recipe_path

__all__ = [
    "DEMOS",
    "Competition",
    "Model",
    "OnlineCheck",
    "RegretParts",
    "RetrainSettings",
    "Retrained",
    "Scorecard",
    "WorldCard",
    "WorldRow",
    "audit_table",
    "check_online",
    "compete",
    "evaluate",
    "evaluate_off_policy",
    "fit",
    "fit_itemwise",
    "learnt_beside",
    "load",
    "load_retrain_settings",
    "rank_dataset",
    "recipe_names",
    "recipe_path",
    "retrain",
    "reward_report",
    "run_demo",
    "world_card",
]

__getattr__ = lazy_door(
    __name__,
    {
        "DEMOS": "goalrank.api.demo",
        "Competition": "goalrank.api.competition",
        "Model": "goalrank.api.model",
        "OnlineCheck": "goalrank.api.retraining.online_check",
        "RegretParts": "goalrank.api.world_cards",
        "RetrainSettings": "goalrank.api.retraining.settings",
        "Retrained": "goalrank.api.retraining.retrain",
        "Scorecard": "goalrank.api.scorecard",
        "WorldCard": "goalrank.api.world_cards",
        "WorldRow": "goalrank.api.world_cards",
        "audit_table": "goalrank.api.scorecard",
        "check_online": "goalrank.api.retraining.online_check",
        "compete": "goalrank.api.competition",
        "evaluate": "goalrank.api.scorecard",
        "evaluate_off_policy": "goalrank.evaluation",
        "fit": "goalrank.api.model",
        "fit_itemwise": "goalrank.api.reward_reports",
        "learnt_beside": "goalrank.api.model",
        "load": "goalrank.api.bulk",
        "load_retrain_settings": "goalrank.api.retraining.settings",
        "rank_dataset": "goalrank.api.bulk",
        "recipe_names": "goalrank.recipes",
        "recipe_path": "goalrank.recipes",
        "retrain": "goalrank.api.retraining.retrain",
        "reward_report": "goalrank.api.reward_reports",
        "run_demo": "goalrank.api.demo",
        "world_card": "goalrank.api.world_cards",
    },
)
