"""Log of a server: lines with time, level, request id and trace id, as text or JSON."""

from __future__ import annotations

import json
import logging
import re
import secrets
import sys
from collections.abc import Iterable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal, TextIO

REQUEST: ContextVar[str] = ContextVar("goalrank_request", default="")
TRACE: ContextVar[str] = ContextVar("goalrank_trace", default="")
ACCESS = logging.getLogger("goalrank.access")
_REQUEST_ID = re.compile(r"[!-~]{1,128}")
_TRACE_ID = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def begin_request(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Name the request whose lines are logged from now on, in this task.

    Args:
        headers: `X-Request-ID` names it, else a new name is made; `traceparent` names its trace.

    Returns:
        The name.
    """
    given = dict(headers)
    name = given.get(b"x-request-id", b"").decode("latin-1")
    if not _REQUEST_ID.fullmatch(name):
        name = secrets.token_hex(8)
    trace = _TRACE_ID.fullmatch(given.get(b"traceparent", b"").decode("latin-1"))
    REQUEST.set(name)
    TRACE.set(trace[1] if trace else "")
    return name


class _Lines(logging.Formatter):
    """Formatter of lines.

    Args:
        as_json: one JSON object per line.
    """

    def __init__(self, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """Write a line.

        Args:
            record: what is logged; its attribute `fields` has further values by name.
        """
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields = {
            "time": time.replace("+00:00", "Z"), "level": record.levelname.lower(),
            "logger": record.name, "request_id": REQUEST.get(), "trace_id": TRACE.get(),
            "message": record.getMessage(), **getattr(record, "fields", {}),
        }  # fmt: skip
        fields = {name: value for name, value in fields.items() if value != ""}
        error = self.formatException(record.exc_info) if record.exc_info else ""
        if self._as_json:
            return json.dumps(fields | ({"error": error} if error else {}), default=str)
        head = [str(fields.pop(name)) for name in ("time", "level", "logger")]
        message = str(fields.pop("message", ""))
        rest = [f"{name}={_word(str(value))}" for name, value in fields.items()]
        return " ".join([*head, _one_line(message), *rest]) + (f"\n{error}" if error else "")


def _word(value: str) -> str:
    """Quote a value that could pass for several: callers choose paths, and must not forge fields."""
    return value if re.fullmatch(r"[!-~]+", value) else json.dumps(value)


def _one_line(message: str) -> str:
    """Escape what ends a line or steers a terminal."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in message
    )


def configure_logs(
    style: Literal["text", "json"], level: str, access: bool, stream: TextIO | None = None
) -> None:
    """Send the log of this process to a stream.

    Args:
        style: of the lines.
        level: least severe lines that are logged.
        access: whether each answered request is logged.
        stream: None takes the standard error stream.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_Lines(style == "json"))
    for name in ("goalrank", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level.upper())
    ACCESS.setLevel(logging.INFO if access else logging.CRITICAL)
