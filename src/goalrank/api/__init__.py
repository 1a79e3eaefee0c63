"""The whole job in a few calls: fit, evaluate, save, load, rank."""

from goalrank.api.bulk import rank_dataset
from goalrank.api.demo import DEMOS, run_demo
from goalrank.api.model import Model, fit, load
from goalrank.api.ope import off_policy
from goalrank.api.recipes import recipe_names, recipe_path
from goalrank.api.reward_report import fit_itemwise, reward_report
from goalrank.api.scorecard import Scorecard, audit_table, evaluate
from goalrank.api.world_card import RegretParts, WorldCard, WorldRow, world_card

__all__ = [
    "DEMOS",
    "Model",
    "RegretParts",
    "Scorecard",
    "WorldCard",
    "WorldRow",
    "audit_table",
    "evaluate",
    "fit",
    "fit_itemwise",
    "load",
    "off_policy",
    "rank_dataset",
    "recipe_names",
    "recipe_path",
    "reward_report",
    "run_demo",
    "world_card",
]
