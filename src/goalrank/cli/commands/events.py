"""Commands `goalrank events`: replay, compare."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from goalrank.cli.commands.models import FOUND_BAD
from goalrank.cli.commands.store import DEFAULT_STORE, StoreOption
from goalrank.cli.common import (
    AllowOption,
    JsonOption,
    busy,
    console,
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
from goalrank.wording import counted

if TYPE_CHECKING:
    from goalrank.serving import Comparison

app = typer.Typer(help="Events that servers make their state of.", no_args_is_help=True)
_SOURCE_HELP = "As for goalrank data import: kuairand, movielens, exposures, …"


@app.command(
    epilog=examples(
        "goalrank events replay kuairand --bundle runs/first",
        "goalrank events replay interactions buys.parquet --bundle runs/first",
    )
)
@verb("Interrupted; what was stored stays. The same command goes on where it stopped.")
def replay(
    source: Annotated[str, typer.Argument(help=_SOURCE_HELP)],
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
                f"{store}: {counted(done.stored, 'event')} stored, {done.duplicates:,} there already"
            )


@app.command(
    epilog=examples(
        "goalrank events compare kuairand --data data/kuairand",
        "goalrank events compare interactions buys.parquet --data data/buys --requests 1000",
    )
)
@verb("Interrupted; nothing was changed.")
def compare(
    source: Annotated[str, typer.Argument(help=_SOURCE_HELP)],
    data: Annotated[Path, typer.Option(help="Folder that goalrank data import wrote.")],
    log: Annotated[
        str | None, typer.Argument(help="The log that it read; left out: the shipped data.")
    ] = None,
    requests: Annotated[
        int | None,
        typer.Option(help="Compare so many requests, drawn at random; default: all.", min=1),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Tell whether a server computes what training saw: exit code 20 where it does not.

    Send the rows of an imported log to a server's state as events, in a store of its own, and
    compare histories, features, scores and candidates of every request with those of the import.
    """
    with only_json(as_json) as emit:
        from goalrank.cli.tables import read_every
        from goalrank.logs import RETRIEVAL, LearntRetrieval, import_options, read_log
        from goalrank.serving import compare_log

        options = import_options(data)
        with busy(f"reading {log or source}"):
            tables, raw = read_every(data), read_log(source, log, options)
        with progress_bar("comparing") as bar:
            found = compare_log(
                raw, tables, LearntRetrieval.load(data / RETRIEVAL), most=requests, seed=seed,
                progress=bar,
            )  # fmt: skip
        emit({**asdict(found), "compared": found.compared, "different": found.different})
        if not as_json:
            _print_comparison(found)
    if found.different:
        raise typer.Exit(FOUND_BAD)


def _print_comparison(found: Comparison) -> None:
    from rich.table import Table

    out = console(stderr=False)
    table = Table("column")
    for name in ("cells", "different", "largest difference"):
        table.add_column(name, justify="right")
    for column in found.columns:
        counts = f"{column.compared:,}", f"{column.different:,}", f"{column.largest:.2g}"
        table.add_row(column.name, *counts, style="bold red" if column.different else None)
    out.print(table)
    for cell in found.first:
        out.print(
            f"request {cell.request_id}, {cell.column}, {cell.item}: imported {cell.imported}, "
            f"served {cell.served}"
        )
    out.print(
        f"{counted(found.events, 'event')} and {counted(found.requests, 'request')}, {found.linked:,} of them after "
        f"the latest refit: {counted(found.compared, 'cell')}, of which {found.different:,} differ by more than 10⁻⁶"
    )
