"""Jobs of the service: what one predictor ranks for one request, and what becomes of its list."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl

from goalrank.bundles import Predictor, Ranked, TimedStep
from goalrank.constraints import Constraints
from goalrank.errors import ConfigError
from goalrank.experiments import Experiment, draft_coins, draft_label, team_draft
from goalrank.requests import Bounds, Missing, is_within
from goalrank.serving.http.schemas import Answer, RankBody
from goalrank.serving.store.layouts import Layout
from goalrank.serving.store.records import Event, Exposure

MOST_WORK = 10_000_000  # candidates × slots × rules of one request
_LARGE_N, _LARGE_WORK = 1_000, 50_000  # candidates; candidates × slots


@dataclass
class RankJob:
    """One list to make: a request and the predictor that ranks it.

    Attributes:
        predictor: ranks the request.
        row: the request as a row of the requests table.
        slots: L.
        rules: constraints of this request; None adds none to the predictor's own.
        experiment: label of the experiments that the user takes part in; None for none.
        policy: name written with the exposure.
        missing: what is done where an input of training is lacking, see `Predictor`.
        filled: inputs of the row that are means over the training requests.
        steps: timed steps of ranking, appended where traces are kept.
        arrived: when the request came, by `perf_counter`.
    """

    predictor: Predictor
    row: dict[str, Any]
    slots: int
    rules: Constraints | None
    experiment: str | None
    policy: str
    missing: Missing
    filled: tuple[str, ...] = ()
    steps: list[TimedStep] = field(default_factory=list)
    arrived: float = 0.0

    @property
    def large(self) -> bool:
        """Whether it takes so long that others must not wait for it."""
        n = len(self.row["candidates"])
        ruled = self.predictor.rules.searched or (self.rules is not None and self.rules.searched)
        return bool(ruled) or n > _LARGE_N or n * self.slots > _LARGE_WORK


@dataclass(frozen=True)
class RequestJobs:
    """The jobs of one request: one, or two that an interleaving experiment drafts into one list.

    Attributes:
        jobs: one or two.
        interleaved: the experiment that drafts two lists into one; None for a single job.
    """

    jobs: list[RankJob]
    interleaved: Experiment | None = None


def check_body(body: RankBody, predictor: Predictor) -> None:
    """Refuse a request that does not fit the model's inputs.

    Args:
        body: the request.
        predictor: the predictor that is to rank it.

    Raises:
        ConfigError: candidate features of another number, or ids of another type.
    """
    names = predictor.bundle.encoder.info.candidate_features
    if any(len(vector) != len(names) for vector in body.candidate_features or []):
        raise ConfigError(
            f"candidate_features: this model wants {len(names)} numbers per candidate "
            f"({list(names)}); remedy: send them"
        )
    check_ids(body, predictor)
    _check_work(body, predictor)


def _check_work(body: RankBody, predictor: Predictor) -> None:
    """Refuse a request that would take too long, before any work on it begins."""
    rules = predictor.rules.searched + (body.rules.searched if body.rules else 0)
    slots = body.slots or predictor.slots
    work = len(body.candidates) * slots * rules
    if work > MOST_WORK:
        raise ConfigError(
            f"{len(body.candidates)} candidates × {slots} slots × {rules} rules are {work:,}, but at "
            f"most {MOST_WORK:,} are ranked in time; remedy: fewer candidates, slots or rules"
        )


def check_ids(body: RankBody, predictor: Predictor) -> None:
    """Refuse ids of another type than the model's; polars would refuse mixed types much later.

    Args:
        body: the request.
        predictor: its model was trained on integers or strings.

    Raises:
        ConfigError: an id of another type.
    """
    encoder = predictor.bundle.encoder
    for entity, ids, table in (
        ("item", (*body.candidates, *body.history), encoder.items),
        ("user", (body.user_id,), encoder.users),
    ):
        wanted = str if table.vocabulary.ids.dtype == pl.String else int
        odd = next((each for each in ids if type(each) is not wanted), None)
        if odd is not None:
            raise ConfigError(
                f"{entity} id {odd!r} is a {type(odd).__name__}, but this model's are "
                f"{wanted.__name__}: a string '7' and a number 7 are different ids"
            )


def check_feedback(events: Sequence[Event], ranges: Mapping[str, Bounds]) -> None:
    """Refuse feedback that nothing could be trained on.

    Args:
        events: the feedback.
        ranges: kind → range of its values, for the kinds that are known.

    Raises:
        ConfigError: an unknown kind, or a value outside its range.
    """
    for event in events:
        if event.kind not in ranges:
            raise ConfigError(
                f"feedback of kind {event.kind!r}, but the models served here know {list(ranges)}; "
                f"nothing was stored; remedy: send one of them"
            )
        low, high = bounds = ranges[event.kind]
        if not is_within(event.value, bounds):
            raise ConfigError(
                f"feedback of kind {event.kind!r} has value {event.value:g}, but lies in [{low}, "
                f"{high}] in the training data; nothing was stored; remedy: send such values, or "
                f"train with a wider TableInfo.feedback_ranges"
            )


def shown_list(request: RequestJobs, ranked: Sequence[Ranked]) -> tuple[RankJob, Ranked]:
    """Choose the list to show: the ranker's, or one drafted from the lists of two rankers.

    A drafted list has no exact propensity: it is not drawn from either policy.

    Args:
        request: the jobs of one request.
        ranked: the list of each job, in order.

    Returns:
        The list, and its job with the experiment label and policy to store.
    """
    job, first_ranked = request.jobs[0], ranked[0]
    if request.interleaved is None or any(each.degraded for each in ranked):
        return job, first_ranked
    length = max(len(each.positions) for each in ranked)
    first, second = (
        np.array([[*each.positions, *[-1] * (length - len(each.positions))]], np.int64)
        for each in ranked
    )
    coins = draft_coins(request.interleaved, [first_ranked.request_id], length)
    draft = team_draft(first, second, coins)
    positions = [int(at) for at in draft.lists[0] if at >= 0]
    items = [job.row["candidates"][at] for at in positions]
    label = draft_label(request.interleaved, draft.teams[0].tolist())
    policy = "+".join(each.policy for each in request.jobs)
    relaxed = tuple(dict.fromkeys(rule for each in ranked for rule in each.relaxed))
    drafted = replace(
        first_ranked, items=items, positions=positions, log_prob=math.nan, propensity=None,
        slot_propensity=None, relaxed=relaxed,
    )  # fmt: skip
    return replace(job, experiment=label, policy=policy), drafted


def exposure_of(job: RankJob, ranked: Ranked) -> Exposure:
    """Make the exposure that the store keeps of a list.

    Args:
        job: the job.
        ranked: its list.
    """
    return Exposure(
        **job.row, shown=ranked.positions, propensity=ranked.propensity,
        slot_propensity=ranked.slot_propensity,
        policy=_policy(job, ranked), experiment=job.experiment,
        layout=Layout.of(job.predictor.bundle.encoder.info).name,
    )  # fmt: skip


def answer_of(job: RankJob, ranked: Ranked, logged: bool) -> Answer:
    """Make the HTTP answer of a list.

    Args:
        job: the job.
        ranked: its list.
        logged: whether the exposure is in the store.
    """
    return Answer(
        request_id=ranked.request_id, items=ranked.items,
        log_prob=None if math.isnan(ranked.log_prob) or ranked.degraded else ranked.log_prob,
        propensity=ranked.propensity,
        policy=_policy(job, ranked), experiment=job.experiment, relaxed=list(ranked.relaxed),
        degraded=ranked.degraded, logged=logged,
        filled=list(dict.fromkeys((*job.filled, *ranked.filled))),
    )  # fmt: skip


def _policy(job: RankJob, ranked: Ranked) -> str:
    return "retriever" if ranked.degraded else job.policy
