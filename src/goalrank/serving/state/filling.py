"""Requests whose history and features are left out get them from state."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from goalrank.serving.http.schemas import RankBody
from goalrank.serving.ranking.batcher import Batcher
from goalrank.serving.state.keeper import StateKeeper
from goalrank.serving.state.live import Asked
from goalrank.serving.store.records import micros

__all__ = ["Filled", "Filler", "filled_bodies", "lacks_nothing"]

_HISTORY = ("history", "history_feedback", "history_time")


@dataclass(frozen=True)
class Filled:
    """Requests with what they lacked.

    Attributes:
        bodies: B requests.
        ahead: by how many seconds the state is later than each; None where it gave nothing.
        now: moment of requests that have no time.
    """

    bodies: list[RankBody]
    ahead: list[float | None]
    now: datetime


class Filler:
    """A thread that fills in requests from a state, those that wait together.

    The state answers many requests in little more time than one, and neither the event loop nor
    the thread that ranks waits for it.

    Args:
        keeper: the state.
    """

    def __init__(self, keeper: StateKeeper) -> None:
        self._keeper = keeper
        self._batcher: Batcher[Sequence[RankBody], Filled] = Batcher(
            self._fill, full="too many requests wait for the state; send it again", batch_size=16
        )

    def submit(self, bodies: Sequence[RankBody]) -> Future[Filled]:
        """Fill in requests.

        Args:
            bodies: requests that are answered together.

        Returns:
            A future of the requests; its errors are those of `filled_bodies`.

        Raises:
            OverloadError: too many requests wait.
        """
        return self._batcher.submit(bodies)

    def close(self, seconds: float) -> None:
        """Fill in what waits, then stop.

        Args:
            seconds: to wait, at most.
        """
        self._batcher.close(seconds)

    def _fill(self, jobs: Sequence[Sequence[RankBody]]) -> list[Filled]:
        now = datetime.now(UTC)
        bodies, ahead = filled_bodies([body for job in jobs for body in job], self._keeper, now)
        out, begin = [], 0
        for job in jobs:
            end = begin + len(job)
            out.append(Filled(bodies[begin:end], ahead[begin:end], now))
            begin = end
        return out


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


def lacks_nothing(bodies: Sequence[RankBody], keeper: StateKeeper) -> bool:
    """Whether requests bring all that a state could give.

    Args:
        bodies: the requests.
        keeper: the state.
    """
    return not any(_lacking(body, keeper) for body in bodies)


def _lacking(body: RankBody, keeper: StateKeeper) -> list[str]:
    """Columns of a request that the state has to give."""
    given, live = body.model_fields_set, keeper.live
    names = [] if set(_HISTORY) & given else list(_HISTORY)
    if live.info.candidate_features and body.candidate_features is None:
        names.append("candidate_features")
    if live.retrieves and body.candidate_score is None:
        names.append("candidate_score")
    return names
