"""Metrics of what a model is asked and what comes of its lists: drift, calibration, reward."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge
from torch import Tensor

from goalrank.bundles import Bundle
from goalrank.requests import EncodedRequests, stable_hash
from goalrank.rewards import Reward
from goalrank.serving.store.records import Event

__all__ = ["ModelMetrics", "feature_shift", "predicted_feedback", "predicted_kinds"]

_HALF_LIFE = 1_000.0  # requests after which a request counts half for the shift
_MOST = 8.0  # deviations of training
_SAMPLED = 128  # one request in so many is valued by the reward model: fewer than 1 %, so below p99


class ModelMetrics:
    """Metrics of the models behind a server's lists.

    Args:
        registry: of the server's other metrics.

    Attributes:
        shift: mean of each candidate feature over the latest requests (each counts half as much
            after 1,000 more) less its mean in training, in standard deviations of training, values
            clipped to ±8 of them; of a feature that was constant there, in its own unit.
        feedback: sum of the feedback that was stored, by kind.
        predicted: expected feedback on one list in 128, as the reward model sees it, by kind. A list
            drafted from two models (interleaving) counts once for each.
        observed: feedback that was stored on the same lists, by kind.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.shift = Gauge(
            "goalrank_feature_shift",
            "Mean of a feature over the latest requests less that of training, in its deviations.",
            ["feature"], registry=registry, multiprocess_mode="livemostrecent",
        )  # fmt: skip
        self.feedback = Counter(
            "goalrank_feedback", "Sum of the feedback stored, by kind.", ["kind"], registry=registry
        )
        self.predicted = Counter(
            "goalrank_predicted_feedback", "Expected feedback on one list in 128, by kind.",
            ["kind"], registry=registry,
        )  # fmt: skip
        self.observed = Counter(
            "goalrank_observed_feedback", "Feedback stored on the same lists, by kind.", ["kind"],
            registry=registry,
        )  # fmt: skip
        self._lock = threading.Lock()
        self._bundle: Bundle | None = None
        self._sums: NDArray[np.float64] = np.zeros(0)
        self._weight = 0.0

    def look(self, bundle: Bundle, columns: EncodedRequests, lists: Tensor) -> None:
        """Look at B ranked requests.

        Args:
            bundle: that ranked.
            columns: the encoded requests.
            lists: [B, L] positions, -1 in empty slots.
        """
        self._look_at_features(bundle, columns)
        rows = np.flatnonzero(_chosen(columns.key))
        if len(rows):
            found = predicted_feedback(bundle, columns.take(rows), lists[torch.from_numpy(rows)])
            for kind, value in found.items():
                if math.isfinite(value):  # a counter that is no number once stays none
                    self.predicted.labels(kind).inc(value)

    def _look_at_features(self, bundle: Bundle, columns: EncodedRequests) -> None:
        names = bundle.encoder.info.candidate_features
        with self._lock:
            if bundle is not self._bundle:  # its features may be others
                self._bundle, self._sums, self._weight = bundle, np.zeros(len(names)), 0.0
            if not names or not len(columns.candidates):
                return
            left = 0.5 ** (len(columns) / _HALF_LIFE)
            self._sums = left * self._sums + len(columns) * feature_shift(columns)
            self._weight = left * self._weight + len(columns)
            for name, value in zip(names, self._sums / self._weight, strict=True):
                self.shift.labels(name).set(value)

    def count_feedback(self, events: Sequence[Event], share: float) -> None:
        """Count feedback that was stored.

        Args:
            events: a batch.
            share: of these events that were new; repeated ones count nothing.
        """
        predicted = predicted_kinds(self._bundle)
        ids = [event.request_id for event in events]
        for event, chosen in zip(events, _chosen(stable_hash(ids).astype(np.int64)), strict=True):
            value = share * max(event.value, 0.0)
            self.feedback.labels(event.kind).inc(value)
            if chosen and event.kind in predicted:
                self.observed.labels(event.kind).inc(value)


def _chosen(key: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which requests are valued: the same in every process, and when feedback comes."""
    chosen: NDArray[np.bool_] = key % _SAMPLED == 0
    return chosen


def feature_shift(columns: EncodedRequests) -> NDArray[np.float64]:
    """Means of candidate features less those of training, in standard deviations of training: [F].

    Values are clipped to ±8 deviations, as models clip them: one absurd value must neither hide the
    others for thousands of requests nor leave a mean that is no number.

    Args:
        columns: requests with at least one candidate; encoding has standardised their features.
    """
    clipped = columns.own_features.clip(-_MOST, _MOST)
    found: NDArray[np.float64] = clipped.mean(0, dtype=np.float64)
    return found


def predicted_kinds(bundle: Bundle | None) -> tuple[str, ...]:
    """Kinds of feedback that a bundle's reward model predicts; none without such a model.

    Args:
        bundle: of the ranker.
    """
    members = _members(bundle)
    return () if not members else tuple(_kinds(bundle)[at] for at in members[0].kind_index)


def _members(bundle: Bundle | None) -> list[Reward]:
    reward = None if bundle is None else bundle.reward
    return [] if reward is None else [m for m in reward.members if m.kind_index]


def _kinds(bundle: Bundle | None) -> tuple[str, ...]:
    return () if bundle is None else bundle.encoder.info.feedback_kinds


def predicted_feedback(bundle: Bundle, columns: EncodedRequests, lists: Tensor) -> dict[str, float]:
    """Expected feedback of each kind on B lists, summed over them.

    Args:
        bundle: with a reward model; one that predicts no feedback gives nothing.
        columns: the encoded requests.
        lists: [B, L] positions, -1 in empty slots.
    """
    members = _members(bundle)
    if not members:
        return {}
    batch = columns.batch(slice(0, len(columns)))
    with torch.inference_mode():
        each = [m.slot_probabilities(batch, lists.unsqueeze(1)).sum((0, 1, 2)) for m in members]
        total = torch.stack(each).mean(0).tolist()
    return dict(zip(predicted_kinds(bundle), total, strict=True))
