"""Why the load generator's requests get no list."""

import asyncio
import importlib
from pathlib import Path
from types import ModuleType

import pytest

PERF = str(Path(__file__).resolve().parents[2] / "perf")
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
BUSY = b"HTTP/1.1 503 Busy\r\ncontent-length: 2\r\n\r\n{}"


@pytest.fixture
def perf(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(PERF)
    return importlib.import_module("load_generator")


def failures(perf: ModuleType, *answers: bytes | None) -> dict[str, int]:
    """Reasons after a server gave these answers in turn; None closes a kept connection unread."""
    left = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while left:
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(2)
            answer = left.pop(0)
            if answer is None:
                break
            writer.write(answer)
        writer.close()
        await writer.wait_closed()

    async def run() -> dict[str, int]:
        async with await asyncio.start_server(serve, "127.0.0.1") as server:
            port = server.sockets[0].getsockname()[1]
            client = perf.Client("127.0.0.1", port, "/")
            found = await perf.closed_loop(client, [b"{}"], len(answers), 1, lambda _: None)
            client.close()
            assert len(found.seconds) + found.failed == len(answers)
            return dict(found.failures)

    return asyncio.run(run())


def test_a_status_and_a_connection_closed_while_idle_are_told_apart(perf):
    assert failures(perf, ANSWER, BUSY, None) == {"status 503": 1, "closed while idle": 1}


def test_a_connection_that_breaks_at_its_first_request_was_not_idle(perf):
    assert failures(perf, None, ANSWER) == {"connection broken": 1}
