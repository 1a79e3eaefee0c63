"""Reports, tables and figures.

Names are loaded on first use: a table needs no plotting library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from goalrank._lazy import lazy_door

if TYPE_CHECKING:
    from goalrank.reporting.descriptions import ranker_words
    from goalrank.reporting.evaluation_tables import evaluation_table
    from goalrank.reporting.examples import choose_rows, find_moves, make_examples
    from goalrank.reporting.figures import (
        Bar,
        bar_chart,
        histogram,
        legend_outside,
        line_chart,
        scatter_fit,
        stacked_area,
    )
    from goalrank.reporting.html import headline, render, write_report
    from goalrank.reporting.report import Example, Move, Report
    from goalrank.reporting.svg import BASELINE, TRAINED, figure_kind, save_figure, to_svg
    from goalrank.reporting.tables import Bold, Column, Markup, Table, make_columns, milliseconds

__all__ = [
    "BASELINE",
    "TRAINED",
    "Bar",
    "Bold",
    "Column",
    "Example",
    "Markup",
    "Move",
    "Report",
    "Table",
    "bar_chart",
    "choose_rows",
    "evaluation_table",
    "figure_kind",
    "find_moves",
    "headline",
    "histogram",
    "legend_outside",
    "line_chart",
    "make_columns",
    "make_examples",
    "milliseconds",
    "ranker_words",
    "render",
    "save_figure",
    "scatter_fit",
    "stacked_area",
    "to_svg",
    "write_report",
]

_HOMES = {
    "evaluation_tables": ("evaluation_table",),
    "examples": ("choose_rows", "find_moves", "make_examples"),
    "figures": (
        "Bar",
        "bar_chart",
        "histogram",
        "legend_outside",
        "line_chart",
        "scatter_fit",
        "stacked_area",
    ),
    "html": ("headline", "render", "write_report"),
    "descriptions": ("ranker_words",),
    "report": ("Example", "Move", "Report"),
    "svg": ("BASELINE", "TRAINED", "figure_kind", "save_figure", "to_svg"),
    "tables": ("Bold", "Column", "Markup", "Table", "make_columns", "milliseconds"),
}
__getattr__ = lazy_door(
    __name__, {name: f"{__name__}.{file}" for file, names in _HOMES.items() for name in names}
)
