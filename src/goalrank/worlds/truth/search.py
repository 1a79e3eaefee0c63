"""A near-optimal list by beam and local search, with a certified gap."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from goalrank.errors import ConfigError, DataError
from goalrank.worlds.truth.bounds import tail_bound, upper_bound
from goalrank.worlds.world.response_model import ResponseModel
from goalrank.worlds.world.world import PlantedWorld

# Numbers held at once by one tensor of a chunk of requests.
_CHUNK = 4_000_000


@dataclass(frozen=True)
class SearchResult:
    """Best lists found.

    Attributes:
        lists: [B, L].
        value: [B] r* of them; never above the optimum.
        bound: [B] certified upper bound on r* of any list.
        gap: [B] bound - value: the optimum is at most this much better. The bound is loose, so the
            true distance is usually far smaller.
        runner_up: [B] value of the second best restart: equal to ``value`` when restarts from
            different lists agree, which hints (and proves nothing) that it is the optimum.
    """

    lists: Tensor
    value: Tensor
    bound: Tensor
    gap: Tensor
    runner_up: Tensor


def beam_search(scene: ResponseModel, slots: int, width: int) -> Tensor:
    """The ``width`` best lists of a beam, judged by value so far + bound of the rest: [B, W, L]."""
    prefix = root = scene.start()
    b, n = scene.base.shape
    dead = torch.zeros_like(prefix.value, dtype=torch.bool)  # [B, G] prefixes that cannot be
    for t in range(slots):
        gain, seen = scene.gains(prefix)
        # One bound a request, per unit of examination: cheap, and enough to weigh examination.
        rest = tail_bound(scene, root, slots - t - 1)[..., None] if t + 1 < slots else 0.0
        total = prefix.value[..., None] + gain + (seen * rest).mean(dim=0)
        total = total.masked_fill(prefix.used | dead[..., None], -torch.inf).reshape(b, -1)
        # Padding leaves some requests fewer options than others: the surplus is dead.
        top, flat = total.topk(min(width, total.shape[1]), dim=1)
        dead = top == -torch.inf
        prefix = scene.extend(prefix, flat // n, flat % n)
    order = prefix.value.masked_fill(dead, -torch.inf).argsort(dim=1, descending=True, stable=True)
    order = torch.where(dead.gather(1, order), order[:, :1], order)
    return prefix.lists.gather(1, order[..., None].expand(-1, -1, slots))


def moves(slots: int) -> Tensor:
    """Orders of the slots reached by one swap or one move of an item elsewhere: [Q, L]."""
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
    """Reorderings and replacements of lists [B, L]: [B, Q + L·N, L], and which are allowed.

    Args:
        mask: [B, N] real candidates.
        orders: [Q, L] from `moves`.
    """
    b, slots = lists.shape
    n = mask.shape[1]
    reordered = lists[:, orders]
    replaced = lists[:, None, None, :].expand(b, slots, n, slots).clone()
    place = torch.arange(slots, device=lists.device)
    replaced[:, place, :, place] = torch.arange(n, device=lists.device)
    free = mask.scatter(1, lists, False)
    allowed = torch.cat(
        [torch.ones(b, len(orders), dtype=torch.bool, device=lists.device), free.repeat(1, slots)],
        dim=1,
    )
    return torch.cat([reordered, replaced.view(b, -1, slots)], dim=1), allowed


def local_search(
    scene: ResponseModel, lists: Tensor, *, rounds: int, tolerance: float = 1e-12
) -> tuple[Tensor, Tensor]:
    """Steepest ascent by swaps, moves and replacements from lists [B, L].

    Returns lists [B, L] and value [B]; stops for each request at a local optimum or after
    ``rounds`` steps.
    """
    lists = lists.clone()
    value = scene.reward(lists[:, None, :]).squeeze(1)
    orders = moves(lists.shape[1]).to(lists.device)
    active = torch.arange(len(lists), device=lists.device)
    for _ in range(rounds):
        if len(active) == 0:
            break
        part = scene.rows(active)
        near, allowed = neighbours(part.mask, lists[active], orders)
        safe = torch.where(allowed[..., None], near, near[:, :1])
        rewards = part.reward(safe).masked_fill(~allowed, -torch.inf)
        best = rewards.max(dim=1)
        better = best.values > value[active] + tolerance
        active, chosen = active[better], best.indices[better]
        lists[active] = near[better, chosen]
        value[active] = best.values[better]
    return lists, value


def _restarts(scene: ResponseModel, slots: int, beam: int, restarts: int) -> Tensor:
    """Starting lists [B, R, L]: the beam's best, then lists spread over the beam."""
    found = beam_search(scene, slots, beam)
    width = found.shape[1]
    count = min(restarts, width)
    pick = torch.linspace(0, width - 1, count, device=found.device).long()
    return found[:, pick]


def _search(
    scene: ResponseModel, slots: int, beam: int, restarts: int, rounds: int, depth: int
) -> SearchResult:
    starts = _restarts(scene, slots, beam, restarts)
    b, r, _ = starts.shape
    row = torch.arange(b, device=starts.device).repeat_interleave(r)
    lists, value = local_search(scene.rows(row), starts.reshape(-1, slots), rounds=rounds)
    values, order = value.view(b, r).sort(dim=1, descending=True, stable=True)
    lists = lists.view(b, r, slots)[torch.arange(b, device=order.device), order[:, 0]]
    bound = upper_bound(scene, slots, depth)
    # Round-off alone may put the bound a hair below a list that meets it.
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
    """A near-optimal list of each request by beam search, then swaps, moves and replacements.

    Args:
        users: [B]; items: [B, N] (-1 pads); time: [B] days or None, as in `PlantedWorld.reward`.
        beam: width of the beam.
        restarts: lists of the beam that local search starts from.
        rounds: most steps of local search.
        bound_depth: slots enumerated by the bound, >= 0: deeper is tighter and costs N times more.

    Raises:
        ConfigError: an option out of range. DataError: fewer real candidates than slots.
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
    moods = len(world.physics.moods)
    wide = max(restarts * (n + 2 * slots) * slots**3, moods * n ** (bound_depth + 1), beam * n * 4)
    rows = max(1, _CHUNK // (moods * wide))
    parts = []
    for start in range(0, len(users), rows):
        now = slice(start, start + rows)
        scene = world.scene(users[now], items[now], None if time is None else time[now])
        parts.append(_search(scene, slots, beam, restarts, rounds, bound_depth))
    columns = ("lists", "value", "bound", "gap", "runner_up")
    return SearchResult(*(torch.cat([getattr(p, c) for p in parts]) for c in columns))
