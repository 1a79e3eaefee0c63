"""A server with two bundles, examples and a running experiment, for a browser to visit."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
import uvicorn
from fastapi import FastAPI

from goalrank.bundles import Bundle
from goalrank.experiments import Experiments
from goalrank.requests import Requests
from goalrank.serving import Exposure, Service, Store, create_app
from goalrank.serving.http.access import Keys
from goalrank.serving.store.records import Event
from tests.bundles.kit import make_bundle
from tests.tables import make_table

KEY = "0123456789abcdef"
DAYS = 12


def make_bundles(folder: Path) -> tuple[Path, Path]:
    """Two rankers of random weights over the same small table; the first brings examples."""
    train = make_table(80, most=9)
    first = make_bundle(train=train, reward=False, slots=4)
    examples = make_table(30, seed=3)
    first.examples = Requests(examples.frame, items=examples.items, info=examples.info)
    second = make_bundle("prm", train, reward=False, slots=4)
    return first.save(folder / "first"), second.save(folder / "second")


def experiments(second: Path, kind: str) -> Experiments:
    """Champion and challenger."""
    metrics = [
        {"name": f"{kind}s-per-list", "kind": kind},
        {"name": f"{kind}s-per-user", "kind": kind, "per": "unit"},
    ]
    arms = [{"name": "champion"}, {"name": "challenger", "bundle": str(second)}]
    return Experiments.model_validate(
        {"experiment": [{"name": "fresh-lists", "salt": "1", "variants": arms, "metrics": metrics}]}
    )


def fill_store(store: Store, trial: Experiments, kind: str, users: int = 420) -> None:
    """Lists of the past days and answers to them; the challenger's are liked more."""
    rng = np.random.default_rng(5)
    now = datetime.now(UTC)
    exposures, events = [], []
    for user in range(users):
        label, _ = trial.assign(user, "")
        assert label is not None
        rate = rng.beta(4, 14) * (1.22 if label.endswith("challenger") else 1.0)
        for turn in range(int(rng.integers(1, 6))):
            request = f"past-{user}-{turn}"
            time_ = now - timedelta(hours=float(rng.uniform(1, DAYS * 24)))
            exposures.append(
                Exposure(
                    request, user, time_, list(range(8)), list(range(6)), propensity=1.0,
                    policy="goalrank", experiment=label,
                )
            )  # fmt: skip
            events += [Event(request, i, kind, 1.0) for i in range(6) if rng.random() < rate]
    store.record(exposures)
    for at in range(0, len(events), 500):
        store.feedback(events[at : at + 500])


@contextmanager
def site(
    folder: Path,
    first: Path,
    second: Path | None = None,
    *,
    key: str | None = None,
    store: bool = True,
    examples: Requests | None = None,
) -> Iterator[str]:
    """The address of a running server."""
    info = Bundle.load(first).encoder.info
    kind = info.target or info.feedback_kinds[0]
    trial = None if second is None else experiments(second, kind)
    kept = Store(f"sqlite:///{folder / 'page.db'}") if store else None
    service = Service(first, kept, experiments=trial, deadline=10.0)
    if kept is not None and trial is not None:
        fill_store(kept, trial, kind)
    app = create_app(service, Keys(f"tests:{key}" if key else None), examples=examples)
    with running(app) as url:
        yield url


@contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """The address at which an application is served."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{port}"
    end = time.monotonic() + 30
    while not server.started:
        assert thread.is_alive(), "the server ended before it began"
        assert time.monotonic() < end, "the server did not start within 30 s"
        time.sleep(0.05)
    assert httpx.get(f"{url}/health/ready").status_code == 200
    try:
        yield url
    finally:
        server.should_exit = True
        thread.join(20)
