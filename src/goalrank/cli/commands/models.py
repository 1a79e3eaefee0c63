"""Command `goalrank models`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from goalrank.cli.common import JsonOption, console, examples, only_json, verb
from goalrank.wording import counted

if TYPE_CHECKING:
    from goalrank.models import Version

app = typer.Typer(help="Versions of a model: what serves, and why.", no_args_is_help=True)
FOUND_BAD = 20  # exit code: looked, and found something bad; errors have other codes

ModelsOption = Annotated[
    Path, typer.Option("--models", envvar="GOALRANK_MODELS", help="Folder of the model registry.")
]
VersionArgument = Annotated[str, typer.Argument(help="Number, or champion, canary, previous.")]
ReasonOption = Annotated[str, typer.Option(help="Why; kept in the history.")]


@app.command("list", epilog=examples("goalrank models list --models models"))
@verb()
def list_(models: ModelsOption, as_json: JsonOption = False) -> None:
    """All versions: state, data, the gate's decision."""
    with only_json(as_json) as emit:
        from goalrank.models import ModelRegistry

        registry = ModelRegistry(models)
        found = registry.versions()
        pointers = registry.history().pointers
        emit({"pointers": pointers, "versions": [_plain(version) for version in found]})
        if not as_json:
            _print_list(found, dict(pointers.items()))


@app.command(epilog=examples("goalrank models show champion --models models"))
@verb()
def show(version: VersionArgument, models: ModelsOption, as_json: JsonOption = False) -> None:
    """One version: its data, the gate's figures and every reason, its promotions."""
    with only_json(as_json) as emit:
        from goalrank.models import ModelRegistry

        registry = ModelRegistry(models)
        found = registry.get(version)
        moves = [m for m in registry.history().moves if m.version == found.number]
        emit({**_plain(found), "moves": [move.model_dump(mode="json") for move in moves]})
        if not as_json:
            _print_version(found)
            for move in moves:
                why = f" ({move.reason})" if move.reason else ""
                typer.echo(f"{move.time:%Y-%m-%d %H:%M:%S} {move.kind} to {move.pointer}{why}")


@app.command(
    epilog=examples(
        "goalrank models add runs/first --trained-from 2026-10-01 --trained-to 2026-11-01 --models models",
        "goalrank models promote 1 --models models",
    )
)
@verb()
def add(
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle, or of a training.")],
    models: ModelsOption,
    trained_from: Annotated[
        datetime | None, typer.Option(help="Time (UTC) of the first request it was trained on.")
    ] = None,
    trained_to: Annotated[
        datetime | None,
        typer.Option(help="Time (UTC) of the last one; goalrank retrain judges on later requests."),
    ] = None,
    note: Annotated[str, typer.Option(help="Kept with the version.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Register a bundle that was trained elsewhere; promote it to have it served."""
    with only_json(as_json) as emit:
        from goalrank.models import DataRange, ModelRegistry

        trained = None
        if trained_to is not None:
            last = _utc(trained_to)
            first = last if trained_from is None else _utc(trained_from)
            trained = DataRange(first=first, last=last, requests=0)
        done = ModelRegistry(models).adopt(bundle, trained=trained, note=note)
        emit(_plain(done))
        if not as_json:
            typer.echo(f"version {done.number} of '{models}' is a copy of '{bundle}'")


@app.command(
    epilog=examples(
        "goalrank models promote 4 --models models --reason 'the canary held'",
        "goalrank models promote 5 --pointer canary --models models",
    )
)
@verb()
def promote(
    version: VersionArgument,
    models: ModelsOption,
    pointer: Annotated[
        str, typer.Option(help="champion; or canary, which an experiment may serve to some users.")
    ] = "champion",
    reason: ReasonOption = "",
    force: Annotated[
        bool, typer.Option("--force", help="Also a version that the gate turned down.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Have servers serve a version from now on."""
    with only_json(as_json) as emit:
        from goalrank.errors import ConfigError
        from goalrank.models import ModelRegistry

        if pointer not in ("champion", "canary"):
            raise ConfigError(
                f"pointer is '{pointer}', but must be champion or canary; option: pointer"
            )
        where: Any = pointer
        done = ModelRegistry(models).promote(version, pointer=where, reason=reason, force=force)
        emit(_plain(done))
        if not as_json:
            typer.echo(f"version {done.number} is the {pointer} of '{models}'")


@app.command(epilog=examples("goalrank models rollback --models models --reason 'clicks fell'"))
@verb()
def rollback(models: ModelsOption, reason: ReasonOption = "", as_json: JsonOption = False) -> None:
    """Have the champion before serve again."""
    with only_json(as_json) as emit:
        from goalrank.models import ModelRegistry

        done = ModelRegistry(models).rollback(reason)
        emit(_plain(done))
        if not as_json:
            typer.echo(f"version {done.number} is the champion of '{models}' again")


@app.command(epilog=examples("goalrank models diff previous champion --models models"))
@verb()
def diff(
    before: VersionArgument,
    after: VersionArgument,
    models: ModelsOption,
    as_json: JsonOption = False,
) -> None:
    """What differs between two versions: settings, code, data and figures."""
    with only_json(as_json) as emit:
        from goalrank.models import ModelRegistry, compare_versions

        registry = ModelRegistry(models)
        old, new = registry.get(before), registry.get(after)
        changes = compare_versions(old, new)
        emit([{"name": c.name, "before": c.before, "after": c.after} for c in changes])
        if not as_json:
            typer.echo(
                f"version {old.number} -> version {new.number}: {counted(len(changes), 'difference')}"
            )
            for change in changes:
                typer.echo(str(change))


@app.command(
    epilog=examples(
        "goalrank models check --models models --experiments experiments.toml",
    )
)
@verb()
def check(
    models: ModelsOption,
    experiments: Annotated[Path, typer.Option(help="The TOML file that the server reads.")],
    store: Annotated[
        str, typer.Option(envvar="GOALRANK_STORE", help="The server's store.")
    ] = "sqlite:///goalrank.db",
    start: Annotated[
        datetime | None,
        typer.Option(help="Exposures from this time (UTC) on; default: since the promotion."),
    ] = None,
    confidence: Annotated[float, typer.Option(help="Of intervals.", min=0.5, max=0.999)] = 0.95,
    expected_lift: Annotated[
        float,
        typer.Option(help="The lift at which intervals are tight. Keep it from look to look."),
    ] = 0.05,
    as_json: JsonOption = False,
) -> None:
    """Name a champion or canary that breaks a guardrail online: exit code 20."""
    with only_json(as_json) as emit:
        from goalrank.api import check_online

        found = check_online(
            models, store, experiments, start=None if start is None else _utc(start),
            confidence=confidence, expected_lift=expected_lift,
        )  # fmt: skip
        emit([each.to_dict() for each in found])
        if not as_json:
            for each in found:
                typer.echo(str(each))
    if any(each.breaches for each in found):
        raise typer.Exit(FOUND_BAD)


def _plain(version: Version) -> dict[str, Any]:
    return {
        "state": version.state,
        "folder": str(version.folder),
        **version.record.model_dump(mode="json"),
    }


def _print_list(found: list[Version], pointers: dict[str, int]) -> None:
    from rich.table import Table

    table = Table()
    for name in ("version", "state", "trained to", "parent", "gate"):
        table.add_column(name, no_wrap=name in ("version", "trained to"))
    for each in found:
        record = each.record
        trained = "unknown" if record.trained is None else f"{record.trained.last:%Y-%m-%d %H:%M}"
        at = [name for name, number in pointers.items() if number == each.number]
        if "champion" in at:  # canary and previous lead to it where there is no other
            at = ["champion"]
        led = [name for name in at if name != each.state]
        table.add_row(
            str(each.number), ", ".join([each.state, *led]), trained, "" if record.parent is None else str(record.parent), _decision(each),
        )  # fmt: skip
    console(stderr=False).print(table if found else "no version yet")


def _decision(version: Version) -> str:
    record = version.record
    if record.accepted is None:
        return record.note or "none"
    failed = [reason.check for reason in record.reasons if reason.passed is False]
    return "passed" if record.accepted else f"refused: {', '.join(dict.fromkeys(failed))}"


def _print_version(version: Version) -> None:
    record = version.record
    typer.echo(f"version {version.number}, {version.state}, served as {version.policy}")
    typer.echo(f"made {record.created:%Y-%m-%d %H:%M} by goalrank {record.code.goalrank}, "
               f"{record.start}; bundle in {version.folder}")  # fmt: skip
    for name, data in (("trained", record.trained), ("judged", record.judged)):
        if data is not None:
            typer.echo(
                f"{name} on {counted(data.requests, 'request')}, {data.first:%Y-%m-%d %H:%M} to "
                f"{data.last:%Y-%m-%d %H:%M}"
            )
    if record.note:
        typer.echo(record.note)
    for figure in record.figures:
        typer.echo(str(figure))
    marks = {False: "REFUSED", None: "not checked", True: "passed"}  # what matters first
    for reason in sorted(record.reasons, key=lambda each: list(marks).index(each.passed)):
        typer.echo(f"{marks[reason.passed]} {reason.check}: {reason.said}")


def _utc(time: datetime) -> datetime:
    return time if time.tzinfo else time.replace(tzinfo=UTC)
