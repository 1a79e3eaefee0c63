"""The truth about a few requests: attraction, examination, feedback, expected reward.

For a list l shown to one user (s, t number slots)::

    z_t     = base(l_t) + complementarity · [some s < t holds the complementary cluster] + mood
    a_t     = sigmoid(z_t) · exp(-fatigue · sum over s < t of similarity(l_s, l_t))
    e_0     = 1;  e_{t+1} = e_t · (a_t · continue_click + (1 - a_t) · continue_skip)
    P_k(t)  = e_t · a_t · P(kind k | click)
    r*      = sum over t and k of weight_k · P_k(t), averaged over the two moods

The position model is the case continue_click = continue_skip = decay, so that e_t = decay^t.
An empty slot (-1) takes no room: the list is worth what it is worth without that slot.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from goalrank.errors import DataError


@dataclass(frozen=True)
class ResponseParameters:
    """The numbers by which users behave, the same in every request.

    Attributes:
        after_click, after_skip: chance in [0, 1] to look at the next slot.
        fatigue: strength of fatigue (>= 0).
        complementarity: logit bonus (>= 0).
        moods: [M] equally likely shifts of the logit.
        weights: [K] reward of each kind.
    """

    after_click: float
    after_skip: float
    fatigue: float
    complementarity: float
    moods: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Prefix:
    """Lists under construction; G of them a request, each t slots long.

    Attributes:
        lists: [B, G, t] positions.
        value: [B, G] expected reward of the slots placed.
        seen: [M, B, G] chance that the next slot is looked at, for each mood.
        tired: [B, G, N] similarity of each candidate to what is placed, summed.
        helped: [B, G, N] whether something placed completes the candidate.
        used: [B, G, N] whether the candidate is placed or not real.
    """

    lists: Tensor
    value: Tensor
    seen: Tensor
    tired: Tensor
    helped: Tensor
    used: Tensor


@dataclass(frozen=True)
class ResponseModel:
    """B requests with N candidates each, ready to be judged.

    Attributes:
        base: [B, N] logit of each candidate alone.
        similarity: [B, N, N] in [0, 1]; [b, i, j] is how much i tires the user for j.
        completes: [B, N, N]; [b, i, j] is True when i, placed before, helps j.
        given_click: [B, N, K] P(kind | click); 1 for the click.
        mask: [B, N] True for real candidates.
        physics: see `ResponseParameters`.
    """

    base: Tensor
    similarity: Tensor
    completes: Tensor
    given_click: Tensor
    mask: Tensor
    physics: ResponseParameters

    @property
    def worth(self) -> Tensor:
        """[B, N] expected reward of one click on each candidate."""
        return self.given_click @ self.physics.weights

    def rows(self, rows: Tensor | slice) -> ResponseModel:
        """The scene of some requests only."""
        return ResponseModel(
            self.base[rows],
            self.similarity[rows],
            self.completes[rows],
            self.given_click[rows],
            self.mask[rows],
            self.physics,
        )

    def _check(self, lists: Tensor) -> Tensor:
        """Positions with empty slots set to 0; refuses what no candidate stands behind."""
        b, n = self.base.shape
        if lists.ndim != 3 or lists.shape[0] != b:
            raise DataError(f"lists of shape {tuple(lists.shape)} must be [B={b}, G, L]")
        place = lists.clamp_min(0)
        if lists.numel() and (int(lists.max()) >= n or int(lists.min()) < -1):
            raise DataError(f"lists must hold positions in -1..{n - 1}; remedy: positions, not ids")
        real = self.mask.gather(1, place.flatten(1)).view_as(lists)
        if not bool((real | (lists < 0)).all()):
            raise DataError("lists point at padded candidates; remedy: rank real candidates only")
        return place

    def attraction(self, lists: Tensor) -> Tensor:
        """P(click | seen) in every slot: lists [B, G, L] → [M, B, G, L]; 0 in empty slots.

        A list must not repeat a candidate. Raises DataError for positions without a candidate.
        """
        place, real = self._check(lists), lists >= 0
        b, g, slots = lists.shape
        n = self.base.shape[1]
        pair = (place[..., :, None] * n + place[..., None, :]).view(b, -1)  # [B, G·L·L], s then t
        earlier = torch.ones(slots, slots, dtype=torch.bool, device=lists.device).triu(1)
        before = earlier & real[..., :, None]  # [B, G, L, L]
        alike = self.similarity.flatten(1).gather(1, pair).view(b, g, slots, slots)
        tired = (alike * before).sum(dim=2)
        logit = self.base.gather(1, place.view(b, -1)).view(b, g, slots)
        if self.physics.complementarity:
            helps = self.completes.flatten(1).gather(1, pair).view(b, g, slots, slots)
            helped = (helps & before).any(dim=2).to(logit)  # a bool times a number would be float32
            logit = logit + self.physics.complementarity * helped
        a = torch.sigmoid(logit + self.physics.moods[:, None, None, None])
        return a * torch.exp(-self.physics.fatigue * tired) * real

    def slot_clicks(self, lists: Tensor) -> Tensor:
        """P(click) in every slot, by forward recursion: lists [B, G, L] → [B, G, L]."""
        a, real = self.attraction(lists), lists >= 0
        seen = torch.ones_like(a[..., 0])
        clicks = []
        for t in range(lists.shape[2]):
            clicks.append((seen * a[..., t]).mean(dim=0))
            seen = torch.where(real[..., t], seen * self.continuing(a[..., t]), seen)
        return torch.stack(clicks, dim=-1)

    def continuing(self, a: Tensor) -> Tensor:
        """Chance to go on after a slot of attraction a, given that it is seen."""
        return self.physics.after_skip + (self.physics.after_click - self.physics.after_skip) * a

    def slot_probabilities(self, lists: Tensor) -> Tensor:
        """P(kind) in every slot: lists [B, G, L] → [B, G, L, K]; 0 in empty slots."""
        b, kinds = lists.shape[0], self.given_click.shape[2]
        place = lists.clamp_min(0).view(b, -1, 1).expand(-1, -1, kinds)
        given = self.given_click.gather(1, place).view(*lists.shape, kinds)
        return self.slot_clicks(lists)[..., None] * given

    def reward(self, lists: Tensor) -> Tensor:
        """Expected reward r*: lists [B, G, L] → [B, G], float64."""
        clicks = self.slot_clicks(lists)
        place = lists.clamp_min(0).view(lists.shape[0], -1)
        return (clicks * self.worth.gather(1, place).view_as(clicks)).sum(dim=2)

    def start(self) -> Prefix:
        """One empty list a request."""
        (b, n), device = self.base.shape, self.base.device
        moods = len(self.physics.moods)
        return Prefix(
            lists=torch.empty(b, 1, 0, dtype=torch.int64, device=device),
            value=torch.zeros(b, 1, dtype=torch.float64, device=device),
            seen=torch.ones(moods, b, 1, dtype=torch.float64, device=device),
            tired=torch.zeros(b, 1, n, dtype=torch.float64, device=device),
            helped=torch.zeros(b, 1, n, dtype=torch.bool, device=device),
            used=~self.mask[:, None, :],
        )

    def next_attraction(self, prefix: Prefix) -> Tensor:
        """P(click | seen) of every candidate if it were placed next: [M, B, G, N]."""
        logit = self.base[:, None, :]
        logit = logit + self.physics.complementarity * prefix.helped.to(logit)
        a = torch.sigmoid(logit + self.physics.moods[:, None, None, None])
        return a * torch.exp(-self.physics.fatigue * prefix.tired)

    def gains(self, prefix: Prefix) -> tuple[Tensor, Tensor]:
        """What each candidate adds if placed next, and how likely users then go on.

        Returns:
            gain [B, G, N]; seen [M, B, G, N] chance that the slot after it is looked at.
        """
        a = self.next_attraction(prefix)
        gain = (prefix.seen[..., None] * a).mean(dim=0) * self.worth[:, None, :]
        return gain, prefix.seen[..., None] * self.continuing(a)

    def extend(self, prefix: Prefix, parent: Tensor, choice: Tensor) -> Prefix:
        """Grow lists by one slot. parent [B, G'] in 0..G-1, choice [B, G'] in 0..N-1 → G' lists."""
        gain, seen = self.gains(prefix)
        b, n = self.base.shape
        flat = parent * n + choice  # [B, G'] into G·N
        wide = parent[..., None].expand(-1, -1, n)
        row = choice[..., None].expand(-1, -1, n)
        old = prefix.lists.gather(1, parent[..., None].expand(-1, -1, prefix.lists.shape[2]))
        moods = seen.shape[0]
        used = prefix.used.gather(1, wide).scatter(2, choice[..., None], True)
        return Prefix(
            lists=torch.cat([old, choice[..., None]], dim=2),
            value=prefix.value.gather(1, parent) + gain.reshape(b, -1).gather(1, flat),
            seen=seen.reshape(moods, b, -1).gather(2, flat.expand(moods, -1, -1)),
            tired=prefix.tired.gather(1, wide) + self.similarity.gather(1, row),
            helped=prefix.helped.gather(1, wide) | self.completes.gather(1, row),
            used=used,
        )
