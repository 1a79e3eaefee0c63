"""Reward-driven training of rivals: EGRank's PPO and NLGR's neighbouring lists."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor

from goalrank.evaluation import known_only
from goalrank.nn import divisor, request_salt, uniform
from goalrank.rankers import NLGR, StepPolicy, neighbours
from goalrank.requests import Batch
from goalrank.rewards import Ensemble, ListReward, ObservedGain, Reward, Weighted
from goalrank.training.config import LoopConfig
from goalrank.training.modules.tasks import Task, list_ndcg


def slot_rewards(reward: Reward, batch: Batch, lists: Tensor) -> Tensor:
    """What each slot of lists [B, G, L] adds to their reward: [B, G, L], summing to the reward.

    A `ListReward`, the observed gain, and sums and means of them say it; any other reward is given
    at the last slot.
    """
    if isinstance(reward, ObservedGain):
        return reward.by_slot(batch, lists)
    if isinstance(reward, Weighted):
        parts = [slot_rewards(cast(Reward, r), batch, lists) for r in reward.rewards]
        return torch.stack(parts, -1) @ reward.weights
    if isinstance(reward, ListReward):
        place = torch.arange(lists.shape[-1], device=lists.device)
        weight = reward.slot_weights[place.clamp_max(len(reward.slot_weights) - 1)]
        return (reward.slot_probabilities(batch, lists) @ reward.kind_weights) * weight
    if isinstance(reward, Ensemble) and reward.pessimism == 0:
        each = [slot_rewards(cast(Reward, m), batch, lists) for m in reward.members]
        return torch.stack(each).mean(0)
    last = ((lists >= 0).sum(-1, keepdim=True) - 1).clamp_min(0)
    out = torch.zeros(lists.shape, dtype=torch.float32, device=lists.device)
    return out.scatter(-1, last, reward(batch, lists).float().unsqueeze(-1))


def slot_advantages(rewards: Tensor, real: Tensor) -> Tensor:
    """Rewards still to come, standardised at every slot over the lists of the same request.

    Args:
        rewards: [B, G, L] of each slot.
        real: [B, G, L] filled slots.

    Returns:
        [B, G, L]; 0 where empty and where all lists tie. Source: EGRank (arXiv 2003.11941).
    """
    ahead = (rewards * real).flip(-1).cumsum(-1).flip(-1)
    count = real.sum(1, keepdim=True).clamp_min(1)
    centred = (ahead - (ahead * real).sum(1, keepdim=True) / count) * real
    spread = ((centred**2).sum(1, keepdim=True) / count).sqrt()
    return torch.where(spread > 1e-6, centred / spread.clamp_min(1e-6), 0.0)


def clipped_surrogate(
    log_prob: Tensor, old: Tensor, advantage: Tensor, real: Tensor, clip: float
) -> Tensor:
    """PPO: −mean min(ρ A, clip(ρ, 1 ± ε) A) over filled slots, ρ = exp(log π − log π_old).

    Args:
        log_prob, old, advantage, real: [B, G, L].
        clip: ε.

    Source: Schulman et al., 2017 (arXiv 1707.06347), eq. 7.
    """
    ratio = (log_prob - old).masked_fill(~real, 0.0).exp()
    bounded = ratio.clamp(1 - clip, 1 + clip)
    gain = torch.minimum(ratio * advantage, bounded * advantage)
    return -(gain * real).sum() / divisor(real.sum())


class _RewardDriven(Task):
    """A policy fitted against a frozen reward; validated by its lists' reward."""

    def __init__(
        self, model: StepPolicy, loop: LoopConfig, seed: int, *, reward: Reward, slots: int
    ) -> None:
        super().__init__(model, loop, seed)
        # Kept out of the module tree: a frozen helper is neither optimised nor checkpointed.
        self._helpers = [reward.eval().requires_grad_(False)]
        self.slots = slots

    @property
    def reward(self) -> Reward:
        """The frozen reward."""
        return self._helpers[0]

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, index: int) -> Batch:
        self.reward.to(device)
        return cast(Batch, super().transfer_batch_to_device(batch, device, index))

    def validate_batch(self, batch: Batch) -> dict[str, Tensor]:
        policy = cast(StepPolicy, self.model)
        worth = self.reward(batch, policy.rank(batch, self.slots).unsqueeze(1)).squeeze(1)
        known = known_only(batch)
        return {"score": worth, "ndcg": list_ndcg(known, policy.rank(known, self.slots))}


class PPOTask(_RewardDriven):
    """EGRank: the clipped surrogate on lists of a lagging copy of the policy.

    Args:
        lists: G drawn a request.
        clip: ε.
        refresh: steps between copies; the policy takes that many steps on one copy's lists.
    """

    def __init__(
        self,
        model: StepPolicy,
        loop: LoopConfig,
        seed: int,
        *,
        reward: Reward,
        slots: int,
        lists: int = 8,
        clip: float = 0.2,
        refresh: int = 4,
    ) -> None:
        super().__init__(model, loop, seed, reward=reward, slots=slots)
        self.lists, self.clip, self.refresh = lists, clip, refresh
        # In the module tree, so that a resumed run goes on from the same copy.
        self.behaviour = copy.deepcopy(model).requires_grad_(False)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        if self.global_step % self.refresh == 0:
            self.behaviour.load_state_dict(self.model.state_dict())
        loss = self.surrogate(batch, self.step_rng())
        self.log("loss", loss.detach(), prog_bar=True)
        return loss

    def surrogate(self, batch: Batch, rng: torch.Generator) -> Tensor:
        """The loss of a batch; lists are drawn from the copy."""
        policy, behaviour = cast(StepPolicy, self.model), self.behaviour.eval()
        with torch.no_grad():
            state = behaviour.encode(batch)
            lists = behaviour.draw(state, batch, self.lists, self.slots, rng)
            old = behaviour.slot_log_prob(state, batch, lists)
            real = lists >= 0
            advantage = slot_advantages(slot_rewards(self.reward, batch, lists), real)
        log_prob = policy.slot_log_prob(policy.encode(batch), batch, lists)
        return clipped_surrogate(log_prob, old, advantage, real, self.clip)


class NeighbourTask(_RewardDriven):
    """NLGR: at one slot of a list in the making, the reward differences of its neighbours.

    A step sweeps lists up to a random slot, puts `others` random candidates and what stands there
    at the slot, and moves the editor towards those whose lists the evaluator finds better than
    the list as it stands: −Σ_i p_i A_i, p the editor's probabilities among the neighbours and A
    their reward differences, standardised over them.

    Args:
        lists: G swept a request.
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
        loss = self.neighbour_loss(batch, self.step_rng())
        self.log("loss", loss.detach(), prog_bar=True)
        return loss

    def neighbour_loss(self, batch: Batch, rng: torch.Generator) -> Tensor:
        """The loss of a batch at one random slot."""
        policy = cast(NLGR, self.model)
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
        """Candidates [B, G, M+1] for the slot, what stands there first, and which are valid."""
        noise = uniform(request_salt(batch.key, rng), batch.candidates, lists.shape[1])
        here = lists[..., step : step + 1]
        done = lists[..., : step + 1].clamp_min(0)
        # Out of the draw: padding, what stands earlier, and the slot's own candidate.
        noise = noise.masked_fill(~batch.candidate_mask[:, None, :], -1.0).scatter(-1, done, -1.0)
        value, others = noise.topk(min(self.others, noise.shape[-1]), -1)
        chosen = torch.cat([here.clamp_min(0), others], -1)
        return chosen, torch.cat([here >= 0, (value > 0) & (here >= 0)], -1)


def neighbour_gradient(logits: Tensor, rewards: Tensor, valid: Tensor) -> Tensor:
    """−Σ_i softmax(logits)_i · A_i, A the rewards of neighbours standardised; mean over lists.

    Args:
        logits, rewards, valid: [B, G, M] of the neighbours of each list.

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
