"""Commands `goalrank data`: preview, import, append, fetch, validate, describe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from goalrank.cli.commands import preview
from goalrank.cli.common import (
    EngineOption,
    ExecutorOption,
    JsonOption,
    WorkersOption,
    busy,
    console,
    examples,
    only_json,
    progress_bar,
    renamed,
    say,
    show_progress,
    verb,
    warn,
)
from goalrank.cli.log_options import (
    ColumnsOption,
    FeaturesOption,
    FeedbackColumnsOption,
    FeedbackOption,
    KindsOption,
    LayoutOption,
    SetOption,
    TargetOption,
    TextOption,
    TimezoneOption,
    log_options,
)
from goalrank.wording import counted, signed_percent

app = typer.Typer(help="Raw logs to requests; look into requests.", no_args_is_help=True)
preview.add(app)


@app.command(
    "import",
    epilog=examples(
        "goalrank data import kuairand --out data/kuairand",
        "goalrank data import movielens ml-1m --candidates 50 --out data/ml-1m",
        "goalrank data import exposures clicks.csv --columns time=ts --kinds click --out data/mine",
        "goalrank data import interactions buys.parquet --set stride=5 --out data/mine",
        "goalrank data import movielens ml-1m --executor ray --out data/ml-1m",
        "goalrank data import movielens ml-1m --text title,genres --out data/ml-1m",
    ),
)
@verb("Interrupted; the import is not complete, run it again.")
def import_(
    source: Annotated[
        str, typer.Argument(help="kuairand, movielens, amazon, exposures or interactions.")
    ],
    path: Annotated[
        str | None,
        typer.Argument(help="File, folder, glob (quoted) or address; left out: the shipped data."),
    ] = None,
    out: Annotated[str, typer.Option(help="Folder to write to, or s3://… and the like.")] = "data",
    protocol: Annotated[
        str | None, typer.Option(help="exposed, retrieved or injected; default: the source's own.")
    ] = None,
    candidates: Annotated[int | None, typer.Option(help="N, candidates to retrieve.")] = None,
    columns: ColumnsOption = None,
    kinds: KindsOption = None,
    target: TargetOption = None,
    candidate_features: FeaturesOption = None,
    text: TextOption = None,
    layout: LayoutOption = None,
    timezone: TimezoneOption = None,
    feedback: FeedbackOption = None,
    feedback_columns: FeedbackColumnsOption = None,
    split: Annotated[str | None, typer.Option(help="time or user.")] = None,
    set_: SetOption = None,
    features: Annotated[
        bool,
        typer.Option(
            "--features/--no-features",
            help="Keep counts and rates computed from the log as candidate features. Without them "
            "a model needs nothing at ranking time but ids, histories and side tables.",
        ),
    ] = True,
    memory: Annotated[
        float | None,
        typer.Option(
            help="GB of memory that the import may use; default: four fifths of what is available."
        ),
    ] = None,
    executor: ExecutorOption = "local",
    workers: WorkersOption = 0,
    engine: EngineOption = None,
    as_json: JsonOption = False,
) -> None:
    """Turn a raw log into requests: train, validation and test, in time order."""
    executor = renamed(executor, engine, "--engine", "--executor")
    with only_json(as_json) as emit:
        from goalrank.compute import open_executor
        from goalrank.logs import import_dataset
        from goalrank.storage import check_place

        check_place(out)
        options = log_options(
            columns=columns, kinds=kinds, target=target, candidate_features=candidate_features,
            layout=layout, timezone=timezone, feedback=feedback,
            feedback_columns=feedback_columns, set_=set_, text=text,
            protocol=protocol, candidates=candidates, split=split, memory_gb=memory,
            computed_features=None if features else False,
        )  # fmt: skip
        # Locally, without --workers, the option threads decides.
        own = nullcontext() if executor == "local" and not workers else None
        with (
            _importing(f"importing {path or source}", texts="text" in options) as progress,
            own or open_executor(executor, workers=workers) as opened,
        ):
            report = import_dataset(
                source, path, options, out=out, executor=opened, progress=progress
            )
        emit(report)
        if not as_json:
            _print_report(report, out)


@app.command(
    "append",
    epilog=examples(
        "goalrank data append data/mine monday.parquet",
        "goalrank data append data/mine monday.parquet tuesday.parquet",
    ),
)
@verb("Interrupted; the data set is as it was.")
def append(
    dataset: Annotated[Path, typer.Argument(help="Folder that goalrank data import wrote.")],
    files: Annotated[
        list[str], typer.Argument(help="Files of later rows, in order of time, as for import.")
    ],
    executor: ExecutorOption = "local",
    workers: WorkersOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Add later rows to an imported log of interactions, without its old files.

    The tables are made anew from the log that the data set keeps and the new rows, and equal those
    of one import of all rows.
    """
    with only_json(as_json) as emit:
        from goalrank.compute import open_executor
        from goalrank.logs import append_rows

        own = nullcontext() if executor == "local" and not workers else None
        say(
            "All requests are made anew from the log that the data set keeps, since later rows of "
            "a user move earlier requests; this takes as long as an import. Remedy: append many "
            "rows at once."
        )
        with (
            _importing(f"appending to {dataset}", texts=(dataset / "text").is_dir()) as progress,
            own or open_executor(executor, workers=workers) as opened,
        ):
            report = append_rows(dataset, *files, executor=opened, progress=progress)
        emit(report)
        if not as_json:
            _print_report(report, str(dataset))


@contextmanager
def _importing(text: str, *, texts: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A bar over the texts that are embedded, or a spinner where there are none."""
    if texts:
        with progress_bar(f"{text}, texts") as progress:
            yield progress
    else:
        with busy(text):
            yield None


@app.command(
    "embed",
    epilog=examples("goalrank data embed data/mine new-items.parquet --out items.parquet"),
)
@verb("Interrupted; nothing was written.")
def embed(
    dataset: Annotated[Path, typer.Argument(help="Folder of an import with --text.")],
    items: Annotated[Path, typer.Argument(help="Parquet file of items with the columns of text.")],
    out: Annotated[Path, typer.Option(help="Parquet file to write.")],
    text_model: Annotated[
        str | None,
        typer.Option(help="The import's sentence model, where it is code of another package."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Give new items the vectors of their texts, by the model and components of an import."""
    with only_json(as_json) as emit:
        import polars as pl

        from goalrank.errors import DataError
        from goalrank.logs import embed_items
        from goalrank.storage import whole_file

        try:
            table = pl.read_parquet(items, glob=False)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise DataError(
                f"'{items}' cannot be read as Parquet ({str(error).splitlines()[0]}); remedy: give "
                f"a Parquet file of items"
            ) from None
        with progress_bar(f"embedding {items}") as progress:
            made = embed_items(dataset, table, text_model=text_model, progress=progress)
        with whole_file(out) as temporary:
            made.write_parquet(temporary)
        column = made.columns[-1]
        missing = made[column].null_count()
        emit({"items": made.height, "column": column, "without_text": missing, "out": str(out)})
        if not as_json:
            typer.echo(
                f"{counted(made.height, 'item')}, {missing:,} of them without text; column {column}; "
                f"wrote {out}"
            )


def _print_report(report: dict[str, Any], out: str) -> None:
    from rich.text import Text

    from goalrank.logs import ImportNotes, how_to_tell

    counts = report["counts"]
    show = console(stderr=False)
    show.print(
        Text(report["dataset"], style="bold").append(
            f", protocol {report['protocol']}, target {report['target']}: "
            f"{counts['train']:,} training, {counts['validation']:,} validation and "
            f"{counted(counts['test'], 'test request')} in {report['seconds']['total']:.1f} s",
            style="not bold",
        )
    )
    show.print(
        f"  {report['candidates_per_request']} candidates and "
        f"{report['positives_per_request']} positives per request"
    )
    for guess in report.get("guesses", []):
        show.print(
            f"  guessed: {guess['what']} is {guess['found']}  (otherwise: {how_to_tell(guess['option'])})",
            soft_wrap=True,
        )
    for part in report.get("merged", []):
        show.print(f"  merged: {part['count']:,} {part['what']}", soft_wrap=True)
    preview.print_left_out(ImportNotes.from_dict(report))
    for fact in report["facts"]:
        show.print(f"  about the data: {fact}", soft_wrap=True)
    if "text" in report:
        text = report["text"]
        show.print(
            f"  texts: {counted(counts['items_with_text'], 'item has', 'items have')} a vector of {text['width']} numbers "
            f"({text['variance_kept']:.0%} of the variance), column {text['column']}",
            soft_wrap=True,
        )
    for name, recall in report["recall"].get("test", {}).items():
        show.print(f"  recall@{report['recall']['at']} of {name}: {recall:.1%}")
    for name, gain in report["recall"].get("gain", {}).items():
        show.print(
            f"  the blend against {gain['channel']}, the best channel, on {name}: "
            f"{signed_percent(gain['gain'])} [{signed_percent(gain['low'])}, {signed_percent(gain['high'])}] of "
            f"{counted(gain['requests'], 'request')}",
            soft_wrap=True,
        )
    for warning in report["warnings"]:
        warn(warning)
    spilled = report["disk"]["spilled_mb"]
    show.print(f"  wrote {out} ({spilled:,.0f} MB of temporary files meanwhile)", soft_wrap=True)


@app.command(
    "fetch",
    epilog=examples("goalrank data fetch ml-1m", "goalrank data fetch kuairand-pure --to datasets"),
)
@verb("Interrupted; the same command goes on where it stopped.")
def fetch(
    name: Annotated[str, typer.Argument(help="ml-1m, ml-latest-small or kuairand-pure.")],
    to: Annotated[
        Path | None, typer.Option(help="Folder; default: $GOALRANK_DATA, else datasets.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Download a public data set from its publisher."""
    with only_json(as_json) as emit:
        from goalrank.logs import DATASETS, data_root
        from goalrank.logs import fetch as download

        path = download(name, to or data_root() or Path("datasets"), show=show_progress())
        source = DATASETS[name].source
        emit({"path": str(path), "source": source})
        if not as_json:
            typer.echo(f"{path}\nnext: goalrank data import {source} {path} --out data/{name}")


@app.command("validate", epilog=examples("goalrank data validate data/mine/train.parquet"))
@verb()
def validate(
    file: Annotated[str, typer.Argument(help="Parquet file, folder of shards, or address.")],
    limit: Annotated[int, typer.Option(help="Faults to print; 0 = all.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """List every fault of a requests table: row, column, rule."""
    with only_json(as_json) as emit:
        from goalrank.requests import Requests

        with busy(f"reading {file}"):
            requests = Requests.read(file, validate=False)
            faults = requests.validate()
        emit(
            {
                "requests": len(requests),
                "faults": [
                    {"row": f.row, "column": f.column, "rule": f.rule, "value": f.value}
                    for f in faults
                ],
            }
        )
        if not as_json:
            for fault in faults[: limit or None]:
                typer.echo(str(fault))
            if limit and len(faults) > limit:
                typer.echo(f"and {len(faults) - limit} more (--limit 0 prints all)")
            typer.echo(f"{counted(len(faults), 'fault')} in {counted(len(requests), 'request')}")
    if faults:
        raise typer.Exit(3)


@app.command("describe", epilog=examples("goalrank data describe data/mine/train.parquet"))
@verb()
def describe(
    file: Annotated[str, typer.Argument(help="Parquet file, folder of shards, or address.")],
    as_json: JsonOption = False,
) -> None:
    """Sizes, feedback, protocol and time span of a requests table."""
    with only_json(as_json) as emit:
        from goalrank.requests import Requests

        with busy(f"reading {file}"):
            requests = Requests.read(file, validate=False)
        emit(
            {"requests": len(requests), **requests.info.model_dump(mode="json"), **_means(requests)}
        )
        if not as_json:
            typer.echo(repr(requests))
            for kind, rate in _means(requests)["feedback_means"].items():
                typer.echo(f"  mean      {kind}: {rate:.4f}")


def _means(requests: Any) -> dict[str, Any]:
    frame = requests.frame
    feedback = frame["feedback"].struct
    kinds = requests.info.feedback_kinds
    return {
        "users": frame["user_id"].n_unique(),
        "candidates_mean": frame["candidates"].list.len().mean(),
        "history_mean": frame["history"].list.len().mean(),
        "shown_mean": frame["shown"].list.len().mean(),
        "feedback_means": {
            k: feedback.field(k).explode(empty_as_null=False, keep_nulls=False).mean() or 0.0
            for k in kinds
        },
    }
