"""What an experiment showed: lift, interval and p-value a metric, by the library tea-tasting."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from goalrank.errors import ConfigError, DataError, MissingExtraError
from goalrank.experiments.config import Experiment
from goalrank.experiments.sequential import always_valid
from goalrank.experiments.units import metric_columns, sum_units
from goalrank.requests import Requests

SRM_ALARM = 0.001


@dataclass(frozen=True)
class Effect:
    """One metric of one arm against control.

    Attributes:
        lift: relative difference; `low` and `high` its interval at `Report.confidence`.
        p_value: two-sided; `p_adjusted` after Holm's correction over all metrics and arms.
        cuped: the pre-period's values of the same units took variance away.
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
    """An experiment's numbers.

    Attributes:
        units: arm → units seen.
        srm_p: p-value of the arms' sizes against their weights.
        alarm: the sizes cannot be chance (p < 0.001): assignment or logging is broken, and no other
            number may be trusted.
        crossed: units seen in more than one arm; they are left out.
        sequential: the expected lift that always-valid intervals were made for; None means that
            intervals and p-values hold for one look, at a time set beforehand.
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
    """Compare an experiment's arms with control.

    Metrics are averages a unit, or ratios of averages with the delta method's variance, so that
    requests of one unit are not taken for independent. With a pre-period, CUPED is used.

    Args:
        tables: requests served while it ran.
        before: requests served before it, for CUPED.
        control: its name; None is the first variant.
        sequential: make intervals and p-values always valid, so that one may look at any time and
            stop at will; the number is the lift at which they are to be tight. See `always_valid`.

    Raises:
        DataError: fewer than two arms with at least two units, or a kind of feedback not there.
        ConfigError: an interleaving experiment, or an expected lift that is not above 0.
        MissingExtraError: the extra `ab` is not installed.
    """
    try:
        import tea_tasting as tt
    except ImportError as error:
        raise MissingExtraError("goalrank ab report", "ab") from error
    if experiment.interleave is not None:
        raise ConfigError(
            f"experiment '{experiment.name}' interleaves, so its units see both arms; remedy: "
            f"interleave_report"
        )
    kinds = sorted({metric.kind for metric in experiment.metrics})
    units, crossed = _arms(sum_units(tables, experiment, kinds, labelled=True))
    cuped = _join(units, sum_units(before, experiment, kinds, labelled=False), kinds)
    data = units if cuped is None else cuped
    control = control or experiment.variants[0].name
    counts = {v.name: int((data["variant"] == v.name).sum()) for v in experiment.variants}
    if counts.get(control, 0) < 2 or min(counts.values()) < 2:
        raise DataError(
            f"experiment '{experiment.name}' has units {counts}; remedy: every arm (control is "
            f"'{control}') needs at least two; wait, or check the range of time"
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
        arm: pair.analyze(
            data.filter(pl.col("variant").is_in([control, arm])).to_arrow(), control=control
        )
        for arm in counts
        if pair is not None and arm != control
    }
    if sequential is not None:
        results = {arm: _widened(tt, r, confidence, sequential) for arm, r in results.items()}
    srm = _sizes(counts, weights)
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
    )


def _arms(units: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Units of one arm only, and how many there were of more."""
    twice = units["unit"].is_duplicated()
    return units.filter(~twice), units.filter(twice)["unit"].n_unique()


def _join(units: pl.DataFrame, before: pl.DataFrame, kinds: list[str]) -> pl.DataFrame | None:
    """Units with what they did before the experiment (0 where not seen); None without any."""
    if before.height == 0:
        return None
    names = {name: f"{name}_before" for name in ("requests", "items", *kinds)}
    joined = units.join(before.rename(names), on="unit", how="left")
    joined = joined.with_columns(pl.col(list(names.values())).fill_null(0.0))
    # A covariate that never varies explains nothing and has no regression.
    varied = all(joined[name].n_unique() > 1 for name in names.values())
    return joined if varied else None


def _metric(tt: Any, kind: str, per: str, cuped: bool, confidence: float, use_t: bool) -> Any:
    top, bottom = metric_columns(kind, per)
    options = {"confidence_level": confidence, "use_t": use_t}
    if bottom is None:
        return tt.Mean(top, f"{top}_before" if cuped else None, **options)
    covariates = (f"{top}_before", f"{bottom}_before") if cuped else (None, None)
    return tt.RatioOfMeans(top, bottom, *covariates, **options)


def _widened(tt: Any, result: Any, confidence: float, expected: float) -> Any:
    """The same result with always-valid intervals and p-values of its lifts."""
    out = {}
    for metric, found in result.items():
        seen = always_valid(
            found.rel_effect_size, found.rel_effect_size_ci_lower, found.rel_effect_size_ci_upper,
            confidence=confidence, expected=expected,
        )  # fmt: skip
        out[metric] = found._replace(
            rel_effect_size_ci_lower=seen.low, rel_effect_size_ci_upper=seen.high,
            pvalue=seen.p_value,
        )  # fmt: skip
    return tt.experiment.ExperimentResult(out)


def _sizes(counts: dict[str, int], weights: dict[str, float]) -> float:
    """p-value of the arms' sizes: chi-square against their weights, all arms at once."""
    from scipy.stats import chisquare

    total, whole = sum(counts.values()), sum(weights.values())
    expected = [total * weights[name] / whole for name in counts]
    return float(chisquare(list(counts.values()), expected).pvalue)


def _effects(tt: Any, results: dict[str, Any], control: str, cuped: bool) -> tuple[Effect, ...]:
    if not results:
        return ()
    keyed = {(control, arm): result for arm, result in results.items()}
    adjusted = tt.adjust_fwer(keyed, arbitrary_dependence=True, method="bonferroni")
    after = {
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
                    p_adjusted=float(after[str(key), metric]), cuped=cuped,
                )
            )  # fmt: skip
    return tuple(out)
