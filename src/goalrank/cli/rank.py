"""goalrank rank"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from goalrank.cli.common import JsonOption, examples, only_json, progress_bar, verb


@verb()
def rank(
    bundle: Annotated[Path, typer.Option(help="The bundle's folder.")],
    requests: Annotated[Path, typer.Option(help="Requests: a Parquet file or a folder of shards.")],
    out: Annotated[Path, typer.Option(help="Lists: a .parquet file, written whole or not at all.")],
    slots: Annotated[
        int | None, typer.Option(help="L; default: the length the ranker was trained for.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Requests a batch.")] = 256,
    device: Annotated[str, typer.Option(help="cpu, cuda, …")] = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Rank requests: a list of item ids for each, with its log-probability."""
    with only_json(as_json) as emit:
        from goalrank.serving import Bundle

        count = 0
        loaded = Bundle.load(bundle)
        with progress_bar("ranking") as bar:

            def progress(done: int, total: int) -> None:
                nonlocal count
                count = done
                bar(done, total)

            loaded.rank_file(
                requests, out, slots, batch_size=batch_size, device=device, progress=progress
            )
        emit({"out": str(out), "requests": count})
        if not as_json:
            typer.echo(f"{count:,} lists in {out}")


def add(app: typer.Typer) -> None:
    """Register the verb."""
    app.command(
        "rank",
        epilog=examples(
            "goalrank rank --bundle runs/first --requests data/mine/test.parquet "
            "--out lists.parquet",
            "goalrank rank --bundle runs/first --requests today/ --slots 10 --out lists.parquet",
        ),
    )(rank)
