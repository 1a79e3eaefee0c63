"""List effects: what a reward model of whole lists knows beyond items and their positions."""

from goalrank.studies.list_effects.models import ITEMS, LISTS, MODELS, POSITIONS
from goalrank.studies.list_effects.run import run_list_effects
from goalrank.studies.list_effects.settings import ListEffectsConfig
from goalrank.studies.list_effects.swaps import SwapFit, SwapPairs, find_swaps, fit_swaps

__all__ = [
    "ITEMS",
    "LISTS",
    "MODELS",
    "POSITIONS",
    "ListEffectsConfig",
    "SwapFit",
    "SwapPairs",
    "find_swaps",
    "fit_swaps",
    "run_list_effects",
]
