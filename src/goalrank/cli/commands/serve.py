"""goalrank serve"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from goalrank.cli.common import examples, say, verb


@verb("Stopped; every request under way was answered.")
def serve(
    bundle: Annotated[
        Path, typer.Option(help="The bundle's folder; a new bundle put there is swapped in.")
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port.", min=1, max=65535)] = 8000,
    workers: Annotated[int, typer.Option(help="Processes that share the port.", min=1)] = 1,
    store: Annotated[
        str,
        typer.Option(
            envvar="GOALRANK_STORE",
            help="Where exposures go: sqlite:///FILE, postgresql+psycopg://…, or none.",
        ),
    ] = "sqlite:///goalrank.db",
    experiments: Annotated[Path | None, typer.Option(help="TOML file of experiments.")] = None,
    rules: Annotated[Path | None, typer.Option(help="TOML file of rules for every list.")] = None,
    items: Annotated[
        Path | None, typer.Option(help="items.parquet, for rules and new items.")
    ] = None,
    users: Annotated[Path | None, typer.Option(help="users.parquet, for new users.")] = None,
    examples: Annotated[
        Path | None, typer.Option(help="Requests that the page offers; default: the bundle's.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Draw lists, softened by it; default: the best list.")
    ] = None,
    backend: Annotated[
        str,
        typer.Option(
            help="torch, onnx (exports the decode once and keeps it), or auto: onnx where kept."
        ),
    ] = "auto",
    threads: Annotated[int, typer.Option(help="Threads of the model in each process.", min=1)] = 1,
    deadline: Annotated[
        float, typer.Option(help="Seconds until the retriever's order is given instead.")
    ] = 0.5,
    on_store_failure: Annotated[str, typer.Option(help="fail or serve-unlogged.")] = "fail",
    trace: Annotated[
        bool, typer.Option("--trace", help="Send OpenTelemetry traces (OTEL_EXPORTER_OTLP_…).")
    ] = False,
    rate: Annotated[
        float | None,
        typer.Option(envvar="GOALRANK_RATE", help="Requests/s for each API key, in all workers."),
    ] = None,
) -> None:
    """Serve lists over HTTP and keep every exposure. API keys: GOALRANK_API_KEYS=name:key,…"""
    from goalrank.serving import ServeSettings, run_server
    from goalrank.settings import checked

    given = {
        "bundle": str(bundle),
        "store": None if store == "none" else store,
        "experiments": _text(experiments), "rules": _text(rules), "items": _text(items),
        "users": _text(users), "examples": _text(examples), "temperature": temperature,
        "deadline": deadline, "on_store_failure": on_store_failure, "rate": rate, "trace": trace,
        "backend": backend, "threads": threads,
    }  # fmt: skip
    settings = checked(ServeSettings, given, "the server", "see goalrank serve --help")
    at = f"serving {bundle} at http://{host}:{port} (page at /, docs at /docs)"
    run_server(settings, host, port, workers, ready=lambda: say(at))


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def add(app: typer.Typer) -> None:
    """Register the verb."""
    app.command(
        "serve",
        epilog=examples(
            "goalrank serve --bundle runs/first",
            "GOALRANK_API_KEYS=shop:$KEY goalrank serve --bundle runs/first --temperature 1 "
            "--items items.parquet --rules rules.toml --workers 2",
        ),
    )(serve)
