"""A/B report: lift, interval and p-value per metric, by the library tea-tasting."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from goalrank.errors import ConfigError, MissingExtraError, TooFewUnitsError
from goalrank.experiments.config import Experiment
from goalrank.experiments.notes import LIFT, Span, unit_notes
from goalrank.experiments.sequential import always_valid, sample_ratio_p_value
from goalrank.experiments.units import metric_columns, sum_units
from goalrank.requests import Requests
from goalrank.wording import named_values

SRM_ALARM = 0.001


@dataclass(frozen=True)
class Effect:
    """One metric of one variant compared with control.

    Attributes:
        metric: name of the metric.
        variant: name of the variant.
        control_value, value: the metric's value in control and in the variant.
        lift: relative difference.
        low, high: interval of the lift at `Report.confidence`.
        p_value: two-sided p-value.
        p_adjusted: p-value after Holm's correction over all metrics and variants.
        cuped: whether CUPED reduced the variance by values from before the experiment.
    """

    metric: str
    variant: str
    control_value: float
    value: float
    lift: float
    low: float
    high: float
    p_value: float
    p_adjusted: float
    cuped: bool


@dataclass(frozen=True)
class Report:
    """Statistics of an A/B experiment.

    Attributes:
        experiment: name of the experiment.
        control: name of the control variant.
        confidence: level of the intervals, in (0, 1).
        units: variant → number of units.
        srm_p: p-value of the sample ratio, the variants' sizes against their weights; valid at any
            number of looks.
        alarm: True if the sizes are not due to chance (p < 0.001): assignment or logging is broken,
            and the other numbers must not be trusted.
        crossed: units seen in more than one variant; they are left out.
        effects: one effect per metric and variant other than control.
        sequential: the expected lift of the always-valid intervals; None if intervals and p-values
            hold for one look only, at a time chosen in advance.
        notes: sentences on what these units are too few to tell, and on variants that serve the same.
    """

    experiment: str
    control: str
    confidence: float
    units: dict[str, int]
    srm_p: float
    alarm: bool
    crossed: int
    effects: tuple[Effect, ...]
    sequential: float | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def ab_report(
    experiment: Experiment,
    tables: Iterable[Requests],
    before: Iterable[Requests] = (),
    *,
    control: str | None = None,
    confidence: float = 0.95,
    sequential: float | None = None,
) -> Report:
    """Compare an experiment's variants with control.

    Metrics are averages per unit, or ratios of averages with the variance of the delta method, so
    that requests of one unit do not count as independent. Requests from before the experiment
    reduce the variance by CUPED.

    Args:
        experiment: the experiment.
        tables: requests served during the experiment.
        before: requests served before it, for CUPED.
        control: name of the control variant; None is the first variant.
        confidence: level of the intervals, in (0, 1).
        sequential: expected lift of always-valid intervals and p-values, which permit a look and a
            stop at any time; None makes ordinary ones. See `always_valid`.

    Raises:
        TooFewUnitsError: a variant has fewer than two units.
        DataError: a missing feedback type.
        ConfigError: an interleaving experiment, or an expected lift that is not above 0.
        MissingExtraError: the extra `ab` is not installed.
    """
    try:
        import tea_tasting as tt
    except ImportError as error:
        raise MissingExtraError("goalrank ab report", "ab") from error
    if experiment.interleave is not None:
        raise ConfigError(
            f"experiment '{experiment.name}' interleaves, so its units see both variants; remedy: "
            f"interleave_report"
        )
    kinds = sorted({metric.kind for metric in experiment.metrics})
    units, crossed = _units_of_one_variant(sum_units(tables, experiment, kinds, labelled=True))
    cuped = _join_covariates(units, sum_units(before, experiment, kinds, labelled=False), kinds)
    data = units if cuped is None else cuped
    control = control or experiment.variants[0].name
    counts = {v.name: int((data["variant"] == v.name).sum()) for v in experiment.variants}
    if counts.get(control, 0) < 2 or min(counts.values()) < 2:
        raise TooFewUnitsError(
            f"experiment '{experiment.name}' has too few units ({named_values(counts)}): "
            f"each variant needs two or more (control is '{control}'); remedy: wait, or check the "
            f"time range"
        )
    metrics = {
        metric.name: _metric(
            tt, metric.kind, metric.per, cuped is not None, confidence, sequential is None
        )
        for metric in experiment.metrics
    }
    weights = {variant.name: variant.weight for variant in experiment.variants}
    pair = tt.Experiment(metrics) if metrics else None
    results = {
        name: pair.analyze(
            data.filter(pl.col("variant").is_in([control, name])).to_arrow(), control=control
        )
        for name in counts
        if pair is not None and name != control
    }
    looks = results
    if sequential is not None:
        results = {
            name: _always_valid_result(tt, result, confidence, sequential)
            for name, result in results.items()
        }
    srm = sample_ratio_p_value(list(counts.values()), [weights[name] for name in counts])
    effects = _effects(tt, results, control, cuped is not None)
    return Report(
        experiment.name,
        control,
        confidence,
        counts,
        srm,
        srm < SRM_ALARM,
        crossed,
        effects,
        sequential,
        unit_notes(
            experiment, control, counts, _spans(looks, effects),
            confidence=confidence, lift=sequential or LIFT,
        ),
    )  # fmt: skip


def _spans(looks: dict[str, Any], effects: tuple[Effect, ...]) -> list[Span]:
    """Intervals of the effects for one look, and whether those reported contain 0."""
    return [
        Span(
            metric=effect.metric, variant=effect.variant,
            low=float(looks[effect.variant][effect.metric].rel_effect_size_ci_lower),
            high=float(looks[effect.variant][effect.metric].rel_effect_size_ci_upper),
            open=effect.low <= 0 <= effect.high,
        )
        for effect in effects
    ]  # fmt: skip


def _units_of_one_variant(units: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Units of exactly one variant, and the number of units of several."""
    crossed = units["unit"].is_duplicated()
    return units.filter(~crossed), units.filter(crossed)["unit"].n_unique()


def _join_covariates(
    units: pl.DataFrame, before: pl.DataFrame, kinds: list[str]
) -> pl.DataFrame | None:
    """Units with their sums from before the experiment (0 where absent); None without any."""
    if before.height == 0:
        return None
    names = {name: f"{name}_before" for name in ("requests", "items", *kinds)}
    joined = units.join(before.rename(names), on="unit", how="left")
    joined = joined.with_columns(pl.col(list(names.values())).fill_null(0.0))
    # A constant covariate explains no variance and has no regression.
    varied = all(joined[name].n_unique() > 1 for name in names.values())
    return joined if varied else None


def _metric(tt: Any, kind: str, per: str, cuped: bool, confidence: float, use_t: bool) -> Any:
    top, bottom = metric_columns(kind, per)
    options = {"confidence_level": confidence, "use_t": use_t}
    if bottom is None:
        return tt.Mean(top, f"{top}_before" if cuped else None, **options)
    covariates = (f"{top}_before", f"{bottom}_before") if cuped else (None, None)
    return tt.RatioOfMeans(top, bottom, *covariates, **options)


def _always_valid_result(tt: Any, result: Any, confidence: float, expected: float) -> Any:
    """Replace the intervals and p-values of a result by always-valid ones."""
    out = {}
    for metric, found in result.items():
        interval = always_valid(
            found.rel_effect_size, found.rel_effect_size_ci_lower, found.rel_effect_size_ci_upper,
            confidence=confidence, expected=expected,
        )  # fmt: skip
        out[metric] = found._replace(
            rel_effect_size_ci_lower=interval.low,
            rel_effect_size_ci_upper=interval.high, pvalue=interval.p_value,
        )  # fmt: skip
    return tt.experiment.ExperimentResult(out)


def _effects(tt: Any, results: dict[str, Any], control: str, cuped: bool) -> tuple[Effect, ...]:
    if not results:
        return ()
    keyed = {(control, name): result for name, result in results.items()}
    adjusted = tt.adjust_fwer(keyed, arbitrary_dependence=True, method="bonferroni")
    p_adjusted = {
        (str(row["comparison"]), row["metric"]): row["pvalue_adj"] for row in adjusted.to_dicts()
    }
    out = []
    for key, result in keyed.items():
        for metric, found in result.items():
            out.append(
                Effect(
                    metric=metric, variant=key[1], control_value=float(found.control),
                    value=float(found.treatment), lift=float(found.rel_effect_size),
                    low=float(found.rel_effect_size_ci_lower),
                    high=float(found.rel_effect_size_ci_upper), p_value=float(found.pvalue),
                    p_adjusted=float(p_adjusted[str(key), metric]), cuped=cuped,
                )
            )  # fmt: skip
    return tuple(out)
