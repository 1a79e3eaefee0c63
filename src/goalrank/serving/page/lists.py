"""Lists for the page: a variant's list with each slot's probability, and what each rule did."""

from __future__ import annotations

import copy
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
from goalrank.serving.ranking.service import DEFAULT, Service

RETRIEVER = "retriever"


class Side(BaseModel):
    """One of the two variants that are compared.

    Attributes:
        variant: a key of the page's variants, or `retriever`.
        temperature: None is the best list; a number draws one.
        request_id: names the draw; the same id draws the same list.
    """

    model_config = ConfigDict(extra="forbid")

    variant: Annotated[str, Field(max_length=256)] = DEFAULT
    temperature: float | None = Field(default=None, gt=0, le=100)
    request_id: RequestId


class CompareBody(BaseModel):
    """One request, two variants."""

    model_config = ConfigDict(extra="forbid")

    request: RankBody
    sides: list[Side] = Field(min_length=1, max_length=2)


@dataclass(frozen=True)
class Shown:
    """A list on the page.

    Attributes:
        probabilities: of each slot's item given those before it; None where the variant has none.
        rules: what each did, see `explain`.
    """

    ranked: Ranked
    policy: str
    probabilities: list[float] | None
    rules: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        each = self.ranked
        drawn = self.probabilities is not None
        return {
            "request_id": each.request_id, "policy": self.policy, "items": each.items,
            "positions": each.positions, "probabilities": self.probabilities,
            "log_prob": _finite(each.log_prob) if drawn else None,
            "propensity": each.propensity, "relaxed": list(each.relaxed), "rules": self.rules,
        }  # fmt: skip


def variants(service: Service) -> dict[str, tuple[str, Predictor]]:
    """Key → (what it is called, its engine): what is served by default, then arms with bundles."""
    engines = service.engines
    out = {DEFAULT: ("Served by default", engines[DEFAULT])}
    for experiment in service.experiments.experiment:
        for arm in experiment.variants:
            if arm.bundle in engines:
                out[f"{experiment.name}:{arm.name}"] = (
                    f"{experiment.name}: {arm.name}",
                    engines[arm.bundle],
                )
    return out


def show(service: Service, body: RankBody, side: Side, items: pl.DataFrame | None) -> Shown:
    """The list of one variant, ranked as a served request would be.

    Raises:
        ConfigError: an unknown variant, or a request that no model can rank.
        InfeasibleError: rules that cannot hold and must not be relaxed.
    """
    retriever = side.variant == RETRIEVER
    engine = _engine(service, DEFAULT if retriever else side.variant, side.temperature)
    table = _table(body, side.request_id, engine, items)
    rules = service.engines[DEFAULT].rules.merged(body.rules)
    slots = body.slots or engine.slots
    ranked = _rank(engine, table, slots, [rules], retriever)[0]
    chances = None if retriever else _chances(engine, table, ranked, slots, rules, side.temperature)
    explained = explain(
        lambda many, each: _rank(engine, many, slots, each, retriever), table, ranked, rules, slots
    )
    policy = RETRIEVER if retriever else engine.name
    return Shown(ranked, policy, chances, explained)


def _engine(service: Service, key: str, temperature: float | None) -> Predictor:
    """An engine of its own for the page: no rules but those given, and the page's temperature."""
    known = variants(service)
    if key not in known:
        raise ConfigError(
            f"variant {key!r} is not served; remedy: one of {[*known, RETRIEVER]}; option: variant"
        )
    engine = copy.copy(known[key][1])
    engine.rules, engine.temperature = Constraints(), temperature
    return engine


def _rank(
    engine: Predictor, table: Requests, slots: int, rules: Sequence[Constraints], retriever: bool
) -> list[Ranked]:
    call = engine.fallback if retriever else engine.rank
    return call(table, slots, rules=rules)


def _chances(
    engine: Predictor,
    table: Requests,
    ranked: Ranked,
    slots: int,
    rules: Constraints,
    temperature: float | None,
) -> list[float] | None:
    """Each slot's probability under the policy that rules constrain, at the temperature (or 1)."""
    if not engine.bundle.ranker.stepwise:
        return None
    steps: list[Tensor] = []
    engine.log_prob(
        table, [ranked.positions], slots, rules=[rules], temperature=temperature or 1.0, steps=steps
    )
    return [math.exp(float(step[0])) for step in steps[: len(ranked.positions)]]


def _table(
    body: RankBody, request_id: str, engine: Predictor, items: pl.DataFrame | None
) -> Requests:
    """The request as a table of one row. Missing candidate features count as average."""
    encoder = engine.bundle.encoder
    width = len(encoder.info.candidate_features)
    row = body.row(request_id, datetime.now(UTC))
    given = row["candidate_features"] or [encoder.candidate[:, 0].tolist()] * len(body.candidates)
    if any(len(vector) != width for vector in given):
        raise ConfigError(
            f"candidate_features: this model wants {width} numbers a candidate; remedy: send them, "
            f"or none at all"
        )
    row["candidate_features"] = given
    users, ids = encoder.users.vocabulary.ids.dtype, encoder.items.vocabulary.ids.dtype
    _check(body, users, ids)
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
    drop += ["candidate_score"] if body.candidate_score is None else []
    return Requests(frame.drop(drop), items=items, info=encoder.info)


def _check(body: RankBody, users: Any, ids: Any) -> None:
    for what, values, dtype in (
        ("user", (body.user_id,), users),
        ("item", (*body.candidates, *body.history), ids),
    ):
        wanted = str if dtype == pl.String else int
        odd = next((each for each in values if type(each) is not wanted), None)
        if odd is not None:
            raise ConfigError(
                f"{what} id {odd!r} is a {type(odd).__name__}, but this model's are "
                f"{wanted.__name__}"
            )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
