"""Certified upper bounds on the best list, for lists too many to enumerate."""

from __future__ import annotations

import torch
from torch import Tensor

from goalrank.worlds.world.response_model import Prefix, ResponseModel


def _with_repeats(scene: ResponseModel, best: Tensor, worth: Tensor, steps: int) -> Tensor:
    """Tail bound [M, B, G] per unit of ``seen`` when candidates may repeat and never tire.

    With V the bound of the rest, a slot is worth at most max over 0 <= a <= best_i of
    a · worth_i + (after_skip + (after_click - after_skip) · a) · V, linear in a.
    """
    physics = scene.physics
    rest = torch.zeros(best.shape[:-1], dtype=best.dtype, device=best.device)
    for _ in range(steps):
        per_click = worth + (physics.after_click - physics.after_skip) * rest[..., None]
        rest = physics.after_skip * rest + (best * per_click).amax(dim=-1).clamp_min(0.0)
    return rest


def _without_repeats(scene: ResponseModel, best: Tensor, worth: Tensor, steps: int) -> Tensor:
    """Tail bound [M, B, G] that never uses a candidate twice.

    Rearrangement: examination never exceeds c^t with c = max(after_click, after_skip), so the sum
    is at most that of c^t times the t-th largest best_i · worth_i.
    """
    most = max(scene.physics.after_click, scene.physics.after_skip)
    top = (best * worth).topk(min(steps, best.shape[-1]), dim=-1).values
    decay = most ** torch.arange(top.shape[-1], dtype=top.dtype, device=top.device)
    return (top * decay).sum(dim=-1)


def _sorted_clicks(scene: ResponseModel, best: Tensor, worth: Tensor, steps: int) -> Tensor:
    """Tail bound [M, B, G] when every click is worth the same: the candidates sorted by ``best``.

    A neighbour swap that puts the larger attraction first never loses. More attraction never loses
    either: with d = after_skip - after_click and V the rest in clicks, d · V <= 1 by induction,
    d · V' = d · a · (1 - d · V) + after_skip · d · V <= 1.
    """
    top = best.topk(min(steps, best.shape[-1]), dim=-1).values
    rest = torch.zeros_like(top[..., 0])
    for a in reversed(top.unbind(dim=-1)):
        rest = a + scene.continuing(a) * rest
    return rest * worth.amax(dim=-1)


def tail_bound(scene: ResponseModel, prefix: Prefix, steps: int) -> Tensor:
    """[M, B, G]: no completion of the prefix by ``steps`` slots adds more, in each mood.

    Attractions are taken with the fatigue the prefix has caused already and with the complementary
    bonus granted to all; what the completion itself tires is left out.
    """
    if steps == 0:
        return torch.zeros_like(prefix.seen)
    logit = scene.base[:, None, :] + scene.physics.complementarity
    best = torch.sigmoid(logit + scene.physics.moods[:, None, None, None])
    best = best * torch.exp(-scene.physics.fatigue * prefix.tired)
    best = best.masked_fill(prefix.used, 0.0)
    worth = scene.worth[:, None, :]
    bound = torch.minimum(
        _with_repeats(scene, best, worth, steps), _without_repeats(scene, best, worth, steps)
    )
    if scene.given_click.shape[2] == 1:
        bound = torch.minimum(bound, _sorted_clicks(scene, best, worth, steps))
    return prefix.seen * bound


def upper_bound(scene: ResponseModel, slots: int, depth: int) -> Tensor:
    """[B]: no list of ``slots`` slots is worth more.

    All prefixes of ``depth`` slots are tried and `tail_bound` covers the rest; depth = slots makes
    it the exact optimum. Costs P(N, depth) · N numbers a request.
    """
    prefix = scene.start()
    b, n = scene.base.shape
    dead = torch.zeros(b, 1, dtype=torch.bool, device=scene.base.device)
    for _ in range(min(depth, slots)):
        groups = prefix.value.shape[1]
        parent = torch.arange(groups, device=dead.device).repeat_interleave(n).expand(b, -1)
        choice = torch.arange(n, device=dead.device).repeat(groups).expand(b, -1)
        dead = dead.gather(1, parent) | prefix.used.reshape(b, -1)
        prefix = scene.extend(prefix, parent, choice)
    tail = tail_bound(scene, prefix, slots - min(depth, slots)).mean(dim=0)
    return (prefix.value + tail).masked_fill(dead, -torch.inf).amax(dim=1)
