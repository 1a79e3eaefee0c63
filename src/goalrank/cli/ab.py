"""goalrank ab"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from goalrank.cli.common import JsonOption, examples, only_json, verb

if TYPE_CHECKING:
    from goalrank.serving import Report

app = typer.Typer(help="Online experiments.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps `report` a verb of its own."""


@app.command(
    epilog=examples(
        "goalrank ab report fresh --experiments experiments.toml --start 2026-11-01 --before 14"
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
    as_json: JsonOption = False,
) -> None:
    """Lift, interval and p-value of each metric, and an alarm if the arms' sizes are off."""
    with only_json(as_json) as emit:
        from goalrank.errors import ConfigError
        from goalrank.serving import Experiments, Store, ab_report, stored_requests

        found = {each.name: each for each in Experiments.read(experiments).experiment}
        if name not in found:
            raise ConfigError(f"no experiment '{name}' in '{experiments}'; it has {list(found)}")
        if before and start is None:
            raise ConfigError("--before counts back from --start; remedy: give --start")
        with Store(store) as opened:
            first, last = _utc(start), _utc(end)
            earlier = (
                stored_requests(opened, first - timedelta(days=before), first)
                if first is not None and before
                else ()
            )
            during = stored_requests(opened, first, last)
            done = ab_report(found[name], during, earlier, control=control, confidence=confidence)
        emit(done.to_dict())
        if not as_json:
            _print(done)


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
            f"{e.lift:+.2%} [{e.low:+.2%}, {e.high:+.2%}]  p {e.p_value:.3g}, adjusted "
            f"{e.p_adjusted:.3g}{'  CUPED' if e.cuped else ''}"
        )


def _utc(time: datetime | None) -> datetime | None:
    return time if time is None or time.tzinfo else time.replace(tzinfo=UTC)
