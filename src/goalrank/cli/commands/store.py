"""Command `goalrank store`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from goalrank.cli.common import JsonOption, examples, only_json, say, verb
from goalrank.wording import counted

app = typer.Typer(
    help="What the server kept: export, retention, copies and checks.", no_args_is_help=True
)

StoreOption = Annotated[
    str, typer.Option("--store", envvar="GOALRANK_STORE", help="The server's store.")
]
DEFAULT_STORE = "sqlite:///goalrank.db"
_RESTORE = (
    "remedy: stop the server, put a copy of goalrank store backup in the store's place, and remove "
    "the files beside it that end in -wal and -shm"
)


@app.command(
    epilog=examples(
        "goalrank store export --out data/november --start 2026-11-01 --end 2026-12-01",
        "goalrank train data/november --out runs/next",
    )
)
@verb()
def export(
    out: Annotated[Path, typer.Option(help="A new folder, for goalrank train.")],
    store: StoreOption = DEFAULT_STORE,
    start: Annotated[datetime | None, typer.Option(help="From this time (UTC) on.")] = None,
    end: Annotated[datetime | None, typer.Option(help="Before this time (UTC).")] = None,
    validation: Annotated[
        float, typer.Option(help="Latest share that becomes validation.", min=0, max=0.9)
    ] = 0.1,
    items: Annotated[Path | None, typer.Option(help="items.parquet to put beside.")] = None,
    users: Annotated[Path | None, typer.Option(help="users.parquet to put beside.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write exposures and feedback as the requests table that training reads."""
    with only_json(as_json) as emit:
        import polars as pl

        from goalrank.serving import Store, export_store

        sides = [
            None if path is None else pl.read_parquet(path, glob=False) for path in (items, users)
        ]
        with Store(store) as opened:
            done = export_store(
                opened, out, _utc(start), _utc(end), validation=validation,
                items=sides[0], users=sides[1],
            )  # fmt: skip
        emit({"out": str(out), "requests": done.requests, "left_out": done.left_out})
        for kind, count in done.left_out.items():
            say(
                f"left out: {counted(count, 'answer')} of kind '{kind}' outside its range; "
                f"nothing can be trained on them"
            )
        if not as_json:
            counts = ", ".join(f"{n:,} {part}" for part, n in done.requests.items())
            typer.echo(f"{out}: {counts}")


@app.command(
    epilog=examples("goalrank store purge --days 90", "goalrank store purge --before 2026-01-01")
)
@verb()
def purge(
    days: Annotated[
        float | None, typer.Option(help="Forget what is older than so many days.", min=0)
    ] = None,
    before: Annotated[
        datetime | None, typer.Option(help="Forget what is older than this time (UTC).")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Retention: forget old exposures and their feedback."""
    with only_json(as_json) as emit:
        from goalrank.errors import ConfigError
        from goalrank.serving import Store

        if (days is None) == (before is None):
            raise ConfigError("purge needs --days or --before, and one of them only")
        limit = _utc(before) or datetime.now(UTC) - timedelta(days=days or 0.0)
        with Store(store) as opened:
            gone = opened.purge(limit)
        emit({"purged": gone})
        if not as_json:
            typer.echo(f"{counted(gone, 'exposure')} forgotten")


@app.command(epilog=examples("goalrank store backup --out copies/monday.db"))
@verb("Interrupted; no copy was written.")
def backup(
    out: Annotated[Path, typer.Option(help="A new file for the copy.")],
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Copy a SQLite store as it is at one moment; a server may go on writing to it."""
    with only_json(as_json) as emit:
        from goalrank.serving import backup_store

        size = backup_store(store, out)
        emit({"out": str(out), "bytes": size})
        if not as_json:
            typer.echo(
                f"{out}: {size:,} bytes, checked\nto use it: goalrank serve --store sqlite:///{out}"
            )


@app.command(epilog=examples("goalrank store check", "goalrank store check --days 90 --json"))
@verb()
def check(
    store: StoreOption = DEFAULT_STORE,
    days: Annotated[
        float, typer.Option(help="Say where exposures are older than so many days.", min=0)
    ] = 90.0,
    as_json: JsonOption = False,
) -> None:
    """Look whether a store is sound, and count what is in it; a damaged store gives code 3."""
    with only_json(as_json) as emit:
        from goalrank.serving import check_store, older_than

        found = check_store(store)
        old = older_than(found, days)
        moments = {"oldest": found.oldest, "newest": found.newest}
        emit(
            {"exposures": found.exposures, "feedback": found.feedback, "bytes": found.size}
            | {name: each.isoformat() if each else None for name, each in moments.items()}
            | {"older": old, "faults": list(found.faults)}
        )
        if not as_json:
            for fault in found.faults:
                typer.echo(f"damaged: {fault}")
            span = f" from {found.oldest} to {found.newest}" if found.oldest else ""
            counts = f"{counted(found.exposures, 'exposure')}{span}, {counted(found.feedback, 'feedback value')}"
            typer.echo(f"{counts}, {found.size:,} bytes" if not found.faults else _RESTORE)
        if old:
            say(
                f"exposures are older than {days:g} days: goalrank store purge --days {days:g} "
                f"forgets them, goalrank store compact then frees their space"
            )
    if found.faults:
        raise typer.Exit(3)


@app.command(epilog=examples("goalrank store purge --days 90", "goalrank store compact"))
@verb("Interrupted; the store is as it was.")
def compact(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """Give the space of forgotten exposures back to the disk. Writes wait meanwhile."""
    with only_json(as_json) as emit:
        from goalrank.serving import compact_store

        before, after = compact_store(store)
        emit({"before": before, "after": after})
        if not as_json:
            typer.echo(f"{before:,} bytes before, {after:,} after")


def _utc(time: datetime | None) -> datetime | None:
    return time if time is None or time.tzinfo else time.replace(tzinfo=UTC)
