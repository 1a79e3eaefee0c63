"""The table of an evaluation: a row per ranker, a column per metric."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

from goalrank.evaluation import Evaluation, Interval
from goalrank.reporting.tables import Column, Table, make_columns, milliseconds


def evaluation_table(
    found: Evaluation,
    metrics: Iterable[str] | None = None,
    rankers: Collection[str] | None = None,
    notes: Iterable[str] = (),
) -> Table:
    """Rankers with the mean and 95 % interval of each metric, best first by the first metric.

    Args:
        found: at least one ranker.
        metrics: names with or without "@L"; None takes all.
        rankers: shown; None shows all.
        notes: further ones.

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
        if rankers is None or ranker in rankers
    ]
    return Table(
        [Column("ranker"), *make_columns(*names, "ms/request", align="right")],
        rows,
        [*notes, found.basis],
    )


def _cell(interval: Interval | None) -> str:
    if interval is None or math.isnan(interval.mean):
        return "–"
    if not math.isfinite(interval.high - interval.low):  # there is none
        return f"{interval.mean:.4f}"
    return f"{interval.mean:.4f} [{interval.low:.4f}, {interval.high:.4f}]"
