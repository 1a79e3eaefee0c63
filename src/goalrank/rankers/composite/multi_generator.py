"""MG-E: several generators and one evaluator (2025, arXiv 2504.15625).

Also the choice of generators by reward and coverage (CLIG, same paper).
"""

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
    """One generator of a multi-generator: a way to make one list per request.

    Attributes:
        kind: "best": a ranker's best list; "sample": a draw of a ranker at a temperature;
            "diverse": MMR over a scorer with weight λ; "beam": one list of a generator's beam;
            "column": a sort by the retriever's score (-1) or a candidate feature; "random": a
            random order.
        ranker: index of the ranker; not used by "column" and "random".
        number: the temperature, λ, or +1 / -1 for largest or smallest first.
        place: index in the beam, or of the column; for "sample" and "random" the number of the
            draw.
    """

    kind: Literal["best", "sample", "diverse", "beam", "column", "random"]
    ranker: int = 0
    number: float = 1.0
    place: int = 0


class MultiGenerator(PoolPolicy):
    """The list with the highest reward among one list per generator.

    The generators share trained rankers: each ranker encodes a request once, for any number of
    members that use it. Equal lists of several members count once in the policy.

    Args:
        rankers: trained rankers.
        members: the k generators.
        evaluator: the reward that picks.
        seed: seed of the draws.

    Raises:
        ConfigError: no members, or a member names a ranker that is not there.
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
        """Propose one list per member, in the members' order, and value them."""
        lists = self.proposals(batch, slots)
        return Pool(lists, self.evaluator(batch, lists))

    def proposals(self, batch: Batch, slots: int) -> Tensor:
        """Lists [B, k, L] of the members, in their order.

        Args:
            batch: B requests.
            slots: L.
        """
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
            return MMR(ranker, trade=m.number).rank(batch, slots)
        if m.ranker not in states:
            states[m.ranker] = ranker.encode(batch)
        state = states[m.ranker]
        if m.kind == "beam":
            if m.ranker not in beams:
                widest = max(x.place for x in self.members if x.kind == "beam") + 1
                found, total = ranker.beam_search(state, slots, widest)
                # With few candidates there are fewer lists than the beam is wide: repeat the best.
                beams[m.ranker] = torch.where(total.isneginf()[..., None], found[:, :1], found)
            found = beams[m.ranker]
            return found[:, min(m.place, found.shape[1] - 1)]
        if m.kind == "best":
            return ranker.best(state, batch, slots)
        rng = torch.Generator().manual_seed(self.seed * 1_000_003 + m.place)
        return ranker.draw(state, batch, 1, slots, rng, m.number)[:, 0]


def diverse_members(k: int, rankers: Sequence[Ranker], features: int) -> list[Member]:
    """Choose a diverse set of k generators over trained rankers.

    Taken in turn from the rankers' best lists, sorts by the retriever's score and by each candidate
    feature, MMR over the scorers, the generators' beams and the reversed sorts; then draws at
    several temperatures until there are k.

    Args:
        k: number of generators, at least 1.
        rankers: trained rankers.
        features: F, number of candidate features.

    Raises:
        ConfigError: k is below 1.
    """
    if k < 1:
        raise ConfigError(f"k is {k}, but there must be at least one generator; option: k")
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
    """MG-E of k rankers, such as one ranker trained with k seeds; each gives its best list.

    Args:
        rankers: k rankers.
        evaluator: the reward that picks.
    """
    return MultiGenerator(rankers, [Member("best", i) for i in range(len(rankers))], evaluator)


def member_lists(
    multi: MultiGenerator, columns: EncodedRequests, slots: int, batch_size: int = 256
) -> tuple[Tensor, Tensor]:
    """Compute the lists of every member for many requests.

    Args:
        multi: the multi-generator.
        columns: R encoded requests.
        slots: L.
        batch_size: requests per batch.

    Returns:
        Lists [R, k, L] and their rewards [R, k].
    """
    pools = []
    with torch.inference_mode():
        for batch in columns.batches(batch_size):
            pools.append(multi.pool(batch, slots))
    return torch.cat([p.lists for p in pools]), torch.cat([p.rewards for p in pools])


def select_members(
    lists: Tensor, rewards: Tensor, k: int, weight: float = 1.0, good: float = 0.2
) -> list[int]:
    """Choose k members greedily by reward + λ · gain in coverage of good lists.

    A request's good lists are the share `good` of its distinct proposed lists with the highest
    rewards. A set of members covers a good list by the largest share of equal slots of any of its
    lists. A step adds the member with the largest (gain in the mean best reward, rewards
    standardised within requests) + λ · (gain in coverage). Source: the generator objective of CLIG
    (arXiv 2504.15625); the paper trains the added generator for it, this function chooses among
    given ones.

    Args:
        lists: [R, M, L] lists of every member for every request, see `member_lists`.
        rewards: [R, M].
        k: number of members to choose, in 1..M.
        weight: λ; 0 uses rewards alone.
        good: share in (0, 1) of the lists that count as good.

    Returns:
        Indices of the members in the order chosen.

    Raises:
        ConfigError: k is out of range.
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
