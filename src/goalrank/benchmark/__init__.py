"""The arena: suites of data sets, rankers, seeds and sizes; their ledger, tables and figures."""

from goalrank.benchmark.boards import Board, Line, load_boards
from goalrank.benchmark.cells import Cell, plan, shard
from goalrank.benchmark.ledger import LEDGER_VERSION, Ledger
from goalrank.benchmark.lineup import BiasSpec, RowSpec, standard_rows
from goalrank.benchmark.plots import plot
from goalrank.benchmark.publish import publish
from goalrank.benchmark.runner import RunResult, run_suite, stored_suite
from goalrank.benchmark.scaling import ScalingSuite, build_scaling, load_scaling, plan_scaling
from goalrank.benchmark.scaling_fit import Law, fit_law, frontier
from goalrank.benchmark.scaling_report import fit_scaling
from goalrank.benchmark.scaling_run import run_scaling
from goalrank.benchmark.scaling_table import (
    draw_by_k,
    draw_scaling_table,
    scaling_markdown,
    scaling_table,
)
from goalrank.benchmark.stats import holm, over_requests, paired_t, t_tail
from goalrank.benchmark.suite import (
    DatasetSpec,
    SizeSpec,
    Suite,
    TuningSpec,
    build_suite,
    load_suite,
)
from goalrank.benchmark.tables import latex, markdown, verdict

__all__ = [
    "LEDGER_VERSION",
    "BiasSpec",
    "Board",
    "Cell",
    "DatasetSpec",
    "Law",
    "Ledger",
    "Line",
    "RowSpec",
    "RunResult",
    "ScalingSuite",
    "SizeSpec",
    "Suite",
    "TuningSpec",
    "build_scaling",
    "build_suite",
    "draw_by_k",
    "draw_scaling_table",
    "fit_law",
    "fit_scaling",
    "frontier",
    "holm",
    "latex",
    "load_boards",
    "load_scaling",
    "load_suite",
    "markdown",
    "over_requests",
    "paired_t",
    "plan",
    "plan_scaling",
    "plot",
    "publish",
    "run_scaling",
    "run_suite",
    "scaling_markdown",
    "scaling_table",
    "shard",
    "standard_rows",
    "stored_suite",
    "t_tail",
    "verdict",
]
