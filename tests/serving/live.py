"""A server on a real port of this process, and clients that load it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI


@contextmanager
def live(app: FastAPI, **options: Any) -> Iterator[str]:
    """The address of an application at work; it drains and closes at the end."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", **options))
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{door.getsockname()[1]}"
        server.should_exit = True
        thread.join(30)


@dataclass
class Load:
    """Clients that ask without pause until told to stop.

    Attributes:
        answers: those of status 200, with the moment each came.
        refused: code → how many.
    """

    url: str
    body: dict[str, Any]
    clients: int = 4
    answers: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)

    def __enter__(self) -> Load:
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(i,)) for i in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, user: int) -> None:
        with httpx.Client(base_url=self.url, timeout=20) as client:
            while not self._stop.is_set():
                answer = client.post("/v1/rank", json=self.body | {"user_id": user})
                if answer.status_code == 200:
                    self.answers.append((time.monotonic(), answer.json()))
                else:
                    code = answer.json()["error"]["code"]
                    self.refused[code] = self.refused.get(code, 0) + 1
                    time.sleep(0.02)

    def wait(self, more: int, limit: float = 60.0) -> None:
        """Until so many more answers have come."""
        want, end = len(self.answers) + more, time.monotonic() + limit
        while len(self.answers) < want and time.monotonic() < end:
            time.sleep(0.01)
        assert len(self.answers) >= want

    def pause(self) -> float:
        """The longest time without an answer."""
        moments = [moment for moment, _ in self.answers]
        return max(b - a for a, b in pairwise(moments))

    def missing(self, store: Any) -> list[str]:
        """Answers marked as logged whose exposure is not in a store."""
        there = {row["request_id"] for part in store.rows() for row in part}
        return [
            a["request_id"] for _, a in self.answers if a["logged"] and a["request_id"] not in there
        ]
