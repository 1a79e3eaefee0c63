"""The live experiments' numbers for the page, counted anew at most every so many seconds."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import polars as pl

from goalrank.errors import GoalRankError
from goalrank.experiments import Experiment, ab_report
from goalrank.requests import Requests
from goalrank.serving.ranking.service import Service
from goalrank.serving.store.export import stored_requests


class Reports:
    """Reports of a service's experiments; one thread counts, the others wait for its result.

    Args:
        seconds: how long a report stays good.
    """

    def __init__(self, service: Service, seconds: float = 20.0) -> None:
        self.service, self.seconds = service, seconds
        self._lock = threading.Lock()
        self._kept: dict[int, tuple[float, dict[str, Any]]] = {}

    def get(self, days: int) -> dict[str, Any]:
        """Every experiment's report over the latest days."""
        with self._lock:
            kept = self._kept.get(days)
            if kept is None or monotonic() - kept[0] > self.seconds:
                kept = (monotonic(), self._count(days))
                self._kept[days] = kept
            return kept[1]

    def _count(self, days: int) -> dict[str, Any]:
        now = datetime.now(UTC)
        found = [
            self._one(each, now - timedelta(days=days), days)
            for each in self.service.experiments.experiment
        ]
        return {"at": now.isoformat(), "days": days, "experiments": found}

    def _one(self, experiment: Experiment, start: datetime, days: int) -> dict[str, Any]:
        weights = {each.name: each.weight for each in experiment.variants}
        out: dict[str, Any] = {
            "name": experiment.name, "unit": experiment.unit, "layer": experiment.layer,
            "share": experiment.share, "weights": weights, "report": None, "message": None,
            "metrics": [metric.name for metric in experiment.metrics],
        }  # fmt: skip
        if self.service.store is None:
            return out | {"message": "This server keeps no store, so nothing can be counted."}
        seen = _Seen(experiment, "1h" if days <= 3 else "1d")
        try:
            tables = seen.watch(stored_requests(self.service.store, start))
            out["report"] = asdict(ab_report(experiment, tables))
        except GoalRankError as error:
            out["message"] = str(error).split("; remedy")[0]
        return out | seen.result()


class _Seen:
    """Counts what a report reads as it goes by: requests and metrics by arm and time."""

    def __init__(self, experiment: Experiment, every: str) -> None:
        self.experiment, self.every = experiment, every
        self._parts: list[pl.DataFrame] = []
        self._units: list[pl.DataFrame] = []

    def watch(self, tables: Iterable[Requests]) -> Iterator[Requests]:
        for table in tables:
            self._take(table.frame)
            yield table

    def _take(self, frame: pl.DataFrame) -> None:
        if "experiment" not in frame.columns:
            return
        prefix = f"{self.experiment.name}:"
        mine = pl.element().filter(pl.element().str.starts_with(prefix))
        arm = pl.col("experiment").str.split(",").list.eval(mine).list.first()
        kinds = {metric.kind for metric in self.experiment.metrics}
        there = sorted(kinds & {field.name for field in _fields(frame)})
        sums = [
            pl.col("feedback").struct.field(kind).list.sum().cast(pl.Float64).alias(f"kind:{kind}")
            for kind in there
        ]
        rows = frame.select(
            arm.str.strip_prefix(prefix).alias("variant"),
            pl.col("time").dt.truncate(self.every).alias("at"),
            pl.col(self.experiment.unit).cast(pl.String).alias("unit"),
            pl.col("shown").list.len().cast(pl.Float64).alias("items"),
            *sums,
        ).drop_nulls("variant")
        self._units.append(rows.select("variant", "unit").unique())
        total = rows.drop("unit").with_columns(requests=pl.lit(1.0))
        self._parts.append(total.group_by("variant", "at").agg(pl.all().sum()))

    def result(self) -> dict[str, Any]:
        """`units` and `requests` by arm, and `lines`: metric → arm → running averages."""
        names = [each.name for each in self.experiment.variants]
        empty = dict.fromkeys(names, 0)
        if not self._parts:
            return {"units": empty, "requests": empty, "lines": {}}
        units = pl.concat(self._units).unique()["variant"].value_counts()
        parts = pl.concat(self._parts, how="diagonal").group_by("variant", "at").agg(pl.all().sum())
        parts = parts.sort("at")
        requests = parts.group_by("variant").agg(pl.col("requests").sum())
        return {
            "units": empty | dict(units.iter_rows()),
            "requests": empty | {name: int(count) for name, count in requests.iter_rows()},
            "lines": {
                metric.name: {name: _line(parts, name, metric.kind, metric.per) for name in names}
                for metric in self.experiment.metrics
            },
        }


def _line(parts: pl.DataFrame, variant: str, kind: str, per: str) -> list[list[Any]]:
    """[time, average so far, requests so far]; averages a unit are shown a request."""
    rows = parts.filter(pl.col("variant") == variant)
    if f"kind:{kind}" not in rows.columns or not rows.height:
        return []
    base = "items" if per == "item" else "requests"
    running = rows.select(
        pl.col("at").dt.to_string("iso:strict"),
        (pl.col(f"kind:{kind}").cum_sum() / pl.col(base).cum_sum()).fill_nan(0.0),
        pl.col("requests").cum_sum(),
    )
    return [list(row) for row in running.iter_rows()]


def _fields(frame: pl.DataFrame) -> list[pl.Field]:
    dtype = frame.schema.get("feedback")
    return dtype.fields if isinstance(dtype, pl.Struct) else []
