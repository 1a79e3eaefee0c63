"""Command `goalrank theory`: the theorem and the bound, on worlds that can be enumerated."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from goalrank.cli.common import JsonOption, console, examples, only_json, verb

app = typer.Typer(help="The theory, computed on tiny worlds.", no_args_is_help=True)

_MOST_JOBS = 4  # a fit has no more starts than this at most widths


@app.callback()
def _group() -> None:
    """Keeps `run` a verb of its own while it is the only one."""


@app.command("run", epilog=examples("goalrank theory run --out theory-out"))
@verb()
def run(
    out: Annotated[Path, typer.Option(help="Folder for theory.json and the figures.")],
    seed: Annotated[int, typer.Option(help="Of worlds, starts and groups.")] = 0,
    jobs: Annotated[int, typer.Option(help="Fits side by side; 0 = as cores allow.", min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """Fit the families, check the theorem and the evidence bound; about five minutes on two cores."""
    with only_json(as_json) as emit:
        from goalrank.compute import usable_cores
        from goalrank.studies.theory import run as run_laboratory

        screen = console()
        results = run_laboratory(
            out, seed=seed, progress=screen.print, jobs=jobs or min(usable_cores(), _MOST_JOBS)
        )
        emit(results)
        if not as_json:
            for name, count in results["counts"].items():
                typer.echo(f"{name.replace('_', ' '):<32} {count:,}")
            typer.echo(f"wrote {out / 'theory.json'} and its figures")
