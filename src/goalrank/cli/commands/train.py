"""Command `goalrank train`."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from goalrank.cli.common import (
    JsonOption,
    examples,
    only_json,
    say,
    show_progress,
    to_stderr,
    verb,
    warn,
)

if TYPE_CHECKING:
    from goalrank.training import FitConfig

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


@verb("Interrupted; finished stages and checkpoints are kept: run the same command with --resume.")
def train(
    data: Annotated[
        str,
        typer.Argument(
            help="Folder with train.parquet (and validation.parquet), or one Parquet file, whose "
            "last 5 % by time are held out as validation; a path, or s3://… and the like."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for run/ and bundle/.")],
    config: Annotated[
        str | None,
        typer.Option(
            help="Recipe: a TOML file, or the name of a shipped one; by default 'default', whose "
            "sizes and steps follow from the data."
        ),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override a setting: NAME=VALUE. Repeatable.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the job in --out.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start afresh in --out, whatever it holds.")
    ] = False,
    accelerator: Annotated[str, typer.Option(help="auto, cpu, gpu, …")] = "auto",
    devices: Annotated[str, typer.Option(help="auto, a number, or a list such as 0,1.")] = "auto",
    strategy: Annotated[
        str, typer.Option(help="ddp: whole models; fsdp: parameters spread over the processes.")
    ] = "auto",
    nodes: Annotated[
        int | None, typer.Option(help="Machines; by default as many as torchrun started.")
    ] = None,
    shard_items: Annotated[
        bool,
        typer.Option("--shard-items", help="Spread the rows of id tables over the processes."),
    ] = False,
    split_data: Annotated[
        bool,
        typer.Option("--split-data", help="Under torchrun: each process reads its own rows only."),
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="TensorBoard logs as well.")
    ] = False,
    compete: Annotated[
        bool,
        typer.Option(
            "--compete",
            help="Train linear, trees, PRM and GoalRank within --budget, choose on validation and "
            "leave the winner's bundle.",
        ),
    ] = False,
    budget: Annotated[
        str | None, typer.Option(help="With --compete: time for all of it, e.g. 90s, 10m, 1h.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train the light models, the reward model and the generator of a recipe."""
    with only_json(as_json) as emit:
        from goalrank.api import fit, learnt_beside, recipe_path
        from goalrank.cli.tables import read_training, training_paths
        from goalrank.recipes import DEFAULT
        from goalrank.storage import local_path
        from goalrank.training import is_first, load_config

        stages = ("training", "light_loop", "reward.loop") if shard_items else ()
        set_ = [*(set_ or []), *(f"{stage}.shard_items=true" for stage in stages)]
        settings = load_config(recipe_path(config or DEFAULT), set_)
        if compete or budget is not None:
            _refuse_beside_compete(compete, resume, split_data, devices, strategy, nodes)
            place = local_path(out, "out")
            emit(_compete(data, place, settings, budget or "10m", overwrite, accelerator, as_json))
            return
        requests, validation, said = training_paths(data) if split_data else read_training(data)
        if said is not None and is_first():
            say(said)
        with to_stderr():  # bars of the training library
            model = fit(
                requests,
                validation,
                config=settings,
                out=out,
                progress=show_progress(),
                resume=resume,
                overwrite=overwrite,
                accelerator=accelerator,
                devices=int(devices) if devices.isdigit() else devices,
                strategy=strategy,
                nodes=nodes,
                split_data=split_data,
                tensorboard=tensorboard,
                learnt=learnt_beside(data),
                say=say,
            )
        if not is_first():
            return
        seconds = model.fitted.seconds
        starts = {name: asdict(start) for name, start in model.fitted.starts.items()}
        emit(
            {
                "bundle": str(out / "bundle"),
                "seconds": seconds,
                "starts": starts,
                "notes": model.fitted.notes,
                "train": model.train,
            }
        )
        if not as_json:
            for name, start in model.fitted.starts.items():
                say(f"{name}: {start}")
            typer.echo(f"{model}\nwrote {out / 'bundle'} after {sum(seconds.values()):.0f} s")
        if model.train["warning"]:
            warn(model.train["warning"])


def _refuse_beside_compete(
    wanted: bool,
    resume: bool,
    split_data: bool,
    devices: str,
    strategy: str,
    nodes: int | None,
) -> None:
    from goalrank.errors import ConfigError

    if not wanted:
        raise ConfigError(
            "--budget limits a competition; remedy: add --compete, or set the steps of a single "
            "training (--set training.steps=…)"
        )
    given = {
        "--resume": resume,
        "--split-data": split_data,
        "--devices": devices not in ("auto", "1"),
        "--strategy": strategy != "auto",
        "--nodes": nodes is not None,
    }
    for option, is_given in given.items():
        if is_given:
            raise ConfigError(
                f"{option} does not go with --compete, which trains one model after the other in "
                f"one process; remedy: leave out {option}"
            )


def _compete(
    data: str,
    out: Path,
    settings: FitConfig,
    budget: str,
    overwrite: bool,
    accelerator: str,
    as_json: bool,
) -> dict[str, Any]:
    from goalrank.api import compete, learnt_beside
    from goalrank.cli.tables import read_training
    from goalrank.errors import DataError

    seconds = seconds_of(budget)
    requests, validation, said = read_training(data)
    if said is not None:
        say(said)
    if validation is None or len(validation) == 0:
        raise DataError(
            f"'{data}' has no validation.parquet, and a competition is decided on validation; "
            f"remedy: import with a validation part (--set fractions=[0.7,0.1,0.2])"
        )
    with to_stderr():  # bars of the training library
        result = compete(
            requests,
            validation,
            budget=seconds,
            config=settings,
            out=out,
            progress=show_progress(),
            overwrite=overwrite,
            accelerator=accelerator,
            learnt=learnt_beside(data),
            say=say,
        )
    if not as_json:
        typer.echo(f"{result}\nwrote {out / 'bundle'}")
    if result.model.train["warning"]:
        warn(result.model.train["warning"])
    return result.to_dict()


def seconds_of(duration: str) -> float:
    """Seconds of a duration such as "90s", "10m" or "1.5h"; a bare number is minutes.

    Raises:
        ConfigError: no such duration, or not above 0.
    """
    from goalrank.errors import ConfigError

    number, unit = (duration[:-1], duration[-1]) if duration[-1:] in _UNITS else (duration, "m")
    try:
        seconds = float(number) * _UNITS[unit]
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ConfigError(
            f"budget '{duration}' is no duration above 0; remedy: 90s, 10m or 1h; option: --budget"
        )
    return seconds


def add(app: typer.Typer) -> None:
    """Register the verb."""
    app.command(
        "train",
        epilog=examples(
            "goalrank train data/kuairand --out runs/first",
            "goalrank train data/mine --set training.steps=5000 --set ranker.preset=s --out runs/s",
            "goalrank train data/mine --config recipe.toml --out runs/first --resume",
            "goalrank train world.parquet --out runs/world",
            "goalrank train data/mine --compete --budget 10m --out runs/best",
            "torchrun --nproc-per-node 8 -m goalrank train data/mine --out runs/8 --strategy fsdp",
        ),
    )(train)
