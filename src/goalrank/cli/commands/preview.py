"""Command `goalrank data preview`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from goalrank.cli.common import JsonOption, busy, console, examples, only_json, verb, warn
from goalrank.cli.log_options import (
    ColumnsOption,
    FeaturesOption,
    FeedbackColumnsOption,
    FeedbackOption,
    KindsOption,
    LayoutOption,
    SetOption,
    TargetOption,
    TimezoneOption,
    log_options,
)
from goalrank.wording import counted

if TYPE_CHECKING:
    from goalrank.logs import ImportNotes, Preview


@verb()
def preview(
    file: Annotated[str, typer.Argument(help="File, folder of parts, glob (quoted) or address.")],
    columns: ColumnsOption = None,
    kinds: KindsOption = None,
    target: TargetOption = None,
    candidate_features: FeaturesOption = None,
    layout: LayoutOption = None,
    timezone: TimezoneOption = None,
    feedback: FeedbackOption = None,
    feedback_columns: FeedbackColumnsOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look at a log: what was found, three requests as imported, and the import command."""
    with only_json(as_json) as emit:
        from goalrank.logs import preview_log

        options = log_options(
            columns=columns, kinds=kinds, target=target, candidate_features=candidate_features,
            layout=layout, timezone=timezone, feedback=feedback,
            feedback_columns=feedback_columns, set_=set_,
        )  # fmt: skip
        with busy(f"reading {file}"):
            found = preview_log(file, options)
        emit(found.to_dict())
        if not as_json:
            _print(found)


def _print(found: Preview) -> None:
    from rich.text import Text

    from goalrank.logs import how_to_tell

    show = console(stderr=False)
    count, form = found.files
    show.print(Text(f"{count} {form} file{'s' * (count != 1)}", style="bold"))
    for name, value in found.facts.items():
        show.print(f"  {name:<24} {value}", soft_wrap=True)
    if found.click_rate:
        show.print("  answer rate by position  " + _rates(found.click_rate), soft_wrap=True)
    for what, value, option in found.notes.guesses:
        show.print(
            f"  guessed: {what} is {value}  (otherwise: {how_to_tell(option)})", soft_wrap=True
        )
    for what, number in found.notes.merged:
        show.print(f"  merged:  {number:,} {what}", soft_wrap=True)
    print_left_out(found.notes)
    for request in found.requests:
        _print_request(request)
    if found.problem is not None:
        warn(f"this cannot be imported yet: {found.problem}")
    ready = "to import it" if found.problem is None else "to import it, once that is mended"
    show.print(Text(f"\n{ready}", style="bold"))
    show.print(f"  {found.command}", soft_wrap=True)


def print_left_out(notes: ImportNotes) -> None:
    """Print what an import did not use, more than 5 % in yellow.

    Args:
        notes: of the import.
    """
    for part in notes.left_out:
        style = "yellow" if part.is_large else None
        console(stderr=False).print(f"  left out: {part}", style=style, soft_wrap=True)


def _rates(rates: dict[int, float]) -> str:
    return "  ".join(f"{position}: {rate:.2%}" for position, rate in rates.items())


def _print_request(request: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(
            f"request {request['request_id']} of user {request['user_id']} at {request['time']}, "
            f"{counted(request['candidates'], 'candidate')}"
        ),
        title_justify="left",
    )
    rows = request["rows"]
    for name in rows[0]:
        table.add_column(Text(name))
    for row in rows:
        table.add_row(*(Text(_plain(value)) for value in row.values()))
    console(stderr=False).print(table)


def _plain(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def add(app: typer.Typer) -> None:
    """Register the verb."""
    app.command(
        "preview",
        epilog=examples(
            "goalrank data preview clicks.csv",
            "goalrank data preview 'logs/*.parquet' --kinds click --timezone UTC",
        ),
    )(preview)
