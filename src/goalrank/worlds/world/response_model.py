"""The response model: attraction, examination, feedback and expected reward of a few requests.

For a list l shown to one user (s, t number slots)::

    z_t     = base(l_t) + complementarity · [some s < t holds the complementary cluster] + shift
    a_t     = sigmoid(z_t) · exp(-fatigue · sum over s < t of similarity(l_s, l_t))
    e_0     = 1;  e_{t+1} = e_t · (a_t · continue_click + (1 - a_t) · continue_skip)
    P_k(t)  = e_t · a_t · P(kind k | click)
    r*      = sum over t and k of weight_k · P_k(t), averaged over the logit shifts

The position model is the case continue_click = continue_skip = decay, so that e_t = decay^t.
An empty slot (-1) has no effect: the list has the same reward as the list without that slot.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from goalrank.errors import DataError


@dataclass(frozen=True)
class ResponseParameters:
    """Parameters of the users' behaviour, the same in every request.

    Attributes:
        after_click, after_skip: probability in [0, 1] of examining the next slot.
        fatigue: strength of fatigue, at least 0.
        complementarity: logit bonus, at least 0.
        logit_shifts: [M] equally likely shifts of all logits of a request.
        weights: [K] reward of each feedback type.
    """

    after_click: float
    after_skip: float
    fatigue: float
    complementarity: float
    logit_shifts: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Prefix:
    """Partial lists: G per request, each t slots long.

    Attributes:
        lists: [B, G, t] positions.
        value: [B, G] expected reward of the filled slots.
        seen: [M, B, G] probability that the next slot is examined, for each logit shift.
        placed_similarity: [B, G, N] sum of each candidate's similarities to the placed ones.
        complemented: [B, G, N] whether a placed candidate complements this one.
        used: [B, G, N] whether the candidate is placed or not real.
    """

    lists: Tensor
    value: Tensor
    seen: Tensor
    placed_similarity: Tensor
    complemented: Tensor
    used: Tensor


@dataclass(frozen=True)
class ResponseModel:
    """The users' response to any list of B requests with N candidates each.

    Attributes:
        base: [B, N] logit of each candidate alone.
        similarity: [B, N, N] in [0, 1]; [b, i, j] is how much i, placed before, tires of j.
        complements: [B, N, N]; [b, i, j] is True if i, placed before, raises the logit of j.
        given_click: [B, N, K] P(kind | click); 1 for the click.
        mask: [B, N] True for real candidates.
        parameters: parameters of the users' behaviour.
    """

    base: Tensor
    similarity: Tensor
    complements: Tensor
    given_click: Tensor
    mask: Tensor
    parameters: ResponseParameters

    @property
    def click_value(self) -> Tensor:
        """[B, N] expected reward of one click on each candidate."""
        return self.given_click @ self.parameters.weights

    def rows(self, rows: Tensor | slice) -> ResponseModel:
        """The response model of some of the requests.

        Args:
            rows: index tensor [B'] or slice.
        """
        return ResponseModel(
            self.base[rows],
            self.similarity[rows],
            self.complements[rows],
            self.given_click[rows],
            self.mask[rows],
            self.parameters,
        )

    def _check(self, lists: Tensor) -> Tensor:
        """Positions with empty slots set to 0; refuses positions without a candidate."""
        b, n = self.base.shape
        if lists.ndim != 3 or lists.shape[0] != b:
            raise DataError(f"lists of shape {tuple(lists.shape)} must be [B={b}, G, L]")
        index = lists.clamp_min(0)
        if lists.numel() and (int(lists.max()) >= n or int(lists.min()) < -1):
            raise DataError(f"lists must hold positions in -1..{n - 1}; remedy: positions, not ids")
        real = self.mask.gather(1, index.flatten(1)).view_as(lists)
        if not bool((real | (lists < 0)).all()):
            raise DataError("lists point at padded candidates; remedy: rank real candidates only")
        return index

    def attraction(self, lists: Tensor) -> Tensor:
        """P(click | examined) of every slot; 0 in empty slots.

        Args:
            lists: [B, G, L] positions without repeats, -1 in empty slots.

        Returns:
            [M, B, G, L], one value per logit shift.

        Raises:
            DataError: a position without a candidate, or a wrong shape.
        """
        index, real = self._check(lists), lists >= 0
        b, g, slots = lists.shape
        n = self.base.shape[1]
        pair = (index[..., :, None] * n + index[..., None, :]).view(b, -1)  # [B, G·L·L], s then t
        earlier = torch.ones(slots, slots, dtype=torch.bool, device=lists.device).triu(1)
        before = earlier & real[..., :, None]  # [B, G, L, L]
        pair_similarity = self.similarity.flatten(1).gather(1, pair).view(b, g, slots, slots)
        placed_similarity = (pair_similarity * before).sum(dim=2)
        logit = self.base.gather(1, index.view(b, -1)).view(b, g, slots)
        if self.parameters.complementarity:
            pairs = self.complements.flatten(1).gather(1, pair).view(b, g, slots, slots)
            complemented = (pairs & before).any(dim=2).to(logit)  # a bool would become float32
            logit = logit + self.parameters.complementarity * complemented
        a = torch.sigmoid(logit + self.parameters.logit_shifts[:, None, None, None])
        return a * torch.exp(-self.parameters.fatigue * placed_similarity) * real

    def slot_clicks(self, lists: Tensor) -> Tensor:
        """P(click) of every slot, by forward recursion: lists [B, G, L] → [B, G, L]."""
        a, real = self.attraction(lists), lists >= 0
        seen = torch.ones_like(a[..., 0])
        clicks = []
        for t in range(lists.shape[2]):
            clicks.append((seen * a[..., t]).mean(dim=0))
            seen = torch.where(real[..., t], seen * self.continuing(a[..., t]), seen)
        return torch.stack(clicks, dim=-1)

    def continuing(self, a: Tensor) -> Tensor:
        """P(examine the next slot | this slot is examined).

        Args:
            a: attraction of this slot, any shape.
        """
        return (
            self.parameters.after_skip
            + (self.parameters.after_click - self.parameters.after_skip) * a
        )

    def slot_probabilities(self, lists: Tensor) -> Tensor:
        """P(feedback type) of every slot: lists [B, G, L] → [B, G, L, K]; 0 in empty slots."""
        b, kinds = lists.shape[0], self.given_click.shape[2]
        index = lists.clamp_min(0).view(b, -1, 1).expand(-1, -1, kinds)
        given = self.given_click.gather(1, index).view(*lists.shape, kinds)
        return self.slot_clicks(lists)[..., None] * given

    def reward(self, lists: Tensor) -> Tensor:
        """Expected reward r*: lists [B, G, L] → [B, G], float64."""
        clicks = self.slot_clicks(lists)
        index = lists.clamp_min(0).view(lists.shape[0], -1)
        return (clicks * self.click_value.gather(1, index).view_as(clicks)).sum(dim=2)

    def empty_prefix(self) -> Prefix:
        """One empty list per request."""
        (b, n), device = self.base.shape, self.base.device
        logit_shifts = len(self.parameters.logit_shifts)
        return Prefix(
            lists=torch.empty(b, 1, 0, dtype=torch.int64, device=device),
            value=torch.zeros(b, 1, dtype=torch.float64, device=device),
            seen=torch.ones(logit_shifts, b, 1, dtype=torch.float64, device=device),
            placed_similarity=torch.zeros(b, 1, n, dtype=torch.float64, device=device),
            complemented=torch.zeros(b, 1, n, dtype=torch.bool, device=device),
            used=~self.mask[:, None, :],
        )

    def next_attraction(self, prefix: Prefix) -> Tensor:
        """P(click | examined) of every candidate in the next slot: [M, B, G, N]."""
        logit = self.base[:, None, :]
        logit = logit + self.parameters.complementarity * prefix.complemented.to(logit)
        a = torch.sigmoid(logit + self.parameters.logit_shifts[:, None, None, None])
        return a * torch.exp(-self.parameters.fatigue * prefix.placed_similarity)

    def gains(self, prefix: Prefix) -> tuple[Tensor, Tensor]:
        """Reward that each candidate adds in the next slot, and examination of the slot after it.

        Args:
            prefix: G partial lists per request.

        Returns:
            gain: [B, G, N] expected reward added.
            seen: [M, B, G, N] probability that the slot after the candidate is examined.
        """
        a = self.next_attraction(prefix)
        gain = (prefix.seen[..., None] * a).mean(dim=0) * self.click_value[:, None, :]
        return gain, prefix.seen[..., None] * self.continuing(a)

    def extend(self, prefix: Prefix, parent: Tensor, choice: Tensor) -> Prefix:
        """Extend partial lists by one slot.

        Args:
            prefix: G partial lists per request.
            parent: [B, G'] in 0..G-1, the partial list that each new one extends.
            choice: [B, G'] in 0..N-1, the candidate that each new one adds.

        Returns:
            G' partial lists per request.
        """
        gain, seen = self.gains(prefix)
        b, n = self.base.shape
        flat = parent * n + choice  # [B, G'] into G·N
        wide = parent[..., None].expand(-1, -1, n)
        row = choice[..., None].expand(-1, -1, n)
        old = prefix.lists.gather(1, parent[..., None].expand(-1, -1, prefix.lists.shape[2]))
        logit_shifts = seen.shape[0]
        used = prefix.used.gather(1, wide).scatter(2, choice[..., None], True)
        return Prefix(
            lists=torch.cat([old, choice[..., None]], dim=2),
            value=prefix.value.gather(1, parent) + gain.reshape(b, -1).gather(1, flat),
            seen=seen.reshape(logit_shifts, b, -1).gather(2, flat.expand(logit_shifts, -1, -1)),
            placed_similarity=prefix.placed_similarity.gather(1, wide)
            + self.similarity.gather(1, row),
            complemented=prefix.complemented.gather(1, wide) | self.complements.gather(1, row),
            used=used,
        )
