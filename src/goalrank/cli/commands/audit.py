"""Command `goalrank audit`."""

from __future__ import annotations

from typing import Annotated

import typer

from goalrank.cli.common import (
    JsonOption,
    examples,
    only_json,
    print_scorecard,
    progress_bar,
    verb,
)

_SHOWN = 12


@verb()
def audit(
    data: Annotated[
        str, typer.Argument(help="Folder with train.parquet and test.parquet, or its address.")
    ],
    slots: Annotated[int, typer.Option(help="L, length of the lists.")] = 6,
    metric: Annotated[str, typer.Option(help="What baselines are ordered by.")] = "ndcg",
    bootstrap: Annotated[int, typer.Option(help="Resamples of the intervals.")] = 1000,
    everything: Annotated[
        bool, typer.Option("--all", help="Print the weak baselines, too.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """How far baselines (rankers without learning) get on this data; nothing is trained."""
    with only_json(as_json) as emit:
        from goalrank.api import audit_table
        from goalrank.cli.tables import read_data

        tables = read_data(data, needed=("train", "test"))
        with progress_bar("evaluating baselines") as progress:
            card = audit_table(
                tables["train"],
                tables["test"],
                slots,
                metric=metric,
                bootstrap=bootstrap,
                progress=progress,
            )
        emit(card.to_dict())
        if not as_json:
            print_scorecard(
                card, metric, baselines=len(card.baselines.rankers) if everything else _SHOWN
            )


def add(app: typer.Typer) -> None:
    """Register the verb."""
    app.command(
        "audit", epilog=examples("goalrank audit data/kuairand", "goalrank audit data/mine --json")
    )(audit)
