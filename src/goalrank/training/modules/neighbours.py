"""Neighbour training against a reward, as NLGR trains its editor."""

from __future__ import annotations

import torch
from torch import Tensor

from goalrank.nn import request_salt, uniform
from goalrank.rankers import NLGR, neighbours
from goalrank.requests import Batch
from goalrank.rewards import Reward
from goalrank.training.config import LoopConfig
from goalrank.training.modules.policy import PolicyTask


class NeighbourTask(PolicyTask[NLGR]):
    """NLGR: the reward differences of lists that differ in one slot.

    A step edits lists up to a random slot, tries `others` random candidates and the slot's own
    candidate there, and moves the editor towards those whose lists have a higher reward:
    −Σ_i p_i A_i, p the editor's probabilities among the neighbours and A their rewards,
    standardised over them.

    Args:
        lists: G edited per request.
        others: candidates tried at the slot.
    """

    def __init__(
        self,
        model: NLGR,
        loop: LoopConfig,
        seed: int,
        *,
        reward: Reward,
        slots: int,
        lists: int = 4,
        others: int = 7,
    ) -> None:
        super().__init__(model, loop, seed, reward=reward, slots=slots)
        self.lists, self.others = lists, others

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Compute the loss of one batch, a scalar."""
        loss = self.neighbour_loss(batch, self.step_rng())
        self.log("loss", loss.detach(), prog_bar=True)
        return loss

    def neighbour_loss(self, batch: Batch, rng: torch.Generator) -> Tensor:
        """Compute the loss of a batch at one random slot."""
        policy = self.model
        most = min(self.slots, batch.candidates.shape[1])
        step = int(torch.randint(most, (1,), generator=rng))
        state = policy.encode(batch)
        with torch.no_grad():
            lists = policy.sweep(state, batch, self.lists, self.slots, step, rng)
            chosen, valid = self._tries(lists, batch, step, rng)
            slot = torch.full(lists.shape[:2], step, device=lists.device)
            near = neighbours(lists, slot, chosen)
            rewards = self.reward(batch, near.flatten(1, 2)).view(chosen.shape)
        logits = policy.open_logits(state, lists, step).gather(-1, chosen)
        return neighbour_gradient(logits, rewards, valid)

    def _tries(
        self, lists: Tensor, batch: Batch, step: int, rng: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Candidates [B, G, M+1] for the slot, its own one first, and which are valid."""
        noise = uniform(request_salt(batch.key, rng), batch.candidates, lists.shape[1])
        here = lists[..., step : step + 1]
        done = lists[..., : step + 1].clamp_min(0)
        # Not drawn: padding, the candidates of earlier slots, and the slot's own.
        noise = noise.masked_fill(~batch.candidate_mask[:, None, :], -1.0).scatter(-1, done, -1.0)
        value, others = noise.topk(min(self.others, noise.shape[-1]), -1)
        chosen = torch.cat([here.clamp_min(0), others], -1)
        return chosen, torch.cat([here >= 0, (value > 0) & (here >= 0)], -1)


def neighbour_gradient(logits: Tensor, rewards: Tensor, valid: Tensor) -> Tensor:
    """−Σ_i softmax(logits)_i · A_i, A the rewards of neighbours standardised; mean over lists.

    Args:
        logits: [B, G, M] of the neighbours of each list.
        rewards: [B, G, M].
        valid: [B, G, M] False where a neighbour does not exist.

    Returns:
        a scalar; lists without two valid neighbours, or with equal ones, give 0.
    """
    count = valid.sum(-1, keepdim=True)
    centred = (rewards - (rewards * valid).sum(-1, keepdim=True) / count.clamp_min(1)) * valid
    spread = ((centred**2).sum(-1, keepdim=True) / count.clamp_min(1)).sqrt()
    advantage = torch.where(spread > 1e-6, centred / spread.clamp_min(1e-6), 0.0)
    none = ~valid.any(-1, keepdim=True)
    p = logits.masked_fill(~valid, -torch.inf).masked_fill(none, 0.0).softmax(-1)
    return -(p * advantage).sum(-1).mean()
