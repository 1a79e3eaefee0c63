"""Search of the best list under any reward: beam and local search, in batches."""

from __future__ import annotations

from dataclasses import fields, replace

import torch
from torch import Tensor

from goalrank.errors import ConfigError, DataError
from goalrank.requests import Batch
from goalrank.rewards import Reward
from goalrank.worlds.truth.search import moves, neighbours

_SHARED = ("items", "users")  # feature tables that all requests of a batch share
_LISTS_PER_CALL = 16_384  # lists per call of the reward
_TOLERANCE = 1e-6  # smaller improvements are noise of single precision


def search_best_lists(
    reward: Reward,
    batch: Batch,
    slots: int,
    *,
    starts: Tensor | None = None,
    beam: int = 8,
    restarts: int = 2,
    rounds: int = 20,
) -> tuple[Tensor, Tensor]:
    """Search the best list of each request under a reward.

    A beam search values each prefix by the reward of the prefix as a list, which is exact for
    rewards that are sums over slots. Steepest ascent by swaps, moves and replacements follows.

    Args:
        reward: any reward; only its values are used.
        batch: B requests.
        slots: L.
        starts: [B, G, L] further lists to start from; the result is never worse than they are.
        beam: prefixes kept per slot, at least 1.
        restarts: lists of the beam that the ascent starts from, at least 1.
        rounds: the most steps of the ascent, at least 1.

    Returns:
        Lists [B, L] and their value [B] under the reward.

    Raises:
        ConfigError: an option is below 1.
        DataError: a request has fewer than L candidates.
    """
    if min(slots, beam, restarts, rounds) < 1:
        raise ConfigError(
            f"slots={slots}, beam={beam}, restarts={restarts}, rounds={rounds} must be at least 1"
        )
    if bool((batch.candidate_mask.sum(1) < slots).any()):
        raise DataError(f"each request needs at least slots={slots} candidates")
    with torch.inference_mode():
        begin = _beam(reward, batch, slots, beam)[:, :restarts]
        begin = begin if starts is None else torch.cat([starts, begin], 1)
        b, r, _ = begin.shape
        row = torch.arange(b, device=begin.device).repeat_interleave(r)
        lists, value = _ascend(reward, batch, row, begin.reshape(-1, slots), rounds)
        top = value.view(b, r).max(1)
        at = torch.arange(b, device=begin.device)
        return lists.view(b, r, slots)[at, top.indices], top.values


def batch_rows(batch: Batch, rows: Tensor) -> Batch:
    """Select requests of a batch; the feature tables are shared.

    Args:
        batch: B requests.
        rows: [B'] request numbers in 0..B-1, repeats allowed.
    """
    picked = {f.name: getattr(batch, f.name)[rows] for f in fields(batch) if f.name not in _SHARED}
    return replace(batch, **picked)


def _values(reward: Reward, batch: Batch, lists: Tensor) -> Tensor:
    """Rewards [B, G] of lists [B, G, L], in calls of bounded size."""
    step = max(1, _LISTS_PER_CALL // lists.shape[1])
    parts = []
    for first in range(0, len(lists), step):
        rows = torch.arange(first, min(first + step, len(lists)), device=lists.device)
        parts.append(reward(batch_rows(batch, rows), lists[rows]).float())
    return torch.cat(parts)


def _beam(reward: Reward, batch: Batch, slots: int, width: int) -> Tensor:
    """Best lists of a beam search [B, W, L], best first; W is smaller where fewer lists exist."""
    mask = batch.candidate_mask
    b, n = mask.shape
    lists = torch.zeros(b, 1, 0, dtype=torch.int64, device=mask.device)
    for _ in range(slots):
        g = lists.shape[1]
        free = mask[:, None, :].expand(b, g, n)
        if lists.shape[2]:
            free = free.scatter(2, lists, False)
        every = torch.arange(n, device=mask.device).expand(b, g, n)
        longer = torch.cat([lists[:, :, None, :].expand(b, g, n, -1), every[..., None]], 3)
        value = _values(reward, batch, longer.flatten(1, 2))
        value = value.masked_fill(~free.flatten(1, 2), -torch.inf)
        # Padding leaves some requests fewer prefixes than others: keep as many as all of them have,
        # so that no infeasible prefix is kept.
        keep = min(width, int(torch.isfinite(value).sum(1).min()))
        top = value.topk(keep, 1).indices
        lists = longer.flatten(1, 2).gather(1, top[..., None].expand(-1, -1, longer.shape[3]))
    return lists


def _ascend(
    reward: Reward, batch: Batch, row: Tensor, lists: Tensor, rounds: int
) -> tuple[Tensor, Tensor]:
    """Steepest ascent from lists [M, L] of the batch's requests `row` [M]: lists and value [M]."""
    lists = lists.clone()
    value = _values(reward, batch_rows(batch, row), lists[:, None, :]).squeeze(1)
    orders = moves(lists.shape[1]).to(lists.device)
    active = torch.arange(len(lists), device=lists.device)
    for _ in range(rounds):
        if len(active) == 0:
            break
        part = batch_rows(batch, row[active])
        near, allowed = neighbours(part.candidate_mask, lists[active], orders)
        safe = torch.where(allowed[..., None], near, lists[active][:, None, :])
        best = _values(reward, part, safe).masked_fill(~allowed, -torch.inf).max(1)
        better = best.values > value[active] + _TOLERANCE
        active, chosen = active[better], best.indices[better]
        lists[active] = near[better, chosen]
        value[active] = best.values[better]
    return lists, value
