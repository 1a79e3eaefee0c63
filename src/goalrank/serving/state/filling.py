"""Requests whose history and features are left out get them from state."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from goalrank.serving.http.schemas import RankBody
from goalrank.serving.state.keeper import StateKeeper
from goalrank.serving.state.live import Asked
from goalrank.serving.store.records import micros

__all__ = ["filled_bodies"]

_HISTORY = ("history", "history_feedback", "history_time")


def filled_bodies(
    bodies: Sequence[RankBody], keeper: StateKeeper, now: datetime
) -> tuple[list[RankBody], list[float | None]]:
    """Bodies with what they lack; what is given stays.

    Args:
        bodies: B requests.
        keeper: the state.
        now: moment of requests that have no time.

    Returns:
        The bodies, and by how many seconds the state is later than each; None where it gave nothing.

    Raises:
        ConfigError: a request lacks features that only the caller can know.
    """
    lacking = [_lacking(body, keeper) for body in bodies]
    rows = [row for row, names in enumerate(lacking) if names]
    ahead: list[float | None] = [None] * len(bodies)
    if not rows:
        return list(bodies), ahead
    asked = [
        Asked(body.user_id, micros(body.time or now), body.candidates)
        for body in (bodies[row] for row in rows)
    ]
    out = list(bodies)
    for row, found in zip(rows, keeper.rows(asked), strict=True):
        update: dict[str, Any] = {name: found[name] for name in lacking[row]}
        out[row] = bodies[row].model_copy(update=update)
        ahead[row] = keeper.ahead(out[row].time or now)
    return out, ahead


def _lacking(body: RankBody, keeper: StateKeeper) -> list[str]:
    """Columns of a request that the state has to give."""
    given, live = body.model_fields_set, keeper.live
    names = [] if set(_HISTORY) & given else list(_HISTORY)
    if live.info.candidate_features and body.candidate_features is None:
        names.append("candidate_features")
    if live.retrieves and body.candidate_score is None:
        names.append("candidate_score")
    return names
