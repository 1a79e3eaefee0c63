"""The whole job in a few calls: fit, evaluate, save, load, rank.

Names are loaded on first use, so that ranking and evaluating wait for no training library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from goalrank.api.bulk import load, rank_dataset
    from goalrank.api.demo import DEMOS, run_demo
    from goalrank.api.model import Model, fit
    from goalrank.api.ope import off_policy
    from goalrank.api.recipes import recipe_names, recipe_path
    from goalrank.api.reward_reports import fit_itemwise, reward_report
    from goalrank.api.scorecard import Scorecard, audit_table, evaluate
    from goalrank.api.world_cards import RegretParts, WorldCard, WorldRow, world_card

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

_LAZY = {
    "DEMOS": "demo",
    "Model": "model",
    "RegretParts": "world_cards",
    "Scorecard": "scorecard",
    "WorldCard": "world_cards",
    "WorldRow": "world_cards",
    "audit_table": "scorecard",
    "evaluate": "scorecard",
    "fit": "model",
    "fit_itemwise": "reward_reports",
    "load": "bulk",
    "off_policy": "ope",
    "rank_dataset": "bulk",
    "recipe_names": "recipes",
    "recipe_path": "recipes",
    "reward_report": "reward_reports",
    "run_demo": "demo",
    "world_card": "world_cards",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"goalrank.api.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'goalrank.api' has no attribute {name!r}")
