"""What verbs share: errors to one red screen, results to stdout, the rest to stderr."""

from __future__ import annotations

import functools
import math
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from threading import Timer
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from goalrank.errors import GoalRankError, OutOfMemoryError, is_out_of_memory
from goalrank.wording import counted

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from goalrank.api import Scorecard

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
_FRAME = 3  # characters of a table around the text of a column
_QUIET_S = 30.0  # without a terminal nothing is said for so long
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
_INTERNAL = 70  # EX_SOFTWARE

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON value on stdout and nothing else there.")
]

ExecutorOption = Annotated[
    str,
    typer.Option(
        help="local: this machine, nothing else needed; ray: a Ray cluster (extra [ray]), that of "
        "RAY_ADDRESS or one of this machine's cores."
    ),
]
AllowOption = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-plugin",
        help="Package beside goalrank whose ranker or reward a bundle may load. Repeatable; also "
        "GOALRANK_ALLOW_PLUGINS=PACKAGE,…",
        metavar="PACKAGE",
    ),
]
EngineOption = Annotated[
    str | None, typer.Option("--engine", hidden=True, help="Earlier name of --executor.")
]
WorkersOption = Annotated[
    int, typer.Option(help="Parts at once; 0 = one per core, or as many as the cluster has.", min=0)
]


@dataclass
class Settings:
    """Set by options before the verb."""

    debug: bool = False


settings = Settings()


def renamed(value: T, earlier: T | None, old: str, new: str) -> T:
    """The value of an option that had another name, with a warning where that one was given.

    Args:
        value: what the option of today says.
        earlier: what the option of the earlier name says; None where it was not given.
        old: earlier name, e.g. "--engine".
        new: name of today, e.g. "--executor".
    """
    if earlier is None:
        return value
    say(f"{old} is now called {new}; the earlier name goes with the next release", "yellow")
    return earlier


def console(*, stderr: bool = True) -> Console:
    """A console to which no text is markup: square brackets in names and paths are printed."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def say(text: str, style: str = "") -> None:
    """Print a message for people, on stderr; lines are not broken."""
    if style:
        console().print(text, style=style, soft_wrap=True)
    else:
        typer.echo(text, err=True)  # without rich, which takes a moment to load


def warn(text: str) -> None:
    """Print a warning for people, on stderr."""
    say(f"Warning: {text}", "yellow")


def examples(*lines: str) -> str:
    """Return an epilog of commands, one per line."""
    return "\n\n".join(["Examples", *(f"$ {line}" for line in lines)])


_TAG = re.compile(r"(\\*)(\[[a-z#/@][^[]*?\])")  # what rich takes for markup


def escape_help(command: Any) -> None:
    """Make the help texts of a command and of all below it literal.

    The parser's help is laid out by rich, which takes "[ray]" for markup and leaves it out.

    Args:
        command: made by typer; its texts are changed in place.
    """
    for each in (command, *command.params):
        for name in ("help", "short_help", "epilog"):
            if text := getattr(each, name, None):
                setattr(each, name, _TAG.sub(r"\1\1\\\2", text))
    for below in getattr(command, "commands", {}).values():
        escape_help(below)


def verb(interrupted: str = "Interrupted; nothing was written.") -> Callable[[F], F]:
    """Turn errors of a command into one screen and an exit code.

    Args:
        interrupted: said on Ctrl-C.
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            try:
                with _own_warnings_said():
                    return function(*args, **{n: _on_disk(v, n) for n, v in kwargs.items()})
            except KeyboardInterrupt:
                say(interrupted, "yellow")
                raise typer.Exit(INTERRUPTED) from None
            except (typer.Exit, typer.Abort):
                raise
            except GoalRankError as error:
                _fail(str(error), error.exit_code)
            except Exception as error:
                if is_out_of_memory(error):
                    said = OutOfMemoryError(_first_line(error))
                    _fail(str(said), said.exit_code)
                if isinstance(error, FloatingPointError | OSError):
                    _fail(str(error) or type(error).__name__, 1)
                text = f"{type(error).__name__}: {error}"
                _fail(
                    f"{text}\nThis is a fault of goalrank; goalrank --debug shows where", _INTERNAL
                )

        return run  # type: ignore[return-value]

    return decorate


def _on_disk(value: Any, name: str) -> Any:
    """A parameter's value; paths are of this machine. Parameters that take addresses are texts.

    Raises:
        ConfigError: an address where a path is needed.
    """
    from goalrank.storage import local_path

    if isinstance(value, list):
        return [_on_disk(each, name) for each in value]
    return local_path(value, name.replace("_", "-")) if isinstance(value, Path) else value


@contextmanager
def _own_warnings_said() -> Iterator[None]:
    """Print goalrank's own warnings as a line for people, others as usual."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *more: Any, **named: Any) -> None:
            if category.__module__.startswith("goalrank."):
                warn(str(message))
            else:
                usual(message, category, *more, **named)

        warnings.showwarning = show
        yield


def _first_line(error: Exception) -> str:
    """What a library says, without the place in its own source."""
    line = next(iter(str(error).splitlines()), "") or type(error).__name__
    return re.sub(r"^\[enforce fail[^]]*\][^.]*\. ", "", line)


def _fail(text: str, code: int) -> None:
    if settings.debug:
        raise  # noqa: PLE0704  called where an error is handled
    say(text, "red")
    raise typer.Exit(code) from None


@contextmanager
def only_json(wanted: bool) -> Iterator[Callable[[Any], None]]:
    """Give a function that prints the result.

    With `wanted`, all else that is printed meanwhile goes to stderr; without, nothing is printed
    by the function.
    """
    if not wanted:
        yield lambda value: None
        return
    from goalrank.storage import json_text

    stdout = sys.stdout

    def emit(value: Any) -> None:
        stdout.write(json_text(value) + "\n")
        stdout.flush()

    with to_stderr():
        yield emit


@contextmanager
def to_stderr() -> Iterator[None]:
    """What is printed meanwhile is for people: it goes to stderr."""
    with redirect_stdout(sys.stderr):
        yield


def show_progress() -> bool:
    """Whether somebody looks: bars go to terminals only."""
    return sys.stderr.isatty() and not os.environ.get("GOALRANK_NO_PROGRESS")


@contextmanager
def progress_bar(text: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, moved by calls with (done, in all); without a terminal a line every 30 s."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console(),
        transient=True,
        disable=not show_progress(),
    ) as bar:
        task, said = bar.add_task(text, total=None), monotonic()

        def moved(done: int, total: int) -> None:
            nonlocal said
            bar.update(task, completed=done, total=total)
            if bar.disable and monotonic() - said >= _QUIET_S:
                said = monotonic()
                typer.echo(f"{text}: {done} of {total}", err=True)

        yield moved


@contextmanager
def busy(text: str) -> Iterator[None]:
    """A spinner on stderr for what cannot tell how far it is; a late line without a terminal."""
    from rich.text import Text

    if show_progress():
        with console().status(Text(text)):
            yield
        return
    late = Timer(_QUIET_S, typer.echo, (f"{text} …",), {"err": True})
    late.daemon = True
    late.start()
    try:
        yield
    finally:
        late.cancel()


def print_scorecard(
    card: Scorecard, metric: str = "ndcg", baselines: int = 5, *, verdict: bool = True
) -> None:
    """A table of rankers and the best baselines, the warning, and the audit's sentences.

    Args:
        card: what was measured.
        metric: of the first column.
        baselines: at most so many.
        verdict: print the audit's first sentence too.
    """
    from rich.table import Table

    out = console(stderr=False)
    if card.warning:
        out.print(f"Warning: {card.warning}", style="bold yellow")
    both = card.both
    main = both.metric_name(metric)
    trained = [] if card.trained is None else card.trained.rankers
    order = card.shown(metric, baselines)
    columns = {
        name: [_cell(both.summaries[ranker].get(name), name == main) for ranker in order]
        for name in [main, *(m for m in both.metrics if m != main)]
    }
    widths = {name: max(len(name), *map(len, cells)) for name, cells in columns.items()}
    kinds = ["trained" if ranker in trained else "baseline" for ranker in order]
    longest = max(map(len, ["ranker", *order]))
    shown = _that_fit(widths, out.width - 2 * _FRAME - max(map(len, kinds)) - longest - 1)
    left = len(both.rankers) - len(order)
    table = Table(caption=f"{counted(left, 'weaker baseline')} not shown" if left else None)
    table.add_column("ranker", overflow="fold")  # a long name goes on in the next line
    table.add_column("kind", no_wrap=True, min_width=max(map(len, kinds)))
    for name in shown:
        table.add_column(name, justify="right", no_wrap=True, min_width=widths[name])
    for i, ranker in enumerate(order):
        table.add_row(ranker, kinds[i], *(columns[name][i] for name in shown))
    out.print(table)
    first, *others = card.verdict
    if verdict:
        out.print(first, style="bold")
    for sentence in others:
        out.print(sentence)


def _that_fit(widths: Mapping[str, int], room: int) -> list[str]:
    """The first columns, at least one, that fit beside the others without cutting anything.

    Args:
        widths: of the columns' texts, in their order.
        room: for them and their frames.
    """
    ends = accumulate(width + _FRAME for width in widths.values())
    return [name for i, (name, end) in enumerate(zip(widths, ends)) if i == 0 or end <= room]


def print_lines(lines: Mapping[str, str]) -> None:
    """Print sentences under one another, their names in front."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")  # a long path goes on in the next line
    for name, sentence in lines.items():
        table.add_row(name, sentence)
    console(stderr=False).print(table)


def _cell(interval: Any, full: bool) -> Text:
    from rich.text import Text

    if interval is None or not math.isfinite(interval.mean):
        return Text("–")
    cell = Text(f"{interval.mean:.3f}")
    if full and math.isfinite(interval.high - interval.low):
        cell.append(f" {interval.low:.3f}–{interval.high:.3f}", style="dim")
    return cell


def parse_value(text: str) -> Any:
    """A TOML value, or the text itself where it is none."""
    import tomllib

    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def pairs(values: list[str], option: str) -> dict[str, str]:
    """NAME=VALUE options as a dictionary.

    Raises:
        ConfigError: one without a name or an equals sign.
    """
    from goalrank.errors import ConfigError

    out = {}
    for value in values:
        name, equals, right = value.partition("=")
        if not equals or not name.strip() or not right.strip():
            raise ConfigError(f"{option} '{value}' must read NAME=VALUE; option: {option}")
        out[name.strip()] = right.strip()
    return out
