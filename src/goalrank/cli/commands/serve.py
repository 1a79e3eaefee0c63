"""Command `goalrank serve`."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from goalrank.cli.common import examples, say, verb
from goalrank.cli.fields import options_of
from goalrank.serving import ServeSettings


@verb("Stopped; every request under way was answered.")
@options_of(ServeSettings, names={"allow_plugins": "allow_plugin", "allowed_hosts": "allowed_host"})
def serve(given: dict[str, Any]) -> None:
    """Serve lists over HTTP and keep every exposure. API keys: GOALRANK_API_KEYS=name:key,…

    Each option is an environment variable too: GOALRANK_SERVE_RATE is --rate.
    """  # noqa: D415  the help text ends with an example
    with _uncollected():
        from goalrank.serving import run_server
        from goalrank.settings import checked

        settings = checked(ServeSettings, given, "the server", "see goalrank serve --help")
        run_server(settings, say=say)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Pause the garbage collector; the server resumes it once it is ready.

    What is loaded at the start stays, so that looking through it again and again finds nothing.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def add(app: typer.Typer) -> None:
    """Register the verb."""
    app.command(
        "serve",
        epilog=examples(
            "goalrank serve --bundle runs/first",
            "GOALRANK_API_KEYS=shop:$KEY goalrank serve --bundle runs/first --temperature 1 "
            "--items items.parquet --rules rules.toml --workers 2",
            "goalrank serve --settings server.toml --port 8080",
        ),
    )(serve)
