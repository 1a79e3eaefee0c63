"""Reports of the running experiments for the page, renewed at most every few seconds."""

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


class ExperimentReports:
    """Reports of a service's experiments; one thread makes them, others wait for the result.

    Args:
        service: its experiments and its store.
        seconds: for which a report is kept before it is made again.
    """

    def __init__(self, service: Service, seconds: float = 20.0) -> None:
        self.service, self.seconds = service, seconds
        self._lock = threading.Lock()
        self._kept: dict[int, tuple[float, dict[str, Any]]] = {}

    def get(self, days: int) -> dict[str, Any]:
        """Report every experiment.

        Args:
            days: latest days to read, at least 1.

        Returns:
            `at` (time of the report), `days` and `experiments`, one report each.
        """
        with self._lock:
            kept = self._kept.get(days)
            if kept is None or monotonic() - kept[0] > self.seconds:
                kept = (monotonic(), self._report_all(days))
                self._kept[days] = kept
            return kept[1]

    def _report_all(self, days: int) -> dict[str, Any]:
        now = datetime.now(UTC)
        found = [
            self._report(each, now - timedelta(days=days), days)
            for each in self.service.experiments.experiment
        ]
        return {"at": now.isoformat(), "days": days, "experiments": found}

    def _report(self, experiment: Experiment, start: datetime, days: int) -> dict[str, Any]:
        weights = {each.name: each.weight for each in experiment.variants}
        out: dict[str, Any] = {
            "name": experiment.name, "unit": experiment.unit, "layer": experiment.layer,
            "share": experiment.share, "weights": weights, "report": None, "message": None,
            "metrics": [metric.name for metric in experiment.metrics],
        }  # fmt: skip
        if self.service.store is None:
            return out | {"message": "This server keeps no store, so nothing can be counted."}
        counts = _VariantCounts(experiment, "1h" if days <= 3 else "1d")
        try:
            tables = counts.counted(stored_requests(self.service.store, start))
            out["report"] = asdict(ab_report(experiment, tables))
        except GoalRankError as error:
            out["message"] = str(error).split("; remedy")[0]
        return out | counts.result()


class _VariantCounts:
    """Requests and metrics by variant and time, counted while a report reads the tables.

    Args:
        experiment: the experiment.
        every: length of a period of time, e.g. "1h".
    """

    def __init__(self, experiment: Experiment, every: str) -> None:
        self.experiment, self.every = experiment, every
        self._parts: list[pl.DataFrame] = []
        self._units: list[pl.DataFrame] = []

    def counted(self, tables: Iterable[Requests]) -> Iterator[Requests]:
        """Pass tables on, counting each."""
        for table in tables:
            self._count(table.frame)
            yield table

    def _count(self, frame: pl.DataFrame) -> None:
        if "experiment" not in frame.columns:
            return
        prefix = f"{self.experiment.name}:"
        of_experiment = pl.element().filter(pl.element().str.starts_with(prefix))
        label = pl.col("experiment").str.split(",").list.eval(of_experiment).list.first()
        kinds = {metric.kind for metric in self.experiment.metrics}
        present = sorted(kinds & {field.name for field in _fields(frame)})
        sums = [
            pl.col("feedback").struct.field(kind).list.sum().cast(pl.Float64).alias(f"kind:{kind}")
            for kind in present
        ]
        rows = frame.select(
            label.str.strip_prefix(prefix).alias("variant"),
            pl.col("time").dt.truncate(self.every).alias("at"),
            pl.col(self.experiment.unit).cast(pl.String).alias("unit"),
            pl.col("shown").list.len().cast(pl.Float64).alias("items"),
            *sums,
        ).drop_nulls("variant")
        self._units.append(rows.select("variant", "unit").unique())
        total = rows.drop("unit").with_columns(requests=pl.lit(1.0))
        self._parts.append(total.group_by("variant", "at").agg(pl.all().sum()))

    def result(self) -> dict[str, Any]:
        """Give `units` and `requests` by variant, and `lines`: metric → variant → averages."""
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
                metric.name: {
                    name: _running_averages(parts, name, metric.kind, metric.per) for name in names
                }
                for metric in self.experiment.metrics
            },
        }


def _running_averages(parts: pl.DataFrame, variant: str, kind: str, per: str) -> list[list[Any]]:
    """List [time, average so far, requests so far]; averages per unit become ones per request."""
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
