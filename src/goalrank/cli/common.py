"""What verbs share: errors to one red screen, results to stdout, the rest to stderr."""

from __future__ import annotations

import functools
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from goalrank.errors import GoalRankError

if TYPE_CHECKING:
    from rich.console import Console

    from goalrank.api import Scorecard

F = TypeVar("F", bound=Callable[..., Any])
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
_INTERNAL = 70  # EX_SOFTWARE

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON value on stdout and nothing else there.")
]

EngineOption = Annotated[
    str,
    typer.Option(
        help="local: this machine, nothing else needed; ray: a Ray cluster (extra [ray]), that of "
        "RAY_ADDRESS or one of this machine's cores."
    ),
]
WorkersOption = Annotated[
    int, typer.Option(help="Parts at once; 0 = one a core, or as many as the cluster has.", min=0)
]


@dataclass
class Settings:
    """Set by options before the verb."""

    debug: bool = False


settings = Settings()


def console() -> Console:
    """Where people read along: stderr."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def examples(*lines: str) -> str:
    """An epilog of commands, one a line."""
    return "\n\n".join(["[bold]Examples[/bold]", *(f"[dim]$[/dim] {line}" for line in lines)])


def verb(interrupted: str = "Interrupted; nothing was written.") -> Callable[[F], F]:
    """Turn errors of a command into one screen and an exit code.

    Args:
        interrupted: said on Ctrl-C.
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            try:
                with _old_names_said():
                    return function(*args, **kwargs)
            except KeyboardInterrupt:
                _say("yellow", interrupted)
                raise typer.Exit(INTERRUPTED) from None
            except GoalRankError as error:
                _fail(str(error), error.exit_code)
            except (FloatingPointError, OSError, MemoryError) as error:
                _fail(str(error) or type(error).__name__, 1)
            except Exception as error:
                if isinstance(error, RuntimeError) and type(error).__module__.startswith("typer"):
                    raise  # Exit and Abort
                text = f"{type(error).__name__}: {error}"
                _fail(
                    f"{text}\nThis is a fault of goalrank; goalrank --debug shows where", _INTERNAL
                )

        return run  # type: ignore[return-value]

    return decorate


@contextmanager
def _old_names_said() -> Iterator[None]:
    """Print goalrank's own warnings about old names as a line for people, others as ever."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *more: Any, **named: Any) -> None:
            if category.__module__.startswith("goalrank."):
                _say("yellow", f"Warning: {message}")
            else:
                usual(message, category, *more, **named)

        warnings.showwarning = show
        yield


def _fail(text: str, code: int) -> None:
    if settings.debug:
        raise
    _say("red", text)
    raise typer.Exit(code) from None


def _say(style: str, text: str) -> None:
    from rich.text import Text

    console().print(Text(text, style=style), soft_wrap=True)


@contextmanager
def only_json(wanted: bool) -> Iterator[Callable[[Any], None]]:
    """Give a function that prints the result.

    With `wanted`, whatever else is printed meanwhile goes to stderr; without, nothing is printed
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
    """A bar on stderr, moved by calls with (done, in all)."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    with Progress(
        "{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console(),
        transient=True,
        disable=not show_progress(),
    ) as bar:
        task = bar.add_task(text, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def busy(text: str) -> Iterator[None]:
    """A spinner on stderr for what cannot tell how far it is."""
    with console().status(text) if show_progress() else nullcontext():
        yield


def print_scorecard(card: Scorecard, metric: str = "ndcg", baselines: int = 5) -> None:
    """A table of rankers and the best baselines, the warning, and the verdict."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    out = Console(highlight=False)
    if card.warning:
        out.print(Text(f"Warning: {card.warning}", style="bold yellow"))
    both = card.baselines if card.trained is None else card.trained.merged(card.baselines)
    main = both.metric_name(metric)
    ranked = sorted(card.baselines.rankers, key=lambda r: -card.baselines.summaries[r][main].mean)[
        :baselines
    ]
    trained = [] if card.trained is None else card.trained.rankers
    order = sorted([*trained, *ranked], key=lambda r: -both.summaries[r][main].mean)
    room = 1 + max(out.width - 76, 0) // 13  # the first metric has its interval, others do not
    names = [main, *(m for m in both.metrics if m != main)][: 1 + room]
    left = len(card.baselines.rankers) - len(ranked)
    table = Table(caption=f"{left} weaker baselines not shown" if left else None)
    table.add_column("ranker", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for ranker in order:
        cells = both.summaries[ranker]
        values = (_cell(cells.get(name), name == main) for name in names)
        table.add_row(ranker, "trained" if ranker in trained else "baseline", *values)
    out.print(table)
    for i, sentence in enumerate(card.verdict):
        out.print(Text(sentence, style="bold" if i == 0 else ""))


def _cell(interval: Any, full: bool) -> str:
    if interval is None or not math.isfinite(interval.mean):
        return "–"
    span = f" [dim]{interval.low:.3f}–{interval.high:.3f}[/dim]" if full else ""
    return f"{interval.mean:.3f}{span}"


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
