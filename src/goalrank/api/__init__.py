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

_HOMES = {
    "bulk": ("load", "rank_dataset"),
    "demo": ("DEMOS", "run_demo"),
    "model": ("Model", "fit"),
    "ope": ("off_policy",),
    "recipes": ("recipe_names", "recipe_path"),
    "reward_reports": ("fit_itemwise", "reward_report"),
    "scorecard": ("Scorecard", "audit_table", "evaluate"),
    "world_cards": ("RegretParts", "WorldCard", "WorldRow", "world_card"),
}
_HOME = {name: f"goalrank.api.{home}" for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'goalrank.api' has no attribute {name!r}")
