"""Reward with a known bias, to study how it affects the rankers that learn from it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from goalrank.nn import gumbel, uniform
from goalrank.rankers import ItemStatistic, top_slots
from goalrank.requests import Batch, EncodedRequests
from goalrank.rewards import Reward
from goalrank.studies.common.row_specs import BiasSpec

_PRIMES = (1_000_003, 998_244_353)


class BiasedReward(Reward):
    """Biased reward (1 − λ) r̂ + λ σ ε + a σ · popularity + b σ · position.

    σ is the standard deviation of r̂ over lists. ε is a standard normal number per list that never
    changes, so the same list always has the same reward. Popularity is the mean over the list of
    its items' standardised log counts. Position is the mean of how early the items were in the log
    (exposed protocol) or in the retriever's order, standardised within the request.

    Args:
        reward: r̂.
        bias: λ, a and b.
        train: training requests, from which the counts and σ are computed.
        slots: L of the random lists from which σ is computed.
    """

    scale: Tensor

    def __init__(self, reward: Reward, bias: BiasSpec, train: EncodedRequests, slots: int) -> None:
        super().__init__()
        self.reward = reward
        self.bias = bias
        self.popularity = ItemStatistic.popularity(train)
        with torch.inference_mode():
            batch = train.batch(slice(0, 512))
            noise = gumbel(batch.key, batch.candidates, 8)
            mask = batch.candidate_mask[:, None, :].expand_as(noise)
            deviation = reward(batch, top_slots(noise, mask, slots)).std(-1).mean()
        self.register_buffer("scale", deviation.clone().clamp_min(1e-6))

    @property
    def parts(self) -> Sequence[Reward]:
        """The reward without the bias."""
        return (self.reward,)

    def forward(self, batch: Batch, lists: Tensor) -> Tensor:
        """Compute the biased rewards [B, G] of lists [B, G, L]."""
        out = (1 - self.bias.noise) * self.reward(batch, lists)
        if self.bias.noise:
            out = out + self.bias.noise * self.scale * _list_noise(batch, lists)
        if self.bias.popularity:
            counts = self.popularity.scores(batch)
            out = out + self.bias.popularity * self.scale * _mean_at(counts, lists)
        if self.bias.position:
            out = out + self.bias.position * self.scale * _mean_at(_earliness(batch), lists)
        result: Tensor = out
        return result


def _list_noise(batch: Batch, lists: Tensor) -> Tensor:
    """Make standard normal numbers [B, G] that depend only on the request and the list."""
    code = batch.key[:, None].expand(lists.shape[:2]).clone()
    for slot in lists.unbind(-1):  # L is small
        code = code * _PRIMES[0] + (slot + 1) * _PRIMES[1]
    flat = code.flatten()
    u = uniform(flat, torch.zeros_like(flat)[:, None], 1).view(code.shape)
    return 2**0.5 * torch.erfinv(2 * u - 1)


def _earliness(batch: Batch) -> Tensor:
    """Measure how early each candidate was: [B, N], standardised within the request."""
    value = batch.candidate_score.clone()
    if bool((value == 0).all()):  # exposed lists without a retriever's score: the order shown
        slot = torch.arange(batch.shown.shape[1], device=value.device).expand_as(batch.shown)
        wide = value.new_full((value.shape[0], value.shape[1] + 1), float(batch.shown.shape[1]))
        at = torch.where(batch.shown >= 0, batch.shown, value.shape[1])
        value = -wide.scatter(1, at, slot.to(value.dtype))[:, :-1]
    mask = batch.candidate_mask
    count = mask.sum(-1, keepdim=True).clamp_min(1)
    centred = (value - (value * mask).sum(-1, keepdim=True) / count) * mask
    return centred / ((centred**2).sum(-1, keepdim=True) / count).sqrt().clamp_min(1e-6)


def _mean_at(values: Tensor, lists: Tensor) -> Tensor:
    """Average values [B, N] over the filled slots of lists [B, G, L]: [B, G]."""
    real = lists >= 0
    flat = values.gather(1, lists.clamp_min(0).flatten(1)).view(lists.shape)
    return (flat * real).sum(-1) / real.sum(-1).clamp_min(1)
