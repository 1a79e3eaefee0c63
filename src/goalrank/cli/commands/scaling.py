"""Command `goalrank scaling`: parameters × data × group size as a grid, and the law in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from goalrank.cli.common import JsonOption, busy, examples, only_json, progress_bar, verb, warn
from goalrank.wording import counted

app = typer.Typer(help="How quality grows with parameters and data.", no_args_is_help=True)


@app.command(
    "run",
    epilog=examples(
        "goalrank scaling run configs/scaling/smoke.toml --out runs/scaling-smoke",
        "goalrank scaling run configs/scaling/cpu.toml --out runs/scaling --retry",
    ),
)
@verb("Interrupted; finished cells are kept: run the same command to go on.")
def run(
    suite: Annotated[Path, typer.Argument(help="A scaling suite's TOML file.")],
    out: Annotated[Path, typer.Option(help="Folder for the ledger and shared parts.")],
    retry: Annotated[bool, typer.Option("--retry", help="Run failed cells again.")] = False,
    accelerator: Annotated[str, typer.Option(help="auto, cpu or gpu.")] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Run the cells of the grid that are missing; safe to kill, to repeat and to run in parallel."""
    with only_json(as_json) as emit:
        import dataclasses

        from goalrank.studies.scaling import load_scaling, run_scaling, said_failures

        settings = load_scaling(suite)
        with progress_bar(f"scaling {settings.name}") as bar:
            done = run_scaling(settings, out, retry=retry, accelerator=accelerator, progress=bar)
        if done.reasons:
            warn(said_failures(done.reasons))
        emit(dataclasses.asdict(done))
        if not as_json:
            typer.echo(
                f"{counted(done.ran, 'cell')} run, {done.failed} of them failed; {done.before} there "
                f"before, {done.elsewhere} at work elsewhere\nnext: goalrank scaling fit {out}"
            )


@app.command("fit", epilog=examples("goalrank scaling fit runs/scaling --out results/scaling"))
@verb()
def fit(
    folder: Annotated[Path, typer.Argument(help="Folder that `goalrank scaling run` wrote.")],
    out: Annotated[
        Path | None, typer.Option(help="For fit.json, scaling.md and figures; default: FOLDER.")
    ] = None,
    bootstrap: Annotated[int, typer.Option(help="Resamples of the intervals.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the resamples.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Fit L(P, D) = E + A·P^-α + B·D^-β; where no law shows, say so and draw none."""
    with only_json(as_json) as emit:
        from goalrank.studies.scaling import fit_scaling

        with busy("fitting"):
            result = fit_scaling(folder, out, bootstrap=bootstrap, seed=seed)
        emit(result)
        if not as_json:
            place = folder if out is None else out
            typer.echo((place / "scaling.md").read_text(encoding="utf-8").rpartition("\n\n")[0])
            failed = f", {len(result['failed'])} failed" if result["failed"] else ""
            typer.echo(
                f"\n{counted(result['cells'], 'cell')}{failed}; wrote {place / 'fit.json'} and figures"
            )


@app.command(
    "table",
    epilog=examples(
        "goalrank scaling table runs/million",
        "goalrank scaling table runs/levers runs/levers-uniform --out results/levers/table.md "
        "--figure results/levers/gains.svg --against goalrank",
        "goalrank scaling table runs/million-k runs/million-known --against goalrank --by-k by-k.svg",
    ),
)
@verb()
def table(
    folders: Annotated[list[Path], typer.Argument(help="Folders of `goalrank scaling run`.")],
    out: Annotated[Path | None, typer.Option(help="Markdown file to write as well.")] = None,
    figure: Annotated[
        Path | None,
        typer.Option(
            help="SVG or PNG file to draw every row's regret in; with --against, its gain."
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(help="A row's label: every row's gain over it, on the seeds both have."),
    ] = None,
    by_k: Annotated[
        Path | None,
        typer.Option(
            help="SVG or PNG file: regret over the lists that the reward model chooses from, with "
            "--against's row as a level line."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Rows side by side: true reward, share of what there is to win, and what the regret is made of."""
    with only_json(as_json) as emit:
        from goalrank.storage import write_text
        from goalrank.studies.scaling import (
            draw_by_k,
            draw_scaling_table,
            scaling_markdown,
            scaling_table,
        )

        _check_outputs(out, {"--figure": figure, "--by-k": by_k})
        _warn_of_failures(folders)
        result = scaling_table(folders, against=against)
        text = scaling_markdown(result)
        if out is not None:
            write_text(out, text)
        if figure is not None:
            draw_scaling_table(result, figure)
        if by_k is not None:
            draw_by_k(result, by_k, level=against)
        emit(result.to_dicts())
        if not as_json:
            typer.echo(text if out is None else f"{text}\nwrote {out}")


@app.command(
    "quality",
    epilog=examples(
        "goalrank scaling quality runs/known-k runs/cpu-known",
        "goalrank scaling quality runs/million-k runs/redrawn --out quality.md --figure quality.svg",
    ),
)
@verb()
def quality(
    folders: Annotated[
        list[Path],
        typer.Argument(help="Folders of `goalrank scaling run`, of one or several worlds."),
    ],
    out: Annotated[Path | None, typer.Option(help="Markdown file to write as well.")] = None,
    figure: Annotated[
        Path | None, typer.Option(help="SVG or PNG file: gain over each evaluator by quality.")
    ] = None,
    against: Annotated[
        str, typer.Option(help="Label of the row that answers without an evaluator.")
    ] = "goalrank",
    as_json: JsonOption = False,
) -> None:
    """How right a reward model must be for one generator to beat an evaluator with many lists."""
    with only_json(as_json) as emit:
        from goalrank.storage import write_text
        from goalrank.studies.scaling import (
            break_even,
            draw_by_quality,
            evaluators_by_quality,
            quality_markdown,
        )

        _check_outputs(out, {"--figure": figure})
        _warn_of_failures(folders)
        result = evaluators_by_quality(folders, against=against)
        text = quality_markdown(result, against=against)
        if out is not None:
            write_text(out, text)
        if figure is not None:
            draw_by_quality(result, figure, against=against)
        emit({"break_even": asdict(break_even(result)), "rows": result.to_dicts()})
        if not as_json:
            typer.echo(text if out is None else f"{text}\nwrote {out}")


def _check_outputs(out: Path | None, figures: Mapping[str, Path | None]) -> None:
    """Refuse what would fail or be replaced after a part was written.

    Raises:
        ConfigError: a figure's file of another kind, or two options that name one file.
    """
    from goalrank.errors import ConfigError
    from goalrank.reporting import figure_kind

    seen: dict[Path, str] = {}
    for option, file in {"--out": out, **figures}.items():
        if file is None:
            continue
        if option in figures:
            figure_kind(file)
        first = seen.setdefault(file.resolve(), option)
        if first != option:
            raise ConfigError(
                f"{first} and {option} both name '{file}', so one would replace the other; remedy: "
                f"two names (option: {option})"
            )


def _warn_of_failures(folders: list[Path]) -> None:
    """Say which cells the result is without."""
    from goalrank.studies.scaling import failures, said_failures

    if reasons := failures(folders):
        warn(f"the table is without what failed: {said_failures(reasons)}")
