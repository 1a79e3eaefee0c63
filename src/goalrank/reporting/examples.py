"""Example requests for a report: rankers run on a few requests, positions turned to titles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from goalrank.errors import DataError
from goalrank.evaluation import known_only
from goalrank.rankers import Ranker
from goalrank.reporting.report import Example
from goalrank.requests import Batch, EncodedRequests


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
            )
        )
    return out


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
            training = ranker.training
            lists = ranker.eval().rank(known, slots)
            ranker.train(training)
            choices[name] = [int(i) for i in lists[0].tolist() if i >= 0]
            if reward is not None:
                rewards[name] = float(reward(batch, lists[:, None])[0, 0])
            if probabilities is not None:
                chances[name] = probabilities(batch, lists[:, None])[0, 0].tolist()
    return choices, rewards, chances
