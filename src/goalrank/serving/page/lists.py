"""Lists of the page: the list of a variant with slot probabilities and effects of constraints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import polars as pl
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from goalrank.bundles import Predictor, Ranked
from goalrank.constraints import Constraints
from goalrank.errors import ConfigError
from goalrank.requests import Requests
from goalrank.serving.http.schemas import RankBody, RequestId
from goalrank.serving.page.explanations import explain
from goalrank.serving.ranking.jobs import check_body
from goalrank.serving.ranking.served_bundles import DEFAULT
from goalrank.serving.ranking.service import Service

RETRIEVER = "retriever"


class ListChoice(BaseModel):
    """Choice of a list: a variant and how it makes the list.

    Attributes:
        variant: a key of `served_variants`, or `retriever`.
        temperature: in (0, 100] draws a list; None takes the best list.
        request_id: names the draw; the same id draws the same list.
    """

    model_config = ConfigDict(extra="forbid")

    variant: Annotated[str, Field(max_length=256)] = DEFAULT
    temperature: float | None = Field(default=None, gt=0, le=100)
    request_id: RequestId


class CompareBody(BaseModel):
    """One request and the lists to compare.

    Attributes:
        request: the request.
        sides: one or two choices of a list.
    """

    model_config = ConfigDict(extra="forbid")

    request: RankBody
    sides: list[ListChoice] = Field(min_length=1, max_length=2)


@dataclass(frozen=True)
class PageList:
    """A list on the page.

    Attributes:
        ranked: the list.
        policy: name of the policy that made it.
        probabilities: of the item in each slot given those before it; None if the policy has none.
        rules: effect of each constraint, see `explain`.
        filled: inputs that the request lacks, of which the model got the training mean.
    """

    ranked: Ranked
    policy: str
    probabilities: list[float] | None
    rules: list[dict[str, Any]]
    filled: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Make plain values for JSON."""
        ranked = self.ranked
        has_probabilities = self.probabilities is not None
        return {
            "request_id": ranked.request_id, "policy": self.policy, "items": ranked.items,
            "positions": ranked.positions, "probabilities": self.probabilities,
            "log_prob": _finite(ranked.log_prob) if has_probabilities else None,
            "propensity": ranked.propensity, "relaxed": list(ranked.relaxed), "rules": self.rules,
            "filled": list(dict.fromkeys((*self.filled, *ranked.filled))),
        }  # fmt: skip


def served_variants(service: Service) -> dict[str, tuple[str, Predictor]]:
    """List the variants that can be compared: the default one, then those of experiments.

    Args:
        service: its predictors and experiments.

    Returns:
        Key → (label, predictor).
    """
    predictors = service.predictors
    out = {DEFAULT: ("Served by default", predictors[DEFAULT])}
    for experiment in service.experiments.experiment:
        for variant in experiment.variants:
            if variant.bundle in predictors:
                out[f"{experiment.name}:{variant.name}"] = (
                    f"{experiment.name}: {variant.name}",
                    predictors[variant.bundle],
                )
    return out


def make_list(
    service: Service, body: RankBody, choice: ListChoice, items: pl.DataFrame | None
) -> PageList:
    """Make the list of one variant, as it would be made for a served request.

    Args:
        service: its predictors.
        body: the request.
        choice: the variant and how it makes the list.
        items: side table of items.

    Raises:
        ConfigError: an unknown variant, or a request that no model can rank.
        MissingInputError: the request lacks an input that the model was trained with.
        InfeasibleError: constraints that no list obeys and that must not be relaxed.
    """
    retriever = choice.variant == RETRIEVER
    variant = DEFAULT if retriever else choice.variant
    predictor = _page_predictor(service, variant, choice.temperature, items)
    predictor.missing = body.missing or predictor.missing
    row, filled = completed_row(body, choice.request_id, predictor)
    table = _table(row, predictor)
    rules = service.predictors[DEFAULT].rules.merged(body.rules)
    slots = body.slots or predictor.slots
    ranked = _rank(predictor, table, slots, [rules], retriever)[0]
    probabilities = None
    if not retriever:
        probabilities = _slot_probabilities(
            predictor, table, ranked, slots, rules, choice.temperature
        )
    explained = explain(
        lambda many, each: _rank(predictor, many, slots, each, retriever),
        table, ranked, rules, slots,
    )  # fmt: skip
    policy = RETRIEVER if retriever else predictor.name
    return PageList(ranked, policy, probabilities, explained, filled)


def _page_predictor(
    service: Service, key: str, temperature: float | None, items: pl.DataFrame | None
) -> Predictor:
    """Copy a predictor for the page: without the server's constraints, at another temperature.

    Its side table, if it has none, is that of the examples. A served request brings no features
    of items, so that those of known ids are the bundle's here too.
    """
    known = served_variants(service)
    if key not in known:
        raise ConfigError(
            f"variant {key!r} is not served; remedy: one of {[*known, RETRIEVER]}; option: variant"
        )
    return known[key][1].varied(Constraints(), temperature, items)


def _rank(
    predictor: Predictor, table: Requests, slots: int, rules: Sequence[Constraints], retriever: bool
) -> list[Ranked]:
    rank = predictor.fallback if retriever else predictor.rank
    return rank(table, slots, rules=rules)


def _slot_probabilities(
    predictor: Predictor,
    table: Requests,
    ranked: Ranked,
    slots: int,
    rules: Constraints,
    temperature: float | None,
) -> list[float] | None:
    """Probability of the item in each slot under the constrained policy, at the temperature or 1."""
    if not predictor.bundle.ranker.stepwise:
        return None
    steps: list[Tensor] = []
    predictor.log_prob(
        table, [ranked.positions], slots, rules=[rules], temperature=temperature or 1.0, steps=steps
    )
    return [math.exp(float(step[0])) for step in steps[: len(ranked.positions)]]


def completed_row(
    body: RankBody, request_id: str, predictor: Predictor
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Make a row of the requests table that lacks nothing, and the names of what was filled in.

    Args:
        body: the request.
        request_id: of the row.
        predictor: the predictor that is to rank it.

    Raises:
        ConfigError: ids of another type, or candidate features of another number.
        MissingInputError: the request lacks an input that the model was trained with.
    """
    check_body(body, predictor)
    return predictor.completed(
        body.row(request_id, datetime.now(UTC)), body.missing or predictor.missing
    )


def _table(row: dict[str, Any], predictor: Predictor) -> Requests:
    """Make a requests table of one row."""
    encoder = predictor.bundle.encoder
    width = len(encoder.info.candidate_features)
    users, ids = encoder.users.vocabulary.ids.dtype, encoder.items.vocabulary.ids.dtype
    frame = pl.DataFrame(
        [row],
        schema_overrides={
            "user_id": users, "history": pl.List(ids), "candidates": pl.List(ids),
            "time": pl.Datetime("us", "UTC"), "history_time": pl.List(pl.Datetime("us", "UTC")),
            "history_feedback": pl.List(pl.Float32), "candidate_score": pl.List(pl.Float32),
            "candidate_features": pl.List(pl.Array(pl.Float32, width)),
        },
    )  # fmt: skip
    drop = [] if width else ["candidate_features"]
    drop += ["candidate_score"] if row["candidate_score"] is None else []
    return Requests(frame.drop(drop), info=encoder.info)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
