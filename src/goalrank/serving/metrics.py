"""What Prometheus reads of a server."""

from __future__ import annotations

import polars as pl
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from goalrank.requests import Encoder

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
_NATS = (0.5, 1, 2, 4, 6, 8, 10, 12, 15, 20, 30, 50)


class Metrics:
    """A registry of its own, so that several servers fit into one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.latency = Histogram(
            "goalrank_request_seconds", "Time to answer.", ["route"], registry=r, buckets=_SECONDS
        )
        self.answers = Counter(
            "goalrank_answers", "Answers by route and status.", ["route", "status"], registry=r
        )
        self.degraded = Counter(
            "goalrank_degraded",
            "Lists in the retriever's order, by reason.",
            ["reason"],
            registry=r,
        )
        self.unlogged = Counter("goalrank_unlogged", "Exposures not stored.", registry=r)
        self.queue = Gauge("goalrank_queue", "Requests waiting to be ranked.", registry=r)
        self.surprise = Histogram(
            "goalrank_list_surprise_nats",
            "-log probability of the served list; its mean is the entropy where lists are drawn.",
            registry=r, buckets=_NATS,
        )  # fmt: skip
        self.ids = Counter(
            "goalrank_ids", "Ids in requests, known to the model or not.", ["side", "known"],
            registry=r,
        )  # fmt: skip

    def count_ids(self, encoder: Encoder, frame: pl.DataFrame) -> None:
        """Count which users and candidates of requests the model knows.

        Raises:
            DataError: ids of another type than the model's.
        """
        candidates = frame["candidates"].explode(empty_as_null=False, keep_nulls=False)
        sides = (("items", encoder.items, candidates), ("users", encoder.users, frame["user_id"]))
        for side, entity, ids in sides:
            known = int(entity.vocabulary.contains(ids).sum())
            self.ids.labels(side, "yes").inc(known)
            self.ids.labels(side, "no").inc(len(ids) - known)
