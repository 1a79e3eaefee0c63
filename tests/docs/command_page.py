"""The reference page of the command line, from the declarations of its verbs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from goalrank.cli import app
from tests.docs.markdown import table
from tests.docs.settings_pages import type_text


def commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The command and all below it, each with the words that call it."""
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, f"{path} {name}")


def _text(text: str | None) -> str:
    """A help text on one line: its markup for the terminal taken off, `|` kept apart from cells."""
    return " ".join((text or "").replace("\\[", "[").split()).replace("|", "\\|")


def _default(parameter: Any) -> str:
    if parameter.required:
        return "must be given"
    shown = parameter.show_default
    value = shown if isinstance(shown, str) else parameter.default
    empty = value is None or value is False or value == () or value == [] or callable(value)
    return "" if empty else f"`{getattr(value, 'value', value)}`"


def _row(parameter: Any) -> tuple[str, ...]:
    is_option = parameter.param_type_name == "option"
    names = parameter.opts if is_option else [(parameter.metavar or parameter.name).upper()]
    kind = type_text(parameter.type_descriptor.annotation)
    names = ", ".join(f"`{name}`" for name in (*names, *parameter.secondary_opts))
    return names, "flag" if kind == "bool" else kind, _default(parameter), _text(parameter.help)


def _section(path: str, command: Any) -> str:
    rows = [_row(each) for each in command.params if not getattr(each, "hidden", False)]
    examples = [line for line in (command.epilog or "").splitlines() if line.startswith("$ ")]
    parts = [f"{'##' if path.count(' ') < 2 else '###'} {path}", _text(command.help)]
    if rows:
        parts.append(table(("argument or option", "type", "default", "meaning"), rows).rstrip())
    if examples:
        lines = "\n".join(line.removeprefix("$ ").replace("\\[", "[") for line in examples)
        parts.append(f"```sh\n{lines}\n```")
    return "\n\n".join(parts) + "\n"


def command_line() -> str:
    found = [each for each in commands(get_command(app), "goalrank") if not each[1].hidden]
    links = (
        (f"[`{path}`](#{path.replace(' ', '-')})", _text(command.help).partition(". ")[0])
        for path, command in found
        if not hasattr(command, "commands")
    )
    return (
        "# Command line\n\n"
        "`goalrank VERB --help` prints the same in a terminal. Exit codes: 2 a setting, 3 data, "
        "4 a bundle, 5 a download, 6 a missing extra, 8 the store, 9 a worker or object store, "
        "10 memory ran out, 20 a check that did not pass, 130 interrupted.\n\n"
        + table(("command", "what it does"), links)
        + "\n"
        + "\n".join(_section(path, command) for path, command in found)
    )
