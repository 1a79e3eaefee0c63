"""Command `goalrank ab`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from goalrank.cli.common import JsonOption, examples, only_json, verb
from goalrank.wording import counted, p_value, signed_percent

if TYPE_CHECKING:
    from goalrank.experiments import InterleaveReport, MetricBaseline, PowerPlan, Report

app = typer.Typer(help="Online experiments: plan them, read them.", no_args_is_help=True)


@app.command(
    epilog=examples(
        "goalrank ab report fresh --experiments experiments.toml --start 2026-11-01 --before 14",
        "goalrank ab report fresh --experiments experiments.toml --sequential",
    )
)
@verb()
def report(
    name: Annotated[str, typer.Argument(help="The experiment's name.")],
    experiments: Annotated[Path, typer.Option(help="The TOML file that the server reads.")],
    store: Annotated[
        str, typer.Option(envvar="GOALRANK_STORE", help="The server's store.")
    ] = "sqlite:///goalrank.db",
    start: Annotated[datetime | None, typer.Option(help="From this time (UTC) on.")] = None,
    end: Annotated[datetime | None, typer.Option(help="Before this time (UTC).")] = None,
    before: Annotated[
        float, typer.Option(help="Days before --start that CUPED learns from; 0: none.", min=0)
    ] = 0.0,
    control: Annotated[str | None, typer.Option(help="Default: the first variant.")] = None,
    confidence: Annotated[float, typer.Option(help="Of intervals.", min=0.5, max=0.999)] = 0.95,
    sequential: Annotated[
        bool,
        typer.Option(
            "--sequential",
            help="Intervals and p-values that hold however often one looks: stop at will.",
        ),
    ] = False,
    expected_lift: Annotated[
        float,
        typer.Option(
            help="With --sequential: the lift at which intervals are tight. Keep it from look to "
            "look."
        ),
    ] = 0.05,
    as_json: JsonOption = False,
) -> None:
    """Lift, interval and p-value of each metric; or whose picks users prefer, if it interleaves."""
    with only_json(as_json) as emit:
        from goalrank.errors import ConfigError
        from goalrank.experiments import (
            Experiments,
            ab_report,
            interleave_report,
        )
        from goalrank.serving import (
            Store,
            stored_requests,
        )

        found = {each.name: each for each in Experiments.read(experiments).experiment}
        if name not in found:
            raise ConfigError(f"no experiment '{name}' in '{experiments}'; it has {list(found)}")
        if before and start is None:
            raise ConfigError("--before counts back from --start; remedy: give --start")
        drafted = found[name].interleave is not None
        if drafted and (sequential or before or control):
            raise ConfigError(
                f"experiment '{name}' interleaves: --sequential, --before and --control do not apply"
            )
        with Store(store) as opened:
            first, last = _utc(start), _utc(end)
            during = stored_requests(opened, first, last)
            if drafted:
                preference = interleave_report(found[name], during, confidence=confidence)
                emit(preference.to_dict())
                _print_preference(preference, as_json)
                return
            earlier = (
                stored_requests(opened, first - timedelta(days=before), first)
                if first is not None and before
                else ()
            )
            done = ab_report(
                found[name], during, earlier, control=control, confidence=confidence,
                sequential=expected_lift if sequential else None,
            )  # fmt: skip
        emit(done.to_dict())
        if not as_json:
            _print(done)


@app.command(
    "plan",
    epilog=examples(
        "goalrank ab plan --log data/november/train --kind click --lift 0.02",
        "goalrank ab plan --mean 1.8 --sd 2.4 --traffic 5000 --days 14 --variants 3",
    ),
)
@verb()
def plan_(
    log: Annotated[
        str | None,
        typer.Option(
            help="Requests to take the metric and its traffic from: file, folder or address."
        ),
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="With --log: feedback; default: the log's target.")
    ] = None,
    per: Annotated[
        str, typer.Option(help="With --log: the metric is per unit, request or item.")
    ] = "request",
    unit: Annotated[
        str, typer.Option(help="With --log: what is assigned, user_id or request_id.")
    ] = "user_id",
    mean: Annotated[float | None, typer.Option(help="The metric's mean, without --log.")] = None,
    sd: Annotated[
        float | None, typer.Option(help="Its standard deviation over units, without --log.")
    ] = None,
    traffic: Annotated[
        float | None, typer.Option(help="Units a day; default: those of the log.")
    ] = None,
    lift: Annotated[
        float | None, typer.Option(help="Relative effect to find, 0.02 for 2 %.")
    ] = None,
    days: Annotated[
        float | None, typer.Option(help="Instead of --lift: how long; gives the lift found then.")
    ] = None,
    alpha: Annotated[float, typer.Option(help="Chance of a false alarm, over all arms.")] = 0.05,
    power: Annotated[float, typer.Option(help="Chance to find the lift.")] = 0.8,
    variants: Annotated[int, typer.Option(help="Arms, control among them.")] = 2,
    as_json: JsonOption = False,
) -> None:
    """Units and days that a lift needs, or the lift that some days can find."""
    with only_json(as_json) as emit:
        from goalrank.experiments import ab_plan

        baseline = (
            _given(mean, sd, traffic)
            if log is None
            else _measured(log, kind, per, unit, traffic, mean, sd)
        )
        done = ab_plan(baseline, lift=lift, days=days, alpha=alpha, power=power, variants=variants)
        emit(done.to_dict())
        if not as_json:
            _print_plan(done)


def _given(mean: float | None, sd: float | None, traffic: float | None) -> MetricBaseline:
    from goalrank.errors import ConfigError
    from goalrank.experiments import MetricBaseline

    if mean is None or sd is None or traffic is None:
        raise ConfigError(
            "a plan needs the metric as it is now; remedy: --log, or --mean, --sd and --traffic"
        )
    return MetricBaseline(mean, sd, traffic)


def _measured(
    log: str,
    kind: str | None,
    per: str,
    unit: str,
    traffic: float | None,
    mean: float | None,
    sd: float | None,
) -> MetricBaseline:
    from dataclasses import replace
    from itertools import chain

    from goalrank.errors import ConfigError
    from goalrank.experiments import read_baseline
    from goalrank.requests import Requests

    per_ = _one_of(per, "--per", ("unit", "request", "item"))
    unit_ = _one_of(unit, "--unit", ("user_id", "request_id"))
    if mean is not None or sd is not None:
        raise ConfigError("--mean and --sd come from --log; remedy: leave out one or the other")
    shards = Requests.iter_shards(log)
    first = next(shards)
    kind = kind or first.info.target
    if kind is None:
        raise ConfigError(
            f"the log names no target; remedy: --kind out of {list(first.info.feedback_kinds)}"
        )
    found = read_baseline(chain([first], shards), kind, per=per_, unit=unit_)
    return found if traffic is None else replace(found, traffic=traffic)


def _one_of(value: str, option: str, choices: tuple[str, ...]) -> Any:
    from goalrank.errors import ConfigError

    if value not in choices:
        raise ConfigError(
            f"{option} is '{value}', but must be one of {list(choices)}; option: {option}"
        )
    return value


def _print(done: Report) -> None:
    units = ", ".join(f"{arm} {count:,}" for arm, count in done.units.items())
    typer.echo(f"{done.experiment}: units {units}; left out, in two arms: {done.crossed:,}")
    if done.alarm:
        typer.echo(
            f"ALARM: these sizes do not fit the weights (p = {done.srm_p:.1e}); assignment or "
            f"logging is broken, do not trust the numbers below"
        )
    for e in done.effects:
        typer.echo(
            f"{e.metric:<20} {e.variant:<12} {e.control_value:.4g} -> {e.value:.4g}  lift "
            f"{signed_percent(e.lift)} [{signed_percent(e.low)}, {signed_percent(e.high)}]  p {p_value(e.p_value)}, adjusted "
            f"{p_value(e.p_adjusted)}{'  CUPED' if e.cuped else ''}"
        )
    for note in done.notes:
        typer.echo(note)
    if done.sequential is None:
        typer.echo("For one look at a time set beforehand; to look at will: --sequential")
    else:
        typer.echo(
            f"Valid at every look (tight at a lift of {done.sequential:g}); stop whenever you like"
        )


def _print_preference(done: InterleaveReport, as_json: bool) -> None:
    if as_json:
        return
    first, second = done.pair
    typer.echo(
        f"{done.experiment}: {counted(done.requests, 'list')} drafted by {first} and {second} for "
        f"{counted(done.units, 'unit')}; {second} picked {done.slots:.1%} of the slots; left out, teams do "
        f"not fit: {done.broken:,}"
    )
    for e in done.preferences:
        typer.echo(
            f"{e.kind:<20} {first} {e.first:g}, {second} {e.second:g}; units prefer {second} "
            f"{e.wins_second:,}, {first} {e.wins_first:,}, neither {e.ties:,}: {e.share:.1%} "
            f"[{e.low:.1%}, {e.high:.1%}]  p {p_value(e.p_value)}"
        )


def _print_plan(done: PowerPlan) -> None:
    base = done.baseline
    source = f"from {base.units:,} units of the log" if base.units else "as given"
    typer.echo(
        f"metric {base.mean:.4g}, standard deviation of a unit {base.deviation:.4g}, "
        f"{base.traffic:,.4g} units a day ({source})"
    )
    typer.echo(
        f"a lift of {signed_percent(done.lift)} is found with probability {done.power:.0%} at alpha "
        f"{done.alpha:.3g} a comparison by {done.per_variant:,} units in each of {done.variants} "
        f"arms: {done.units:,} units, {done.days:,.1f} days"
    )


def _utc(time: datetime | None) -> datetime | None:
    return time if time is None or time.tzinfo else time.replace(tzinfo=UTC)
