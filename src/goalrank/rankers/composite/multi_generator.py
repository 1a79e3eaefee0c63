"""MG-E: many generators, one evaluator (2025, arXiv 2504.15625), and its choice of
generators by reward and coverage (CLIG)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from goalrank.errors import ConfigError
from goalrank.nn import gumbel
from goalrank.rankers.base import Ranker, top_slots
from goalrank.rankers.baselines.diversity import MMR
from goalrank.rankers.composite.best_of import Evaluator
from goalrank.rankers.composite.pool import Pool, PoolPolicy
from goalrank.requests import Batch, EncodedRequests

_DIVERSITIES = (0.8, 0.6, 0.4, 0.9, 0.5)
_TEMPERATURES = (0.5, 1.0, 0.25, 2.0)


@dataclass(frozen=True)
class Member:
    """One generator: a rule that makes one list of a request.

    Attributes:
        kind: "best" — a ranker's best list; "sample" — a draw of a ranker at a temperature;
            "diverse" — MMR over a scorer at a trade λ; "beam" — the list at a place of a
            generator's beam; "column" — a sort by the retriever's score (-1) or a candidate
            feature; "random" — a random order.
        ranker: index of the ranker; not used by "column" and "random".
        number: the temperature, λ, or +1 / -1 for largest or smallest first.
        place: of the beam, of the column; for "sample" and "random" it tells draws apart.
    """

    kind: Literal["best", "sample", "diverse", "beam", "column", "random"]
    ranker: int = 0
    number: float = 1.0
    place: int = 0


class MultiGenerator(PoolPolicy):
    """k generators each propose one list; the evaluator's favourite is shown.

    The generators share trained rankers: each ranker encodes a request once, whatever number of
    members stand on it. Members of the same list count once in the policy.

    Args:
        rankers: trained rankers.
        members: the k generators.
        evaluator: the reward model that serves every generator-evaluator method.
        seed: fixes the draws.
    """

    def __init__(
        self,
        rankers: Sequence[Ranker],
        members: Sequence[Member],
        evaluator: Evaluator,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not members:
            raise ConfigError("a multi-generator needs at least one member; option: members")
        named = [m.ranker for m in members if m.kind not in ("column", "random")]
        worst = max(named, default=-1)
        if worst >= len(rankers):
            raise ConfigError(
                f"a member names ranker {worst}, but there are {len(rankers)}; option: members"
            )
        self.rankers = nn.ModuleList(rankers)
        self.members = tuple(members)
        self.evaluator = evaluator
        self.seed = seed

    def pool(self, batch: Batch, slots: int) -> Pool:
        """One list a member, in the members' order."""
        lists = self.proposals(batch, slots)
        return Pool(lists, self.evaluator(batch, lists))

    def proposals(self, batch: Batch, slots: int) -> Tensor:
        """[B, k, L] the members' lists, in their order."""
        states: dict[int, Any] = {}
        beams: dict[int, Tensor] = {}
        return torch.stack([self._propose(m, batch, slots, states, beams) for m in self.members], 1)

    def _propose(
        self, m: Member, batch: Batch, slots: int, states: dict[int, Any], beams: dict[int, Tensor]
    ) -> Tensor:
        mask = batch.candidate_mask
        if m.kind == "column":
            columns = batch.candidate_features
            values = batch.candidate_score if m.place < 0 else columns[..., m.place]
            return top_slots(m.number * values, mask, slots)
        if m.kind == "random":
            noise = gumbel(batch.key ^ (self.seed + 7919 * m.place), batch.candidates, 1)[:, 0]
            return top_slots(noise, mask, slots)
        ranker = cast(Ranker, self.rankers[m.ranker])
        if m.kind == "diverse":
            rule = MMR(ranker, trade=m.number)
            return rule.rank(batch, slots)
        if m.ranker not in states:
            states[m.ranker] = ranker.encode(batch)
        state = states[m.ranker]
        if m.kind == "beam":
            if m.ranker not in beams:
                widest = max(x.place for x in self.members if x.kind == "beam") + 1
                found, total = ranker.beam_search(state, slots, widest)
                # Few candidates have fewer lists than the beam is wide: the best stands in.
                beams[m.ranker] = torch.where(total.isneginf()[..., None], found[:, :1], found)
            found = beams[m.ranker]
            return found[:, min(m.place, found.shape[1] - 1)]
        if m.kind == "best":
            return ranker.best(state, batch, slots)
        rng = torch.Generator().manual_seed(self.seed * 1_000_003 + m.place)
        return ranker.draw(state, batch, 1, slots, rng, m.number)[:, 0]


def diverse_members(k: int, rankers: Sequence[Ranker], features: int) -> list[Member]:
    """A diverse set of k generators over some trained rankers.

    Taken in turn from: the rankers' best lists, sorts by the retriever's score and by each
    candidate feature, diversity rules over the scorers, the generators' beams, the sorts upside
    down, and then draws at several temperatures until there are k.

    Args:
        features: F, number of candidate features.
    """
    if k < 1:
        raise ConfigError(f"k is {k}, but there must be one generator at least; option: k")
    own = range(len(rankers))
    scorers = [i for i in own if rankers[i].scores_candidates]
    generators = [i for i in own if rankers[i].has_beam_search]
    kinds = [
        [Member("best", i) for i in own],
        [Member("column", number=1.0, place=f) for f in range(-1, features)],
        [Member("diverse", i, trade) for trade in _DIVERSITIES for i in scorers],
        [Member("beam", i, place=p) for p in range(1, 6) for i in generators],
        [Member("column", number=-1.0, place=f) for f in range(features)],
    ]
    out: list[Member] = []
    for turn in range(max(len(kind) for kind in kinds)):
        out += [kind[turn] for kind in kinds if turn < len(kind)]
    draw = 0
    while len(out) < k:
        if rankers:
            number = _TEMPERATURES[draw // len(rankers) % len(_TEMPERATURES)]
            out.append(Member("sample", draw % len(rankers), number, draw))
        else:
            out.append(Member("random", place=draw))
        draw += 1
    return out[:k]


def copies(rankers: Sequence[Ranker], evaluator: Evaluator) -> MultiGenerator:
    """MG-E of k rankers, each giving its best list: k copies of a small one with other seeds."""
    return MultiGenerator(rankers, [Member("best", i) for i in range(len(rankers))], evaluator)


def member_lists(
    multi: MultiGenerator, columns: EncodedRequests, slots: int, batch_size: int = 256
) -> tuple[Tensor, Tensor]:
    """What every member proposes: lists [R, k, L] and their rewards [R, k]."""
    pools = []
    with torch.inference_mode():
        for batch in columns.batches(batch_size):
            pools.append(multi.pool(batch, slots))
    return torch.cat([p.lists for p in pools]), torch.cat([p.rewards for p in pools])


def select_members(
    lists: Tensor, rewards: Tensor, k: int, weight: float = 1.0, good: float = 0.2
) -> list[int]:
    """k members chosen greedily by reward + λ × gain in coverage of good lists.

    A request's good lists are the share `good` of the distinct lists proposed for it with the
    highest rewards. A chosen set covers a good list as far as its nearest member does: by the
    share of slots that hold the same candidate. A step adds the member of the greatest
    (gain in the mean best reward, rewards standardised within requests) + λ · (gain in coverage).

    Args:
        lists: [R, M, L] of every member for every request, see `member_lists`.
        rewards: [R, M].
        k: how many; at most M.
        weight: λ; 0 looks at rewards alone.
        good: share of lists that count as good.

    Returns:
        indices of members in the order chosen. Source: CLIG (arXiv 2504.15625), its generator
        objective; the paper trains the added generator for it, here it chooses among given ones.
    """
    r, m, _ = lists.shape
    if not 1 <= k <= m:
        raise ConfigError(f"k is {k}, but there are {m} members to choose from; option: k")
    spread = rewards.std(-1, correction=0, keepdim=True).clamp_min(1e-6)
    value = (rewards - rewards.mean(-1, keepdim=True)) / spread
    near = value.new_zeros(r, m, m)
    for slot in lists.unbind(-1):
        near += (slot[:, :, None] == slot[:, None, :]) & (slot[:, :, None] >= 0)
    near = near / lists.shape[-1]
    bar = value.quantile(1 - good, dim=-1, keepdim=True)
    repeat = (lists[:, :, None] == lists[:, None]).all(-1).tril(-1).any(-1)
    target = ((value >= bar) & ~repeat).to(value.dtype)
    target = target / target.sum(-1, keepdim=True).clamp_min(1)
    best, cover = value.amin(-1), torch.zeros_like(value)
    chosen: list[int] = []
    for _ in range(k):
        gain = (torch.maximum(value, best[:, None]) - best[:, None]).mean(0)
        wider = torch.maximum(near, cover[:, None, :]) - cover[:, None, :]  # [R, M, good]
        score = gain + weight * (wider * target[:, None, :]).sum(-1).mean(0)
        score[torch.tensor(chosen, dtype=torch.long)] = -torch.inf
        at = int(score.argmax())
        chosen.append(at)
        best = torch.maximum(best, value[:, at])
        cover = torch.maximum(cover, near[:, at])
    return chosen
