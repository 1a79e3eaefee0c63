"""Load generator on plain sockets, cheap enough to share two cores with the server it measures."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter

Step = Callable[[int], None]


@dataclass
class Answers:
    """Answers of a server.

    Attributes:
        seconds: latency of each answer with status 200, from the time its request was due.
        degraded: number of lists in the retriever's order.
        failures: why requests got no list, and how many: "status 503", "closed while idle" (the
            server closed a kept connection before it read the request), "connection broken",
            "no connection".
    """

    seconds: list[float] = field(default_factory=list)
    degraded: int = 0
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def failed(self) -> int:
        """Number of requests that got no list."""
        return self.failures.total()

    def count(self, status: int, body: bytes, since: float) -> None:
        """Count one answer.

        Args:
            status: of the answer; 0 if the connection broke.
            body: of the answer; why the connection broke.
            since: time at which its request was due, of `perf_counter`.
        """
        if status != 200:
            self.failures[f"status {status}" if status else body.decode()] += 1
            return
        self.degraded += body.count(b'"degraded":true')
        self.seconds.append(perf_counter() - since)


class Client:
    """Keep-alive connections to one address; a request takes a free one or opens another.

    Args:
        host: of the server.
        port: of the server.
        path: of the requests.
    """

    def __init__(self, host: str, port: int, path: str) -> None:
        self.host, self.port = host, port
        self._head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(self, body: bytes) -> tuple[int, bytes]:
        """Send a request.

        Args:
            body: of the request.

        Returns:
            Status and body of the answer; status 0 and the reason if the connection broke.
        """
        while self._free and self._free[-1][0].at_eof():
            self._free.pop()[1].close()  # the server closed it after a long pause
        kept = bool(self._free)
        try:
            reader, writer = self._free.pop() if kept else await self._connected()
        except OSError:
            return 0, b"no connection"
        try:
            found = await self._exchange(reader, writer, body)
        except (OSError, asyncio.IncompleteReadError) as error:
            writer.close()
            silent = isinstance(error, ConnectionError) or not getattr(error, "partial", b"")
            return 0, b"closed while idle" if kept and silent else b"connection broken"
        self._free.append((reader, writer))
        return found

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self.host, self.port, limit=2**24)

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes
    ) -> tuple[int, bytes]:
        writer.write(f"{self._head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line[15:])
            for line in head.split(b"\r\n")
            if line[:15].lower() == b"content-length:"
        )
        return int(head[9:12]), await reader.readexactly(length)

    def close(self) -> None:
        """Close every connection."""
        for _, writer in self._free:
            writer.close()


async def open_loop(
    client: Client,
    bodies: Sequence[bytes],
    rate: float,
    count: int,
    step: Step,
    *,
    even: bool = False,
    seed: int = 0,
) -> Answers:
    """Send requests at a given rate, whether earlier ones were answered or not.

    Latency counts from the time a request was due, so that a stalled server is measured correctly.

    Args:
        client: sends them.
        bodies: of the requests, sent in turn.
        rate: requests per second.
        count: number of requests.
        step: called with 1 after each answer.
        even: at constant intervals; False sends them at random times (a Poisson process).
        seed: of the random times.
    """
    rng, out = random.Random(seed), Answers()
    tasks: set[asyncio.Task[None]] = set()
    due = perf_counter() + 0.05

    async def one(body: bytes, since: float) -> None:
        status, text = await client.post(body)
        out.count(status, text, since)
        step(1)

    for i in range(count):
        due += 1 / rate if even else rng.expovariate(rate)
        await _until(due)
        task = asyncio.create_task(one(bodies[i % len(bodies)], due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    if tasks:
        await asyncio.gather(*tasks)
    return out


async def _until(due: float) -> None:
    """Wait until a time; poll at the end, as timers of the event loop are late by a millisecond."""
    wait = due - perf_counter() - 0.0015
    if wait > 0:
        await asyncio.sleep(wait)
    while perf_counter() < due:
        await asyncio.sleep(0)


async def closed_loop(
    client: Client,
    bodies: Sequence[bytes],
    count: int,
    callers: int,
    step: Step,
    between: Callable[[int], Awaitable[None]] | None = None,
) -> Answers:
    """Send requests by several callers, each of whom waits for its answer.

    Args:
        client: sends them.
        bodies: of the requests, sent in turn.
        count: number of requests.
        callers: number of callers.
        step: called with 1 after each answer.
        between: called with the number of each request after its answer.
    """
    out, numbers = Answers(), iter(range(count))

    async def caller() -> None:
        for i in numbers:
            since = perf_counter()
            status, text = await client.post(bodies[i % len(bodies)])
            out.count(status, text, since)
            step(1)
            if between is not None:
                await between(i)

    await asyncio.gather(*(caller() for _ in range(callers)))
    return out


def encoded(value: object) -> bytes:
    """Write a body as JSON.

    Args:
        value: the body.
    """
    return json.dumps(value).encode()
