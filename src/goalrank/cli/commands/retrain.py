"""Command `goalrank retrain`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from goalrank.cli.commands.models import FOUND_BAD, ModelsOption
from goalrank.cli.common import JsonOption, examples, only_json, say, show_progress, to_stderr, verb


@verb("Interrupted; no version was registered. Run the same command again.")
def retrain(
    data: Annotated[
        Path,
        typer.Option(help="Folder of goalrank data import; new exposures go to its folder served."),
    ],
    models: ModelsOption,
    store: Annotated[
        str,
        typer.Option(
            envvar="GOALRANK_STORE", help="The server's store; none trains on what is in --data."
        ),
    ] = "sqlite:///goalrank.db",
    config: Annotated[
        str | None,
        typer.Option(
            help="Recipe: a TOML file, or the name of a shipped one; default: the champion's."
        ),
    ] = None,
    settings: Annotated[
        Path | None, typer.Option(help="TOML file of the window, the gate and the rest.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Override a setting: gate.margin=0.02, recipe.training.steps=500. Repeatable.",
        ),
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(help="Export exposures before this time (UTC) only.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for another retraining instead of refusing.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Train and judge, and keep nothing.")
    ] = False,
    accelerator: Annotated[str, typer.Option(help="auto, cpu, gpu, …")] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Export what is new, train, judge against the champion, register, promote if the gate passes.

    Run it as often as you like: the same data make one version. Exit code 20: the gate refused.
    """
    with only_json(as_json) as emit:
        from goalrank.api import load_retrain_settings
        from goalrank.api import retrain as run

        with to_stderr():  # bars of the training library
            done = run(
                data, models, None if store == "none" else store,
                settings=load_retrain_settings(settings, set_ or ()), config=config,
                until=None if until is None else _utc(until), wait=wait, dry_run=dry_run, say=say,
                begin=_announce, progress=show_progress(), accelerator=accelerator,
            )  # fmt: skip
        emit(done.to_dict())
        if not as_json:
            for figure in done.figures:
                typer.echo(str(figure))
            number = "" if done.version is None else f": version {done.version.number}"
            typer.echo(f"{done.outcome}{number}")
    if done.turned_down:
        raise typer.Exit(FOUND_BAD)


def _announce(stage: str) -> None:
    """Say which stage begins, and when: without a terminal nothing moves for minutes."""
    say(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {stage} …", "dim")


def _utc(time: datetime) -> datetime:
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def add(app: typer.Typer) -> None:
    """Register the verb."""
    app.command(
        "retrain",
        epilog=examples(
            "goalrank retrain --data data/mine --models models --store none",
            "goalrank retrain --data data/mine --models models --store sqlite:///goalrank.db",
            "goalrank retrain --data data/mine --models models --dry-run --set gate.require=better",
        ),
    )(retrain)
