"""Commands `goalrank events`: replay."""

from __future__ import annotations

from typing import Annotated

import typer

from goalrank.cli.commands.store import DEFAULT_STORE, StoreOption
from goalrank.cli.common import (
    AllowOption,
    JsonOption,
    busy,
    examples,
    only_json,
    progress_bar,
    verb,
)
from goalrank.cli.log_options import (
    ColumnsOption,
    KindsOption,
    SetOption,
    TargetOption,
    TimezoneOption,
    log_options,
)

app = typer.Typer(help="Events that servers make their state of.", no_args_is_help=True)


@app.callback()
def _events() -> None:
    """Keep `replay` a command of its own name."""


@app.command(
    epilog=examples(
        "goalrank events replay kuairand --bundle runs/first",
        "goalrank events replay interactions buys.parquet --bundle runs/first",
    )
)
@verb("Interrupted; what was stored stays. The same command goes on where it stopped.")
def replay(
    source: Annotated[
        str, typer.Argument(help="As for goalrank data import: kuairand, movielens, exposures, …")
    ],
    bundle: Annotated[
        str, typer.Option(help="The server's bundle: it says what events must be like.")
    ],
    log: Annotated[
        str | None, typer.Argument(help="File or folder of the log; left out: the shipped data.")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    columns: ColumnsOption = None,
    kinds: KindsOption = None,
    target: TargetOption = None,
    timezone: TimezoneOption = None,
    set_: SetOption = None,
    allow_plugin: AllowOption = None,
    as_json: JsonOption = False,
) -> None:
    """Store the rows of a raw log as events; servers on that store follow within a second.

    Read the log with the options of the import that the model was trained on. An event is stored
    once, so running it again adds only new rows.
    """
    with only_json(as_json) as emit:
        from goalrank.bundles import Bundle
        from goalrank.logs import read_log
        from goalrank.serving import replay_log

        options = log_options(
            columns=columns, kinds=kinds, target=target, timezone=timezone, set_=set_,
            candidate_features=None, feedback_columns=None,
        )  # fmt: skip
        loaded = Bundle.load(bundle, allow=allow_plugin or ())
        with busy(f"reading {log or source}"):
            raw = read_log(source, log, options)
        with progress_bar("replaying") as bar:
            done = replay_log(raw, loaded, store, progress=bar)
        emit({"stored": done.stored, "duplicates": done.duplicates, "position": done.last})
        if not as_json:
            typer.echo(
                f"{store}: {done.stored:,} events stored, {done.duplicates:,} were there already"
            )
