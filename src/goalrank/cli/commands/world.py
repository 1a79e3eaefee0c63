"""Command `goalrank world`: requests and online tests in a simulator whose truth is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from goalrank.cli.common import (
    AllowOption,
    JsonOption,
    busy,
    console,
    examples,
    only_json,
    progress_bar,
    show_progress,
    verb,
)
from goalrank.wording import counted

if TYPE_CHECKING:
    from goalrank.worlds import RankerPolicy

app = typer.Typer(help="Planted worlds: simulators with a known truth.", no_args_is_help=True)


@app.command(
    "sample",
    epilog=examples(
        "goalrank world sample configs/worlds/cascade.toml --requests 10000 --out data/world",
        "goalrank world sample world.toml --requests 500 --seed 1 --out test.parquet",
        "goalrank world sample world.toml --requests 10000 --first 10000 --policy runs/goalrank "
        "--explore 0.2 --out second-round.parquet",
    ),
)
@verb()
def sample(
    config: Annotated[Path, typer.Argument(help="The world's TOML file.")],
    requests: Annotated[int, typer.Option(help="How many requests.")],
    out: Annotated[Path, typer.Option(help="A .parquet file, or a new folder of shards.")],
    seed: Annotated[int, typer.Option(help="Of users, candidates and feedback.")] = 0,
    first: Annotated[
        int,
        typer.Option(
            help="Number of the first request, to go on after an earlier sample; other requests "
            "than from 0 at the same seed."
        ),
    ] = 0,
    policy: Annotated[
        str | None,
        typer.Option(
            help="A bundle, or a training's folder, whose ranker fills the lists instead of the "
            "world's logging policy."
        ),
    ] = None,
    explore: Annotated[
        float | None,
        typer.Option(
            help="With --policy: share of requests whose list is drawn, not the best; default 1."
        ),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="With --policy: of the draws; default 1.")
    ] = None,
    allow_plugin: AllowOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw a requests table with feedback from a world."""
    with only_json(as_json) as emit:
        from goalrank.worlds import World, WorldConfig, round_seed

        world = World(WorldConfig.load(config))
        filled_by = _policy(policy, explore, temperature, allow_plugin or ())
        seed = round_seed(seed, first)
        if out.suffix == ".parquet":
            with busy("sampling"):
                world.sample(requests, seed=seed, first=first, policy=filled_by).write(out)
        else:
            with progress_bar("sampling") as bar:
                world.sample_to(
                    out, requests, seed=seed, first=first, policy=filled_by,
                    progress=lambda n: bar(n, requests),
                )  # fmt: skip
        emit({"out": str(out), "requests": requests})
        if not as_json:
            typer.echo(f"{counted(requests, 'request')} in {out}")


def _policy(
    folder: str | None, explore: float | None, temperature: float | None, allow: Sequence[str]
) -> RankerPolicy | None:
    chosen = {"explore": explore, "temperature": temperature}
    given = {name: value for name, value in chosen.items() if value is not None}
    if folder is None:
        if given:
            from goalrank.errors import ConfigError

            raise ConfigError(
                f"{' and '.join(f'--{name}' for name in given)} change what a ranker shows, but "
                f"the world's own policy fills this log; remedy: name a bundle (option: --policy)"
            )
        return None
    from goalrank.bundles import Bundle
    from goalrank.worlds import RankerPolicy

    bundle = Bundle.load(folder, allow=allow)
    return RankerPolicy(bundle.ranker, bundle.encoder, name=bundle.config.name, **given)


@app.command(
    "fit",
    epilog=examples(
        "goalrank world fit data/kuairand --like configs/worlds/fatigue.toml --out worlds/kuairand",
        "goalrank world sample worlds/kuairand/world.toml --requests 10000 --out data/world",
    ),
)
@verb()
def fit(
    data: Annotated[
        str,
        typer.Argument(
            help="Folder that `goalrank data import` wrote, or one Parquet file; also an address."
        ),
    ],
    like: Annotated[
        Path,
        typer.Option(help="A world's TOML file: how users answer lists, and how many items N."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for world.toml and the factors.")],
    name: Annotated[
        str | None, typer.Option(help="Of the world; default: the folder's name.")
    ] = None,
    width: Annotated[int, typer.Option(help="Numbers a user and an item; at least 2.")] = 16,
    iterations: Annotated[int, typer.Option(help="Rounds of alternating least squares.")] = 15,
    seed: Annotated[int, typer.Option(help="Of the fit and of what the log does not say.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Make a world of a real log's users and items: their tastes, likeness and popularity.

    Who is who is lost: users and items are numbered anew. How they answer lists stays planted, so
    that the best list is known.
    """
    with only_json(as_json) as emit:
        import dataclasses

        from goalrank.cli.tables import read_every
        from goalrank.worlds import WorldConfig, fit_world

        settings = WorldConfig.load(like)
        with busy("reading"):
            tables = read_every(data)
        with busy("fitting factors"):
            made = fit_world(
                tables, settings, out, name=name, width=width, iterations=iterations, seed=seed
            )
        emit(dataclasses.asdict(made))
        if not as_json:
            typer.echo(
                f"{made.users:,} users and {made.items:,} items, fitted to {made.pairs:,} consumed "
                f"pairs; taste prefers the consumed item to a random one in {made.preferred:.1%}\n"
                f"next: goalrank world sample {made.path} --requests 10000 --out data/world"
            )


@app.command(
    "describe",
    epilog=examples(
        "goalrank world describe configs/worlds/fatigue.toml",
        "goalrank world describe worlds/kuairand/world.toml --requests 2000 --json",
    ),
)
@verb()
def describe(
    config: Annotated[Path, typer.Argument(help="The world's TOML file.")],
    requests: Annotated[int, typer.Option(help="How many to judge on.")] = 512,
    seed: Annotated[int, typer.Option(help="Of the requests.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """What there is to win in a world: true reward of baselines beside that of the near-optimum."""
    with only_json(as_json) as emit:
        import dataclasses

        from goalrank.worlds import World, WorldConfig
        from goalrank.worlds import describe as judged

        world = World(WorldConfig.load(config))
        with busy("searching the best lists"):
            found = judged(world, requests, seed=seed)
        emit(dataclasses.asdict(found))
        if not as_json:
            typer.echo(str(found))


@app.command(
    "online",
    epilog=examples(
        "goalrank world online configs/online/smoke.toml --out runs/online-smoke",
        "goalrank world online configs/online/drift.toml --out results/online",
    ),
)
@verb("Interrupted; finished days are kept: run the same command to go on.")
def online(
    config: Annotated[Path, typer.Argument(help="The test's TOML file.")],
    out: Annotated[Path, typer.Option(help="Folder for the ledger, table.md and the figures.")],
    accelerator: Annotated[str, typer.Option(help="cpu, gpu or auto.")] = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Simulate an online test: arms serve a drifting world and retrain on their own logs.

    Users are split by hash, every arm learns each night from what it showed itself, and lifts over
    control come with intervals. A killed run goes on with the first missing day.
    """
    with only_json(as_json) as emit:
        from goalrank.studies.online import load_online, run_online

        settings = load_online(config)
        screen, live = console(), show_progress()
        with progress_bar(f"online test {settings.name}") as bar:

            def progress(done: int, total: int) -> None:
                bar(done, total)
                if not live and not as_json:
                    screen.print(f"{done} of {total} days")

            result = run_online(settings, out, accelerator=accelerator, progress=progress)
        emit({key: value for key, value in result.items() if key != "daily"})
        if not as_json:
            typer.echo((out / "table.md").read_text(encoding="utf-8"))
            typer.echo(f"wrote {out / 'online.json'}, table.md, the ledger and figures")
