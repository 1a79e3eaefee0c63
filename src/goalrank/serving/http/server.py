"""A server made from its settings; worker processes get the same ones as JSON."""

from __future__ import annotations

import errno
import gc
import logging
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import polars as pl
import torch
import uvicorn
from fastapi import FastAPI
from threadpoolctl import threadpool_limits
from uvicorn.supervisors import Multiprocess

from goalrank.compute import keep_freed_memory
from goalrank.constraints import read_constraints
from goalrank.errors import ConfigError, DataError
from goalrank.experiments import Experiments
from goalrank.requests import Requests
from goalrank.serving.http.access import Keys
from goalrank.serving.http.app import create_app
from goalrank.serving.http.hosts import LOOPBACK, is_loopback
from goalrank.serving.http.settings import ServeSettings
from goalrank.serving.observability.logs import configure_logs
from goalrank.serving.observability.metrics import SHARED
from goalrank.serving.observability.tracing import configured_tracing
from goalrank.serving.page.model_versions import registry_of
from goalrank.serving.ranking.served_bundles import DEFAULT
from goalrank.serving.ranking.service import Service
from goalrank.serving.state.event_log import EventLog
from goalrank.serving.state.keeper import Progress, StateKeeper
from goalrank.serving.state.metrics import StateMetrics
from goalrank.serving.store.store import Store

_SETTINGS = "GOALRANK_SERVE"
_LOG = logging.getLogger("goalrank.serving")
PORT_S = 10.0  # seconds to wait for a port that is in use
_KEPT = 64 << 20  # bytes of freed memory that a server with state keeps
DRAIN_S = 8  # seconds that requests under way have after SIGTERM
_PROTOCOL = "goalrank.serving.http.slow_clients:RequestTimeoutProtocol"


def build_app(settings: ServeSettings) -> FastAPI:
    """Build the application of a server.

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
        store_timeout=settings.store_timeout,
        on_store_failure=settings.on_store_failure,
        items=_side(settings.items, "items"),
        users=_side(settings.users, "users"),
        rules=read_constraints(settings.rules) if settings.rules else None,
        missing=settings.missing,
        temperature=settings.temperature,
        seed=settings.seed,
        backend=settings.backend,
        threads=settings.threads,
        tracing=tracing,
        allow=settings.allow_plugins,
    )
    if settings.state is not None:
        service.keep(keep_state(service, settings.state))
    return create_app(
        service, keys, max_body=settings.max_body, watch=settings.watch,
        hosts=settings.allowed_hosts or (LOOPBACK if is_loopback(settings.host) else ()),
        examples=read_examples(settings.examples) if settings.examples else None,
        models=registry_of(settings.bundle),
    )  # fmt: skip


def keep_state(service: Service, folder: Path, progress: Progress | None = None) -> StateKeeper:
    """Make the state of a service from the events in its store.

    Args:
        service: with a store.
        folder: of the snapshot.
        progress: see `StateKeeper`.

    Raises:
        ConfigError: a server without a store, or a model that cannot be served from events.
    """
    if service.store is None:
        raise ConfigError(
            "state is made from events in the store, but this server keeps none; remedy: a store, "
            "or no state (options: store, state)"
        )
    bundle = service.predictors[DEFAULT].bundle
    log, metrics = EventLog(service.store.engine), StateMetrics(service.metrics.registry)
    return StateKeeper(service.info, bundle.learnt, log, folder, progress=progress, metrics=metrics)


def from_environment() -> FastAPI:
    """Build the application of a worker process."""
    started = threading.Event()
    end_with_parent(started)
    settings = ServeSettings.model_validate_json(os.environ[_SETTINGS])
    configure_logs(settings.log_format, settings.log_level, not settings.no_access_log)
    app = build_app(settings)
    tune_process(settings.threads, state=settings.state is not None)
    started.set()
    return app


def tune_process(threads: int, *, state: bool = False) -> None:
    """Prepare a process that only serves: threads of the model, and no long pauses.

    A single request is too small for several threads, of PyTorch or of NumPy. Objects that live as
    long as the process are hidden from the garbage collector, and threads that wait for the
    interpreter get it within 0.5 ms, not 5.

    Args:
        threads: of the model.
        state: whether requests are filled in from state, which takes arrays over all items.
    """
    if state:
        keep_freed_memory(_KEPT)
    torch.set_num_threads(threads)
    threadpool_limits(threads)  # NumPy's products, too: threads that wait for each other take cores
    sys.setswitchinterval(0.0005)
    gc.freeze()
    gc.enable()  # paused while the command loads what it needs
    gc.set_threshold(10_000, 20, 50)


def run_server(settings: ServeSettings, *, say: Callable[[str], None] | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C; requests under way are answered first.

    Args:
        settings: address, bundles, store and limits.
        say: told the address once everything that can be refused has been accepted.

    Raises:
        ConfigError: the address cannot be listened on.
        GoalRankError: as `build_app`.
    """
    address = f"http://{settings.host}:{settings.port}"
    serving = f"serving {settings.bundle} at {address} (page at /, docs at /docs)"
    _refuse_open_door(settings)
    configure_logs(settings.log_format, settings.log_level, not settings.no_access_log)
    options = uvicorn_options(settings)
    if settings.workers == 1:
        app = build_app(settings)
        tune_process(settings.threads, state=settings.state is not None)
        with bound_socket(settings.host, settings.port) as door:
            if say is not None:
                say(serving)
            uvicorn.Server(uvicorn.Config(app, **options)).run(sockets=[door])
        return
    # Refuse what cannot be served here: a worker that fails would be started again and again.
    build_app(settings).state.service.close()
    os.environ[_SETTINGS] = settings.model_dump_json()
    with (
        bound_socket(settings.host, settings.port) as door,
        tempfile.TemporaryDirectory(prefix="goalrank-metrics-") as shared,
    ):
        if say is not None:
            say(serving)
        os.environ[SHARED] = shared  # workers add their numbers up there, and share limits
        factory = "goalrank.serving.http.server:from_environment"
        config = uvicorn.Config(factory, factory=True, workers=settings.workers, **options)
        Multiprocess(config, sockets=[door]).run()


def uvicorn_options(settings: ServeSettings) -> dict[str, Any]:
    """Make the options of `uvicorn.Config`, the same in every worker.

    Args:
        settings: of the server.
    """
    return {
        "log_config": None, "access_log": False, "http": _PROTOCOL,
        "timeout_graceful_shutdown": DRAIN_S, "timeout_keep_alive": settings.keep_alive,
    }  # fmt: skip


def _refuse_open_door(settings: ServeSettings) -> None:
    """Refuse to listen beyond this machine without keys, unless that is what was asked for."""
    if settings.insecure or os.environ.get("GOALRANK_API_KEYS") or is_loopback(settings.host):
        return
    raise ConfigError(
        f"host is {settings.host}, which other machines reach, but there are no API keys, so that "
        f"anyone could ask and write; remedy: set GOALRANK_API_KEYS=name:key, listen on 127.0.0.1 "
        f"(option: host), or accept it (option: insecure)"
    )


def bound_socket(host: str, port: int) -> socket.socket:
    """Listen at an address; workers of a server that was killed may take a moment to leave it.

    Args:
        host: name or IP address of this machine.
        port: the port.

    Raises:
        ConfigError: another program listens there, or this machine has no such address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    end = monotonic() + PORT_S
    while True:
        try:
            return socket.create_server((host, port), family=family, backlog=2048)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and monotonic() < end:
                sleep(0.1)
                continue
            raise ConfigError(
                f"nothing can listen at {host}:{port}: {error.strerror or error}; remedy: another "
                f"address of this machine, or a port that is free (options: host, port)"
            ) from error


def end_with_parent(started: threading.Event) -> None:
    """End this worker when the supervisor that started it is gone, however that came.

    Args:
        started: set once requests may be under way, which are answered first.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        if started.is_set():
            _LOG.error("the supervisor of this worker is gone; it ends")
            os.kill(os.getpid(), signal.SIGTERM)
            sleep(DRAIN_S + 2)
        os._exit(1)  # nothing is served yet, or something holds the process up

    threading.Thread(target=wait, name="goalrank-parent", daemon=True).start()


def read_examples(path: str | Path, most: int = 200) -> Requests:
    """The first requests of a table, for the page.

    Raises:
        DataError: no such table, or a faulty one; the message names the option.
    """
    try:
        return Requests.read(path).head(most)
    except DataError as error:
        raise DataError(f"{error}; option: examples") from error


def _side(path: Path | None, name: str) -> pl.DataFrame | None:
    if path is None:
        return None
    try:
        return pl.read_parquet(path, glob=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(
            f"{name} '{path}' cannot be read ({str(error).splitlines()[0]}); option: {name}"
        ) from error
