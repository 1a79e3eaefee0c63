"""Commands `goalrank benchmark`: run, table, plot, publish, card."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from goalrank.cli.common import (
    EngineOption,
    ExecutorOption,
    JsonOption,
    examples,
    only_json,
    pairs,
    parse_value,
    progress_bar,
    renamed,
    verb,
    warn,
)
from goalrank.wording import counted

app = typer.Typer(help="Compare rankers over data sets and seeds.", no_args_is_help=True)
Folder = Annotated[Path, typer.Argument(help="Folder that `goalrank benchmark run` wrote.")]


@app.command(
    "run",
    epilog=examples(
        "goalrank benchmark run configs/suites/smoke.toml --out runs/smoke",
        "goalrank benchmark run configs/suites/retrieved-ml1m.toml --out runs/ml1m --shard 1/4",
        "goalrank benchmark run configs/suites/smoke.toml --out runs/smoke --executor ray",
    ),
)
@verb("Interrupted; finished cells are kept: run the same command to go on.")
def run(
    suite: Annotated[Path, typer.Argument(help="A suite's TOML file.")],
    out: Annotated[Path, typer.Option(help="Folder for the ledger and shared parts.")],
    shard: Annotated[str, typer.Option(help="i/n: only this part of the cells.")] = "1/1",
    jobs: Annotated[int, typer.Option(help="Cells side by side; 0 = as cores allow.", min=0)] = 0,
    retry: Annotated[bool, typer.Option("--retry", help="Run failed cells again.")] = False,
    accelerator: Annotated[str, typer.Option(help="auto, cpu or gpu.")] = "auto",
    executor: ExecutorOption = "local",
    engine: EngineOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the cells of a suite that are missing; safe to kill and to start again."""
    executor = renamed(executor, engine, "--engine", "--executor")
    with only_json(as_json) as emit:
        from goalrank.compute import open_executor
        from goalrank.studies.arena import run_suite
        from goalrank.studies.common import load_suite

        settings = load_suite(suite)
        gpus = 1.0 if accelerator == "gpu" else 0.0
        # Locally a cell has its own process, which may end with it.
        own = nullcontext() if executor == "local" else None
        with (
            own or open_executor(executor, workers=jobs, gpus=gpus) as opened,
            progress_bar(f"benchmark {settings.name}") as bar,
        ):
            done = run_suite(
                settings, out, shard_of=shard, jobs=jobs, retry=retry, accelerator=accelerator,
                executor=opened, progress=bar,
            )  # fmt: skip
        emit(
            {
                "ran": done.ran,
                "failed": done.failed,
                "before": done.before,
                "elsewhere": done.elsewhere,
            }
        )
        if not as_json:
            typer.echo(
                f"{counted(done.ran, 'cell')} run, {done.failed} of them failed; {done.before} there "
                f"before, {done.elsewhere} came from another process\n"
                f"next: goalrank benchmark table {out}"
            )


@app.command(
    "table",
    epilog=examples(
        "goalrank benchmark table runs/smoke",
        "goalrank benchmark table runs/ml1m --metric recall --latex",
    ),
)
@verb()
def table(
    folder: Folder,
    latex: Annotated[bool, typer.Option("--latex", help="LaTeX instead of Markdown.")] = False,
    metric: Annotated[
        str | None, typer.Option(help="What rows are ordered and tested by; default: the suite's.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Means and deviations over seeds, paired tests, and the cells that failed."""
    with only_json(as_json) as emit:
        import dataclasses

        import goalrank.studies.arena as bench

        leaderboards = bench.load_leaderboards(folder, metric)
        emit([dataclasses.asdict(leaderboard) for leaderboard in leaderboards])
        if not as_json:
            text = bench.latex(leaderboards) if latex else bench.markdown(leaderboards)
            typer.echo(text, nl=False)
            for warning in dict.fromkeys(
                w for leaderboard in leaderboards for w in leaderboard.warnings
            ):
                warn(warning)


@app.command("plot", epilog=examples("goalrank benchmark plot runs/ml1m --out figures"))
@verb()
def plot(
    folder: Folder,
    out: Annotated[Path | None, typer.Option(help="Default: figures/ in the folder.")] = None,
    metric: Annotated[str | None, typer.Option(help="Default: the suite's.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Number of generators against quality beside GoalRank, and all rows as bars."""
    with only_json(as_json) as emit:
        from goalrank.studies.arena import plot as draw

        _say(draw(folder, out, metric), emit, as_json)


@app.command("publish", epilog=examples("goalrank benchmark publish runs/ml1m --out results/ml1m"))
@verb()
def publish(
    folder: Folder,
    out: Annotated[Path, typer.Option(help="Where to; files of those names are replaced.")],
    as_json: JsonOption = False,
) -> None:
    """What is worth committing: the ledger in one file, tables, figures; no weights."""
    with only_json(as_json) as emit:
        from goalrank.studies.arena import publish as write

        _say(write(folder, out), emit, as_json)


@app.command(
    "card",
    epilog=examples(
        "goalrank benchmark card configs/suites/retrieved-ml1m.toml package.module:Mine "
        "--results results/retrieved-ml1m --out runs/mine",
        "goalrank benchmark card configs/suites/exposed-kuairand.toml two_tower "
        "--dataset kuairand-click --seeds 0,1,2 --option scale=2.0 --out runs/two-tower",
    ),
)
@verb("Interrupted; finished cells are kept: run the same command to go on.")
def card(
    suite: Annotated[Path, typer.Argument(help="A suite's TOML file.")],
    ranker: Annotated[str, typer.Argument(help="A ranker's name or package.module:Class.")],
    out: Annotated[Path, typer.Option(help="Folder for the run, card.json and card.md.")],
    dataset: Annotated[
        str | None, typer.Option(help="Board; needed where the suite has several data sets.")
    ] = None,
    seeds: Annotated[str, typer.Option(help="0,1,2; default: the suite's.")] = "",
    option: Annotated[
        list[str] | None, typer.Option(help="Option of the ranker: NAME=VALUE. Repeatable.")
    ] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(help="Row of the suite to run and test against; default: its main row."),
    ] = None,
    results: Annotated[
        Path | None, typer.Option(help="Published folder to compare with, such as results/NAME.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="Of the row; default: the name.")] = None,
    jobs: Annotated[int, typer.Option(help="Cells side by side; 0 = as cores allow.", min=0)] = 0,
    accelerator: Annotated[str, typer.Option(help="auto, cpu or gpu.")] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Run your ranker on a board, test it against ours, and write a card of what came out."""
    with only_json(as_json) as emit:
        from goalrank.studies.arena import card_suite, make_card
        from goalrank.studies.common import load_suite

        own = card_suite(
            load_suite(suite), ranker, dataset=dataset, label=label, seeds=_seeds(seeds),
            options={n: parse_value(v) for n, v in pairs(option or [], "--option").items()},
            beside=beside or (),
        )  # fmt: skip
        with progress_bar(f"card {own.name}") as bar:
            made = make_card(
                own, out, results=results, jobs=jobs, accelerator=accelerator, progress=bar
            )
        emit(made)
        if not as_json:
            typer.echo((out / "card.md").read_text(encoding="utf-8"), nl=False)


def _seeds(text: str) -> tuple[int, ...]:
    """Seeds of "0,1,2"; none of an empty text."""
    from goalrank.errors import ConfigError

    try:
        return tuple(int(part) for part in text.split(",") if text)
    except ValueError:
        raise ConfigError(
            f"seeds '{text}' must be whole numbers with commas between them, e.g. 0,1,2; "
            f"option: --seeds"
        ) from None


def _say(files: Sequence[Path], emit: Callable[[Any], None], as_json: bool) -> None:
    """Which files were written."""
    names = [str(path) for path in files]
    emit({"files": names})
    if not as_json:
        typer.echo("\n".join(names))
