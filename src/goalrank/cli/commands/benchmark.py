"""Commands `goalrank benchmark`: run, table, plot, publish."""

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
    progress_bar,
    renamed,
    verb,
    warn,
)

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
                f"{done.ran} cells run, {done.failed} of them failed; {done.before} were there "
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


def _say(files: Sequence[Path], emit: Callable[[Any], None], as_json: bool) -> None:
    """Which files were written."""
    names = [str(path) for path in files]
    emit({"files": names})
    if not as_json:
        typer.echo("\n".join(names))
