"""`Engine`: a bundle that ranks batches of requests under rules; no HTTP."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from goalrank.errors import ConfigError
from goalrank.nn import request_salt
from goalrank.requests import Batch, Requests
from goalrank.serving.bundle import Bundle
from goalrank.serving.decode import Settled, constrained, stepwise
from goalrank.serving.feasible import settle
from goalrank.serving.rules import Rules, attribute_columns, compile_rules


@dataclass(frozen=True)
class Ranked:
    """One request's list.

    Attributes:
        items: ids, best first.
        positions: the same in the request's candidates.
        log_prob: of the list under the constrained policy at the temperature (1 where greedy).
        propensity: probability with which this very list was served: exp(log_prob) where it was
            drawn, 1 where greedy, None where degraded.
        relaxed: rules given up because no list obeys them all.
        degraded: the retriever's order, not the ranker's.
    """

    request_id: str
    user_id: Any
    items: list[Any]
    positions: list[int]
    log_prob: float
    propensity: float | None
    relaxed: tuple[str, ...] = ()
    degraded: bool = False


class Engine:
    """Ranks requests with one bundle.

    Args:
        bundle: at work.
        name: of the policy, written beside exposures.
        items: side table (`item_id` and columns) that rules look at and new items' features come
            from, for requests that bring none.
        users: side table of users, likewise.
        rules: hold for every request; a request's own are added.
        temperature: None is greedy; a number draws from the policy, softened by it.
        seed: of the draws; a request's list depends on the seed and its request_id only.

    Raises:
        ConfigError: a temperature that is not above 0.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        name: str = "ranker",
        items: pl.DataFrame | None = None,
        users: pl.DataFrame | None = None,
        rules: Rules | None = None,
        temperature: float | None = None,
        seed: int = 0,
    ) -> None:
        _check_temperature(temperature)
        self.bundle, self.name, self.items, self.users = bundle, name, items, users
        self.rules = rules or Rules()
        self.temperature, self.seed = temperature, seed

    @property
    def slots(self) -> int:
        """L that the ranker was trained for."""
        return self.bundle.config.slots

    def rank(
        self,
        requests: Requests,
        slots: int | None = None,
        *,
        rules: Sequence[Rules | None] | None = None,
        temperature: float | None = None,
    ) -> list[Ranked]:
        """Lists for B requests, in their order.

        Args:
            slots: L; None takes the length that the ranker was trained for.
            rules: each request's own.
            temperature: instead of the engine's.

        Raises:
            ConfigError: a rule on an unknown column, or on a ranker that cannot be masked.
            InfeasibleError: no list obeys the rules and they must not be relaxed.
            DataError: ids or features of other types than in training.
        """
        length = _length(self.slots if slots is None else slots)
        temperature = self.temperature if temperature is None else temperature
        _check_temperature(temperature)
        plans = self._plans(requests, rules, length)
        batch = self._batch(requests)
        if batch is None:
            return []
        lists, log_prob = self._lists(batch, plans, length, temperature)
        greedy = temperature is None
        return self._ranked(requests, plans, lists, log_prob, greedy=greedy)

    @torch.inference_mode()
    def _lists(
        self, batch: Batch, plans: list[Settled | None], slots: int, temperature: float | None
    ) -> tuple[Tensor, Tensor]:
        ranker = self.bundle.ranker
        rng = torch.Generator().manual_seed(self.seed)
        state = ranker.encode(batch)
        warmth = 1.0 if temperature is None else temperature
        if any(plan is not None for plan in plans) or (temperature and stepwise(ranker)):
            salt = None if temperature is None else request_salt(batch.key, rng)
            return constrained(ranker, state, batch, plans, slots, temperature=warmth, salt=salt)
        if temperature is None:
            lists = ranker.best(state, batch, slots).unsqueeze(1)
        else:
            lists = ranker.draw(state, batch, 1, slots, rng, warmth)
        log_prob = ranker.list_log_prob(state, batch, lists, warmth)
        return lists.squeeze(1), log_prob.squeeze(1).double()

    @torch.inference_mode()
    def log_prob(
        self,
        requests: Requests,
        lists: Sequence[Sequence[int]],
        slots: int | None = None,
        *,
        rules: Sequence[Rules | None] | None = None,
        temperature: float = 1.0,
    ) -> NDArray[np.float64]:
        """Exact log-probability [B] of given lists of positions under the constrained policy.

        A list that the rules forbid, or that ends early, has -inf.
        """
        length = _length(self.slots if slots is None else slots)
        _check_temperature(temperature)
        plans = self._plans(requests, rules, length)
        batch = self._batch(requests)
        if batch is None:
            return np.zeros(0)
        forced = torch.full((len(lists), length), -1)
        for row, positions in enumerate(lists):
            forced[row, : len(positions)] = torch.tensor(positions, dtype=torch.long)
        ranker = self.bundle.ranker
        state = ranker.encode(batch)
        _, total = constrained(
            ranker, state, batch, plans, length, temperature=temperature, forced=forced
        )
        return total.numpy()

    def fallback(
        self,
        requests: Requests,
        slots: int | None = None,
        *,
        rules: Sequence[Rules | None] | None = None,
    ) -> list[Ranked]:
        """The retriever's order (its scores, else the order of the candidates) under the rules.

        No model takes part, so that it works when the model fails.
        """
        length = _length(self.slots if slots is None else slots)
        plans = self._plans(requests, rules, length)
        scores, batch = _retriever(requests)
        if not len(requests):
            return []
        lists, log_prob = constrained(None, scores, batch, plans, length)
        return self._ranked(requests, plans, lists, log_prob, greedy=True, degraded=True)

    def _batch(self, requests: Requests) -> Batch | None:
        if not len(requests):
            return None
        sides = {"items": requests.items, "users": requests.users}
        for side, own in (("items", self.items), ("users", self.users)):
            if sides[side] is None and own is not None:
                sides[side] = self._relevant(own, requests, side)
        table = Requests(requests.frame, info=requests.info, **sides)
        return self.bundle.encoder.encode(table).batch(slice(0, len(table)))

    def _relevant(self, side: pl.DataFrame, requests: Requests, name: str) -> pl.DataFrame | None:
        """Rows of a side table that are new to the encoder; the rest it knows already."""
        frame = requests.frame
        if name == "items":
            lists = (frame["candidates"], frame["history"])
            ids = pl.concat([x.explode(empty_as_null=False, keep_nulls=False) for x in lists])
            vocabulary = self.bundle.encoder.items.vocabulary
        else:
            ids, vocabulary = frame["user_id"], self.bundle.encoder.users.vocabulary
        new = ids.filter(~pl.Series(vocabulary.contains(ids))).unique()
        rows = side.filter(pl.col(f"{name[:-1]}_id").is_in(new.implode())) if len(new) else None
        return rows if rows is not None and rows.height else None

    def _plans(
        self, requests: Requests, rules: Sequence[Rules | None] | None, slots: int
    ) -> list[Settled | None]:
        if rules is not None and len(rules) != len(requests):
            raise ConfigError(
                f"{len(rules)} rules for {len(requests)} requests; remedy: one entry a request "
                f"(None where it has none); option: rules"
            )
        own = rules if rules is not None else [None] * len(requests)
        merged = [self.rules.merged(more) for more in own]
        # One look-up for the whole batch: a join a request would cost more than its list.
        columns = sorted({name for rule in merged for name in rule.columns})
        candidates = requests.frame["candidates"]
        flat = candidates.explode(empty_as_null=False, keep_nulls=False)
        items = requests.items if requests.items is not None else self.items
        attributes = attribute_columns(columns, flat, items)
        plans: list[Settled | None] = []
        end = 0
        for rule, ids in zip(merged, candidates.to_list()):
            start, end = end, end + len(ids)
            if rule.empty:
                plans.append(None)
                continue
            own_values = {name: attributes[name][start:end] for name in rule.columns}
            plans.append(settle(compile_rules(rule, ids, own_values, slots), rule))
        return plans

    def _ranked(
        self,
        requests: Requests,
        plans: list[Settled | None],
        lists: Tensor,
        log_prob: Tensor,
        *,
        greedy: bool,
        degraded: bool = False,
    ) -> list[Ranked]:
        frame, out = requests.frame, []
        names = zip(frame["request_id"], frame["user_id"], frame["candidates"].to_list())
        for (request, user, ids), row, plan, value in zip(
            names, lists.tolist(), plans, log_prob.tolist()
        ):
            positions = [at for at in row if at >= 0]
            propensity = 1.0 if greedy else math.exp(value)
            out.append(
                Ranked(
                    request_id=request, user_id=user, items=[ids[at] for at in positions],
                    positions=positions, log_prob=value,
                    propensity=None if degraded else propensity,
                    relaxed=plan[0].relaxed if plan is not None else (), degraded=degraded,
                )
            )  # fmt: skip
        return out


def _retriever(requests: Requests) -> tuple[Tensor, Batch]:
    """Scores [B, N] and just enough of a batch: the mask and names of the candidates."""
    frame = requests.frame
    sizes = frame["candidates"].list.len().to_list()
    n = max(sizes, default=0)
    scores = torch.zeros(len(sizes), n, dtype=torch.float64)
    mask = torch.zeros(len(sizes), n, dtype=torch.bool)
    given = frame["candidate_score"].to_list() if "candidate_score" in frame.columns else None
    for row, size in enumerate(sizes):
        mask[row, :size] = True
        values = given[row] if given is not None else None
        scores[row, :size] = torch.tensor(values if values else [-float(i) for i in range(size)])
    names = torch.arange(n).expand(len(sizes), n)
    none = torch.zeros(len(sizes), 0)
    batch = Batch(
        index=none, key=none, items=None, users=None, user=none,  # type: ignore[arg-type]
        history=none, history_mask=none, history_feedback=none, history_age=none,
        candidates=names, candidate_mask=mask, candidate_score=scores, candidate_features=none,
        shown=none, feedback=none, relevance=none, observed=none, propensity=none,
    )  # fmt: skip
    return scores, batch


def _length(slots: int) -> int:
    if slots < 1:
        raise ConfigError(f"slots is {slots}, but must be at least 1 (option: slots)")
    return slots


def _check_temperature(value: float | None) -> None:
    if value is not None and not (value > 0 and math.isfinite(value)):
        raise ConfigError(
            f"temperature is {value}, but must be above 0; remedy: leave it out for the best list; "
            f"option: temperature"
        )
