"""A server from settings; worker processes read the same ones from the environment."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Literal

import polars as pl
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from goalrank.errors import ConfigError, DataError
from goalrank.serving.app import MAX_BODY, create_app
from goalrank.serving.experiments import Experiments
from goalrank.serving.guard import Keys
from goalrank.serving.rules import Rules
from goalrank.serving.service import Service
from goalrank.serving.store import Store

DEFAULT_STORE = "sqlite:///goalrank.db"
_SETTINGS = "GOALRANK_SERVE"


class ServeSettings(BaseModel):
    """What a server is told. API keys come from GOALRANK_API_KEYS alone, never from here.

    Attributes:
        bundle: folder.
        store: SQLAlchemy's URL; None keeps nothing.
        experiments, rules: TOML files.
        items, users: Parquet side tables (rules look at items' columns).
        temperature: None serves the best list.
        deadline: seconds.
        rate: requests a second for each API key.
        watch: seconds between looks for a changed bundle.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    bundle: str
    store: str | None = DEFAULT_STORE
    experiments: str | None = None
    rules: str | None = None
    items: str | None = None
    users: str | None = None
    temperature: float | None = Field(default=None, gt=0)
    seed: int = 0
    deadline: float = Field(default=0.5, gt=0)
    on_store_failure: Literal["fail", "serve-unlogged"] = "fail"
    rate: float | None = Field(default=None, gt=0)
    max_body: int = Field(default=MAX_BODY, ge=1024)
    watch: float = Field(default=1.0, gt=0)


def build_app(settings: ServeSettings) -> FastAPI:
    """The application of a server.

    Raises:
        GoalRankError: a setting, the bundle, or the store cannot be used.
    """
    keys = Keys(os.environ.get("GOALRANK_API_KEYS"), settings.rate)
    service = Service(
        settings.bundle,
        None if settings.store is None else Store(settings.store),
        experiments=Experiments.read(settings.experiments) if settings.experiments else None,
        deadline=settings.deadline,
        on_store_failure=settings.on_store_failure,
        items=_side(settings.items, "items"),
        users=_side(settings.users, "users"),
        rules=read_rules(settings.rules) if settings.rules else None,
        temperature=settings.temperature,
        seed=settings.seed,
    )
    return create_app(service, keys, max_body=settings.max_body, watch=settings.watch)


def from_environment() -> FastAPI:
    """What each worker process calls."""
    return build_app(ServeSettings.model_validate_json(os.environ[_SETTINGS]))


def run_server(settings: ServeSettings, host: str, port: int, workers: int = 1) -> None:
    """Serve until SIGTERM or Ctrl-C; requests under way are answered first.

    Raises:
        GoalRankError: as `build_app`.
    """
    if workers == 1:
        uvicorn.run(build_app(settings), host=host, port=port, log_level="warning")
        return
    os.environ[_SETTINGS] = settings.model_dump_json()
    uvicorn.run(
        "goalrank.serving.start:from_environment", factory=True, host=host, port=port,
        workers=workers, log_level="warning",
    )  # fmt: skip


def read_rules(path: str | Path) -> Rules:
    """Rules of a TOML file.

    Raises:
        ConfigError: no such file, or an unknown or wrong rule.
    """
    try:
        return Rules(**tomllib.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        reason = str(error)
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise ConfigError(
            f"rules '{path}' cannot be used ({reason}); remedy: mend the file; option: rules"
        ) from error


def _side(path: str | None, name: str) -> pl.DataFrame | None:
    if path is None:
        return None
    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(
            f"{name} '{path}' cannot be read ({str(error).splitlines()[0]}); option: {name}"
        ) from error
