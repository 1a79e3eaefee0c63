"""Group-relative training: a policy fitted on groups of lists with rewards (GoalRank)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from goalrank.errors import ConfigError
from goalrank.rankers import Ranker, at_next
from goalrank.requests import Batch
from goalrank.rewards import Reward
from goalrank.training.config import LoopConfig, ObjectiveConfig, known_weight
from goalrank.training.distributed.data_parallel import SharedBatch
from goalrank.training.groups.builder import GroupBuilder
from goalrank.training.groups.group import SOURCES, thin
from goalrank.training.groups.slot_groups import slot_group
from goalrank.training.modules.group_telemetry import group_telemetry
from goalrank.training.modules.interval_means import IntervalMeans
from goalrank.training.modules.policy import PolicyTask
from goalrank.training.objectives.group_objectives import OBJECTIVES, is_on_policy


class GroupTask(PolicyTask[Ranker]):
    """GoalRank: groups of lists, a reward for each, eq. 4 and eq. 5.

    Args:
        model: the policy; any trainable ranker.
        loop: steps, batch size and learning rate.
        seed: of every random draw.
        reward: is frozen here.
        groups: builds groups; its light models are frozen here.
        objective: see `ObjectiveConfig`.

    Raises:
        ConfigError: the policy gives lists of a group a probability of 0.
    """

    def __init__(
        self,
        model: Ranker,
        loop: LoopConfig,
        seed: int,
        *,
        reward: Reward,
        groups: GroupBuilder,
        objective: ObjectiveConfig,
    ) -> None:
        if not model.any_list:
            raise ConfigError(
                f"ranker {type(model).__name__} chooses from lists of its own, and every other list "
                f"has probability 0: objective '{objective.name}' on groups of lists would be "
                f'infinite; remedy: its own training (objective.name = "supervised"), or another '
                f"ranker; option: objective.name"
            )
        super().__init__(model, loop, seed, reward=reward, slots=groups.slots)
        self.groups = groups
        self.objective = objective
        self._figures = IntervalMeans()
        for ranker in groups.light:
            ranker.eval().requires_grad_(False)

    def transfer_batch_to_device(self, batch: SharedBatch, device: Any, index: int) -> Batch:
        """Move a batch, and the auxiliary rankers, to the device."""
        for ranker in self.groups.light:
            ranker.to(device)
        return super().transfer_batch_to_device(batch, device, index)

    def on_train_epoch_start(self) -> None:
        """Begin the means of the log anew."""
        super().on_train_epoch_start()
        self._figures.clear()

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Compute the loss of one batch: the objective's, plus the weighted supervised one."""
        objective, rng = self.objective, self.step_rng()
        state = self.model.encode(batch)
        alone = is_on_policy(OBJECTIVES[objective.name])
        share = 0.0 if alone else objective.slot_group_share
        # Drawn apart, so that the lists of a step do not depend on the share.
        by_slot = float(torch.rand((), generator=self.step_rng(stream=1))) < share
        loss = (self._slot_group_loss if by_slot else self._group_loss)(state, batch, rng)
        if (weight := known_weight(objective.supervised)) > 0:
            loss = loss + weight * self.model.supervised_loss(state, batch, self.slots)
        self.log("loss", loss.detach(), prog_bar=True)
        if self.logs_this_step:
            self.log_dict(self._figures.take())
        return loss

    def _group_loss(self, state: Any, batch: Batch, rng: torch.Generator) -> Tensor:
        """The objective on a group of lists."""
        with torch.no_grad():
            group = self.groups(self.model, state, batch, rng)
            rewards = self.reward(batch, group.lists)
            group = group._replace(valid=thin(rewards, group.valid, self.groups.config.thin))
        log_prob = self.model.list_log_prob(state, batch, group.lists)
        own = (group.source == SOURCES.index("own")).expand_as(group.valid)
        loss_of, temperature = OBJECTIVES[self.objective.name], self.objective.temperature
        self._figures.add(group_telemetry(group, rewards, log_prob.detach(), temperature))
        return loss_of(log_prob, rewards, group.valid, own, temperature)

    def _slot_group_loss(self, state: Any, batch: Batch, rng: torch.Generator) -> Tensor:
        """The objective on a slot group; the slot is the same for the whole batch."""
        config, slots = self.groups.config, self.slots
        with torch.no_grad():
            own = self.model.draw(state, batch, 1, slots, rng, config.temperature)[:, 0]
            slot = int(torch.randint(min(slots, batch.candidates.shape[1]), (1,), generator=rng))
            group = slot_group(own, slot, batch, rng, config.tries)
            rewards = self.reward(batch, group.lists)
        log_prob = self.model.next_log_prob(state, batch, group.prefix).gather(1, group.tried)
        # Among the lists of the group, which share all but the slot: π(l|B).
        log_prob = at_next(log_prob.masked_fill(~group.valid, -torch.inf))
        loss_of = OBJECTIVES[self.objective.name]
        return loss_of(log_prob, rewards, group.valid, group.valid, self.objective.temperature)

    def validate_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Quality [B] of the best lists by name; `score` is the monitored one."""
        quality = self.list_quality(batch)
        score = "reward" if self.objective.monitor == "reward" else "ndcg"
        return {**quality, "score": quality[score]}
