"""Lightning callbacks of a stage: exact resumption, last weights, progress, and NaN losses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, TQDMProgressBar

from goalrank.training.loop.tensors import write_tensors

QUIET_S = 30.0


class Resumable(Callback):
    """Makes a resumed run equal to a whole one: dropout is seeded by the step, the log saved."""

    def on_train_batch_start(
        self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed the global generator for one step."""
        seed = int(getattr(module, "seed", 0))
        own = trainer.global_rank * 7_368_787  # each process drops other units
        torch.manual_seed((seed * 1_000_003 + trainer.global_step + own) % 2**63)

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Write what the loggers hold."""
        for logger in trainer.loggers:  # before the checkpoint, which is the last callback
            logger.save()


class KeepLastWeights(Callback):
    """Writes the last weights while the processes that hold their shards still run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Write the model's weights."""
        write_tensors(self.path, model_weights(module.state_dict()))


def model_weights(state: dict[str, Any]) -> dict[str, Any]:
    """Take the model's tensors out of a task's state."""
    prefix = "model."
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


class StageProgressBar(TQDMProgressBar):
    """Lightning's bar, with the stage's name in front."""

    def __init__(self, stage: str) -> None:
        super().__init__()
        self.stage = stage

    def on_train_epoch_start(self, trainer: L.Trainer, *args: Any) -> None:
        """Show the stage and the interval in the progress bar."""
        super().on_train_epoch_start(trainer, *args)
        done, last = trainer.current_epoch + 1, trainer.max_epochs
        self.train_progress_bar.set_description(f"{self.stage}, interval {done}/{last}")


class ToldProgress(Callback):
    """Says every 30 seconds how far a stage is, where no bar is shown.

    Args:
        stage: name of the stage.
        tell: takes a sentence.
    """

    def __init__(self, stage: str, tell: Callable[[str], None]) -> None:
        self.stage, self.tell = stage, tell
        self._said = monotonic()

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Begin to count."""
        self._said = monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Say the step, if nothing was said for long."""
        if trainer.is_global_zero and monotonic() - self._said >= QUIET_S:
            self._said = monotonic()
            most: Any = module.loop
            self.tell(f"{self.stage}: step {trainer.global_step:,} of at most {most.steps:,}")


class StopOnNaN(Callback):
    """Raises FloatingPointError when the loss is no longer a number."""

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Stop where the loss is not finite; checked at every tenth step and the last one."""
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        due = trainer.global_step % 10 == 0 or trainer.is_last_batch  # each check makes a GPU wait
        if loss is not None and due and not torch.isfinite(loss):
            raise FloatingPointError(
                f"the loss became {float(loss)} at step {trainer.global_step}; remedy: a lower "
                f"learning rate (--set training.lr=…) or clipping (--set training.clip=1)"
            )
