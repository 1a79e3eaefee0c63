"""Theory laboratory on worlds whose lists can be enumerated: approximation errors, bound, order survival."""

from goalrank.studies.theory.bounds.bound import BoundParts, Group, evidence_bound, with_floor
from goalrank.studies.theory.bounds.order_survival import order_survival, thin_by_gap
from goalrank.studies.theory.bounds.reward_bias import draw_bias
from goalrank.studies.theory.bounds.training_run import GroupTraining, train
from goalrank.studies.theory.fits.best_of import best_of_log_prob, score_classes
from goalrank.studies.theory.fits.families import (
    BestOf,
    ListPolicy,
    Mixture,
    SingleGenerator,
    Sizes,
)
from goalrank.studies.theory.fits.fit import FitOptions, Fitted, fit
from goalrank.studies.theory.laboratory import run
from goalrank.studies.theory.page import page_faults, refresh_page
from goalrank.studies.theory.population import Population, check_feasible, make_population
from goalrank.studies.theory.settings import LabConfig, tiny_world

__all__ = [
    "BestOf",
    "BoundParts",
    "FitOptions",
    "Fitted",
    "Group",
    "GroupTraining",
    "LabConfig",
    "ListPolicy",
    "Mixture",
    "Population",
    "SingleGenerator",
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
