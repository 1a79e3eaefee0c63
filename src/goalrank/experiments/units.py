"""Requests summed to what an experiment assigns: a row a unit."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from goalrank.errors import DataError
from goalrank.experiments.config import Experiment
from goalrank.requests import Requests


def sum_units(
    tables: Iterable[Requests], experiment: Experiment, kinds: list[str], *, labelled: bool
) -> pl.DataFrame:
    """A row for each unit (and arm): requests, items shown, and the sum of each kind.

    Args:
        labelled: count only requests of the experiment, by arm.

    Raises:
        DataError: the tables lack a kind.
    """
    parts = [_part(table.frame, experiment, kinds, labelled) for table in tables]
    keys = ["unit", "variant"] if labelled else ["unit"]
    if not parts:
        return pl.DataFrame(schema=dict.fromkeys([*keys, "requests", "items", *kinds], pl.Float64))
    return pl.concat(parts).group_by(keys).agg(pl.all().sum()).sort(keys)


def metric_columns(kind: str, per: str) -> tuple[str, str | None]:
    """Columns of `sum_units` whose means a metric divides; no second one for means a unit."""
    return kind, {"request": "requests", "item": "items"}.get(per)


def check_kinds(frame: pl.DataFrame, experiment: Experiment, kinds: list[str]) -> None:
    """Refuse feedback that the table does not have.

    Raises:
        DataError: see above.
    """
    there = frame["feedback"].struct.fields
    missing = [kind for kind in kinds if kind not in there]
    if missing:
        raise DataError(
            f"experiment '{experiment.name}' measures feedback {missing}, but the store has "
            f"{there}; remedy: change the metric's kind"
        )


def labels(experiment: Experiment) -> pl.Expr:
    """What stands after the experiment's name in a request's `experiment`; null elsewhere."""
    prefix = f"{experiment.name}:"
    entry = (
        pl.col("experiment")
        .str.split(",")
        .list.eval(pl.element().filter(pl.element().str.starts_with(prefix)))
    )
    return entry.list.first().str.strip_prefix(prefix)


def _part(
    frame: pl.DataFrame, experiment: Experiment, kinds: list[str], labelled: bool
) -> pl.DataFrame:
    check_kinds(frame, experiment, kinds)
    columns = [
        pl.col(experiment.unit).cast(pl.String).alias("unit"),
        pl.lit(1.0).alias("requests"),
        pl.col("shown").list.len().cast(pl.Float64).alias("items"),
        *(pl.col("feedback").struct.field(k).list.sum().cast(pl.Float64).alias(k) for k in kinds),
    ]
    if not labelled:
        return frame.select(columns).group_by("unit").agg(pl.all().sum())
    if "experiment" not in frame.columns:
        return frame.select(*columns, variant=pl.lit("")).clear()
    rows = frame.select(*columns, labels(experiment).alias("variant")).drop_nulls("variant")
    return rows.group_by("unit", "variant").agg(pl.all().sum())
