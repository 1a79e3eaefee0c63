"""Sums of requests per unit of an experiment."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from goalrank.errors import DataError
from goalrank.experiments.config import Experiment
from goalrank.requests import Requests


def sum_units(
    tables: Iterable[Requests], experiment: Experiment, kinds: list[str], *, labelled: bool
) -> pl.DataFrame:
    """Sum requests, shown items and feedback per unit (and variant).

    Args:
        tables: requests.
        experiment: the experiment; its `unit` is summed over.
        kinds: feedback types to sum.
        labelled: count only requests that carry the experiment's label, per variant.

    Returns:
        One row per unit (and variant): unit, [variant,] requests, items and a column per type.

    Raises:
        DataError: the tables lack a feedback type.
    """
    parts = [_part(table.frame, experiment, kinds, labelled) for table in tables]
    keys = ["unit", "variant"] if labelled else ["unit"]
    if not parts:
        sums = dict.fromkeys(["requests", "items", *kinds], pl.Float64)
        return pl.DataFrame(schema={**dict.fromkeys(keys, pl.String), **sums})
    return pl.concat(parts).group_by(keys).agg(pl.all().sum()).sort(keys)


def metric_columns(kind: str, per: str) -> tuple[str, str | None]:
    """Columns of `sum_units` that a metric divides: numerator and denominator.

    Args:
        kind: feedback type.
        per: as in `Metric`.

    Returns:
        The second column is None for means per unit.
    """
    return kind, {"request": "requests", "item": "items"}.get(per)


def check_kinds(frame: pl.DataFrame, experiment: Experiment, kinds: list[str]) -> None:
    """Refuse a table that lacks a feedback type.

    Args:
        frame: frame of a requests table.
        experiment: named in the error.
        kinds: feedback types that are needed.

    Raises:
        DataError: the table lacks one of them.
    """
    present = frame["feedback"].struct.fields
    missing = [kind for kind in kinds if kind not in present]
    if missing:
        raise DataError(
            f"experiment '{experiment.name}' measures feedback {missing}, but the store has "
            f"{present}; remedy: change the metric's kind"
        )


def labels(experiment: Experiment) -> pl.Expr:
    """Expression of the label after the experiment's name in the column `experiment`, or null.

    Args:
        experiment: the experiment.
    """
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
