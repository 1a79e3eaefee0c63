"""The application: verbs gathered, and options that come before them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from goalrank import __version__
from goalrank.cli.abort_message import abort_message
from goalrank.cli.commands import (
    ab,
    audit,
    benchmark,
    data,
    demo,
    doctor,
    evaluate,
    events,
    list_effects,
    models,
    ope,
    rank,
    retrain,
    scaling,
    serve,
    store,
    theory,
    train,
    world,
)
from goalrank.cli.common import escape_help, examples, settings
from goalrank.registry import also_search


class _LiteralHelp(TyperGroup):
    """The root of the tree of commands; its help texts, and those of all below, hold no markup."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        escape_help(self)


app = typer.Typer(
    name="goalrank",
    cls=_LiteralHelp,
    help="List ranking: from exposure logs to one model that emits the list.",
    epilog=examples(
        "goalrank demo",
        "goalrank data import exposures clicks.csv --out data/mine",
        "goalrank train data/mine --out runs/first",
        "goalrank rank --bundle runs/first --requests data/mine/test.parquet --out lists.parquet",
    ),
    no_args_is_help=True,
    rich_markup_mode="rich",  # the look; escape_help sees to it that no text is markup
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (demo, train, evaluate, rank, audit, list_effects, ope, doctor, serve, retrain):
    module.add(app)
app.add_typer(ab.app, name="ab")
app.add_typer(benchmark.app, name="benchmark")
app.add_typer(data.app, name="data")
app.add_typer(events.app, name="events")
app.add_typer(models.app, name="models")
app.add_typer(scaling.app, name="scaling")
app.add_typer(store.app, name="store")
app.add_typer(theory.app, name="theory")
app.add_typer(world.app, name="world")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"goalrank {__version__}")
        raise typer.Exit


@app.callback()
def _before(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    settings.debug = debug


def main() -> None:
    """Run the `goalrank` command."""
    also_search(Path.cwd())  # a metric, ranker, … in a file beside the data
    with abort_message():
        app(prog_name="goalrank")  # also under python -m: completion is by this name
