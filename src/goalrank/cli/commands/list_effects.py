"""Command `goalrank list-effects`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from goalrank.cli.common import (
    JsonOption,
    console,
    examples,
    only_json,
    progress_bar,
    say,
    show_progress,
    to_stderr,
    verb,
)


@verb("Interrupted; finished models are kept: run the same command to go on.")
def list_effects(
    data: Annotated[
        str, typer.Argument(help="Folder of an imported log of exposures, or its address.")
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for list-effects.json, table.md, figures and ledger.")
    ],
    seeds: Annotated[str, typer.Option(help="Seeds of the models, such as 0,1,2.")] = "0,1,2",
    kind: Annotated[
        str | None, typer.Option(help="Feedback kind to predict; default: the log's target.")
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            help="time: the parts as imported; random: users dealt anew, for logs whose order is "
            "no time."
        ),
    ] = "time",
    max_train: Annotated[
        int, typer.Option(help="Training requests, drawn at random; 0 takes all.")
    ] = 30_000,
    max_validation: Annotated[
        int, typer.Option(help="Validation requests, drawn at random; 0 takes all.")
    ] = 3_000,
    max_test: Annotated[int, typer.Option(help="Test requests, drawn at random; 0 takes all.")] = 0,
    bootstrap: Annotated[int, typer.Option(help="Resamples of the intervals.")] = 1000,
    config: Annotated[
        str | None, typer.Option(help="Recipe whose encoder and reward sections count.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override a setting: NAME=VALUE. Repeatable.")
    ] = None,
    accelerator: Annotated[str, typer.Option(help="auto, cpu or gpu.")] = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Does the order of a list matter beyond position? Three reward models on a log of exposures.

    One sees each item alone, one its position too, one the whole list. Log loss on held-out lists,
    calibration by slot, rates by position, and pairs of lists that differ by one exchange of
    neighbours. A killed run goes on with the first missing model.
    """
    with only_json(as_json) as emit:
        from goalrank.cli.tables import read_data
        from goalrank.recipes import DEFAULT, recipe_path
        from goalrank.settings import checked
        from goalrank.studies.list_effects import ListEffectsConfig, run_list_effects
        from goalrank.training import load_config

        recipe = load_config(
            recipe_path(config or DEFAULT), ["encoder.tree_folds=0", *(set_ or [])]
        )
        given: dict[str, Any] = {
            "seeds": _numbers(seeds), "kind": kind, "split": split, "max_train": max_train,
            "max_validation": max_validation, "max_test": max_test, "bootstrap": bootstrap,
            "fit": recipe,
        }  # fmt: skip
        settings = checked(
            ListEffectsConfig, given, "the command", "correct the option of that name"
        )
        tables = read_data(data, needed=("train", "test"))
        screen, live = console(), show_progress()
        with progress_bar("list effects") as bar, to_stderr():

            def progress(done: int, total: int) -> None:
                bar(done, total)
                if not live:
                    screen.print(f"{done} of {total} models")

            result = run_list_effects(
                tables,
                settings,
                out,
                name=Path(data).name,
                accelerator=accelerator,
                progress=progress,
                say=say,
            )
        emit(result)
        if not as_json:
            typer.echo((out / "table.md").read_text(encoding="utf-8"))
            typer.echo(f"wrote {out / 'list-effects.json'}, table.md, figures and ledger")


def _numbers(text: str) -> tuple[int, ...]:
    from goalrank.errors import ConfigError

    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(
            f"seeds '{text}' are no whole numbers with commas between; remedy: 0,1,2 (option: "
            f"--seeds)"
        ) from error


def add(app: typer.Typer) -> None:
    """Register the verb."""
    app.command(
        "list-effects",
        epilog=examples(
            "goalrank list-effects data/mine --out runs/list-effects",
            "goalrank list-effects data/mine --seeds 0,1,2,3,4 --kind click --out runs/list-effects",
            "goalrank list-effects data/search --split random --set reward.causal=false --out runs/x",
        ),
    )(list_effects)
