"""Command `goalrank ope`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from goalrank.cli.common import (
    AllowOption,
    JsonOption,
    examples,
    only_json,
    pairs,
    progress_bar,
    verb,
)
from goalrank.cli.fields import options_of
from goalrank.evaluation import OffPolicyOptions
from goalrank.storage import json_text, write_text
from goalrank.wording import counted, signed

if TYPE_CHECKING:
    from goalrank.evaluation import Estimate, OffPolicy
    from goalrank.requests import Requests
    from goalrank.rewards import Reward


@verb()
@options_of(OffPolicyOptions, names={"estimators": "estimator"})
def ope(
    given: dict[str, Any],
    bundle: Annotated[str, typer.Option(help="The new bundle's folder, or its address.")],
    log: Annotated[
        str,
        typer.Option(
            help="Requests with propensities: a Parquet file or a folder of shards, or its address."
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(help="Bundle whose reward model dr uses; default: the new bundle's own."),
    ] = None,
    logging: Annotated[
        str | None,
        typer.Option(help="Bundle that served the log, for position-wise estimators."),
    ] = None,
    logging_temperature: Annotated[
        float, typer.Option(help="With --logging: the temperature it was served at.")
    ] = 1.0,
    rules: Annotated[
        Path | None, typer.Option(help="TOML file of rules that the new policy's lists obey.")
    ] = None,
    logging_rules: Annotated[
        Path | None, typer.Option(help="With --logging: rules that the logged lists obeyed.")
    ] = None,
    items: Annotated[
        Path | None,
        typer.Option(help="Table of items, for rules; default: items.parquet beside the log."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the numbers here as JSON.")] = None,
    allow_plugin: AllowOption = None,
    as_json: JsonOption = False,
) -> None:
    """Estimate what a new bundle would have earned, from lists logged with propensities."""
    with only_json(as_json) as emit:
        from goalrank.bundles import Bundle
        from goalrank.constraints import read_constraints
        from goalrank.evaluation import evaluate_off_policy
        from goalrank.requests import Requests
        from goalrank.settings import checked

        given["reward"] = _weights(given.get("reward", []))
        options = checked(OffPolicyOptions, given, "the estimate", "see goalrank ope --help")
        allow = allow_plugin or ()
        loaded = Bundle.load(bundle, allow=allow)
        table = Requests.read(log, items=items)
        with progress_bar("weighing") as bar:
            found = evaluate_off_policy(
                loaded, table, options=options,
                model=None if model is None else _reward(model, allow, table, options),
                logging=None
                if logging is None
                else (Bundle.load(logging, allow=allow), logging_temperature),
                rules=None if rules is None else read_constraints(rules),
                logging_rules=None if logging_rules is None else read_constraints(logging_rules),
                progress=bar,
            )  # fmt: skip
        if out is not None:
            write_text(out, json_text(found.to_dict()) + "\n")
        emit(found.to_dict())
        if not as_json:
            _print(found)


def _weights(given: list[str]) -> dict[str, float] | None:
    from goalrank.errors import ConfigError

    try:
        return {kind: float(text) for kind, text in pairs(given, "--reward").items()} or None
    except ValueError as error:
        raise ConfigError(f"--reward {given}: {error}; remedy: --reward click=1.0") from error


def _reward(folder: str, allow: Sequence[str], log: Requests, options: OffPolicyOptions) -> Reward:
    from goalrank.bundles import Bundle
    from goalrank.errors import ConfigError
    from goalrank.evaluation import refuse_training_log

    bundle = Bundle.load(folder, allow=allow)
    if not options.allow_training_log:
        refuse_training_log(bundle.train, log, "the reward model")
    found = bundle.reward
    if found is None:
        raise ConfigError(f"bundle '{folder}' holds no reward model; option: --model")
    return found


def _print(found: OffPolicy) -> None:
    support, settings = found.support, found.settings
    reward = " + ".join(f"{weight:g} {kind}" for kind, weight in settings["reward"].items())
    typer.echo(f"new policy: {settings['policy']}; reward: {reward}")
    typer.echo(
        f"{counted(support['requests'], 'request')} ({settings['left_out']:,} left out), worth "
        f"{support['effective']:,.0f} of the new policy's own, with "
        f"{support['effective_clicks']:,.0f} answers of equal weight; mean weight "
        f"{support['mean_weight']:.3f} ± {support['mean_weight_error']:.3f}, largest "
        f"{support['largest_weight']:.1f}; {support['clipped']:.1%} above the cap of "
        f"{settings['cap']:g}"
    )
    own = found.logged
    typer.echo(f"{'logged':<15} {own.mean:.4f} [{own.low:.4f}, {own.high:.4f}]")
    for name, each in found.estimates.items():
        typer.echo(_line(name, each))
    if found.lower is not None:
        typer.echo(
            f"{'at least':<15} {found.lower.value:.4f}, gain {signed(found.lower.gain, 4)} (95 % lower "
            f"bounds for any sample size, weights cut at the cap)"
        )
    for warning in found.warnings:
        typer.echo(f"WARNING: {warning}")


def _line(name: str, each: Estimate) -> str:
    value, gain = each.value, each.gain
    if math.isnan(value.low):
        return f"{name:<15} {value.mean:.4f}  gain {signed(gain.mean, 4)} (biased, so without interval)"
    return (
        f"{name:<15} {value.mean:.4f} [{value.low:.4f}, {value.high:.4f}]  gain "
        f"{signed(gain.mean, 4)} [{signed(gain.low, 4)}, {signed(gain.high, 4)}]"
    )


def add(app: typer.Typer) -> None:
    """Register the verb."""
    app.command(
        "ope",
        epilog=examples(
            "goalrank ope --bundle runs/new --log data/november/train --temperature 1.0",
            "goalrank ope --bundle runs/new --log log.parquet --temperature 0.5 --estimator dr "
            "--reward click=1 --reward long=0.5 --out ope.json",
        ),
    )(ope)
