"""The base of all training tasks: optimiser, schedule, validation, and shares of a batch."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, Generic, TypeVar

import lightning as L
import torch
from torch import Tensor, nn

from goalrank.encoders import id_tables, wide_parameters
from goalrank.requests import Batch
from goalrank.training.config import LoopConfig
from goalrank.training.distributed.data_parallel import (
    SharedBatch,
    all_reduce_mean,
    all_reduce_sums,
)
from goalrank.training.loop.tensors import split_sharded, total_norm
from goalrank.training.modules.interval_means import IntervalMeans

M = TypeVar("M", bound=nn.Module)
LOG_EVERY = 10  # steps between rows of the log


class Task(L.LightningModule, Generic[M]):
    """A model to fit, its schedule, and `score`: the validation figure, higher is better.

    Args:
        model: the model that is fitted, in place.
        loop: steps, batch size and learning rate.
        seed: of every random draw.
    """

    model: M
    start_margin: float = 1.0
    """Standard errors by which training must beat its linear start on a small validation part."""

    def __init__(self, model: M, loop: LoopConfig, seed: int) -> None:
        super().__init__()
        self.model = model
        for parameter in wide_parameters(model):
            parameter.requires_grad_(loop.wide_rate > 0)
        self.loop = loop
        self.seed = seed
        self._sums: dict[str, float] = {}
        self._counts: dict[str, float] = {}
        self._losses = IntervalMeans()
        self.share: float | None = None  # see `SharedBatch`
        self._released = False

    def configure_optimizers(self) -> Any:
        """Make AdamW with warm-up and cosine decay; norms, biases and vectors are not decayed.

        Id tables have their own group: one call of an optimizer takes either distributed
        tensors or plain ones. Wide paths have a lower rate and no decay: they begin as a solution.
        """
        tables = [table.weight for table in id_tables(self.model).values()]
        wide = wide_parameters(self.model)
        known = {id(p) for p in [*tables, *wide]}
        rest = [p for p in self.model.parameters() if p.requires_grad and id(p) not in known]
        kinds = [
            ([p for p in tables if p.requires_grad], self.loop.weight_decay),
            ([p for p in rest if p.dim() > 1], self.loop.weight_decay),
            ([p for p in rest if p.dim() <= 1], 0.0),
        ]
        groups: list[dict[str, Any]] = [
            {"params": ps, "weight_decay": decay} for ps, decay in kinds if ps
        ]
        if wide and wide[0].requires_grad:
            rate = self.loop.wide_rate * self.loop.lr
            groups.append({"params": wide, "weight_decay": 0.0, "lr": rate})
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
        """Make a generator from the seed and the step only, so that resuming is exact."""
        mixed = (self.seed * 1_000_003 + self.global_step) * 31 + stream
        return torch.Generator().manual_seed(mixed % 2**63)

    @property
    def logs_this_step(self) -> bool:
        """Whether the trainer logs this step's figures; those of other steps are dropped."""
        return (self.global_step + 1) % LOG_EVERY == 0

    def on_train_epoch_start(self) -> None:
        """Begin the means of the log anew: a run that resumes here has none of the steps before."""
        self._losses.clear()

    @abstractmethod
    def validate_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Compute figures [B] per request, `score` among them; NaN leaves a request out."""

    def on_validation_epoch_start(self) -> None:
        """Start the sums of a validation."""
        self._sums, self._counts = {}, {}

    def validation_step(self, batch: Batch, _: int) -> None:
        """Add the values of one batch to the sums."""
        for name, values in self.validate_batch(batch).items():
            real = ~torch.isnan(values) & (
                self.share != 0
            )  # 0: takes part only so that no process waits
            self._sums[name] = self._sums.get(name, 0.0) + float(values[real].double().sum())
            self._counts[name] = self._counts.get(name, 0.0) + float(real.sum())

    def on_validation_epoch_end(self) -> None:
        """Log the means over all requests of all processes."""
        self._sums, self._counts = all_reduce_sums(self._sums, self._counts)
        for name, total in self._sums.items():
            mean = total / max(self._counts[name], 1.0)
            self.log(f"val_{name}", mean, prog_bar=name == "score")

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Log the norm of the gradient, where this step is logged."""
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
        """Clip by the norm of all gradients, also those sharded over processes."""
        if not gradient_clip_val:
            return
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = total_norm([p.grad for p in parameters if p.grad is not None])
        for part in split_sharded(parameters):
            nn.utils.clip_grads_with_norm_(part, float(gradient_clip_val), norm)

    def release_weights(self) -> None:
        """Give an empty state from now on: the weights are on disk and no longer needed here."""
        self._released = True

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Weights by name; none after `release_weights`."""
        return {} if self._released else super().state_dict(*args, **kwargs)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute gradients, weighted by this process's share of the batch."""
        super().backward(loss if self.share is None else loss * self.share, *args, **kwargs)

    def log(self, name: str, value: Any, *args: Any, **kwargs: Any) -> None:
        """Log as Lightning does; a row of the log has the mean `loss` of the steps since the last.

        It is the whole batch's where processes share it.
        """
        if name == "loss":
            value = value.detach() if self.share is None else value.detach() * self.share
            self._losses.add({name: value})
            if self.logs_this_step:
                value = self._losses.take()[name]
                if self.share is not None:
                    value = all_reduce_mean(value)
        super().log(name, value, *args, **kwargs)

    def transfer_batch_to_device(self, batch: SharedBatch, device: Any, _: int) -> Batch:
        """Move the rows to the device and remember their share of the batch."""
        self.share = batch.share
        return batch.batch.to(device)
