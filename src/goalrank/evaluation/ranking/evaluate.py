"""Run rankers over requests and measure their lists, all under one protocol."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from goalrank.errors import ConfigError, DataError, GoalRankError
from goalrank.evaluation.ranking import metrics as m
from goalrank.evaluation.ranking.evaluation import Evaluation
from goalrank.evaluation.statistics.bootstrap import FloatArray
from goalrank.evaluation.statistics.few_clusters import resample
from goalrank.rankers import Ranker
from goalrank.requests import Batch, EncodedRequests
from goalrank.wording import counted

DEFAULT_METRICS = ("ndcg", "recall", "hit_rate", "map", "f1", "auc")

Progress = Callable[[int, int], None]


def evaluate(
    rankers: Mapping[str, Ranker],
    columns: EncodedRequests,
    *,
    slots: int = 6,
    batch_size: int = 256,
    metrics: Sequence[str] = DEFAULT_METRICS,
    bootstrap: int = 1000,
    seed: int = 0,
    unit: str = "user",
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Evaluation:
    """Measure each ranker's lists on every request that has a positive.

    Only candidates whose relevance is known take part: under the exposed protocol rankers order the
    shown candidates alone, since feedback on the others is unknown. Scorers are
    measured from their scores, ties at their expected value; other rankers from the lists they emit.

    Args:
        rankers: name → ranker; each is put in eval mode and left as it was found.
        columns: encoded requests.
        slots: L ≥ 1.
        batch_size: requests per batch; the results do not depend on it.
        metrics: names of `METRICS`, "package.module:function", or auc.
        bootstrap: number of resamples, at least 1.
        seed: of the resamples.
        unit: "user" resamples users with all their requests, or takes Student's t over fewer than
            30 users; "request" takes single requests for independent.
        device: where rankers are and batches go.
        progress: called with (requests done, requests in all) after each batch.

    Raises:
        ConfigError: an unknown metric or unit, or a number out of range.
        DataError: no feedback kind is the target, or no request has a positive.
        GoalRankError: a ranker gave scores or lists of another shape, NaN scores, or a list with
            repeats or padding.
    """
    _check(metrics, slots, batch_size, bootstrap)
    rows = _with_positives(columns)
    tables = replace(columns, items=columns.items.to(device), users=columns.users.to(device))
    parts: dict[str, dict[str, list[FloatArray]]] = {name: {} for name in rankers}
    seconds = dict.fromkeys(rankers, 0.0)
    with evaluating(rankers.values()), torch.inference_mode():
        for start in range(0, len(rows), batch_size):
            batch = known_only(tables.batch(rows[start : start + batch_size]).to(device))
            for name, ranker in rankers.items():
                began = time.perf_counter()
                answer = _answer(ranker, batch, slots)
                seconds[name] += time.perf_counter() - began
                for metric, value in _measure(name, ranker, answer, batch, slots, metrics).items():
                    parts[name].setdefault(metric, []).append(value.cpu().numpy())
            if progress is not None:
                progress(min(start + batch_size, len(rows)), len(rows))
    return Evaluation(
        slots=slots,
        protocol=columns.protocol,
        rows=rows,
        excluded=len(columns) - len(rows),
        values={r: {k: np.concatenate(v) for k, v in each.items()} for r, each in parts.items()},
        seconds=seconds,
        resampler=resample(columns.user[rows], unit, bootstrap, seed),
        unit=unit,
    )


def measured_with(metric: str) -> tuple[str, ...]:
    """The default metrics, and another one where it is not among them.

    Args:
        metric: with or without "@L".
    """
    name = metric.partition("@")[0]
    return DEFAULT_METRICS if name in DEFAULT_METRICS else (*DEFAULT_METRICS, name)


def known_only(batch: Batch) -> Batch:
    """The same batch with only those candidates whose relevance is known left to choose from."""
    return replace(batch, candidate_mask=batch.candidate_mask & batch.observed)


def _check(metrics: Sequence[str], slots: int, batch_size: int, bootstrap: int) -> None:
    for name in metrics:
        if (fault := m.METRICS.fault(name, also=("auc",))) is not None:
            raise ConfigError(f"{fault}; option: metrics")
    for name, value in (("slots", slots), ("batch_size", batch_size), ("bootstrap", bootstrap)):
        if value < 1:
            raise ConfigError(f"{name} is {value}, but must be at least 1 (option: {name})")


def _with_positives(columns: EncodedRequests) -> NDArray[np.int64]:
    if columns.target < 0:
        raise DataError(
            "these requests name no target feedback kind, so nothing counts as relevant; remedy: "
            "set the table's target to one of its feedback kinds (option: target)"
        )
    good = np.concatenate([[0], np.cumsum(columns.feedback[:, columns.target] > 0)])
    rows = np.flatnonzero(good[columns.shown_start[1:]] > good[columns.shown_start[:-1]])
    if len(rows) == 0:
        raise DataError(
            f"none of {counted(len(columns), 'request')} has positive '{columns.kinds[columns.target]}' "
            f"feedback, so there is nothing to measure; remedy: choose another target or more data"
        )
    return rows


@contextmanager
def evaluating(rankers: Iterable[Ranker]) -> Iterator[None]:
    """Rankers without dropout meanwhile; afterwards they are as they were."""
    modules = list(rankers)
    before = [ranker.training for ranker in modules]
    for ranker in modules:
        ranker.eval()
    try:
        yield
    finally:
        for ranker, training in zip(modules, before):
            ranker.train(training)


def _answer(ranker: Ranker, batch: Batch, slots: int) -> Tensor:
    answer = ranker.scores(batch) if ranker.scores_candidates else ranker.rank(batch, slots)
    if (
        isinstance(answer, Tensor) and answer.is_cuda
    ):  # the clock should see the work, not its submission
        torch.cuda.synchronize(answer.device)
    return answer


def _measure(
    name: str, ranker: Ranker, answer: Tensor, batch: Batch, slots: int, metrics: Sequence[str]
) -> dict[str, Tensor]:
    relevance, mask = batch.relevance, batch.candidate_mask
    out: dict[str, Tensor] = {}
    _check_shape(name, answer, ranker.scores_candidates, batch, slots)
    if ranker.scores_candidates:
        if bool((answer.isnan() & mask).any()):
            raise GoalRankError(f"ranker '{name}' scored a candidate NaN; remedy: check its inputs")
        values = m.from_scores(answer.masked_fill(~mask, 0.0), relevance, mask, slots)
        if "auc" in metrics:
            out["auc"] = m.auc(answer.masked_fill(~mask, 0.0), relevance, mask)
    else:
        _check_lists(name, answer, mask)
        values = m.from_lists(answer, relevance, mask)
    for metric in metrics:
        if metric != "auc":
            out[f"{metric}@{slots}"] = _checked(metric, m.METRICS[metric](values), batch)
    return {k: out[k] for k in sorted(out, key=lambda k: metrics.index(k.split("@")[0]))}


def _checked(metric: str, value: Tensor, batch: Batch) -> Tensor:
    """What a metric gave, if it is one number per request."""
    if value.shape != (batch.size,):
        raise GoalRankError(
            f"metric '{metric}' gave a tensor of shape {list(value.shape)} for {batch.size} "
            f"requests; remedy: one number per request, [B]"
        )
    return value


def _check_shape(name: str, answer: object, scores: bool, batch: Batch, slots: int) -> None:
    """Refuse an answer of another shape: metrics at L of longer or shorter lists are other metrics."""
    size = batch.candidates.shape[1]
    want = [batch.size, size if scores else slots]
    what = "scores" if scores else "lists"
    if not isinstance(answer, Tensor):
        raise GoalRankError(
            f"ranker '{name}' gave {what} as {type(answer).__name__}; remedy: a tensor of shape {want}"
        )
    kind = "real" if scores else "int64"
    fits = not answer.is_complex() if scores else answer.dtype == torch.int64
    if list(answer.shape) != want or not fits:
        raise GoalRankError(
            f"ranker '{name}' gave {what} of shape {list(answer.shape)} and type {answer.dtype} for "
            f"{batch.size} requests of at most {size} candidates and {slots} slots; remedy: {want}, "
            f"{kind}" + ("" if scores else ", with -1 in empty slots")
        )
    if not scores and int(answer.max()) >= size:
        raise GoalRankError(
            f"ranker '{name}' emitted position {int(answer.max())}, but the candidates of this batch "
            f"have positions 0 … {size - 1}; lists hold positions among the candidates, not item ids"
        )


def _check_lists(name: str, lists: Tensor, mask: Tensor) -> None:
    real = lists >= 0
    taken = torch.zeros_like(mask, dtype=torch.int64)
    taken.scatter_add_(1, lists.clamp_min(0), real.long())
    if bool((taken > mask).any()):
        raise GoalRankError(
            f"ranker '{name}' emitted a list with a repeated or a masked candidate; lists hold "
            f"distinct real candidates, then -1"
        )
