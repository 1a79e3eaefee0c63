"""What a step computes: the Lightning modules of each stage of a job."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, cast

import lightning as L
import torch
from torch import Tensor, nn

from goalrank.encoders import IdTable
from goalrank.evaluation import METRICS, from_lists, known_only
from goalrank.nn import request_salt, uniform
from goalrank.rankers import Generator, Ranker, at_next, top_slots
from goalrank.requests import Batch
from goalrank.rewards import ListReward, Reward
from goalrank.training.config import LoopConfig, ObjectiveConfig
from goalrank.training.distributed.data_parallel import SharedBatch, mean_of_all, summed
from goalrank.training.groups.groups import SOURCES, Group, GroupBuilder, slot_group, thin
from goalrank.training.loop.tensors import split_spread, total_norm
from goalrank.training.objectives.group_objectives import OBJECTIVES, policy_entropy
from goalrank.training.objectives.propensity_weights import list_weights
from goalrank.training.objectives.reference_policy import group_statistics, reference_policy

LOG_EVERY = 10  # steps between rows of the log


class Task(L.LightningModule):
    """A model to fit, its schedule, and `score`: the validation figure, higher is better."""

    def __init__(self, model: nn.Module, loop: LoopConfig, seed: int) -> None:
        super().__init__()
        self.model = model
        self.loop = loop
        self.seed = seed
        self._sums: dict[str, float] = {}
        self._counts: dict[str, float] = {}
        self.share: float | None = None  # of the batch, where several processes share it
        self.let_go = False  # the weights are on disk, and this copy is not looked at any more

    def configure_optimizers(self) -> Any:
        """AdamW with warm-up and cosine decay; norms, biases and vectors are not decayed.

        Id tables have a group of their own: an optimizer's call takes either distributed tensors
        or plain ones.
        """
        tables = [m.weight for m in self.model.modules() if isinstance(m, IdTable)]
        known = {id(p) for p in tables}
        rest = [p for p in self.model.parameters() if p.requires_grad and id(p) not in known]
        kinds = [
            ([p for p in tables if p.requires_grad], self.loop.weight_decay),
            ([p for p in rest if p.dim() > 1], self.loop.weight_decay),
            ([p for p in rest if p.dim() <= 1], 0.0),
        ]
        groups = [{"params": ps, "weight_decay": decay} for ps, decay in kinds if ps]
        # Lightning refuses to clip the gradients of a fused optimizer under mixed precision.
        fused = self.loop.precision != "bf16-mixed" or self.loop.clip == 0
        optimizer = torch.optim.AdamW(groups, lr=self.loop.lr, betas=(0.9, 0.98), fused=fused)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _factor(self, step: int) -> float:
        if step < self.loop.warmup:
            return (step + 1) / self.loop.warmup
        done = (step - self.loop.warmup) / max(self.loop.steps - self.loop.warmup, 1)
        return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

    def step_rng(self, stream: int = 0) -> torch.Generator:
        """A generator that depends on the seed and the step only, so that resuming is exact."""
        mixed = (self.seed * 1_000_003 + self.global_step) * 31 + stream
        return torch.Generator().manual_seed(mixed % 2**63)

    @property
    def logs_this_step(self) -> bool:
        """Whether the trainer writes this step's figures; those of other steps are dropped."""
        return (self.global_step + 1) % LOG_EVERY == 0

    @abstractmethod
    def validate_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Figures [b] a request; NaN leaves a request out. `score` must be among them."""

    def on_validation_epoch_start(self) -> None:
        self._sums, self._counts = {}, {}

    def validation_step(self, batch: Batch, _: int) -> None:
        for name, values in self.validate_batch(batch).items():
            real = ~torch.isnan(values) & (self.share != 0)  # 0: only to keep step with others
            self._sums[name] = self._sums.get(name, 0.0) + float(values[real].double().sum())
            self._counts[name] = self._counts.get(name, 0.0) + float(real.sum())

    def on_validation_epoch_end(self) -> None:
        self._sums, self._counts = summed(self._sums, self._counts)
        for name, total in self._sums.items():
            mean = total / max(self._counts[name], 1.0)
            self.log(f"val_{name}", mean, prog_bar=name == "score")

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        if not self.logs_this_step:
            return
        grads = [p.grad for p in self.model.parameters() if p.grad is not None]
        if grads:
            self.log("grad_norm", total_norm(grads))

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """By the norm of all gradients, wherever their parts lie."""
        if not gradient_clip_val:
            return
        every = [p for group in optimizer.param_groups for p in group["params"]]
        norm = total_norm([p.grad for p in every if p.grad is not None])
        for part in split_spread(every):
            nn.utils.clip_grads_with_norm_(part, float(gradient_clip_val), norm)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return {} if self.let_go else super().state_dict(*args, **kwargs)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Gradients, weighed by this process's share of the batch."""
        super().backward(loss if self.share is None else loss * self.share, *args, **kwargs)

    def log(self, name: str, value: Any, *args: Any, **kwargs: Any) -> None:
        """As Lightning's; `loss` becomes the whole batch's where processes share it."""
        if name == "loss" and self.share is not None:
            value = value.detach() * self.share
            if self.logs_this_step:  # what is not written is not worth the wait for the others
                value = mean_of_all(value)
        super().log(name, value, *args, **kwargs)

    def transfer_batch_to_device(self, batch: Any, device: Any, _: int) -> Any:
        if isinstance(batch, SharedBatch):
            batch, self.share = batch
        return batch.to(device)


def list_ndcg(batch: Batch, lists: Tensor) -> Tensor:
    """ndcg@L [B] of emitted lists, NaN where a request has no positive."""
    return METRICS["ndcg"](from_lists(lists, batch.relevance, batch.candidate_mask)).float()


class SupervisedTask(Task):
    """Fits a ranker by its own supervised loss; validated by ndcg on known candidates."""

    def __init__(self, model: Ranker, loop: LoopConfig, seed: int, slots: int) -> None:
        super().__init__(model, loop, seed)
        self.slots = slots

    def training_step(self, batch: Batch, _: int) -> Tensor:
        loss = cast(Ranker, self.model).loss(batch, self.slots)
        self.log("loss", loss, prog_bar=True)
        return loss

    def validate_batch(self, batch: Batch) -> dict[str, Tensor]:
        batch = known_only(batch)
        lists = cast(Ranker, self.model).rank(batch, self.slots)
        return {"score": list_ndcg(batch, lists)}


class RewardTask(Task):
    """Fits a list reward model on what was shown and answered.

    Args:
        negative: candidates not shown count as having no feedback; lists are then drawn from the
            candidates: by a plain sort, at random, and in between.
        lists: number of lists drawn a request (when `negative`).
        listwise: weight of `ListReward.listwise_loss` (when `negative`).
        propensity_cap: logged lists are weighed by `list_weights` up to this; 0 = all alike.
    """

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

    def _material(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Lists [B, G, L], feedback [B, G, L, K] and known [B, G, L]."""
        if not self.negative:
            lists = batch.shown.unsqueeze(1)
            return lists, batch.feedback.unsqueeze(1), lists >= 0
        lists = mixed_lists(batch, self.lists, self.slots, rng)
        return lists, feedback_at(batch, lists), lists >= 0

    def _encode(self, batch: Batch, lists: Tensor) -> tuple[Any, Tensor]:
        """The candidates that lists [B, G, L] need, encoded, and the lists as places in these.

        Of many offered a log knows the answers to the few shown: the others need no encoding.
        """
        model = cast(ListReward, self.model)
        shown = batch.shown.shape[1]
        if self.negative or not model.encoder.pointwise or shown >= batch.candidates.shape[1]:
            return model.encode(batch), lists
        place = torch.arange(shown, device=lists.device)
        return model.encode(batch, batch.shown.clamp_min(0)), torch.where(lists >= 0, place, -1)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        model = cast(ListReward, self.model)
        lists, feedback, known = self._material(batch, self.step_rng())
        if self.propensity_cap > 0:
            known = known * list_weights(batch, self.propensity_cap)[:, None, None]
        encoded, lists = self._encode(batch, lists)
        loss = model.loss(batch, lists, feedback, known, encoded)
        if self.listwise > 0:
            loss = loss + self.listwise * self._listwise(model, batch, encoded)
        self.log("loss", loss, prog_bar=True)
        return loss

    def _listwise(self, model: ListReward, batch: Batch, encoded: Any) -> Tensor:
        feedback = feedback_at(batch, batch.lists_of_one)[:, :, 0]
        return model.listwise_loss(batch, feedback, encoded)

    def validate_batch(self, batch: Batch) -> dict[str, Tensor]:
        model = cast(ListReward, self.model)
        rng = torch.Generator().manual_seed(self.seed)
        lists, feedback, known = self._material(batch, rng)
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
    """Feedback [B, G, L, K] of each kind at each slot; candidates not shown have none."""
    b, n = batch.candidates.shape
    kinds = batch.feedback.shape[-1]
    table = batch.feedback.new_zeros(b, n + 1, kinds)
    at = torch.where(batch.shown >= 0, batch.shown, n)
    table.scatter_(1, at.unsqueeze(-1).expand(-1, -1, kinds), batch.feedback)
    flat = lists.clamp_min(0).view(b, -1, 1).expand(-1, -1, kinds)
    return table.gather(1, flat).view(*lists.shape, kinds)


def mixed_lists(batch: Batch, count: int, slots: int, rng: torch.Generator) -> Tensor:
    """Lists [B, count, L] from random to sorted: a random column's order under varied noise.

    They must not depend on the labels: a model that sees whole lists would learn how they were
    made instead of what they are worth.
    """
    columns = torch.cat([batch.candidate_score[..., None], batch.candidate_features], -1)
    at = torch.randint(columns.shape[-1], (count,), generator=rng)
    scale = torch.rand(count, generator=rng) * 3
    device = columns.device
    scores = columns[..., at.to(device)].transpose(1, 2) * scale.to(device)[:, None]
    noise = uniform(request_salt(batch.key, rng), batch.candidates, count)
    scores = scores - torch.log(-torch.log(noise))
    return top_slots(scores, batch.candidate_mask[:, None, :].expand_as(scores), slots)


class GroupTask(Task):
    """GoalRank: groups of lists, a reward for each, eq. 4 and eq. 5.

    Args:
        model: the policy; any ranker can stand here.
        reward: frozen.
        groups: builds groups, with its light models frozen.
        objective: see `ObjectiveConfig`.
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
        super().__init__(model, loop, seed)
        # Kept out of the module tree: frozen helpers are neither optimised nor checkpointed.
        self._helpers = [reward.eval().requires_grad_(False)]
        self.groups = groups
        self.objective = objective
        for ranker in groups.light:
            ranker.eval().requires_grad_(False)

    @property
    def reward(self) -> Reward:
        """The frozen reward."""
        return self._helpers[0]

    def transfer_batch_to_device(self, batch: Any, device: Any, index: int) -> Any:
        for helper in (*self._helpers, *self.groups.light):
            helper.to(device)
        return super().transfer_batch_to_device(batch, device, index)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        policy, c, rng = cast(Ranker, self.model), self.objective, self.step_rng()
        state = policy.encode(batch)
        share = 0.0 if c.name == "reinforce" else c.slots
        # Drawn apart, so that the lists of a step do not depend on the share.
        of_slot = float(torch.rand((), generator=self.step_rng(stream=1))) < share
        loss = (self._of_slot if of_slot else self._of_lists)(policy, state, batch, rng)
        if c.supervised > 0:
            loss = loss + c.supervised * self._supervised(state, batch)
        self.log("loss", loss.detach(), prog_bar=True)
        return loss

    def _of_lists(self, policy: Ranker, state: Any, batch: Batch, rng: torch.Generator) -> Tensor:
        """The objective on a group of lists."""
        with torch.no_grad():
            group = self.groups(policy, state, batch, rng)
            rewards = self.reward(batch, group.lists)
            group = group._replace(valid=thin(rewards, group.valid, self.groups.config.thin))
        log_prob = policy.list_log_prob(state, batch, group.lists)
        own = (group.source == SOURCES.index("own")).expand_as(group.valid)
        loss_of, temperature = OBJECTIVES[self.objective.name], self.objective.temperature
        if self.logs_this_step:
            self.log_dict(telemetry(group, rewards, log_prob.detach(), temperature))
        return loss_of(log_prob, rewards, group.valid, own, temperature)

    def _of_slot(self, policy: Ranker, state: Any, batch: Batch, rng: torch.Generator) -> Tensor:
        """The objective on a slot group; the slot is the same for the whole batch."""
        c, slots = self.groups.config, self.groups.slots
        with torch.no_grad():
            own = policy.draw(state, batch, 1, slots, rng, c.temperature)[:, 0]
            slot = int(torch.randint(min(slots, batch.candidates.shape[1]), (1,), generator=rng))
            group = slot_group(own, slot, batch, rng, c.tries)
            rewards = self.reward(batch, group.lists)
        log_prob = policy.next_log_prob(state, batch, group.prefix).gather(1, group.tried)
        # Among the lists of the group, which share all but the slot: π(l|B).
        log_prob = at_next(log_prob.masked_fill(~group.valid, -torch.inf))
        loss_of = OBJECTIVES[self.objective.name]
        return loss_of(log_prob, rewards, group.valid, group.valid, self.objective.temperature)

    def _supervised(self, state: Any, batch: Batch) -> Tensor:
        if isinstance(self.model, Generator):
            return self.model.supervised_loss(state, batch, self.groups.slots)
        return cast(Ranker, self.model).loss(batch, self.groups.slots)

    def validate_batch(self, batch: Batch) -> dict[str, Tensor]:
        policy = cast(Ranker, self.model)
        lists = policy.rank(batch, self.groups.slots)
        known = known_only(batch)
        quality = {
            "reward": self.reward(batch, lists.unsqueeze(1)).squeeze(1),
            "ndcg": list_ndcg(known, policy.rank(known, self.groups.slots)),
        }
        score = "reward" if self.objective.monitor == "reward" else "ndcg"
        return {**quality, "score": quality[score]}


def telemetry(
    group: Group, rewards: Tensor, log_prob: Tensor, temperature: float
) -> dict[str, Tensor]:
    """What a group tells: reward spread and gaps, entropies, and who supplied the best list.

    Args:
        rewards, log_prob: [B, G].
    """
    valid = group.valid
    statistics = group_statistics(rewards, valid)
    reference = reference_policy(rewards, valid, temperature=temperature)
    smallest, median = reward_gaps(rewards, valid)
    policy = log_prob.masked_fill(~valid, -torch.inf).softmax(-1)
    best = rewards.masked_fill(~valid, -torch.inf).argmax(-1)
    source = group.source[best]
    out = {
        "reward_mean": statistics.mean.mean(),
        "reward_std": statistics.std.mean(),
        "gap_smallest": smallest.nanmean(),
        "gap_median": median.nanmean(),
        "zero_variance": statistics.degenerate.float().mean(),
        "valid_lists": valid.float().sum(-1).mean(),
        "entropy_reference": policy_entropy(reference).mean(),
        "entropy_policy": policy_entropy(policy).mean(),
    }
    for i in group.source.unique().tolist():
        out[f"best_from/{SOURCES[i]}"] = (source == i).float().mean()
    return out


def reward_gaps(rewards: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest and median gap [B] between neighbouring rewards of a group; NaN with one list."""
    ordered = rewards.masked_fill(~valid, torch.nan).sort(-1).values  # NaN last
    gaps = ordered.diff(dim=-1)
    smallest = torch.where(gaps.isnan(), torch.inf, gaps).amin(-1)
    return smallest.masked_fill(smallest == torch.inf, torch.nan), gaps.nanmedian(-1).values
