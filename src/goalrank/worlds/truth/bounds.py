"""Certified upper bounds on the reward of the best list, where lists are too many to enumerate."""

from __future__ import annotations

import torch
from torch import Tensor

from goalrank.worlds.world.response_model import Prefix, ResponseModel


def _with_repeats(model: ResponseModel, best: Tensor, click_value: Tensor, steps: int) -> Tensor:
    """Tail bound [M, B, G] per unit of ``seen``, with repeats allowed and without fatigue.

    With V the bound of the later slots, a slot adds at most max over 0 <= a <= best_i of
    a · worth_i + (after_skip + (after_click - after_skip) · a) · V, linear in a.
    """
    parameters = model.parameters
    rest = torch.zeros(best.shape[:-1], dtype=best.dtype, device=best.device)
    for _ in range(steps):
        per_click = click_value + (parameters.after_click - parameters.after_skip) * rest[..., None]
        rest = parameters.after_skip * rest + (best * per_click).amax(dim=-1).clamp_min(0.0)
    return rest


def _without_repeats(model: ResponseModel, best: Tensor, click_value: Tensor, steps: int) -> Tensor:
    """Tail bound [M, B, G] that uses no candidate twice.

    Rearrangement: examination never exceeds c^t with c = max(after_click, after_skip), so the sum
    is at most that of c^t times the t-th largest best_i · worth_i.
    """
    decay_limit = max(model.parameters.after_click, model.parameters.after_skip)
    top = (best * click_value).topk(min(steps, best.shape[-1]), dim=-1).values
    decay = decay_limit ** torch.arange(top.shape[-1], dtype=top.dtype, device=top.device)
    return (top * decay).sum(dim=-1)


def _sorted_clicks(model: ResponseModel, best: Tensor, click_value: Tensor, steps: int) -> Tensor:
    """Tail bound [M, B, G] where all clicks have the same value: candidates sorted by ``best``.

    Swapping neighbours so that the larger attraction comes first never lowers the value. Raising
    an attraction never lowers it either: with d = after_skip - after_click and V the clicks of the
    later slots, d · V <= 1 by induction, d · V' = d · a · (1 - d · V) + after_skip · d · V <= 1.
    """
    top = best.topk(min(steps, best.shape[-1]), dim=-1).values
    rest = torch.zeros_like(top[..., 0])
    for a in reversed(top.unbind(dim=-1)):
        rest = a + model.continuing(a) * rest
    return rest * click_value.amax(dim=-1)


def tail_bound(model: ResponseModel, prefix: Prefix, steps: int) -> Tensor:
    """Upper bound on the reward that ``steps`` more slots can add, for each logit shift.

    The bound uses the fatigue that the prefix has caused and gives the complementary bonus to all
    candidates. It leaves out the fatigue that the added slots cause.

    Args:
        model: response model of B requests.
        prefix: G partial lists per request.
        steps: slots to add, at least 0.

    Returns:
        [M, B, G].
    """
    if steps == 0:
        return torch.zeros_like(prefix.seen)
    logit = model.base[:, None, :] + model.parameters.complementarity
    best = torch.sigmoid(logit + model.parameters.logit_shifts[:, None, None, None])
    best = best * torch.exp(-model.parameters.fatigue * prefix.placed_similarity)
    best = best.masked_fill(prefix.used, 0.0)
    click_value = model.click_value[:, None, :]
    bound = torch.minimum(
        _with_repeats(model, best, click_value, steps),
        _without_repeats(model, best, click_value, steps),
    )
    if model.given_click.shape[2] == 1:
        bound = torch.minimum(bound, _sorted_clicks(model, best, click_value, steps))
    return prefix.seen * bound


def upper_bound(model: ResponseModel, slots: int, depth: int) -> Tensor:
    """Upper bound on the reward of any list.

    All prefixes of ``depth`` slots are enumerated and `tail_bound` covers the other slots; with
    depth = slots the bound is the exact optimum. Needs P(N, depth) · N numbers per request.

    Args:
        model: response model of B requests.
        slots: L.
        depth: slots to enumerate, at least 0.

    Returns:
        [B].
    """
    prefix = model.empty_prefix()
    b, n = model.base.shape
    infeasible = torch.zeros(b, 1, dtype=torch.bool, device=model.base.device)
    for _ in range(min(depth, slots)):
        groups = prefix.value.shape[1]
        parent = torch.arange(groups, device=infeasible.device).repeat_interleave(n).expand(b, -1)
        choice = torch.arange(n, device=infeasible.device).repeat(groups).expand(b, -1)
        infeasible = infeasible.gather(1, parent) | prefix.used.reshape(b, -1)
        prefix = model.extend(prefix, parent, choice)
    tail = tail_bound(model, prefix, slots - min(depth, slots)).mean(dim=0)
    return (prefix.value + tail).masked_fill(infeasible, -torch.inf).amax(dim=1)
