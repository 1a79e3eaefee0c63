"""Command `goalrank evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from goalrank.cli.common import (
    AllowOption,
    JsonOption,
    examples,
    only_json,
    print_scorecard,
    progress_bar,
    verb,
)

if TYPE_CHECKING:
    from goalrank.api import WorldCard
    from goalrank.bundles import Bundle


@verb()
def evaluate(
    bundle: Annotated[
        list[str],
        typer.Option(
            help="A bundle's folder, or NAME=FOLDER; also s3://… and the like. Repeatable."
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            help="Folder with test.parquet and train.parquet, or its address; with --world also a "
            "file."
        ),
    ],
    world: Annotated[
        Path | None,
        typer.Option(help="TOML file of the world that sampled the data: a regret table instead."),
    ] = None,
    limit: Annotated[
        int, typer.Option(help="With --world: judge the last so many requests; 0 = all.")
    ] = 1000,
    slots: Annotated[
        int | None,
        typer.Option(help="L, length of the lists; default: the bundles' own, or the world's."),
    ] = None,
    metric: Annotated[
        str,
        typer.Option(help="What the audit compares by: a name, or package.module:function."),
    ] = "ndcg",
    bootstrap: Annotated[int, typer.Option(help="Resamples of the intervals.")] = 1000,
    report: Annotated[Path | None, typer.Option(help="Write an HTML report here.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, …")] = "cpu",
    allow_plugin: AllowOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure bundles on held-out requests, beside baselines (rankers without learning)."""
    with only_json(as_json) as emit:
        from goalrank.api import evaluate as measure
        from goalrank.cli.tables import read_data
        from goalrank.evaluation import METRICS
        from goalrank.features import feature_meanings
        from goalrank.reporting import Report, write_report

        if metric != "auc":  # before anything is loaded
            METRICS.get(metric.partition("@")[0], option="metric")
        bundles = _load(bundle, allow_plugin or ())
        if world is not None:
            _refuse_beside_world(slots, report)
            card_of_world = _judge(bundles, data, world, limit, bootstrap, device)
            emit(card_of_world.to_dict())
            if not as_json:
                typer.echo(str(card_of_world))
            return
        tables = read_data(data, needed=("test",))
        with progress_bar("evaluating") as progress:
            card = measure(
                bundles,
                tables["test"],
                slots,
                train=tables.get("train"),
                metric=metric,
                bootstrap=bootstrap,
                device=device,
                progress=progress,
            )
        if report is not None:
            title, info = f"{', '.join(bundles)} on {card.dataset}", tables["test"].info
            write_report(
                Report.of(
                    title, card.trained, card.baselines, card.audit, warning=card.warning,
                    meanings=feature_meanings(info.computed, info.candidate_features),
                ),
                report,
            )  # fmt: skip
        emit(card.to_dict())
        if not as_json:
            print_scorecard(card, metric)
            if report is not None:
                typer.echo(f"wrote {report}")
            for name, each in bundles.items():
                if each.train.get("warning"):
                    typer.echo(f"{name} was trained under a warning: {each.train['warning']}")


def _refuse_beside_world(slots: int | None, report: Path | None) -> None:
    from goalrank.errors import ConfigError

    for option, value in (("--slots", slots), ("--report", report)):
        if value is not None:
            raise ConfigError(
                f"{option} {value} does not go with --world, whose lists have the world's own "
                f"length and whose table is printed; remedy: leave out {option}"
            )


def _judge(
    bundles: dict[str, Bundle], data: str, world: Path, limit: int, bootstrap: int, device: str
) -> WorldCard:
    from goalrank.api import world_card
    from goalrank.cli.tables import read_test
    from goalrank.worlds import World, WorldConfig

    planted = World(WorldConfig.load(world))
    with progress_bar("judging") as bar:
        return world_card(
            bundles, read_test(data), planted,
            limit=limit, bootstrap=bootstrap, device=device, progress=bar,
        )  # fmt: skip


def _load(given: list[str], allow: Sequence[str]) -> dict[str, Bundle]:
    """Bundles by name; a bare folder takes the ranker's name, or the folder's where that is taken."""
    from goalrank.bundles import Bundle
    from goalrank.errors import ConfigError
    from goalrank.storage import address_of

    out: dict[str, Bundle] = {}
    for text in given:
        name, _, folder = text.partition("=")
        # a folder's own name, or an address, may hold "="
        named = bool(folder) and address_of(text) is None and not Path(text).exists()
        each = Bundle.load(folder if named else text, allow=allow)
        if not named:
            name = each.config.name if each.config.name not in out else Path(text).name
        if name in out:
            raise ConfigError(
                f"two bundles are called '{name}'; remedy: --bundle NAME=FOLDER gives each a name"
            )
        out[name] = each
    return out


def add(app: typer.Typer) -> None:
    """Register the verb."""
    app.command(
        "evaluate",
        epilog=examples(
            "goalrank evaluate --bundle runs/first --data data/kuairand",
            "goalrank evaluate --bundle a=runs/a --bundle b=runs/b --data data/mine --json",
            "goalrank evaluate --bundle runs/first --data data/mine --report report.html",
            "goalrank evaluate --bundle runs/w --data w.parquet --world configs/worlds/fatigue.toml",
        ),
    )(evaluate)
