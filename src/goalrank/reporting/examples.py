"""Example requests for a report: rankers run on a few requests, what moved up and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from goalrank.errors import DataError
from goalrank.evaluation import find_reasons, known_only
from goalrank.rankers import Ranker
from goalrank.reporting.report import Example, Move
from goalrank.requests import Batch, EncodedRequests, Encoder


def choose_rows(rows: Sequence[int], count: int = 10, *, seed: int = 0) -> list[int]:
    """`count` of these rows (those of `Evaluation.rows`, say) at random, ascending."""
    rng = np.random.default_rng(seed)
    picked = rng.choice(np.asarray(rows, np.int64), min(count, len(rows)), replace=False)
    return sorted(picked.tolist())


def make_examples(
    rankers: Mapping[str, Ranker],
    columns: EncodedRequests,
    rows: Sequence[int],
    *,
    candidates: Mapping[int, Sequence[Any]],
    titles: Mapping[Any, str],
    names: Mapping[int, str] | None = None,
    histories: Mapping[int, Sequence[Any]] | None = None,
    slots: int = 6,
    reward: Callable[[Batch, Tensor], Tensor] | None = None,
    probabilities: Callable[[Batch, Tensor], Tensor] | None = None,
    moves: Mapping[int, Move] | None = None,
) -> list[Example]:
    """What each ranker chooses for each of the rows.

    Args:
        rankers: name → ranker, in the order of the columns to print.
        columns: encoded requests; rows index them.
        rows: indices into `columns`.
        candidates: row → ids of its candidates, in their order.
        titles: id → title; an id without one is printed itself.
        names: row → name of the request.
        histories: row → ids of its history, oldest first; the last eight are printed.
        slots: L.
        reward: (batch, lists [B, G, L]) → [B, G].
        probabilities: (batch, lists [B, G, L]) → [B, G, L], each slot's chance of good feedback.
        moves: row → what moved up in it, as `find_moves` gives.

    Raises:
        DataError: the ids of a row are not as many as its candidates.
    """
    out = []
    for row in rows:
        ids = list(candidates[row])
        batch = columns.batch([row])
        if len(ids) != int(batch.candidate_mask.sum()):
            raise DataError(
                f"request row {row} has {int(batch.candidate_mask.sum())} candidates but {len(ids)} ids "
                f"were given; remedy: pass the ids of the same requests, in the same order"
            )
        past = list((histories or {}).get(row, ()))[-8:]
        choices, rewards, chances = _ask(rankers, batch, slots, reward, probabilities)
        out.append(
            Example(
                request=(names or {}).get(row, f"request {row}"),
                candidates=[str(titles.get(i, i)) for i in ids],
                liked=(batch.relevance[0] > 0).tolist()[: len(ids)],
                choices=choices,
                history=[str(titles.get(i, i)) for i in past],
                rewards=rewards,
                probabilities=chances,
                move=(moves or {}).get(row),
            )
        )
    return out


def find_moves(
    ranker: tuple[str, Ranker],
    baseline: tuple[str, Ranker],
    encoder: Encoder,
    columns: EncodedRequests,
    rows: Sequence[int],
    slots: int,
) -> dict[int, Move]:
    """For each row the candidate that a ranker lifts most above its place in a baseline's order.

    Args:
        ranker: name and ranker.
        baseline: name and ranker, which orders all candidates.
        encoder: the one that encoded `columns`.
        columns: encoded requests.
        rows: indices into `columns`; rows without a known candidate are left out.
        slots: L.
    """
    batch = known_only(columns.batch(list(rows)))
    with torch.inference_mode():
        lists = _eval_rank(ranker[1], batch, slots)
        order = _eval_rank(baseline[1], batch, batch.candidates.shape[1])
    before = _places(order)
    lift = before.gather(1, lists.clamp_min(0)) - torch.arange(lists.shape[1])
    top = lift.masked_fill(lists < 0, -1).argmax(1)
    found = [
        (row, int(lists[k, t]), int(before[k, lists[k, t]]), int(t))
        for k, (row, t) in enumerate(zip(rows, top))
        if lists[k, t] >= 0
    ]
    reasons = find_reasons(ranker[1], encoder, columns, [(r, at) for r, at, *_ in found], slots)
    return {
        row: Move(ranker[0], baseline[0], at, early, late, why)
        for (row, at, early, late), why in zip(found, reasons, strict=True)
    }


def _places(order: Tensor) -> Tensor:
    """Place [B, N] of each candidate in an order [B, N] that ends in -1; N where it is not in it."""
    b, n = order.shape
    places = torch.full((b, n + 1), n)
    places.scatter_(1, order.masked_fill(order < 0, n), torch.arange(n).expand(b, n))
    return places[:, :n]


def _eval_rank(ranker: Ranker, batch: Batch, slots: int) -> Tensor:
    """Lists [B, L] without dropout."""
    training = ranker.training
    lists = ranker.eval().rank(batch, slots)
    ranker.train(training)
    return lists


def _ask(
    rankers: Mapping[str, Ranker],
    batch: Batch,
    slots: int,
    reward: Callable[[Batch, Tensor], Tensor] | None,
    probabilities: Callable[[Batch, Tensor], Tensor] | None,
) -> tuple[dict[str, list[int]], dict[str, float], dict[str, list[float]]]:
    """Choices, rewards and slot chances of one request, by ranker."""
    choices: dict[str, list[int]] = {}
    rewards: dict[str, float] = {}
    chances: dict[str, list[float]] = {}
    known = known_only(batch)
    with torch.inference_mode():
        for name, ranker in rankers.items():
            lists = _eval_rank(ranker, known, slots)
            choices[name] = [int(i) for i in lists[0].tolist() if i >= 0]
            if reward is not None:
                rewards[name] = float(reward(batch, lists[:, None])[0, 0])
            if probabilities is not None:
                chances[name] = probabilities(batch, lists[:, None])[0, 0].tolist()
    return choices, rewards, chances
