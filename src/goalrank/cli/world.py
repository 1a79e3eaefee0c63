"""goalrank world: requests from a simulator whose truth is known"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from goalrank.cli.common import JsonOption, busy, examples, only_json, progress_bar, verb

app = typer.Typer(help="Planted worlds: simulators with a known truth.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps `sample` a verb of its own while it is the only one."""


@app.command(
    "sample",
    epilog=examples(
        "goalrank world sample configs/worlds/cascade.toml --requests 10000 --out data/world",
        "goalrank world sample world.toml --requests 500 --seed 1 --out test.parquet",
    ),
)
@verb()
def sample(
    config: Annotated[Path, typer.Argument(help="The world's TOML file.")],
    requests: Annotated[int, typer.Option(help="How many requests.")],
    out: Annotated[Path, typer.Option(help="A .parquet file, or a new folder of shards.")],
    seed: Annotated[int, typer.Option(help="Of users, candidates and feedback.")] = 0,
    first: Annotated[
        int, typer.Option(help="Number of the first request, to go on after an earlier sample.")
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """Draw a requests table with feedback from a world."""
    with only_json(as_json) as emit:
        from goalrank.worlds import World, WorldConfig

        world = World(WorldConfig.load(config))
        if out.suffix == ".parquet":
            with busy("sampling"):
                world.sample(requests, seed=seed, first=first).write(out)
        else:
            with progress_bar("sampling") as bar:
                world.sample_to(
                    out, requests, seed=seed, first=first, progress=lambda n: bar(n, requests)
                )
        emit({"out": str(out), "requests": requests})
        if not as_json:
            typer.echo(f"{requests:,} requests in {out}")
