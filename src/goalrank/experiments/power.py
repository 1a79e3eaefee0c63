"""How long an experiment must run: power by the library tea-tasting."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from goalrank.errors import ConfigError, DataError, MissingExtraError
from goalrank.experiments.config import Experiment, Metric, Variant
from goalrank.experiments.units import metric_columns, sum_units
from goalrank.requests import Requests

_DAY = 86_400.0


@dataclass(frozen=True)
class Baseline:
    """A metric as it is now.

    Attributes:
        mean: of the metric, a unit (or the ratio).
        deviation: standard deviation of one unit's contribution; a ratio's by the delta method.
        traffic: units a day.
        units: that the numbers come from; 0 if they were given.
    """

    mean: float
    deviation: float
    traffic: float
    units: int = 0


@dataclass(frozen=True)
class PowerPlan:
    """Size and duration of an experiment.

    Attributes:
        lift: relative effect found with probability `power`.
        alpha: of each comparison with control, after Bonferroni's correction for several.
        per_variant: units in each arm.
        units: in all arms together.
        days: at `traffic` units a day.
    """

    baseline: Baseline
    lift: float
    alpha: float
    power: float
    variants: int
    per_variant: int
    units: int
    days: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def read_baseline(
    tables: Iterable[Requests],
    kind: str,
    *,
    per: Literal["unit", "request", "item"] = "request",
    unit: Literal["user_id", "request_id"] = "user_id",
) -> Baseline:
    """A metric's mean, deviation and traffic in a log.

    The log's range of time stands for the experiment's: a user of two weeks has done more than one
    of two days, so take a log about as long as the experiment will be.

    Args:
        kind: of feedback, summed over a list.
        per: as in `Metric`.
        unit: what will be assigned.

    Raises:
        DataError: fewer than two units, or no such feedback.
        MissingExtraError: the extra `ab` is not installed.
    """
    tt = _library()
    arms = (Variant(name="a"), Variant(name="b"))
    metric = Metric(name="metric", kind=kind, per=per)
    experiment = Experiment(name="plan", salt="", variants=arms, metrics=(metric,), unit=unit)
    times: list[Any] = []
    seen = sum_units(_watched(tables, times), experiment, [kind], labelled=False)
    if seen.height < 2:
        raise DataError(
            f"the log has {seen.height} units ({unit}), but a variance needs two; remedy: a longer "
            f"log"
        )
    top, bottom = metric_columns(kind, per)
    columns = [top] if bottom is None else [top, bottom]
    found = tt.aggr.read_aggregates(
        seen.to_arrow(), group_col=None, has_count=True, mean_cols=columns, var_cols=columns,
        cov_cols=[] if bottom is None else [(top, bottom)],
    ).with_zero_div()  # fmt: skip
    mean = float(found.mean(top) / found.mean(bottom))
    deviation = math.sqrt(float(found.ratio_var(top, bottom)))
    days = max((max(times) - min(times)).total_seconds() / _DAY, 1.0)
    return Baseline(mean, deviation, seen.height / days, seen.height)


def ab_plan(
    baseline: Baseline,
    *,
    lift: float | None = None,
    days: float | None = None,
    alpha: float = 0.05,
    power: float = 0.8,
    variants: int = 2,
) -> PowerPlan:
    """Units and days for a lift, or the lift that some days can find.

    Two-sided tests of equal arms against control, at alpha / (variants - 1) each.

    Args:
        baseline: given, or read from a log.
        lift: relative effect to find; exactly one of lift and days.
        days: how long it may run.
        variants: arms, control among them.

    Raises:
        ConfigError: a number out of range, or both or none of lift and days.
        MissingExtraError: the extra `ab` is not installed.
    """
    tt = _library()
    _check(baseline, lift, days, alpha, power, variants)
    each = alpha / (variants - 1)
    columns = {"mean_": {"x": baseline.mean}, "var_": {"x": baseline.deviation**2}}
    if lift is not None:
        metric = tt.Mean("x", alpha=each, power=power, rel_effect_size=lift)
        aggregates = tt.aggr.Aggregates(count_=2, **columns)
        pair = metric.solve_power_from_aggregates(aggregates, "n_obs")[0].n_obs
        one = math.ceil(pair / 2)
    else:
        assert days is not None  # `_check`
        one = int(days * baseline.traffic / variants)
        if one < 2:
            raise ConfigError(
                f"{days:g} days of {baseline.traffic:g} units give each of {variants} arms {one}; "
                f"remedy: more days; option: days"
            )
        metric = tt.Mean("x", alpha=each, power=power, n_obs=2 * one)
        aggregates = tt.aggr.Aggregates(count_=2 * one, **columns)
        found = metric.solve_power_from_aggregates(aggregates, "rel_effect_size")[0]
        lift = abs(float(found.rel_effect_size))
    units = one * variants
    return PowerPlan(baseline, lift, each, power, variants, one, units, units / baseline.traffic)


def _check(
    baseline: Baseline,
    lift: float | None,
    days: float | None,
    alpha: float,
    power: float,
    variants: int,
) -> None:
    if (lift is None) == (days is None):
        raise ConfigError("give exactly one of lift and days; options: lift, days")
    rules = {
        "mean": (baseline.mean, baseline.mean != 0, "not 0: a lift is relative to it"),
        "sd": (baseline.deviation, baseline.deviation > 0, "above 0"),
        "traffic": (baseline.traffic, baseline.traffic > 0, "above 0"),
        "lift": (lift, lift is None or (lift != 0 and lift > -1), "above -1 and not 0"),
        "days": (days, days is None or days > 0, "above 0"),
        "alpha": (alpha, 0 < alpha < 1, "between 0 and 1"),
        "power": (power, alpha < power < 1, "between alpha and 1"),
        "variants": (variants, variants >= 2, "at least 2"),
    }
    for name, (value, good, rule) in rules.items():
        if not good or (value is not None and not math.isfinite(value)):
            raise ConfigError(f"{name} is {value}, but must be {rule}; option: {name}")


def _watched(tables: Iterable[Requests], times: list[Any]) -> Iterable[Requests]:
    """The same tables; their first and last times are put into `times`."""
    for table in tables:
        if len(table):
            times += [table.frame["time"].min(), table.frame["time"].max()]
        yield table


def _library() -> Any:
    try:
        import tea_tasting as tt
        import tea_tasting.aggr
    except ImportError as error:
        raise MissingExtraError("goalrank ab plan", "ab") from error
    return tt
