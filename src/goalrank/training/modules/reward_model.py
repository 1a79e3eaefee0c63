"""Training of the list reward model on logged lists or on lists drawn from the candidates."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from goalrank.nn import request_salt, uniform
from goalrank.rankers import top_slots
from goalrank.requests import Batch
from goalrank.rewards import ListReward
from goalrank.training.config import LoopConfig
from goalrank.training.modules.task import Task
from goalrank.training.objectives.propensity_weights import list_weights


class RewardTask(Task[ListReward]):
    """Fits a list reward model on the shown lists and their feedback.

    Args:
        negative: candidates not shown count as having no feedback; lists are then drawn from the
            candidates: by a plain sort, at random, and in between.
        lists: number of lists drawn per request (when `negative`).
        listwise: weight of `ListReward.listwise_loss` (when `negative`).
        propensity_cap: logged lists are weighed by `list_weights` up to this; 0 = equal weights.
    """

    start_margin = 0.0  # what a reward is worth away from the log, its log loss does not tell

    def __init__(
        self,
        model: ListReward,
        loop: LoopConfig,
        seed: int,
        *,
        slots: int,
        negative: bool,
        lists: int,
        listwise: float = 0.0,
        propensity_cap: float = 0.0,
    ) -> None:
        super().__init__(model, loop, seed)
        self.slots = slots
        self.negative = negative
        self.lists = lists
        self.listwise = listwise if negative else 0.0
        self.propensity_cap = propensity_cap

    def _examples(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Lists [B, G, L], feedback [B, G, L, K] and known [B, G, L]."""
        if not self.negative:
            lists = batch.shown.unsqueeze(1)
            return lists, batch.feedback.unsqueeze(1), lists >= 0
        lists = mixed_lists(batch, self.lists, self.slots, rng)
        return lists, feedback_at(batch, lists), lists >= 0

    def _encode(self, batch: Batch, lists: Tensor) -> tuple[Any, Tensor]:
        """Encode the candidates that lists [B, G, L] need; lists as positions among these.

        Feedback is known of the few candidates that were shown: the others need no encoding.
        """
        model = self.model
        shown = batch.shown.shape[1]
        if self.negative or not model.encoder.pointwise or shown >= batch.candidates.shape[1]:
            return model.encode(batch), lists
        slot = torch.arange(shown, device=lists.device)
        return model.encode(batch, batch.shown.clamp_min(0)), torch.where(lists >= 0, slot, -1)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Compute the loss of one batch: per slot, plus the listwise one where it has a weight."""
        model = self.model
        lists, feedback, known = self._examples(batch, self.step_rng())
        if self.propensity_cap > 0:
            known = known * list_weights(batch, self.propensity_cap)[:, None, None]
        encoded, lists = self._encode(batch, lists)
        loss = model.loss(batch, lists, feedback, known, encoded)
        if self.listwise > 0:
            loss = loss + self.listwise * self._listwise(batch, encoded)
        self.log("loss", loss, prog_bar=True)
        return loss

    def _listwise(self, batch: Batch, encoded: Any) -> Tensor:
        feedback = feedback_at(batch, batch.lists_of_one)[:, :, 0]
        return self.model.listwise_loss(batch, feedback, encoded)

    def validate_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Negative log loss [B] of each request as `score`; NaN where no feedback is known."""
        model = self.model
        rng = torch.Generator().manual_seed(self.seed)
        lists, feedback, known = self._examples(batch, rng)
        target = feedback[..., model.kind_index].clamp(0, 1)
        encoded, lists = self._encode(batch, lists)
        logits = model.slot_logits(batch, lists, encoded)
        each = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
        weight = known.unsqueeze(-1).expand_as(each)
        loss = (each * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3)).clamp_min(1)
        if self.propensity_cap > 0:
            loss = loss * list_weights(batch, self.propensity_cap)
        loss = loss.masked_fill(~known.any(-1).any(-1), torch.nan)
        return {"score": -loss}


def feedback_at(batch: Batch, lists: Tensor) -> Tensor:
    """Look up feedback [B, G, L, K] of each kind at each slot; 0 for candidates not shown."""
    b, n = batch.candidates.shape
    kinds = batch.feedback.shape[-1]
    table = batch.feedback.new_zeros(b, n + 1, kinds)
    at = torch.where(batch.shown >= 0, batch.shown, n)
    table.scatter_(1, at.unsqueeze(-1).expand(-1, -1, kinds), batch.feedback)
    flat = lists.clamp_min(0).view(b, -1, 1).expand(-1, -1, kinds)
    return table.gather(1, flat).view(*lists.shape, kinds)


def mixed_lists(batch: Batch, count: int, slots: int, rng: torch.Generator) -> Tensor:
    """Draw lists [B, count, L] from random to sorted: a random column's order under varied noise.

    They must not depend on the labels: a model of whole lists would learn how they were drawn
    instead of their reward.
    """
    columns = torch.cat([batch.candidate_score[..., None], batch.candidate_features], -1)
    at = torch.randint(columns.shape[-1], (count,), generator=rng)
    scale = torch.rand(count, generator=rng) * 3
    device = columns.device
    scores = columns[..., at.to(device)].transpose(1, 2) * scale.to(device)[:, None]
    noise = uniform(request_salt(batch.key, rng), batch.candidates, count)
    scores = scores - torch.log(-torch.log(noise))
    return top_slots(scores, batch.candidate_mask[:, None, :].expand_as(scores), slots)
