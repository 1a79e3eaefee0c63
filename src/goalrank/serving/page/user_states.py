"""A user's state for the page: latest events, history, and candidates' features beside training."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from goalrank.bundles import Predictor
from goalrank.errors import ConfigError
from goalrank.serving.http.schemas import Id
from goalrank.serving.ranking.served_bundles import DEFAULT
from goalrank.serving.ranking.service import Service
from goalrank.serving.state.live import Asked, LiveState, Wished
from goalrank.serving.state.logged import LoggedEvent
from goalrank.serving.store.records import micros

__all__ = ["REACH", "StateBody", "user_state"]

REACH = 2.0  # deviations from the mean of training beyond which a value is outside
_EVENTS = 30  # latest ones that are shown
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class StateBody(BaseModel):
    """Whose state is asked for.

    Attributes:
        user_id: who.
        candidates: whose features are shown where the server retrieves none.
    """

    model_config = ConfigDict(extra="forbid")

    user_id: Id
    candidates: list[Id] = Field(default_factory=list, max_length=1000)


@dataclass(frozen=True)
class TrainedRange:
    """Values of a feature in training, and how many of today's are elsewhere.

    Attributes:
        name: of the feature.
        mean, deviation: over the training requests' candidates.
        outside: share of the candidates more than `REACH` deviations from the mean; None without
            candidates.
    """

    name: str
    mean: float
    deviation: float
    outside: float | None


def user_state(service: Service, body: StateBody) -> dict[str, Any]:
    """What the server knows of a user now, as JSON values.

    Args:
        service: with state.
        body: whose.

    Raises:
        ConfigError: the server keeps no state.
    """
    keeper = service.keeper
    if keeper is None:
        raise ConfigError("this server keeps no state; remedy: a folder for it (option: state)")
    keeper.follow()
    now = datetime.now(UTC)
    candidates, found, fault = _candidates(keeper.live, body, now)
    width = len(service.info.candidate_features)
    vectors = np.asarray(found.get("candidate_features") or [], np.float64).reshape(-1, width)
    predictor = service.predictors[DEFAULT]
    return {
        "user": keeper.live.user(body.user_id, micros(now)),
        "age": keeper.age(now),
        "events": [_event(each) for each in keeper.latest_events(body.user_id, _EVENTS)],
        "retrieved": keeper.live.retrieves,
        "fault": fault,
        "candidates": candidates,
        "features": [asdict(each) for each in _ranges(predictor, vectors)],
        "values": [[_finite(value) for value in vector] for vector in vectors],
        "scores": found.get("candidate_score"),
        "most": _EVENTS,
        "reach": REACH,
    }


def _candidates(
    live: LiveState, body: StateBody, now: datetime
) -> tuple[list[Any], dict[str, Any], str | None]:
    """Candidates, what the state fills in for them, and why there are none."""
    try:
        if live.retrieves:
            found = live.retrieve([Wished(body.user_id, micros(now))])[0]
            return found["candidates"], found, None
        asked = [Asked(body.user_id, micros(now), body.candidates)] if body.candidates else []
        return body.candidates, live.rows(asked)[0] if asked else {}, None
    except ConfigError as error:
        return [], {}, str(error)


def _ranges(predictor: Predictor, vectors: NDArray[np.float64]) -> list[TrainedRange]:
    encoder = predictor.bundle.encoder
    names = encoder.info.candidate_features
    trained = np.asarray(encoder.candidate, np.float64).reshape(-1, 2)[: len(names)]
    far = np.abs(vectors - trained[:, 0]) > REACH * trained[:, 1]
    shares = far.mean(axis=0).tolist() if len(vectors) else [None] * len(names)
    return [
        TrainedRange(name, float(mean), float(deviation), share)
        for name, (mean, deviation), share in zip(names, trained, shares, strict=True)
    ]


def _event(event: LoggedEvent) -> dict[str, Any]:
    return {
        "item": event.item_id, "time": (_EPOCH + timedelta(microseconds=event.time)).isoformat(),
        "values": event.values, "before": event.before,
    }  # fmt: skip


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
