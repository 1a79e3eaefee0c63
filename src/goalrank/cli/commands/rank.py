"""Command `goalrank rank`."""

from __future__ import annotations

from typing import Annotated

import typer

from goalrank.cli.common import (
    AllowOption,
    EngineOption,
    ExecutorOption,
    JsonOption,
    WorkersOption,
    examples,
    only_json,
    progress_bar,
    renamed,
    verb,
)
from goalrank.wording import counted


@verb()
def rank(
    bundle: Annotated[str, typer.Option(help="The bundle's folder, or s3://… and the like.")],
    requests: Annotated[
        str,
        typer.Option(
            help="Requests: a Parquet file or a folder of shards, or s3://… and the like."
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            help="Lists: a .parquet file, written whole or not at all; with --executor ray or an "
            "address also a folder, which every worker writes its parts to."
        ),
    ],
    slots: Annotated[
        int | None, typer.Option(help="L; default: the length the ranker was trained for.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Requests a batch.")] = 256,
    device: Annotated[str, typer.Option(help="cpu, cuda, …")] = "cpu",
    missing: Annotated[
        str,
        typer.Option(
            help="Where requests lack an input of training: refuse, or mean: the mean over the "
            "training requests, and a column 'filled' that names it."
        ),
    ] = "refuse",
    executor: ExecutorOption = "local",
    workers: WorkersOption = 0,
    allow_plugin: AllowOption = None,
    engine: EngineOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rank requests: a list of item ids for each, with its log-probability."""
    executor = renamed(executor, engine, "--engine", "--executor")
    with only_json(as_json) as emit:
        from goalrank.api import rank_dataset
        from goalrank.bundles import Bundle
        from goalrank.compute import LocalExecutor, open_executor
        from goalrank.errors import ConfigError
        from goalrank.requests import check_missing
        from goalrank.storage import check_place

        told = check_missing(missing)
        for place in (requests, out):
            check_place(place)
        if executor == "local" and "://" not in out and not out.endswith(".parquet"):
            raise ConfigError(
                f"lists are written as Parquet, but '{out}' does not end in .parquet; option: out"
            )
        loaded = Bundle.load(bundle, allow=allow_plugin or ())
        gpus = 1.0 if device.startswith("cuda") else 0.0
        # Torch has its own threads: locally, parts come one after another.
        opened = LocalExecutor(1) if executor == "local" else open_executor(
            executor, workers=workers, gpus=gpus
        )  # fmt: skip
        with opened, progress_bar("ranking") as bar:
            count = rank_dataset(
                loaded, requests, out, slots, executor=opened, batch_size=batch_size,
                device=device, progress=bar, missing=told,
            )  # fmt: skip
        emit({"out": out, "requests": count})
        if not as_json:
            typer.echo(f"{counted(count, 'list')} in {out}")


def add(app: typer.Typer) -> None:
    """Register the verb."""
    app.command(
        "rank",
        epilog=examples(
            "goalrank rank --bundle runs/first --requests data/mine/test.parquet "
            "--out lists.parquet",
            "goalrank rank --bundle runs/first --requests today/ --slots 10 --out lists.parquet",
            "goalrank rank --bundle runs/first --requests s3://logs/today --out s3://lists/today "
            "--executor ray",
        ),
    )(rank)
