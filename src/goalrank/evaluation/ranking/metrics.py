"""Ranking metrics of one list per request, fair to ties.

Conventions, for every metric here:

- a positive is a candidate with relevance > 0; requests without positives give NaN (callers exclude
  and count them);
- a list of scores with ties gets the *expected* value over random orders of the tied candidates
  (McSherry & Najork, ECIR 2008), so a constant scorer gets exactly what a random one gets on average;
- L is the number of slots; lists may be shorter (N < L), and empty slots hit nothing;
- recall@L and map@L divide by min(#positives, L): 1 is reachable by the best list.

Each formula is linear in a few expectations a slot, held by `SlotValues`; `from_lists` takes them from
lists as emitted, `from_scores` as expectations over orders of ties.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from goalrank.registry import Registry

Gain = Literal["linear", "exponential"]
Metric = Callable[["SlotValues"], Tensor]  # [B] float64, NaN where undefined; see `SlotValues`


@dataclass(frozen=True)
class SlotValues:
    """What the slots of B lists are worth, in float64.

    Attributes:
        hit: [B, L] y_t, 1 if slot t holds a positive (its expectation under ties).
        earlier: [B, L] y_t · Σ_{s<t} y_s, positives above a positive in slot t (expectation).
        any_hit: [B] probability that some slot holds a positive.
        gain: [B, L] gain of slot t for NDCG (expectation).
        ideal: [B, L] gains of the best list.
        positives: [B] number of positive candidates.
        length: [B] min(L, N): slots that can be filled.
    """

    hit: Tensor
    earlier: Tensor
    any_hit: Tensor
    gain: Tensor
    ideal: Tensor
    positives: Tensor
    length: Tensor

    @property
    def slots(self) -> int:
        """L."""
        return int(self.hit.shape[1])

    def undefined(self, values: Tensor) -> Tensor:
        """Values [B] with NaN where a request has no positive."""
        return values.masked_fill(self.positives == 0, torch.nan)


def from_lists(
    lists: Tensor, relevance: Tensor, mask: Tensor, *, gain: Gain = "linear"
) -> SlotValues:
    """Slot values of lists as emitted.

    Args:
        lists: [B, L] positions on the N axis, -1 where a slot is empty; no repeats.
        relevance: [B, N].
        mask: [B, N] True = real candidate.
        gain: "linear" (gain = relevance) or "exponential" (2^relevance - 1); negative relevance gains 0.
    """
    relevance, gains = _gains(relevance, mask, gain)
    at, real = lists.clamp_min(0), lists >= 0
    hit = (relevance > 0).double().gather(1, at) * real
    return SlotValues(
        hit=hit,
        earlier=hit * (hit.cumsum(1) - hit),
        any_hit=(hit.sum(1) > 0).double(),
        gain=gains.gather(1, at) * real,
        **_request_values(relevance, gains, mask, lists.shape[1]),
    )


def from_scores(
    scores: Tensor, relevance: Tensor, mask: Tensor, slots: int, *, gain: Gain = "linear"
) -> SlotValues:
    """Expected slot values of sorting by score, over random orders of tied candidates.

    Args:
        scores: [B, N], no NaN.
        relevance: as in `from_lists`.
        mask: as in `from_lists`.
        slots: L.
        gain: as in `from_lists`.
    """
    relevance, gains = _gains(relevance, mask, gain)
    ties = _Ties.of(scores, mask)
    y = ties.sort((relevance > 0).double())
    keep = min(slots, scores.shape[1])
    size = ties.size[:, :keep]
    hits = ties.total(y)[:, :keep]  # positives in the group of each rank
    share = hits / size
    above = ties.above(y)[:, :keep]
    inside = torch.arange(keep, device=scores.device) - ties.start[:, :keep]
    both = hits * (hits - 1) / (size * (size - 1)).clamp_min(1)  # E[y_s y_t] within one group
    filled = ties.real[:, :keep]
    return SlotValues(
        hit=_pad(share * filled, slots),
        earlier=_pad((share * above + inside * both) * filled, slots),
        any_hit=1 - _miss(size[:, -1], hits[:, -1], inside[:, -1] + 1, above[:, -1]),
        gain=_pad(ties.total(ties.sort(gains))[:, :keep] / size * filled, slots),
        **_request_values(relevance, gains, mask, slots),
    )


def recall(v: SlotValues) -> Tensor:
    """recall@L = Σ_t y_t / min(#positives, L): [B].

    H@L of the list-ranking papers is hits / #positives.
    """
    return v.undefined(v.hit.sum(1) / v.positives.clamp(1, v.slots))


def hit_rate(v: SlotValues) -> Tensor:
    """hit_rate@L = 1 if any of the L slots holds a positive, else 0: [B]."""
    return v.undefined(v.any_hit)


def ndcg(v: SlotValues) -> Tensor:
    """ndcg@L = Σ_t gain_t / log2(t + 1), t = 1…L, over the same sum for the best list: [B].

    Source: Järvelin & Kekäläinen, 2002, with the gain that the slot values were made with.
    """
    t = torch.arange(v.slots, device=v.gain.device, dtype=torch.float64)
    discount = 1 / torch.log2(t + 2)
    ideal = (v.ideal * discount).sum(1)
    return v.undefined((v.gain * discount).sum(1) / ideal.where(ideal > 0, 1.0))


def average_precision(v: SlotValues) -> Tensor:
    """map@L = Σ_t y_t · (Σ_{s≤t} y_s) / t, over min(#positives, L): [B], averaged later."""
    t = torch.arange(1, v.slots + 1, device=v.hit.device, dtype=torch.float64)
    return v.undefined(((v.hit + v.earlier) / t).sum(1) / v.positives.clamp(1, v.slots))


def f1(v: SlotValues) -> Tensor:
    """f1@L: harmonic mean of precision@L = hits / min(L, N) and recall@L = hits / min(#positives, L).

    = 2 hits / (min(L, N) + min(#positives, L)): [B].
    """
    return v.undefined(2 * v.hit.sum(1) / (v.length + v.positives.clamp_max(v.slots)).clamp_min(1))


def auc(scores: Tensor, relevance: Tensor, mask: Tensor) -> Tensor:
    """P(score of a positive > score of a negative) + ½ P(equal), within each request: [B].

    NaN where a request lacks positives or negatives. It needs a score for every candidate, so rankers
    that emit lists alone have none. Source: Mann & Whitney, 1947 (mean ranks of ties).
    """
    ties = _Ties.of(scores, mask)
    y = ties.sort((relevance > 0) & mask).double()
    midrank = ties.start + (ties.size + 1) / 2  # from the top, 1-based
    pos = y.sum(1)
    neg = mask.sum(1) - pos
    wins = pos * neg + pos * (pos + 1) / 2 - (midrank * y).sum(1)
    return (wins / (pos * neg).clamp_min(1)).masked_fill((pos == 0) | (neg == 0), torch.nan)


METRICS: Registry[Metric] = Registry(
    "metric",
    "goalrank.metrics",
    {
        "f1": f"{__name__}:f1",
        "hit_rate": f"{__name__}:hit_rate",
        "map": f"{__name__}:average_precision",
        "ndcg": f"{__name__}:ndcg",
        "recall": f"{__name__}:recall",
    },
    option="metrics",
)


def _gains(relevance: Tensor, mask: Tensor, gain: Gain) -> tuple[Tensor, Tensor]:
    relevance = relevance.double().masked_fill(~mask, 0.0).clamp_min(0.0)
    return relevance, relevance if gain == "linear" else torch.exp2(relevance) - 1


def _request_values(
    relevance: Tensor, gains: Tensor, mask: Tensor, slots: int
) -> dict[str, Tensor]:
    best = gains.sort(1, descending=True).values[:, :slots]
    return {
        "ideal": _pad(best, slots),
        "positives": (relevance > 0).sum(1),
        "length": mask.sum(1).clamp_max(slots),
    }


def _pad(values: Tensor, slots: int) -> Tensor:
    return torch.nn.functional.pad(values, (0, slots - values.shape[1]))


def _miss(size: Tensor, hits: Tensor, seats: Tensor, above: Tensor) -> Tensor:
    """P(no positive in the top ranks): none above the last tie group, none in its open seats.

    Hypergeometric: C(size - hits, seats) / C(size, seats).
    """
    bad = size - hits
    log = torch.lgamma(bad + 1) - torch.lgamma((bad - seats).clamp_min(0) + 1)
    log = log - torch.lgamma(size + 1) + torch.lgamma(size - seats + 1)
    none = torch.where(hits == 0, 1.0, torch.where(bad < seats, 0.0, log.exp()))
    return torch.where(above > 0, 0.0, none)


@dataclass(frozen=True)
class _Ties:
    """Candidates sorted by score, in groups of equal score; padding forms the last group.

    Attributes:
        order: [B, N] candidates, best first.
        start, end: [B, N] first and last rank (0-based) of the group that each rank is in.
        real: [B, N] False at the ranks of padding.
    """

    order: Tensor
    start: Tensor
    end: Tensor
    real: Tensor

    @classmethod
    def of(cls, scores: Tensor, mask: Tensor) -> _Ties:
        scores = scores.double()
        limits = torch.finfo(scores.dtype)  # ±inf of a real candidate must not tie with padding
        scores = scores.clamp(limits.min, limits.max).masked_fill(~mask, -torch.inf)
        ranked = scores.sort(1, descending=True)
        n = scores.shape[1]
        place = torch.arange(n, device=scores.device).expand_as(scores)
        new = torch.ones_like(mask)
        new[:, 1:] = ranked.values[:, 1:] != ranked.values[:, :-1]
        last = torch.ones_like(mask)
        last[:, :-1] = new[:, 1:]
        start = place.where(new, 0).cummax(1).values
        end = place.where(last, n).flip(1).cummin(1).values.flip(1)
        return cls(ranked.indices, start, end, ranked.values > -torch.inf)

    @property
    def size(self) -> Tensor:
        return (self.end - self.start + 1).double()

    def sort(self, values: Tensor) -> Tensor:
        return values.gather(1, self.order)

    def above(self, ranked: Tensor) -> Tensor:
        """[B, N] sum of sorted values over all better groups."""
        return (ranked.cumsum(1) - ranked).gather(1, self.start)

    def total(self, ranked: Tensor) -> Tensor:
        """[B, N] sum of sorted values over the own group."""
        return ranked.cumsum(1).gather(1, self.end) - self.above(ranked)
