"""A server from settings; worker processes read the same ones from the environment."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal

import polars as pl
import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

from goalrank.constraints import read_constraints
from goalrank.errors import DataError
from goalrank.experiments import Experiments
from goalrank.requests import Requests
from goalrank.serving.http.access import Keys
from goalrank.serving.http.app import MAX_BODY, create_app
from goalrank.serving.observability.metrics import SHARED
from goalrank.serving.observability.tracing import configured_tracing
from goalrank.serving.ranking.service import Service
from goalrank.serving.store.store import Store

DEFAULT_STORE = "sqlite:///goalrank.db"
_SETTINGS = "GOALRANK_SERVE"
_PROTOCOL = "goalrank.serving.http.slow_clients:RequestTimeoutProtocol"


class ServeSettings(BaseModel):
    """What a server is told. API keys come from GOALRANK_API_KEYS alone, never from here.

    Attributes:
        bundle: folder.
        store: SQLAlchemy's URL; None keeps nothing.
        experiments, rules: TOML files.
        items, users: Parquet side tables (rules look at items' columns).
        examples: requests that the page offers, with items.parquet beside them for titles.
        temperature: None serves the best list.
        backend: see `Service`.
        threads: of the model, in each worker.
        deadline: seconds.
        rate: requests a second for each API key.
        watch: seconds between looks for a changed bundle.
        trace: keep OpenTelemetry traces; the environment (OTEL_EXPORTER_OTLP_ENDPOINT) may say so
            as well.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    bundle: str
    store: str | None = DEFAULT_STORE
    experiments: str | None = None
    rules: str | None = None
    items: str | None = None
    users: str | None = None
    examples: str | None = None
    temperature: float | None = Field(default=None, gt=0)
    seed: int = 0
    backend: Literal["torch", "onnx", "auto"] = "auto"
    threads: int = Field(default=1, ge=1)
    deadline: float = Field(default=0.5, gt=0)
    on_store_failure: Literal["fail", "serve-unlogged"] = "fail"
    rate: float | None = Field(default=None, gt=0)
    max_body: int = Field(default=MAX_BODY, ge=1024)
    watch: float = Field(default=1.0, gt=0)
    trace: bool = False


def build_app(settings: ServeSettings) -> FastAPI:
    """The application of a server.

    Raises:
        GoalRankError: a setting, the bundle, or the store cannot be used.
    """
    folder = os.environ.get(SHARED)
    buckets = Path(folder) / "rates" if folder else None
    keys = Keys(os.environ.get("GOALRANK_API_KEYS"), settings.rate, buckets)
    tracing = configured_tracing(settings.trace)
    service = Service(
        settings.bundle,
        None if settings.store is None else Store(settings.store),
        experiments=Experiments.read(settings.experiments) if settings.experiments else None,
        deadline=settings.deadline,
        on_store_failure=settings.on_store_failure,
        items=_side(settings.items, "items"),
        users=_side(settings.users, "users"),
        rules=read_constraints(settings.rules) if settings.rules else None,
        temperature=settings.temperature,
        seed=settings.seed,
        backend=settings.backend,
        threads=settings.threads,
        tracing=tracing,
    )
    return create_app(
        service, keys, max_body=settings.max_body, watch=settings.watch,
        examples=read_examples(settings.examples) if settings.examples else None,
    )  # fmt: skip


def from_environment() -> FastAPI:
    """What each worker process calls."""
    settings = ServeSettings.model_validate_json(os.environ[_SETTINGS])
    app = build_app(settings)
    tune_process(settings.threads)
    return app


def tune_process(threads: int) -> None:
    """Settle a process that only serves: threads of the model, and no long pauses.

    A single request is too small for several threads. What lives for ever is taken out of the
    collector's sight, and threads that wait for the interpreter get it within 0.5 ms, not 5.
    """
    torch.set_num_threads(threads)
    sys.setswitchinterval(0.0005)
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


def run_server(settings: ServeSettings, host: str, port: int, workers: int = 1) -> None:
    """Serve until SIGTERM or Ctrl-C; requests under way are answered first.

    Raises:
        GoalRankError: as `build_app`.
    """
    options: dict[str, Any] = {
        "host": host, "port": port, "log_level": "warning", "access_log": False, "http": _PROTOCOL,
    }  # fmt: skip
    if workers == 1:
        app = build_app(settings)
        tune_process(settings.threads)
        uvicorn.run(app, **options)
        return
    # Refuse what cannot be served here: a worker that fails is started again for ever.
    build_app(settings).state.service.close()
    os.environ[_SETTINGS] = settings.model_dump_json()
    with tempfile.TemporaryDirectory(prefix="goalrank-metrics-") as shared:
        os.environ[SHARED] = shared  # workers add their numbers up there, and share limits
        uvicorn.run(
            "goalrank.serving.http.server:from_environment",
            factory=True,
            workers=workers,
            **options,
        )


def read_examples(path: str | Path, most: int = 200) -> Requests:
    """The first requests of a table, for the page.

    Raises:
        DataError: no such table, or a faulty one; the message names the option.
    """
    try:
        return Requests.read(path).head(most)
    except DataError as error:
        raise DataError(f"{error}; option: examples") from error


def _side(path: str | None, name: str) -> pl.DataFrame | None:
    if path is None:
        return None
    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(
            f"{name} '{path}' cannot be read ({str(error).splitlines()[0]}); option: {name}"
        ) from error
