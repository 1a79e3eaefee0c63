"""Search of a near-optimal list: beam and local search with a certified gap."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from goalrank.errors import ConfigError, DataError
from goalrank.worlds.truth.bounds import tail_bound, upper_bound
from goalrank.worlds.world.response_model import ResponseModel
from goalrank.worlds.world.world import PlantedWorld

# Largest number of elements of one tensor in a chunk of requests.
_CHUNK = 4_000_000


@dataclass(frozen=True)
class SearchResult:
    """Near-optimal lists and their certified gap.

    Attributes:
        lists: [B, L] positions.
        value: [B] true reward r* of the lists; never above the optimum.
        bound: [B] certified upper bound on r* of any list.
        gap: [B] bound - value. The optimum is at most this much better; the bound is loose, so the
            true distance is usually far smaller.
        runner_up: [B] value of the second best restart. It equals ``value`` where restarts from
            different lists agree, which suggests that this is the optimum but does not prove it.
    """

    lists: Tensor
    value: Tensor
    bound: Tensor
    gap: Tensor
    runner_up: Tensor


def beam_search(model: ResponseModel, slots: int, width: int) -> Tensor:
    """Best lists of a beam search by value of the prefix + bound of the later slots, best first.

    Args:
        model: response model of B requests.
        slots: L.
        width: W, prefixes kept per slot.

    Returns:
        [B, W, L] positions.
    """
    prefix = root = model.empty_prefix()
    b, n = model.base.shape
    infeasible = torch.zeros_like(prefix.value, dtype=torch.bool)  # [B, G]
    for t in range(slots):
        gain, seen = model.gains(prefix)
        # One bound per request and unit of examination: cheap, and enough to weigh examination.
        rest = tail_bound(model, root, slots - t - 1)[..., None] if t + 1 < slots else 0.0
        total = prefix.value[..., None] + gain + (seen * rest).mean(dim=0)
        total = total.masked_fill(prefix.used | infeasible[..., None], -torch.inf).reshape(b, -1)
        # Padding leaves some requests fewer options than others: the others are infeasible.
        top, flat = total.topk(min(width, total.shape[1]), dim=1)
        infeasible = top == -torch.inf
        prefix = model.extend(prefix, flat // n, flat % n)
    order = prefix.value.masked_fill(infeasible, -torch.inf).argsort(
        dim=1, descending=True, stable=True
    )
    order = torch.where(infeasible.gather(1, order), order[:, :1], order)
    return prefix.lists.gather(1, order[..., None].expand(-1, -1, slots))


def moves(slots: int) -> Tensor:
    """Orders of the slots after one swap, or one move of an item to another slot.

    Args:
        slots: L.

    Returns:
        [Q, L] int64.
    """
    orders = set()
    for s in range(slots):
        for t in range(slots):
            swapped = list(range(slots))
            swapped[s], swapped[t] = swapped[t], swapped[s]
            moved = [x for x in range(slots) if x != s]
            moved.insert(t, s)
            orders |= {tuple(swapped), tuple(moved)}
    orders.discard(tuple(range(slots)))
    return torch.tensor(sorted(orders), dtype=torch.int64).reshape(-1, slots)


def neighbours(mask: Tensor, lists: Tensor, orders: Tensor) -> tuple[Tensor, Tensor]:
    """Neighbours of lists: reorderings and replacements of one item.

    Args:
        mask: [B, N] True for real candidates.
        lists: [B, L] positions.
        orders: [Q, L] from `moves`.

    Returns:
        Lists [B, Q + L·N, L] and whether each is allowed [B, Q + L·N].
    """
    b, slots = lists.shape
    n = mask.shape[1]
    reordered = lists[:, orders]
    replaced = lists[:, None, None, :].expand(b, slots, n, slots).clone()
    slot = torch.arange(slots, device=lists.device)
    replaced[:, slot, :, slot] = torch.arange(n, device=lists.device)
    free = mask.scatter(1, lists, False)
    allowed = torch.cat(
        [torch.ones(b, len(orders), dtype=torch.bool, device=lists.device), free.repeat(1, slots)],
        dim=1,
    )
    return torch.cat([reordered, replaced.view(b, -1, slots)], dim=1), allowed


def local_search(
    model: ResponseModel, lists: Tensor, *, rounds: int, tolerance: float = 1e-12
) -> tuple[Tensor, Tensor]:
    """Steepest ascent by swaps, moves and replacements.

    Stops for each request at a local optimum or after ``rounds`` steps.

    Args:
        model: response model of B requests.
        lists: [B, L] positions to start from.
        rounds: the most steps.
        tolerance: the smallest improvement that counts.

    Returns:
        Lists [B, L] and their value [B].
    """
    lists = lists.clone()
    value = model.reward(lists[:, None, :]).squeeze(1)
    orders = moves(lists.shape[1]).to(lists.device)
    active = torch.arange(len(lists), device=lists.device)
    for _ in range(rounds):
        if len(active) == 0:
            break
        part = model.rows(active)
        near, allowed = neighbours(part.mask, lists[active], orders)
        safe = torch.where(allowed[..., None], near, near[:, :1])
        rewards = part.reward(safe).masked_fill(~allowed, -torch.inf)
        best = rewards.max(dim=1)
        better = best.values > value[active] + tolerance
        active, chosen = active[better], best.indices[better]
        lists[active] = near[better, chosen]
        value[active] = best.values[better]
    return lists, value


def _restarts(model: ResponseModel, slots: int, beam: int, restarts: int) -> Tensor:
    """Starting lists [B, R, L]: the beam's best, then lists spread over the beam."""
    found = beam_search(model, slots, beam)
    width = found.shape[1]
    count = min(restarts, width)
    pick = torch.linspace(0, width - 1, count, device=found.device).long()
    return found[:, pick]


def _search(
    model: ResponseModel, slots: int, beam: int, restarts: int, rounds: int, depth: int
) -> SearchResult:
    starts = _restarts(model, slots, beam, restarts)
    b, r, _ = starts.shape
    row = torch.arange(b, device=starts.device).repeat_interleave(r)
    lists, value = local_search(model.rows(row), starts.reshape(-1, slots), rounds=rounds)
    values, order = value.view(b, r).sort(dim=1, descending=True, stable=True)
    lists = lists.view(b, r, slots)[torch.arange(b, device=order.device), order[:, 0]]
    bound = upper_bound(model, slots, depth)
    # Rounding may put the bound slightly below a list that reaches it.
    bound = torch.maximum(bound, values[:, 0])
    return SearchResult(lists, values[:, 0], bound, bound - values[:, 0], values[:, min(1, r - 1)])


def near_optimum(
    world: PlantedWorld,
    users: Tensor,
    items: Tensor,
    time: Tensor | None = None,
    *,
    beam: int = 128,
    restarts: int = 4,
    rounds: int = 100,
    bound_depth: int = 1,
) -> SearchResult:
    """Find a near-optimal list per request by beam search, then local search.

    Args:
        world: the world of the requests.
        users: [B] user numbers.
        items: [B, N] item numbers; -1 pads.
        time: [B] days since the epoch; None is day 0.
        beam: width of the beam, at least 1.
        restarts: lists of the beam that local search starts from, at least 1.
        rounds: the most steps of local search, at least 1.
        bound_depth: slots enumerated by the bound, at least 0; one more is tighter and costs N
            times as much.

    Raises:
        ConfigError: an option is out of range.
        DataError: a request has fewer real candidates than slots.
    """
    if min(beam, restarts, rounds) < 1 or bound_depth < 0:
        raise ConfigError(
            f"beam={beam}, restarts={restarts}, rounds={rounds} must be at least 1 and "
            f"bound_depth={bound_depth} at least 0"
        )
    slots = world.config.slots
    if bool(((items >= 0).sum(dim=1) < slots).any()):
        raise DataError(f"each request needs at least slots={slots} candidates (-1 does not count)")
    n = items.shape[1]
    logit_shifts = len(world.response_parameters.logit_shifts)
    wide = max(
        restarts * (n + 2 * slots) * slots**3, logit_shifts * n ** (bound_depth + 1), beam * n * 4
    )
    rows = max(1, _CHUNK // (logit_shifts * wide))
    parts = []
    for start in range(0, len(users), rows):
        now = slice(start, start + rows)
        model = world.response_model(users[now], items[now], None if time is None else time[now])
        parts.append(_search(model, slots, beam, restarts, rounds, bound_depth))
    columns = ("lists", "value", "bound", "gap", "runner_up")
    return SearchResult(*(torch.cat([getattr(p, c) for p in parts]) for c in columns))
