"""Power plan: how long an experiment must run, by the library tea-tasting."""

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
class MetricBaseline:
    """Mean, deviation and traffic of a metric before the experiment.

    Attributes:
        mean: mean of the metric per unit (or the ratio).
        deviation: standard deviation of one unit's contribution; of a ratio by the delta method.
        traffic: units per day.
        units: units that the numbers were measured on; 0 if they were given.
    """

    mean: float
    deviation: float
    traffic: float
    units: int = 0


@dataclass(frozen=True)
class PowerPlan:
    """Size and duration of an experiment.

    Attributes:
        baseline: the metric before the experiment.
        lift: relative effect that is detected with probability `power`.
        alpha: level of each comparison with control, after Bonferroni's correction.
        power: probability of detecting the lift, in (alpha, 1).
        variants: number of variants with control.
        per_variant: units in each variant.
        units: units in all variants.
        days: duration at the baseline's traffic.
    """

    baseline: MetricBaseline
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
) -> MetricBaseline:
    """Measure a metric's mean, deviation and traffic on a log.

    Users have more feedback in two weeks than in two days, so use a log about as long as the
    planned experiment.

    Args:
        tables: the log.
        kind: feedback type, summed over a list.
        per: as in `Metric`.
        unit: the column that will be assigned.

    Raises:
        DataError: fewer than two units, or a missing feedback type.
        MissingExtraError: the extra `ab` is not installed.
    """
    tt = _load_tea_tasting()
    variants = (Variant(name="a"), Variant(name="b"))
    metric = Metric(name="metric", kind=kind, per=per)
    experiment = Experiment(name="plan", salt="", variants=variants, metrics=(metric,), unit=unit)
    times: list[Any] = []
    sums = sum_units(_record_times(tables, times), experiment, [kind], labelled=False)
    if sums.height < 2:
        raise DataError(
            f"the log has {sums.height} units ({unit}), but a variance needs two; remedy: a longer "
            f"log"
        )
    top, bottom = metric_columns(kind, per)
    columns = [top] if bottom is None else [top, bottom]
    found = tt.aggr.read_aggregates(
        sums.to_arrow(), group_col=None, has_count=True, mean_cols=columns, var_cols=columns,
        cov_cols=[] if bottom is None else [(top, bottom)],
    ).with_zero_div()  # fmt: skip
    mean = float(found.mean(top) / found.mean(bottom))
    deviation = math.sqrt(float(found.ratio_var(top, bottom)))
    days = max((max(times) - min(times)).total_seconds() / _DAY, 1.0)
    return MetricBaseline(mean, deviation, sums.height / days, sums.height)


def ab_plan(
    baseline: MetricBaseline,
    *,
    lift: float | None = None,
    days: float | None = None,
    alpha: float = 0.05,
    power: float = 0.8,
    variants: int = 2,
) -> PowerPlan:
    """Compute units and days for a lift, or the smallest lift that some days can detect.

    Two-sided tests of equally large variants against control, at alpha / (variants - 1) each.

    Args:
        baseline: the metric before the experiment, given or read from a log.
        lift: relative effect to detect; give exactly one of lift and days.
        days: duration of the experiment.
        alpha: level of all tests together, in (0, 1).
        power: probability of detecting the lift, in (alpha, 1).
        variants: number of variants with control, at least 2.

    Raises:
        ConfigError: a number is out of range, or both or none of lift and days are given.
        MissingExtraError: the extra `ab` is not installed.
    """
    tt = _load_tea_tasting()
    _check(baseline, lift, days, alpha, power, variants)
    test_alpha = alpha / (variants - 1)
    if lift is not None and days is None:
        per_variant = _units_for_lift(tt, baseline, lift, test_alpha, power)
    elif lift is None and days is not None:
        per_variant = int(days * baseline.traffic / variants)
        if per_variant < 2:
            raise ConfigError(
                f"{days:g} days of {baseline.traffic:g} units give each of {variants} variants "
                f"{per_variant}; remedy: more days; option: days"
            )
        lift = _lift_of_units(tt, baseline, per_variant, test_alpha, power)
    else:
        raise ConfigError("give exactly one of lift and days; options: lift, days")
    units = per_variant * variants
    return PowerPlan(
        baseline, lift, test_alpha, power, variants, per_variant, units, units / baseline.traffic
    )


def _aggregates(tt: Any, baseline: MetricBaseline, units: int) -> Any:
    return tt.aggr.Aggregates(
        count_=units, mean_={"x": baseline.mean}, var_={"x": baseline.deviation**2}
    )


def _units_for_lift(
    tt: Any, baseline: MetricBaseline, lift: float, alpha: float, power: float
) -> int:
    """Units per variant that detect a lift."""
    metric = tt.Mean("x", alpha=alpha, power=power, rel_effect_size=lift)
    found = metric.solve_power_from_aggregates(_aggregates(tt, baseline, 2), "n_obs")
    return math.ceil(float(found[0].n_obs) / 2)


def _lift_of_units(
    tt: Any, baseline: MetricBaseline, per_variant: int, alpha: float, power: float
) -> float:
    """Smallest lift that a number of units per variant detects."""
    units = 2 * per_variant
    metric = tt.Mean("x", alpha=alpha, power=power, n_obs=units)
    found = metric.solve_power_from_aggregates(_aggregates(tt, baseline, units), "rel_effect_size")
    return abs(float(found[0].rel_effect_size))


def _check(
    baseline: MetricBaseline,
    lift: float | None,
    days: float | None,
    alpha: float,
    power: float,
    variants: int,
) -> None:
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


def _record_times(tables: Iterable[Requests], times: list[Any]) -> Iterable[Requests]:
    """Pass tables on and append their first and last times to `times`."""
    for table in tables:
        if len(table):
            times += [table.frame["time"].min(), table.frame["time"].max()]
        yield table


def _load_tea_tasting() -> Any:
    try:
        import tea_tasting as tt
        import tea_tasting.aggr
    except ImportError as error:
        raise MissingExtraError("goalrank ab plan", "ab") from error
    return tt
