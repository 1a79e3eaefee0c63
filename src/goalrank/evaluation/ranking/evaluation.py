"""What an evaluation found: values per request, means with intervals, paired differences."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from goalrank._notebook import html_table
from goalrank.errors import ConfigError
from goalrank.evaluation.statistics.bootstrap import Difference, FloatArray, Interval, Resampler
from goalrank.wording import counted

_SCHEMA = {
    "ranker": pl.String, "metric": pl.String, "mean": pl.Float64, "low": pl.Float64,
    "high": pl.Float64, "requests": pl.Int64, "slots": pl.Int64, "protocol": pl.String,
    "milliseconds": pl.Float64,
}  # fmt: skip
CONVENTIONS = (
    "Means over requests that have a positive (relevance > 0); the others are excluded and counted.",
    "Ties get the expected value over random orders of the tied candidates.",
    "recall@L and map@L divide by min(#positives, L); recall@L is not hit_rate@L (any hit).",
    "ndcg@L has linear gain, so for 0/1 relevance it is the binary ndcg.",
    "Intervals: 95 % percentile bootstrap, Student's t for fewer than 30 users; every ranker is "
    "treated alike, so differences are paired.",
)


@dataclass(frozen=True)
class Evaluation:
    """Metric values of several rankers on the same requests.

    Attributes:
        slots: L.
        protocol: of the requests: exposed, retrieved or injected.
        rows: [n] the requests scored, as rows of the encoded requests.
        excluded: number of requests left out because they have no positive.
        values: ranker → metric name (such as "ndcg@6") → [n]; NaN where undefined.
        seconds: ranker → seconds spent in it, all requests together.
        resampler: how intervals are drawn.
        unit: what is independent, "user" or "request".
    """

    slots: int
    protocol: str
    rows: NDArray[np.int64]
    excluded: int
    values: dict[str, dict[str, FloatArray]]
    seconds: dict[str, float]
    resampler: Resampler
    unit: str = "request"
    warning: str | None = None
    conventions: tuple[str, ...] = field(default=CONVENTIONS, repr=False)

    @property
    def n(self) -> int:
        """Requests that the means are taken over."""
        return len(self.rows)

    @property
    def rankers(self) -> list[str]:
        """Names, in the order given."""
        return list(self.values)

    @property
    def metrics(self) -> list[str]:
        """Metric names that at least one ranker has."""
        return list(dict.fromkeys(name for each in self.values.values() for name in each))

    @cached_property
    def summaries(self) -> dict[str, dict[str, Interval]]:
        """Mean and interval by ranker and metric."""
        keys = [(r, m) for r, each in self.values.items() for m in each]
        if not keys:
            return {}
        stacked = np.stack([self.values[r][m] for r, m in keys], 1)
        out: dict[str, dict[str, Interval]] = {r: {} for r in self.values}
        for (ranker, metric), interval in zip(keys, self.resampler.intervals(stacked)):
            out[ranker][metric] = interval
        return out

    def interval(self, ranker: str, metric: str) -> Interval:
        """One mean with its interval."""
        self._column(ranker, metric)
        return self.summaries[ranker][self.metric_name(metric)]

    def paired(self, a: str, b: str, metric: str, choices: int = 1) -> Difference:
        """Difference of ranker a and ranker b (a − b) over the same requests.

        Args:
            a: name of a ranker.
            b: name of another.
            metric: with or without "@L".
            choices: of how many rankers `a` was chosen by these very requests, for which the
                interval and p are corrected.

        Raises:
            ConfigError: no such ranker or metric.
        """
        return self.resampler.difference(self._column(a, metric), self._column(b, metric), choices)

    def best(self, metric: str, among: Iterable[str] | None = None) -> str:
        """The ranker of the highest mean; the first given wins a tie."""
        name = self.metric_name(metric)
        having = [r for r in (among or self.values) if name in self.values.get(r, {})]
        if not having:
            raise ConfigError(f"no ranker has the metric '{metric}'; there are {self.metrics}")
        return max(having, key=lambda r: np.nan_to_num(self.summaries[r][name].mean, nan=-np.inf))

    def metric_name(self, metric: str) -> str:
        """Full name of a metric: "ndcg" → "ndcg@6"; full names stay."""
        full = f"{metric}@{self.slots}"
        return full if full in self.metrics else metric

    def _column(self, ranker: str, metric: str) -> FloatArray:
        if ranker not in self.values:
            raise ConfigError(f"no ranker '{ranker}' in this evaluation; there are {self.rankers}")
        name = self.metric_name(metric)
        if name not in self.values[ranker]:
            raise ConfigError(
                f"ranker '{ranker}' has no metric '{metric}', only {list(self.values[ranker])} "
                f"(auc needs a score for every candidate)"
            )
        return self.values[ranker][name]

    def merged(self, other: Evaluation) -> Evaluation:
        """Both evaluations as one, so that their rankers can be compared in pairs.

        Raises:
            ConfigError: they are not of the same requests and slots, or share a ranker's name.
        """
        if self.slots != other.slots or not np.array_equal(self.rows, other.rows):
            raise ConfigError(
                f"evaluations of {self.n:,} and {counted(other.n, 'request')} (slots {self.slots}, {other.slots}) "
                f"differ in their requests; remedy: evaluate all rankers on the same requests and slots"
            )
        if both := sorted(set(self.values) & set(other.values)):
            raise ConfigError(f"rankers {both} are in both evaluations; remedy: rename one of them")
        return replace(
            self,
            values={**self.values, **other.values},
            seconds={**self.seconds, **other.seconds},
        )

    def milliseconds(self, ranker: str) -> float:
        """Mean time per request, in batches as evaluated."""
        return 1000 * self.seconds[ranker] / max(self.n, 1)

    def to_dict(self) -> dict[str, dict[str, dict[str, float]]]:
        """{ranker: {"ndcg@6": {"mean", "low", "high"}}}."""
        return {
            ranker: {metric: interval.to_dict() for metric, interval in each.items()}
            for ranker, each in self.summaries.items()
        }

    def to_frame(self) -> pl.DataFrame:
        """Every mean with its interval, as a table.

        Returns:
            One row per ranker and metric: ranker, metric, mean, low, high (95 % interval), requests
            (those the mean is taken over), slots, protocol, milliseconds (per request).
        """
        rows = [
            (ranker, metric, i.mean, i.low, i.high,
             int(np.isfinite(self.values[ranker][metric]).sum()), self.slots, self.protocol,
             self.milliseconds(ranker))
            for ranker, each in self.summaries.items() for metric, i in each.items()
        ]  # fmt: skip
        return pl.DataFrame(rows, schema=_SCHEMA, orient="row")

    def _repr_html_(self) -> str:
        """What a notebook shows: rankers, best first by the first metric."""
        return html_summary(self, "Evaluation")

    def metadata(self) -> dict[str, Any]:
        """What the numbers rest on, fit for JSON."""
        return {
            "requests": self.n,
            "excluded": self.excluded,
            "slots": self.slots,
            "protocol": self.protocol,
            "resamples": self.resampler.resamples,
            "resampled": self.unit,
            "intervals": self.intervals,
            "seed": self.resampler.seed,
            "seconds": self.seconds,
            "warning": self.warning,
            "conventions": list(self.conventions),
        }

    @property
    def intervals(self) -> str:
        """How intervals were made."""
        return self.resampler.words(self.unit)

    @property
    def basis(self) -> str:
        """A line on what the numbers rest on."""
        return (
            f"{counted(self.n, 'request')}; {self.excluded} without positives excluded. Protocol: "
            f"{self.protocol}. {self.intervals}."
        )

    def best_first(self, metric: str) -> list[str]:
        """Rankers by their mean of a metric; those without it come last."""
        name = self.metric_name(metric)
        means = {r: self.summaries[r][name].mean for r in self.values if name in self.values[r]}
        return sorted(self.values, key=lambda r: -np.nan_to_num(means.get(r, -np.inf), nan=-np.inf))


def html_summary(evaluation: Evaluation, title: str, notes: Iterable[str] = ()) -> str:
    """A table of an evaluation for a notebook; every text is escaped.

    Args:
        evaluation: what is shown.
        title: above it.
        notes: further lines below.
    """
    names = evaluation.metrics
    order = evaluation.best_first(names[0]) if names else []
    rows = [
        (ranker, *(_cell(evaluation.summaries[ranker].get(name)) for name in names))
        for ranker in order
    ]
    warning = [f"Warning: {evaluation.warning}"] if evaluation.warning else []
    below = [*warning, *notes, evaluation.basis]
    return html_table(title, rows, header=("ranker", *names), notes=below)


def _cell(interval: Interval | None) -> str:
    if interval is None or np.isnan(interval.mean):
        return "–"
    return f"{interval.mean:.4f} [{interval.low:.4f}, {interval.high:.4f}]"
