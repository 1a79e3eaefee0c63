"""The table of an evaluation: a row per ranker, a column per metric."""

from __future__ import annotations

import math
from collections.abc import Iterable

from goalrank.evaluation import Evaluation, Interval
from goalrank.reporting.tables import Column, Table, make_columns, milliseconds


def evaluation_table(found: Evaluation, metrics: Iterable[str] | None = None) -> Table:
    """Rankers with the mean and 95 % interval of each metric, best first by the first metric.

    Args:
        found: at least one ranker.
        metrics: names with or without "@L"; None takes all.

    Returns:
        The table, with a note on what its numbers rest on.
    """
    names = [found.metric_name(metric) for metric in (metrics or found.metrics)]
    rows = [
        [
            ranker,
            *(_cell(found.summaries[ranker].get(name)) for name in names),
            milliseconds(found.milliseconds(ranker)),
        ]
        for ranker in found.best_first(names[0])
    ]
    return Table(
        [Column("ranker"), *make_columns(*names, "ms/request", align="right")], rows, [found.basis]
    )


def _cell(interval: Interval | None) -> str:
    if interval is None or math.isnan(interval.mean):
        return "–"
    if not math.isfinite(interval.high - interval.low):  # there is none
        return f"{interval.mean:.4f}"
    return f"{interval.mean:.4f} [{interval.low:.4f}, {interval.high:.4f}]"
