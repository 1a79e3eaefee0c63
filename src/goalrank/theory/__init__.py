"""A laboratory on enumerable worlds: exact approximation errors, the evidence bound, order survival."""

from __future__ import annotations

from goalrank.theory.bestof import best_of_log_prob, score_classes
from goalrank.theory.bias import draw_bias
from goalrank.theory.bound import BoundParts, Group, evidence_bound, with_floor
from goalrank.theory.families import BestOf, Mixture, Policy, Single, Sizes
from goalrank.theory.fit import FitOptions, Fitted, fit
from goalrank.theory.lab import run
from goalrank.theory.page import page_faults, refresh_page
from goalrank.theory.population import Population, check_feasible, make_population
from goalrank.theory.settings import LabConfig, tiny_world
from goalrank.theory.survival import order_survival, thin_by_gap
from goalrank.theory.training_run import GroupTraining, train

__all__ = [
    "BestOf",
    "BoundParts",
    "FitOptions",
    "Fitted",
    "Group",
    "GroupTraining",
    "LabConfig",
    "Mixture",
    "Policy",
    "Population",
    "Single",
    "Sizes",
    "best_of_log_prob",
    "check_feasible",
    "draw_bias",
    "evidence_bound",
    "fit",
    "make_population",
    "order_survival",
    "page_faults",
    "refresh_page",
    "run",
    "score_classes",
    "thin_by_gap",
    "tiny_world",
    "train",
    "with_floor",
]
