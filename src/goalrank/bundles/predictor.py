"""`Predictor`: a bundle that ranks batches of requests under rules; no HTTP."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any, cast

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from goalrank.bundles.asked import (
    Asked,
    LatestRows,
    Ranked,
    parted,
    retriever_scores,
)
from goalrank.bundles.bundle import Bundle
from goalrank.bundles.onnx.graph import Backend, ListGraph
from goalrank.bundles.sides import Side
from goalrank.bundles.synthetic import synthetic_requests
from goalrank.bundles.timing import timed
from goalrank.constraints import (
    Constraints,
    Resolved,
    attribute_columns,
    compile_constraints,
    constrained_lists,
    is_prefix_free,
    open_slots,
    resolve_infeasible,
)
from goalrank.errors import ConfigError, GoalRankError
from goalrank.nn import request_salt
from goalrank.rankers import RetrieverOrder
from goalrank.requests import (
    Batch,
    EncodedRequests,
    Missing,
    Requests,
    Row,
    check_missing,
)
from goalrank.wording import counted

_GRAPH_CANDIDATES = 4_096  # B × N; the graph holds [B, heads, N, N], PyTorch works in chunks
_MEASURED, _RUNS = (1, 4, 16, 32), 3  # sizes of batch; runs of each
_GRAPH_MOST = 32  # requests; beyond, PyTorch's products are the faster ones (N 50, width 128)


class Predictor:
    """Ranks requests with one bundle.

    Args:
        bundle: the bundle to rank with.
        name: of the policy, written with exposures.
        items: side table (`item_id` and columns) for rules and features. Its columns override the
            bundle's features of known items and are those of new ones; a request's own side table
            overrides both.
        users: side table of users, for the same purposes.
        rules: hold for every request; a request's own are added.
        temperature: None is greedy; a number draws from the policy, softened by it.
        seed: of the draws; a request's list depends on the seed and its request_id only.
        graph: exported from this bundle; ranks what it can (see `backend`), PyTorch the rest. At
            most 32 requests at once, or what `choose_backend` found.
        observe: called after each ranking with bundle, encoded requests, backend at work, and lists.
        missing: what is done where a request lacks an input that the model was trained with:
            "refuse", or "mean", which takes its mean over the training requests.
        latest: asked at each call what is known of its ids now, column by column; overrides `items`
            and `users`. A table that brings its own side table is ranked by that alone.

    Raises:
        ConfigError: a temperature that is not above 0, or another word for `missing`.
        DataError: a column of a side table changed its type since training.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        name: str = "ranker",
        items: pl.DataFrame | None = None,
        users: pl.DataFrame | None = None,
        rules: Constraints | None = None,
        temperature: float | None = None,
        seed: int = 0,
        graph: ListGraph | None = None,
        observe: Callable[[Bundle, EncodedRequests, Backend, Tensor], None] | None = None,
        missing: Missing = "refuse",
        latest: LatestRows | None = None,
    ) -> None:
        _check_temperature(temperature)
        check_missing(missing)
        self.bundle, self.name, self.items, self.users = bundle, name, items, users
        self.encoder = bundle.encoder.overridden(items, users)
        self._item_side = Side(self.encoder.items, items, "item_id")
        self._user_side = Side(self.encoder.users, users, "user_id")
        self.missing: Missing = missing
        self.rules = rules or Constraints()
        self.temperature, self.seed = temperature, seed
        self.graph, self.observe, self.latest = graph, observe, latest
        self.graph_most = _GRAPH_MOST
        self._values: dict[str, dict[Any, Any]] = {}  # item columns that rules look at

    @property
    def slots(self) -> int:
        """L that the ranker was trained for."""
        return self.bundle.config.slots

    def rank(
        self,
        requests: Requests | Sequence[Row],
        slots: int | None = None,
        *,
        rules: Sequence[Constraints | None] | None = None,
        temperature: float | None = None,
        missing: Missing | None = None,
    ) -> list[Ranked]:
        """Lists for B requests, in their order.

        Args:
            requests: a table, or plain rows (dictionaries with its columns; much faster for few).
            slots: L; None takes the length that the ranker was trained for.
            rules: each request's own.
            temperature: instead the predictor's.
            missing: instead the predictor's.

        Raises:
            ConfigError: a rule on an unknown column, or on a ranker that cannot be masked.
            InfeasibleError: no list obeys the rules and they must not be relaxed.
            MissingInputError: a request lacks an input that the model was trained with.
            DataError: ids or features of other types than in training.
        """
        length = _length(self.slots if slots is None else slots)
        temperature = self.temperature if temperature is None else temperature
        _check_temperature(temperature)
        asked = self._asked(requests)
        plans = self._plans(asked, rules, length)
        if not len(asked.flat):
            return []
        missing = missing or self.missing
        with timed("encode"):
            columns = self._columns(asked, missing)
        out: dict[int, Ranked] = {}
        for rows in _alike(plans):
            part = [plans[row] for row in rows]
            steps: list[Tensor] = []
            with timed("decode"):
                lists, log_prob = self._lists(columns.batch(rows), part, length, temperature, steps)
            ranked = self._ranked(
                asked, rows, part, lists, log_prob, steps, greedy=temperature is None
            )
            out.update(zip(rows, ranked))
            if self.observe is not None:
                seen = columns if len(rows) == len(columns) else columns.take(np.array(rows))
                self.observe(self.bundle, seen, self.backend(part, length, temperature), lists)
        found = [out[row] for row in range(len(asked.flat))]
        return found if missing == "refuse" else self._marked(asked, found)

    def completed(
        self, row: Row, missing: Missing | None = None
    ) -> tuple[dict[str, Any], tuple[str, ...]]:
        """A plain row with values for the inputs that it lacks, and the names of the means.

        Args:
            row: as `rank` takes it.
            missing: instead the predictor's.

        Raises:
            MissingInputError: it lacks an input that the model was trained with.
        """
        return self.encoder.inputs.completed(row, missing or self.missing)

    def varied(
        self, rules: Constraints, temperature: float | None, items: pl.DataFrame | None = None
    ) -> Predictor:
        """A copy with other rules and another temperature.

        Args:
            rules: of the copy.
            temperature: of the copy; see the class.
            items: side table for rules and for items that are new to the bundle, if this predictor
                has none. Features of known items stay the bundle's.
        """
        other = copy.copy(self)
        other.rules, other.temperature, other._values = rules, temperature, {}
        if self.items is None:
            other.items = items
            other._item_side = Side(self.encoder.items, items, "item_id")
        return other

    def warm(self) -> None:
        """Rank made-up requests once: the first run is slow, and no user should wait for it."""
        observe, self.observe = self.observe, None
        try:
            for most in (1, 8, 64):
                self.rank(synthetic_requests(self.bundle.encoder, 2, most), rules=None)
        except GoalRankError:
            pass  # rules that no made-up request can obey
        finally:
            self.observe = observe

    def choose_backend(self) -> dict[int, dict[Backend, float]]:
        """Measure PyTorch and the graph, and rank by the graph only where it is the faster one.

        Batches grow until PyTorch is faster: larger ones are all the better for it.

        Returns:
            Batch size → seconds per batch of made-up requests, by backend; for the sizes measured.
        """
        graph, observe, rules = self.graph, self.observe, self.rules
        self.observe, self.rules = None, Constraints()
        seconds: dict[int, dict[Backend, float]] = {}
        self.graph_most = 0
        try:
            for size in _MEASURED:
                rows = synthetic_requests(self.bundle.encoder, size, 50)
                self.graph = None
                seconds[size] = {"torch": self._seconds(rows)}
                self.graph, self.graph_most = graph, size
                seconds[size]["onnx"] = self._seconds(rows)
                if seconds[size]["onnx"] >= seconds[size]["torch"] and size > _MEASURED[0]:
                    break  # a single request is small enough for noise to decide
        finally:
            self.graph, self.observe, self.rules = graph, observe, rules
            good = [n for n, each in seconds.items() if each["onnx"] < each["torch"]]
            self.graph_most = max(good, default=0)
        return seconds

    def _seconds(self, rows: Sequence[Row]) -> float:
        """Seconds to rank some requests; the least of several runs, as other work only adds."""
        best = math.inf
        for _ in range(_RUNS):
            began = perf_counter()
            self.rank(rows)
            best = min(best, perf_counter() - began)
        return best

    def backend(
        self, plans: Sequence[Resolved | None], slots: int, temperature: float | None
    ) -> Backend:
        """What ranks requests with these plans.

        The exported graph serves greedy lists up to its own length, without rules or with such
        as do not depend on earlier slots (blocked, pinned); PyTorch serves everything, and large
        batches faster.
        """
        graph = self.graph
        if graph is None or temperature is not None or slots > graph.slots:
            return "torch"
        if len(plans) > self.graph_most:
            return "torch"
        return "onnx" if all(plan is None or is_prefix_free(plan[0]) for plan in plans) else "torch"

    def _ranks_by_graph(self, batch: Batch, plans: list[Resolved | None], slots: int) -> bool:
        few = batch.candidates.numel() <= _GRAPH_CANDIDATES
        return few and self.backend(plans, slots, None) == "onnx"

    @torch.inference_mode()
    def _lists(
        self,
        batch: Batch,
        plans: list[Resolved | None],
        slots: int,
        temperature: float | None,
        steps: list[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Lists [B, L] and log-probabilities [B]; `steps` gets each slot's share, where known."""
        ranker = self.bundle.ranker
        ruled = any(plan is not None and not is_prefix_free(plan[0]) for plan in plans)
        if temperature is None and not ruled and ranker.decodes_greedily:
            open_to = open_slots(plans, slots, batch.candidates.shape[1])
            if self.graph is not None and self._ranks_by_graph(batch, plans, slots):
                return self.graph.rank(batch, slots, open_to)
            return ranker.greedy(ranker.encode(batch), batch, slots, open_to)
        rng = torch.Generator().manual_seed(self.seed)
        state = ranker.encode(batch)
        warmth = 1.0 if temperature is None else temperature
        if any(plan is not None for plan in plans) or (temperature and ranker.stepwise):
            salt = None if temperature is None else request_salt(batch.key, rng)
            return constrained_lists(
                ranker, state, batch, plans, slots, temperature=warmth, salt=salt, steps=steps
            )
        if temperature is None:
            lists = ranker.best(state, batch, slots).unsqueeze(1)
        else:
            lists = ranker.draw(state, batch, 1, slots, rng, warmth)
        log_prob = ranker.list_log_prob(state, batch, lists, warmth)
        return lists.squeeze(1), log_prob.squeeze(1).double()

    @torch.inference_mode()
    def log_prob(
        self,
        requests: Requests | Sequence[Row],
        lists: Sequence[Sequence[int]],
        slots: int | None = None,
        *,
        rules: Sequence[Constraints | None] | None = None,
        temperature: float = 1.0,
        steps: list[Tensor] | None = None,
    ) -> NDArray[np.float64]:
        """Exact log-probability [B] of given lists of positions under the constrained policy.

        A list that the rules forbid, or that ends early, has -inf. `steps` gets each slot's share
        [B] of it appended.
        """
        length = _length(self.slots if slots is None else slots)
        _check_temperature(temperature)
        asked = self._asked(requests)
        plans = self._plans(asked, rules, length)
        if not len(asked.flat):
            return np.zeros(0)
        batch = self._columns(asked, self.missing).batch(slice(0, len(asked.flat)))
        forced = torch.full((len(lists), length), -1)
        for row, positions in enumerate(lists):
            forced[row, : len(positions)] = torch.tensor(positions, dtype=torch.long)
        ranker = self.bundle.ranker
        state = ranker.encode(batch)
        _, total = constrained_lists(
            ranker, state, batch, plans, length,
            temperature=temperature, forced=forced, steps=steps,
        )  # fmt: skip
        return total.numpy()

    def plans(
        self, requests: Requests | Sequence[Row], slots: int | None = None
    ) -> list[Resolved | None]:
        """What the predictor's rules allow in lists for requests; None where there are no rules.

        Raises:
            ConfigError: a rule on an unknown column.
            InfeasibleError: no list obeys the rules and they must not be relaxed.
        """
        return self._plans(
            self._asked(requests), None, _length(self.slots if slots is None else slots)
        )

    def fallback(
        self,
        requests: Requests | Sequence[Row],
        slots: int | None = None,
        *,
        rules: Sequence[Constraints | None] | None = None,
    ) -> list[Ranked]:
        """The retriever's order (its scores, else the order of the candidates) under the rules.

        No model takes part, so that it works when the model fails.
        """
        length = _length(self.slots if slots is None else slots)
        asked = self._asked(requests)
        plans = self._plans(asked, rules, length)
        if not len(asked.flat):
            return []
        scores, batch = retriever_scores(asked)
        lists, log_prob = constrained_lists(RetrieverOrder(), scores, batch, plans, length)
        rows = range(len(asked.flat))
        return self._ranked(asked, rows, plans, lists, log_prob, greedy=True, degraded=True)

    def _asked(self, requests: Requests | Sequence[Row]) -> Asked:
        if isinstance(requests, Requests):
            flat = self.encoder.flat_table(requests)
            asked = Asked(flat, parted(flat), requests.items, requests.users)
        else:
            flat = self.encoder.flat(requests)
            asked = Asked(flat, [list(row["candidates"]) for row in requests])
        return asked if self.latest is None else asked.told_by(self.latest)

    def _columns(self, asked: Asked, missing: Missing) -> EncodedRequests:
        flat, (items, users) = asked.flat, self._sides(asked)
        found = (
            None
            if asked.items is not None
            else self._item_side.find(flat.item_ids, asked.told_items),
            None
            if asked.users is not None
            else self._user_side.find(flat.user_id, asked.told_users),
        )
        return self.encoder.encode_flat(flat, items, users, missing, found)

    def _marked(self, asked: Asked, found: list[Ranked]) -> list[Ranked]:
        """The lists with the names of the inputs that were filled in."""
        absent = self.encoder.absent(asked.flat, *self._sides(asked))
        if not absent:
            return found
        return [
            replace(each, filled=tuple(name for name, rows in absent.items() if rows[row]))
            for row, each in enumerate(found)
        ]

    def _sides(self, asked: Asked) -> tuple[pl.DataFrame | None, pl.DataFrame | None]:
        """Side tables of items and of users by which inputs may be lacking."""
        items, users = asked.items, asked.users
        if items is None:
            items = self._item_side.new(asked.flat.item_ids, asked.told_items)
        if users is None:
            users = self._user_side.new(asked.flat.user_id, asked.told_users)
        return items, users

    def _attributes(self, names: list[str], asked: Asked) -> dict[str, list[Any]]:
        """Values of item columns for the flat candidates."""
        found = self._table_values(names, asked)
        if not asked.told_items:
            return found
        said = [asked.told_items.get(each, {}) for ids in asked.candidates for each in ids]
        return {
            name: [cells.get(name, value) for cells, value in zip(said, values)]
            for name, values in found.items()
        }

    def _table_values(self, names: list[str], asked: Asked) -> dict[str, list[Any]]:
        ids = asked.flat.candidates
        if asked.items is not None or isinstance(ids, pl.Series):
            items = asked.items if asked.items is not None else self.items
            return attribute_columns(names, pl.Series("id", ids), items)
        for name in names:
            if name not in self._values:  # kept, so that a request costs no join
                attribute_columns([name], pl.Series("id", ids), self.items)
                items = cast(pl.DataFrame, self.items)  # refused above where there is none
                self._values[name] = dict(zip(items["item_id"].to_list(), items[name].to_list()))
        flat = [each for ids in asked.candidates for each in ids]
        return {name: [self._values[name].get(each) for each in flat] for name in names}

    def _plans(
        self, asked: Asked, rules: Sequence[Constraints | None] | None, slots: int
    ) -> list[Resolved | None]:
        count = len(asked.flat)
        if rules is not None and len(rules) != count:
            raise ConfigError(
                f"{counted(len(rules), 'rule')} for {counted(count, 'request')}; remedy: one entry a request "
                f"(None where it has none); option: rules"
            )
        own = rules if rules is not None else [None] * count
        merged = [self.rules.merged(more) for more in own]
        if all(rule.empty for rule in merged):
            return [None] * count
        columns = sorted({name for rule in merged for name in rule.columns})
        attributes = self._attributes(columns, asked)
        plans: list[Resolved | None] = []
        end = 0
        for rule, ids in zip(merged, asked.candidates):
            start, end = end, end + len(ids)
            if rule.empty:
                plans.append(None)
                continue
            own_values = {name: attributes[name][start:end] for name in rule.columns}
            plans.append(
                resolve_infeasible(compile_constraints(rule, ids, own_values, slots), rule)
            )
        return plans

    def _ranked(
        self,
        asked: Asked,
        rows: Sequence[int],
        plans: list[Resolved | None],
        lists: Tensor,
        log_prob: Tensor,
        steps: Sequence[Tensor] = (),
        *,
        greedy: bool,
        degraded: bool = False,
    ) -> list[Ranked]:
        requests, users, out = asked.flat.request_id, asked.flat.user_id, []
        each_slot = torch.stack(list(steps), 1).tolist() if steps else [None] * len(rows)
        values = zip(rows, lists.tolist(), plans, log_prob.tolist(), each_slot)
        for row, picks, plan, value, logs in values:
            positions = [at for at in picks if at >= 0]
            ids = asked.candidates[row]
            propensity = 1.0 if greedy else math.exp(value)
            out.append(
                Ranked(
                    request_id=requests[row], user_id=users[row], items=[ids[at] for at in positions],
                    positions=positions, log_prob=value,
                    propensity=None if degraded else propensity,
                    relaxed=plan[0].relaxed if plan is not None else (), degraded=degraded,
                    slot_propensity=None
                    if degraded
                    else _per_slot(logs, len(positions), greedy=greedy),
                )
            )  # fmt: skip
        return out


def _per_slot(logs: list[float] | None, count: int, *, greedy: bool) -> list[float] | None:
    """Probability of each of `count` items given those before it; None where it is not known."""
    if greedy:
        return [1.0] * count
    return None if logs is None else [math.exp(value) for value in logs[:count]]


def _alike(plans: Sequence[Resolved | None]) -> list[list[int]]:
    """Rows whose rules are known beforehand, and the rest; what is empty is left out."""
    easy = [plan is None or is_prefix_free(plan[0]) for plan in plans]
    parts = [[i for i, flag in enumerate(easy) if flag == wanted] for wanted in (True, False)]
    return [part for part in parts if part]


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
