"""Command `goalrank theory`: the theorem and the bound, on worlds that can be enumerated."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from goalrank.cli.common import JsonOption, console, examples, only_json, verb

app = typer.Typer(help="The theory, computed on tiny worlds.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps `run` a verb of its own while it is the only one."""


@app.command(
    "run",
    epilog=examples(
        "goalrank theory run --out theory-out", "goalrank theory run --starts 16 --out theory-out"
    ),
)
@verb()
def run(
    out: Annotated[Path, typer.Option(help="Folder for theory.json and the figures.")],
    seed: Annotated[int, typer.Option(help="Of worlds, starts and groups.")] = 0,
    starts: Annotated[
        int,
        typer.Option(
            help="Random starts per fit. Fits are not convex: more starts take longer in proportion "
            "and mostly find lower errors, not always, as a wider fit also begins as the narrower one.",
            min=1,
            max=64,
        ),
    ] = 2,
    jobs: Annotated[int, typer.Option(help="Fits side by side; 0 = as cores allow.", min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """Fit the families, check the theorem and the evidence bound; some six minutes on two cores."""
    with only_json(as_json) as emit:
        from goalrank.compute import usable_cores
        from goalrank.studies.theory import FitOptions, LabConfig
        from goalrank.studies.theory import run as run_laboratory

        screen = console()
        results = run_laboratory(
            out,
            seed=seed,
            progress=screen.print,
            config=LabConfig(fit=FitOptions(starts=starts)),
            # A fit has as many random starts as asked for, and up to two from smaller fits.
            jobs=jobs or min(usable_cores(), starts + 2),
        )
        emit(results)
        if not as_json:
            for name, count in results["counts"].items():
                typer.echo(f"{name.replace('_', ' '):<32} {count:,}")
            typer.echo(f"wrote {out / 'theory.json'} and its figures")
