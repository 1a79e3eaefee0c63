"""Reports, tables and figures."""

from goalrank.reporting.examples import choose_rows, make_examples
from goalrank.reporting.figures import (
    Bar,
    bar_chart,
    histogram,
    line_chart,
    scatter_fit,
    stacked_area,
)
from goalrank.reporting.html import headline, render, write_report
from goalrank.reporting.report import Example, Report
from goalrank.reporting.svg import RULE, TRAINED, save_figure, to_svg

__all__ = [
    "RULE",
    "TRAINED",
    "Bar",
    "Example",
    "Report",
    "bar_chart",
    "choose_rows",
    "headline",
    "histogram",
    "line_chart",
    "make_examples",
    "render",
    "save_figure",
    "scatter_fit",
    "stacked_area",
    "to_svg",
    "write_report",
]
