"""PPO against a reward, as EGRank trains its generator."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from goalrank.nn import divisor
from goalrank.rankers import StepPolicy
from goalrank.requests import Batch
from goalrank.rewards import Reward, slot_rewards
from goalrank.training.config import LoopConfig
from goalrank.training.modules.policy import PolicyTask


class PPOTask(PolicyTask[StepPolicy]):
    """EGRank: the clipped surrogate on lists of a lagging copy of the policy.

    Args:
        lists: G drawn per request.
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
        """Compute the clipped surrogate of one batch; refresh the behaviour policy when due."""
        if self.global_step % self.refresh == 0:
            self.behaviour.load_state_dict(self.model.state_dict())
        loss = self.surrogate(batch, self.step_rng())
        self.log("loss", loss.detach(), prog_bar=True)
        return loss

    def surrogate(self, batch: Batch, rng: torch.Generator) -> Tensor:
        """Compute the loss of a batch; lists are drawn from the copy."""
        policy, behaviour = self.model, self.behaviour.eval()
        with torch.no_grad():
            state = behaviour.encode(batch)
            lists = behaviour.draw(state, batch, self.lists, self.slots, rng)
            old = behaviour.slot_log_prob(state, batch, lists)
            real = lists >= 0
            advantage = slot_advantages(slot_rewards(self.reward, batch, lists), real)
        log_prob = policy.slot_log_prob(policy.encode(batch), batch, lists)
        return clipped_surrogate(log_prob, old, advantage, real, self.clip)


def slot_advantages(rewards: Tensor, real: Tensor) -> Tensor:
    """Sum the rewards from each slot on, standardised over the lists of the same request.

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
        log_prob: [B, G, L] under the policy.
        old: [B, G, L] under the policy that drew the lists.
        advantage: [B, G, L].
        real: [B, G, L] False where a slot is empty.
        clip: ε.

    Source: Schulman et al., 2017 (arXiv 1707.06347), eq. 7.
    """
    ratio = (log_prob - old).masked_fill(~real, 0.0).exp()
    bounded = ratio.clamp(1 - clip, 1 + clip)
    gain = torch.minimum(ratio * advantage, bounded * advantage)
    return -(gain * real).sum() / divisor(real.sum())
