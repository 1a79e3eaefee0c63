"""Scaling studies: a grid of parameters × data size × group size, and the law fitted to it."""

from goalrank.studies.scaling.cells import failures, said_failures
from goalrank.studies.scaling.law import Law, fit_law, frontier
from goalrank.studies.scaling.quality import (
    BreakEven,
    break_even,
    draw_by_quality,
    evaluators_by_quality,
    quality_markdown,
)
from goalrank.studies.scaling.report import fit_scaling
from goalrank.studies.scaling.run import run_scaling
from goalrank.studies.scaling.suite import ScalingSuite, build_scaling, load_scaling, plan_scaling
from goalrank.studies.scaling.table import (
    draw_by_k,
    draw_scaling_table,
    scaling_markdown,
    scaling_table,
)

__all__ = [
    "BreakEven",
    "Law",
    "ScalingSuite",
    "break_even",
    "build_scaling",
    "draw_by_k",
    "draw_by_quality",
    "draw_scaling_table",
    "evaluators_by_quality",
    "failures",
    "fit_law",
    "fit_scaling",
    "frontier",
    "load_scaling",
    "plan_scaling",
    "quality_markdown",
    "run_scaling",
    "said_failures",
    "scaling_markdown",
    "scaling_table",
]
