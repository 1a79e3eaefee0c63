"""Command `goalrank demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from goalrank.cli.common import (
    JsonOption,
    examples,
    only_json,
    print_lines,
    print_scorecard,
    say,
    show_progress,
    to_stderr,
    verb,
)


@verb("Interrupted; the same command goes on where it stopped, with --overwrite it starts afresh.")
def demo(
    dataset: Annotated[
        str, typer.Option(help="Shipped data: kuairand or movielens-small.")
    ] = "kuairand",
    out: Annotated[Path, typer.Option(help="Folder for what comes of it.")] = Path("demo-out"),
    seeds: Annotated[int, typer.Option(help="Trainings to average over.")] = 1,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override a setting: NAME=VALUE. Repeatable.")
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Start afresh where a stopped demo would be gone on with."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train, compare and audit on data that comes with goalrank; one to two minutes on two idle cores.

    A demo that was stopped goes on when the same command is run again.
    """
    with only_json(as_json) as emit:
        from goalrank.api import run_demo

        with to_stderr():  # bars of the training library
            results, card = run_demo(
                dataset,
                out,
                seeds=seeds,
                overrides=set_ or [],
                overwrite=overwrite,
                progress=show_progress(),
                say=lambda text: say(text, "dim"),
            )
        emit(results)
        say(
            f"{results['seconds']['total']:.0f} s; wrote {out}/results.json, "
            f"{out}/report.html, {out}/bundle",
            "dim",
        )
        if not as_json:
            print_scorecard(card, verdict=False)
            comparison = card.audit.comparison
            lines = {} if comparison is None else comparison.lines
            next_ = f"Open {out}/report.html. {lines.pop('What next', '')}"
            print_lines({**lines, "What next": next_.strip()})


def add(app: typer.Typer) -> None:
    """Register the verb."""
    app.command(
        "demo",
        epilog=examples(
            "goalrank demo",
            "goalrank demo --dataset movielens-small --out demo-films",
            "goalrank demo --seeds 3 --set training.steps=1000",
        ),
    )(demo)
