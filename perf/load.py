"""A load generator on bare sockets: cheap enough to share two cores with what it measures."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter

Step = Callable[[int], None]


@dataclass
class Answers:
    """What came back.

    Attributes:
        seconds: of each answer, from the moment it was due; None where it failed.
        degraded: answers in the retriever's order.
        failed: answers that were no 200.
    """

    seconds: list[float] = field(default_factory=list)
    degraded: int = 0
    failed: int = 0

    def note(self, status: int, body: bytes, since: float) -> None:
        """Count one answer that was due at `since`."""
        if status != 200:
            self.failed += 1
            return
        self.degraded += body.count(b'"degraded":true')
        self.seconds.append(perf_counter() - since)


class Client:
    """Kept-alive connections to one address; a request takes a free one or opens another."""

    def __init__(self, host: str, port: int, path: str) -> None:
        self.host, self.port = host, port
        self._head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(self, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer; status 0 where the connection broke."""
        try:
            return await self._post(body)
        except (OSError, asyncio.IncompleteReadError):
            return 0, b""

    async def _post(self, body: bytes) -> tuple[int, bytes]:
        while self._free and self._free[-1][0].at_eof():
            self._free.pop()[1].close()  # idle for so long that the server closed it
        reader, writer = (
            self._free.pop()
            if self._free
            else await asyncio.open_connection(self.host, self.port, limit=2**24)
        )
        writer.write(f"{self._head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line[15:])
            for line in head.split(b"\r\n")
            if line[:15].lower() == b"content-length:"
        )
        text = await reader.readexactly(length)
        self._free.append((reader, writer))
        return int(head[9:12]), text

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
    """`count` requests, `rate` a second, whatever the answers take.

    They come at random moments (a Poisson process), or `even`ly, as constant-rate load generators send them.
    Latency counts from the moment a request was due, so that a stalled server is not let off.
    """
    rng, out = random.Random(seed), Answers()
    tasks: set[asyncio.Task[None]] = set()
    due = perf_counter() + 0.05

    async def one(body: bytes, since: float) -> None:
        status, text = await client.post(body)
        out.note(status, text, since)
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
    """Sleep; the last stretch awake, for timers of the event loop are late by a millisecond."""
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
    """`count` requests by callers who each wait for their answer; `between` follows each."""
    out, numbers = Answers(), iter(range(count))

    async def caller() -> None:
        for i in numbers:
            since = perf_counter()
            status, text = await client.post(bodies[i % len(bodies)])
            out.note(status, text, since)
            step(1)
            if between is not None:
                await between(i)

    await asyncio.gather(*(caller() for _ in range(callers)))
    return out


def encoded(value: object) -> bytes:
    """JSON of a body."""
    return json.dumps(value).encode()
