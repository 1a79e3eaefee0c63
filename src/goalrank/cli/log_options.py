"""Options of the verbs that read a log, and the import settings that they make."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from goalrank.cli.common import pairs, parse_value

ColumnsOption = Annotated[
    list[str] | None,
    typer.Option("--columns", help="OURS=THEIRS: name of a column in the file. Repeatable."),
]
KindsOption = Annotated[
    str | None,
    typer.Option("--kinds", help="Feedback types of an exposures log, with commas: click,buy."),
]
TargetOption = Annotated[
    str | None, typer.Option("--target", help="The feedback type that counts as relevance.")
]
FeaturesOption = Annotated[
    str | None,
    typer.Option(
        "--candidate-features",
        help="Columns of numbers that are known when a list is made, with commas: price,stock.",
    ),
]
TextOption = Annotated[
    str | None,
    typer.Option(
        "--text",
        help="Columns of items.parquet whose texts become one vector per item, with commas: "
        "title,description (extra text).",
    ),
]
LayoutOption = Annotated[
    str | None,
    typer.Option(
        "--layout",
        help="rows (a row per item shown), lists (a row per request) or events (a row per event); "
        "default: found and said.",
    ),
]
TimezoneOption = Annotated[
    str | None,
    typer.Option("--timezone", help="Zone of times that carry none: UTC, Europe/Paris, …"),
]
FeedbackOption = Annotated[
    str | None,
    typer.Option("--feedback", help="A second file with the answers: request or user, item, time."),
]
FeedbackColumnsOption = Annotated[
    list[str] | None,
    typer.Option("--feedback-columns", help="OURS=THEIRS for that file. Repeatable."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any other import option: NAME=VALUE. Repeatable."),
]
_LISTS = ("kinds", "candidate_features", "features", "fractions", "header", "text")


def log_options(
    *,
    columns: list[str] | None,
    kinds: str | None,
    candidate_features: str | None,
    feedback_columns: list[str] | None,
    set_: list[str] | None,
    text: str | None = None,
    **plain: Any,
) -> dict[str, Any]:
    """Import settings from the options of a command; what was not given is not in them.

    Args:
        columns: OURS=THEIRS.
        kinds: names with commas.
        candidate_features: names with commas.
        feedback_columns: OURS=THEIRS.
        set_: NAME=VALUE.
        text: names with commas.
        plain: settings that are taken as they are.

    Raises:
        ConfigError: a value without "=".
    """
    given: dict[str, Any] = {
        **plain,
        "columns": pairs(columns or [], "--columns") or None,
        "kinds": _names(kinds),
        "candidate_features": _names(candidate_features),
        "text": _names(text),
        "feedback_columns": pairs(feedback_columns or [], "--feedback-columns") or None,
    }
    options = {name: value for name, value in given.items() if value is not None}
    for name, text in pairs(set_ or [], "--set").items():
        value = parse_value(text)
        listed = name in _LISTS and isinstance(value, str)
        options[name] = (
            [parse_value(part.strip()) for part in value.split(",")] if listed else value
        )
    return options


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())
