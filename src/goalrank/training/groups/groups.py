"""Groups of lists for each request: own samples beside lists from auxiliary sources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from goalrank.nn import request_salt, uniform
from goalrank.rankers import Ranker, Scorer, neighbours, top_slots
from goalrank.requests import Batch, EncodedRequests

SOURCES = ("own", "light", "heuristic", "perturbed", "logged", "random")


class GroupConfig(BaseModel):
    """How many lists each source gives to a group.

    Attributes:
        own: samples of the policy in training.
        light: from light models (each one's best list first, then samples).
        heuristic: sorts by the retriever's score or one candidate feature, either way.
        perturbed: own samples with one slot swapped or replaced.
        logged: the list that was really shown (0 or 1).
        random: uniformly random lists.
        thin: keep this many lists, evenly spaced by reward rank, so that gaps stay large;
            0 keeps all.
        temperature: of own samples.
        tries: candidates tried in a slot group at most; drawn at random where there are more.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    own: int = Field(default=8, ge=0)
    light: int = Field(default=4, ge=0)
    heuristic: int = Field(default=2, ge=0)
    perturbed: int = Field(default=4, ge=0)
    logged: int = Field(default=1, ge=0, le=1)
    random: int = Field(default=1, ge=0)
    thin: int = Field(default=0, ge=0)
    temperature: float = Field(default=1.0, gt=0)
    tries: int = Field(default=64, ge=2)

    @model_validator(mode="after")
    def _not_empty(self) -> GroupConfig:
        if not (self.own or self.light or self.heuristic or self.logged or self.random):
            raise ValueError("a group needs lists: own, light, heuristic, logged or random above 0")
        return self


class Group(NamedTuple):
    """Lists to learn from.

    Attributes:
        lists: [B, G, L].
        valid: [B, G] False for repeats and for lists that do not exist (nothing was logged).
        source: [G] index into `SOURCES`.
    """

    lists: Tensor
    valid: Tensor
    source: Tensor


class CachedScores(Scorer):
    """A frozen scorer's scores, computed once over the training requests and then looked up.

    Args:
        scorer: in evaluation mode.
        columns: the training requests; batches must come from them.
    """

    def __init__(self, scorer: Scorer, columns: EncodedRequests, batch_size: int = 512) -> None:
        super().__init__()
        self.start = torch.from_numpy(columns.candidate_start)
        parts = []
        with torch.inference_mode():
            for batch in columns.batches(batch_size):
                parts.append(scorer.scores(batch)[batch.candidate_mask])
        self.flat = torch.cat(parts).clone() if parts else torch.zeros(0)

    def scores(self, batch: Batch) -> Tensor:
        """[B, N] looked up by the batch's `index`."""
        n = batch.candidates.shape[1]
        at = self.start[batch.index.cpu()][:, None] + torch.arange(n)
        at = at.clamp_max(len(self.flat) - 1).to(batch.candidates.device)
        return self.flat.to(at.device)[at]


def proposer(ranker: Ranker, columns: EncodedRequests, visits: int) -> Ranker:
    """A light model as groups ask it: a scorer with its scores cached, where that saves work.

    Args:
        columns: the training requests.
        visits: how many of them training sees, repeats counted; fewer than there are, and a
            scorer works on those alone.
    """
    ranker = ranker.eval()
    if isinstance(ranker, Scorer) and visits >= len(columns):
        return CachedScores(ranker, columns)
    return ranker


@dataclass
class GroupBuilder:
    """Builds groups.

    Attributes:
        config: how many of each.
        slots: L.
        light: frozen rankers that propose.
    """

    config: GroupConfig
    slots: int
    light: Sequence[Ranker] = field(default_factory=tuple)

    def __call__(self, policy: Ranker, state: Any, batch: Batch, rng: torch.Generator) -> Group:
        """A group for every request of the batch; call without gradients.

        Args:
            policy: the ranker in training.
            state: its encoded batch.
        """
        c, slots = self.config, self.slots
        parts: list[tuple[str, Tensor]] = []
        if c.own:
            own = policy.draw(state, batch, c.own, slots, rng, c.temperature)
            parts.append(("own", own))
            if c.perturbed:
                base = own[:, torch.arange(c.perturbed) % c.own]
                parts.append(("perturbed", perturb(base, batch, rng)))
        if c.light and self.light:
            parts.append(("light", self._light(batch, rng)))
        if c.heuristic:
            parts.append(("heuristic", heuristic_lists(batch, c.heuristic, slots, rng)))
        if c.logged:
            parts.append(("logged", logged_list(batch, slots)))
        if c.random:
            noise = uniform(request_salt(batch.key, rng), batch.candidates, c.random)
            mask = batch.candidate_mask[:, None, :].expand_as(noise)
            parts.append(("random", top_slots(noise, mask, slots)))
        lists = torch.cat([part for _, part in parts], 1)
        source = [SOURCES.index(name) for name, part in parts for _ in range(part.shape[1])]
        valid = (lists[..., 0] >= 0) & ~repeats(lists)
        return Group(lists, valid, torch.tensor(source, device=lists.device))

    def _light(self, batch: Batch, rng: torch.Generator) -> Tensor:
        out: list[Tensor] = []
        share = [len(part) for part in _split(self.config.light, len(self.light))]
        for ranker, count in zip(self.light, share, strict=True):
            if count == 0:
                continue
            state = ranker.encode(batch)
            out.append(ranker.best(state, batch, self.slots).unsqueeze(1))
            if count > 1:
                out.append(ranker.draw(state, batch, count - 1, self.slots, rng))
        return torch.cat(out, 1)


class SlotGroup(NamedTuple):
    """Lists that differ in one slot.

    Attributes:
        lists: [B, M, L]; a candidate that stood later in the list has changed places.
        prefix: [B, T] what stands before the slot.
        tried: [B, M] the candidate at the slot, 0 where not valid.
        valid: [B, M].
    """

    lists: Tensor
    prefix: Tensor
    tried: Tensor
    valid: Tensor


def slot_group(own: Tensor, slot: int, batch: Batch, rng: torch.Generator, tries: int) -> SlotGroup:
    """The lists [B, M, L] that own lists [B, L] become when candidates are put at a slot.

    What stands there is always among them. M = min(tries, N); requests whose list took all
    candidates before the slot have no valid list.
    """
    prefix, here = own[:, :slot], own[:, slot : slot + 1]
    noise = uniform(request_salt(batch.key, rng), batch.candidates, 1)[:, 0]
    noise = noise.scatter(1, here.clamp_min(0), 2.0)
    free = batch.candidate_mask.scatter(1, prefix.clamp_min(0), False)
    tried = top_slots(noise, free, min(tries, noise.shape[1]))
    at = torch.full_like(here, slot)
    lists = neighbours(own[:, None], at, tried.clamp_min(0)[:, None])[:, 0]
    return SlotGroup(lists, prefix, tried.clamp_min(0), tried >= 0)


def _split(total: int, parts: int) -> list[range]:
    return [range(i, total, parts) for i in range(parts)]


def repeats(lists: Tensor) -> Tensor:
    """[B, G] True where the same list stands earlier in the group."""
    same = (lists[:, :, None, :] == lists[:, None, :, :]).all(-1)
    return same.tril(-1).any(-1)


def logged_list(batch: Batch, slots: int) -> Tensor:
    """The shown list [B, 1, L], cut to L; all -1 if fewer than min(L, N) items were shown.

    A list that stopped early is no list of this policy's, so it is left out.
    """
    shown = torch.nn.functional.pad(batch.shown, (0, slots), value=-1)[:, :slots]
    full = (shown >= 0).sum(-1) >= batch.candidate_mask.sum(-1).clamp_max(slots)
    return torch.where(full[:, None], shown, -1).unsqueeze(1)


def heuristic_lists(batch: Batch, count: int, slots: int, rng: torch.Generator) -> Tensor:
    """Sorts [B, count, L] by randomly chosen plain columns, in either direction."""
    columns = torch.cat([batch.candidate_score[..., None], batch.candidate_features], -1)
    at = torch.randint(columns.shape[-1], (count,), generator=rng)
    sign = torch.where(torch.rand(count, generator=rng) < 0.75, 1.0, -1.0)
    scores = (columns[..., at] * sign.to(columns.device)).transpose(1, 2)
    # Ties (a column may be absent) are broken at random, not by candidate order.
    noise = uniform(request_salt(batch.key, rng), batch.candidates, count)
    mask = batch.candidate_mask[:, None, :].expand_as(scores)
    return top_slots(scores + 1e-4 * noise, mask, slots)


def perturb(lists: Tensor, batch: Batch, rng: torch.Generator) -> Tensor:
    """Neighbours [B, P, L] of lists: two slots swapped, or one slot given another candidate.

    Half of each by chance. A list that is its own neighbour (one candidate) comes back as it is.
    """
    b, p, slots = lists.shape
    noise = uniform(
        request_salt(batch.key, rng), torch.arange(slots + 3, device=lists.device).expand(b, -1), p
    )
    length = (lists >= 0).sum(-1, keepdim=True).clamp_min(1)
    first = (noise[..., slots : slots + 1] * length).long()
    second = (first + 1 + (noise[..., slots + 1 : slots + 2] * (length - 1)).long()) % length
    a, c = lists.gather(2, first), lists.gather(2, second)
    swapped = lists.scatter(2, first, c).scatter(2, second, a)
    outside = batch.candidate_mask[:, None, :].expand(b, p, -1).clone()
    outside.scatter_(2, lists.clamp_min(0), False)
    draw = uniform(request_salt(batch.key, rng), batch.candidates, p)
    new = draw.masked_fill(~outside, -1.0).argmax(-1, keepdim=True)
    replaced = torch.where(outside.any(-1, keepdim=True), lists.scatter(2, first, new), swapped)
    replaced = torch.where(lists >= 0, replaced, lists)
    return torch.where(noise[..., slots + 2 :] < 0.5, swapped, replaced)


def thin(rewards: Tensor, valid: Tensor, keep: int) -> Tensor:
    """[B, G] valid lists left when `keep` of each group are taken, evenly spaced by reward rank.

    The best and the worst stay. Larger gaps between rewards keep their order under the reward
    model's bias (GoalRank's condition on the gap).
    """
    if keep <= 0 or keep >= rewards.shape[1]:
        return valid
    count = valid.sum(-1, keepdim=True)
    order = rewards.masked_fill(~valid, -torch.inf).argsort(dim=-1, descending=True, stable=True)
    steps = torch.arange(keep, device=rewards.device) / max(keep - 1, 1)
    place = (steps * (count - 1).clamp_min(0)).round().long()
    kept = torch.zeros_like(valid).scatter(1, order.gather(1, place), True)
    return kept & valid
