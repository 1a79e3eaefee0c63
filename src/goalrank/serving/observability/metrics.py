"""Metrics of a server for Prometheus."""

from __future__ import annotations

import os
from collections.abc import Iterable

import numpy as np
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)
from torch import Tensor

from goalrank.bundles import Backend, Bundle
from goalrank.requests import EncodedRequests
from goalrank.serving.observability.model_metrics import ModelMetrics

SHARED = "PROMETHEUS_MULTIPROC_DIR"  # environment variable; the library reads it when imported
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
_NATS = (0.5, 1, 2, 4, 6, 8, 10, 12, 15, 20, 30, 50)


class Metrics:
    """Counters and histograms in their own registry, so that one process can hold several servers.

    Attributes:
        registry: of prometheus_client.
        latency: seconds per answer, by route.
        answers: answers by route and status.
        degraded: lists in the retriever's order, by reason.
        unlogged: exposures that could not be stored.
        store_failures: writes that the store refused, by error code.
        shed: requests refused at once because of overload.
        limit: requests that may be under way.
        queue_seconds: from a request's last byte until it is ranked.
        store_seconds: until the store confirms exposures.
        reload_failures: changed bundles that could not be served.
        bundles: 1 for the version of each bundle that is served.
        queue: jobs that wait to be ranked.
        ranked: lists of the model, by backend.
        surprise: −log probability of the served lists, in nats.
        ids: ids in requests, known to the model or not.
        filled: requests that lack an input, for which the model got its training mean, by input.
        model: drift, calibration and feedback.
    """

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
        self.store_failures = Counter(
            "goalrank_store_failures", "Writes that the store refused.", ["code"], registry=r
        )
        self.shed = Counter(
            "goalrank_shed", "Requests refused at once because of overload.", registry=r
        )
        self.limit = Gauge(
            "goalrank_admission_limit", "Requests that may be under way.", registry=r,
            multiprocess_mode="livesum",
        )  # fmt: skip
        self.queue_seconds = Histogram(
            "goalrank_queue_seconds", "From a request's last byte until it is ranked.",
            registry=r, buckets=_SECONDS,
        )  # fmt: skip
        self.store_seconds = Histogram(
            "goalrank_store_seconds", "Until the store confirms exposures.",
            registry=r, buckets=_SECONDS,
        )  # fmt: skip
        self.reload_failures = Counter(
            "goalrank_reload_failures", "Changed bundles that could not be served.", registry=r
        )
        self.bundles = Gauge(
            "goalrank_bundle", "1 for the version of each bundle that is served.",
            ["bundle", "version"], registry=r, multiprocess_mode="livemax",
        )  # fmt: skip
        self.queue = Gauge(
            "goalrank_queue", "Requests waiting to be ranked.", registry=r,
            multiprocess_mode="livesum",
        )  # fmt: skip
        self.ranked = Counter(
            "goalrank_ranked", "Lists of the model, by what ran it.", ["backend"], registry=r
        )
        self.surprise = Histogram(
            "goalrank_list_surprise_nats",
            "-log probability of the served list; its mean is the entropy where lists are drawn.",
            registry=r, buckets=_NATS,
        )  # fmt: skip
        self.ids = Counter(
            "goalrank_ids", "Ids in requests, known to the model or not.", ["side", "known"],
            registry=r,
        )  # fmt: skip
        self.filled = Counter(
            "goalrank_filled", "Requests with the training mean of an input.", ["input"], registry=r
        )
        self.model = ModelMetrics(r)
        self._versions: dict[str, tuple[str, ...]] = {}
        # Looked up once: finding a counter by its labels costs more than counting.
        self._ranked = {name: self.ranked.labels(name) for name in ("onnx", "torch")}
        self._ids = {
            side: (self.ids.labels(side, "yes"), self.ids.labels(side, "no"))
            for side in ("items", "users")
        }

    def count(
        self, bundle: Bundle, columns: EncodedRequests, backend: Backend, lists: Tensor
    ) -> None:
        """Count ranked requests by backend, the ids that the model knows, and what it was asked.

        Args:
            bundle: the bundle that ranked.
            columns: the encoded requests.
            backend: "onnx" or "torch".
            lists: [B, L] positions, -1 in empty slots.
        """
        self.model.look(bundle, columns, lists)
        self._ranked[backend].inc(len(columns))
        encoder = bundle.encoder
        sides = (
            ("items", encoder.items, columns.candidates),
            ("users", encoder.users, columns.user),
        )
        for side, entity, rows in sides:
            known = int(np.count_nonzero((rows > 0) & (rows <= entity.vocabulary.size)))
            yes, no = self._ids[side]
            yes.inc(known)
            no.inc(len(rows) - known)

    def bundle(self, name: str, version: str) -> None:
        """Mark the version of a bundle that is served from now on.

        Args:
            name: of the bundle.
            version: of the bundle.
        """
        for old in self._versions.get(name, ()):
            self.bundles.labels(name, old).set(0)
        self._versions[name] = (version,)
        self.bundles.labels(name, version).set(1)

    def count_filled(self, names: Iterable[str]) -> None:
        """Count a request that lacks inputs.

        Args:
            names: of the inputs.
        """
        for name in names:
            self.filled.labels(name).inc()

    def text(self) -> bytes:
        """Write the answer of `/metrics`; summed over the workers if several share a folder."""
        if not os.environ.get(SHARED):
            return generate_latest(self.registry)
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
        return generate_latest(registry)
