"""Metrics of a state for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from goalrank.serving.state.event_log import Appended
from goalrank.serving.state.live import LiveState

__all__ = ["StateMetrics"]


class StateMetrics:
    """Counters of events and sizes of the state.

    Args:
        registry: of the server's other metrics.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._events = Counter(
            "goalrank_events", "Events by what the log did with them.", ["result"],
            registry=registry,
        )  # fmt: skip
        self._bytes = Gauge(
            "goalrank_state_bytes", "Memory of the state's arrays and of columns of items and users, without ids.",
            registry=registry, multiprocess_mode="livesum",
        )  # fmt: skip
        self._users = Gauge(
            "goalrank_state_users", "Users that the state knows.", registry=registry,
            multiprocess_mode="livemax",
        )  # fmt: skip
        self._described = Gauge(
            "goalrank_state_described", "Items and users whose columns came by events.", ["table"],
            registry=registry, multiprocess_mode="livemax",
        )  # fmt: skip
        self._newest = Gauge(
            "goalrank_state_newest_event_seconds", "Time of the latest event, seconds since 1970.",
            registry=registry, multiprocess_mode="livemax",
        )  # fmt: skip

    def count(self, done: Appended) -> None:
        """Count a batch of events."""
        self._events.labels("stored").inc(done.stored)
        self._events.labels("duplicate").inc(done.duplicates)

    def look(self, live: LiveState) -> None:
        """Take the sizes of a state."""
        state = live.state
        self._bytes.set(state.bytes)
        self._users.set(len(state.users))
        for table, columns in state.columns.items():
            self._described.labels(table).set(len(columns))
        if state.taken:
            self._newest.set(state.newest / 1e6)
