"""One stage of a job: a task, run by Lightning, resumable and stopped early on validation."""

from __future__ import annotations

import copy
import csv
import logging
import math
import shutil
import signal
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    ModelCheckpoint,
    TQDMProgressBar,
)
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from safetensors.torch import load_file
from torch import nn
from torch.multiprocessing.spawn import ProcessRaisedException
from torch.utils.data import DataLoader

from goalrank.errors import ConfigError, GoalRankError
from goalrank.requests import Batch, EncodedRequests
from goalrank.training.distributed.data_parallel import (
    SharedBatch,
    check_devices,
    check_shard,
    part_sizes,
)
from goalrank.training.distributed.options import RunOptions
from goalrank.training.distributed.process_group import (
    barrier,
    is_distributed,
    is_first,
    process_rank,
)
from goalrank.training.distributed.strategies import strategy_of
from goalrank.training.loop.batch_stream import BatchList, BatchStream, PartStream
from goalrank.training.loop.checkpoint import SafeCheckpointIO
from goalrank.training.loop.tensors import write_tensors
from goalrank.training.modules.tasks import LOG_EVERY, Task

_LAST_WEIGHTS = "last-weights.tmp"


class _Data(L.LightningDataModule):
    """Batches of one validation interval ("epoch") at a time; which ones depends on the epoch."""

    def __init__(
        self, task: Task, train: EncodedRequests, validation: EncodedRequests | None, split: bool
    ) -> None:
        super().__init__()
        self.task = task
        self.train = train
        self.validation = validation
        self.sizes = part_sizes(train, validation) if split else None
        self.requests = sum(self.sizes[0]) if self.sizes else len(train)

    def train_dataloader(self) -> DataLoader[Batch | SharedBatch]:
        loop = self.task.loop
        epoch = self.trainer.current_epoch if self.trainer else 0
        first = epoch * loop.validate_every
        count = min(loop.validate_every, loop.steps - first)
        rank, ranks = self._place()
        check_shard(loop.batch_size, ranks)
        if self.sizes is not None:
            sizes, seed = self.sizes[0], self.task.seed
            parts = PartStream(self.train, sizes, loop.batch_size, seed, first, count, rank)
            return DataLoader(parts, batch_size=None)
        stream = BatchStream(self.train, loop.batch_size, self.task.seed, first, count, rank, ranks)
        return DataLoader(stream, batch_size=None)

    def val_dataloader(self) -> Any:
        if self.validation is None or len(self.validation) == 0:
            return []
        size, place = max(self.task.loop.batch_size, 256), self._place()
        batches = BatchList(self.validation, size, *place, self.sizes and self.sizes[1])
        return DataLoader(batches, batch_size=None)

    def _place(self) -> tuple[int, int]:
        """Rank of this process, and how many there are."""
        trainer = self.trainer
        return (trainer.global_rank, trainer.world_size) if trainer else (0, 1)


class _Resumable(Callback):
    """What makes a resumed run equal a whole one: dropout seeded by the step, a log on disk."""

    def on_train_batch_start(
        self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        seed = int(getattr(module, "seed", 0))
        own = trainer.global_rank * 7_368_787  # processes drop other units
        torch.manual_seed((seed * 1_000_003 + trainer.global_step + own) % 2**63)

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        for logger in trainer.loggers:  # before the checkpoint, which is the last callback
            logger.save()


def run_stage(
    task: Task, train: EncodedRequests, validation: EncodedRequests | None, options: RunOptions
) -> list[dict[str, float]]:
    """Fit a task's model in place and return its telemetry, one row a logged step.

    Weights of the best validation score are kept (the last ones where there is no validation or
    patience is 0). A finished stage found in the folder is loaded instead when resuming. Where
    torchrun started several processes all of them call this, on a folder that all see.

    Raises:
        ConfigError: no training requests, devices that do not exist, or a folder that another
            process does not see.
        FloatingPointError: the loss is no longer a number.
    """
    if len(train) == 0:
        raise ConfigError("there are no training requests; remedy: lower the filters of the import")
    folder = options.folder
    weights = folder / "weights.safetensors"
    if options.resume and weights.exists():
        load_weights(task.model, weights)
        return read_telemetry(folder)
    last = folder / "checkpoints" / "last.ckpt"
    resume = options.resume and (last.exists() or last.with_name("last.ckpt.old").exists())
    barrier()  # until all have looked
    if is_first():
        if not resume:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        _set_log_aside(folder)
    barrier()
    fitted = task.model
    if process_rank() is not None:  # what is trained may end up spread; this one stays whole
        task.model = copy.deepcopy(fitted)
    data = _Data(task, train, validation, options.split_data and is_distributed())
    task.loop = task.loop.over(data.requests)
    trainer, best = _trainer(task, validation, options)
    _run(trainer, task, data, last if resume else None)
    task.model = fitted if _undrawn(fitted) else fitted.cpu()
    if is_first():
        temporary = folder / _LAST_WEIGHTS
        if best is not None and best.best_model_path:
            state = SafeCheckpointIO().load_checkpoint(best.best_model_path)["state_dict"]
            write_tensors(temporary, _of_model(state))
        temporary.replace(weights)
    barrier()
    load_weights(fitted, weights)
    return read_telemetry(folder)


def load_weights(model: nn.Module, weights: Path) -> None:
    """A stage's weights into a model, also one whose tables were never drawn.

    Raises:
        ConfigError: the file is not there.
    """
    if not weights.exists():
        raise ConfigError(
            f"'{weights}' was written by the first process and is not to be seen here; remedy: "
            f"an --out folder on a file system that all machines share"
        )
    model.load_state_dict(load_file(weights), assign=_undrawn(model))


def _undrawn(model: nn.Module) -> bool:
    """Whether some tables exist in name only."""
    return any(p.is_meta for p in model.parameters())


def _of_model(state: dict[str, Any]) -> dict[str, Any]:
    prefix = "model."
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


class _KeepLast(Callback):
    """Writes the last weights, while their parts are still in the processes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        write_tensors(self.path, _of_model(module.state_dict()))


def _run(trainer: L.Trainer, task: Task, data: _Data, checkpoint: Path | None) -> None:
    handler = signal.getsignal(signal.SIGINT)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer.fit(task, datamodule=data, ckpt_path=checkpoint)
    except ProcessRaisedException as error:  # of a process that the strategy started
        if "FloatingPointError" in str(error):
            raise FloatingPointError(str(error).strip().splitlines()[-1]) from error
        raise
    except RuntimeError as error:
        if is_distributed() and "peer" in str(error):  # gloo and NCCL say so when one is gone
            raise PeerLost(
                f"another process of the job ended ({str(error).splitlines()[0][-80:]}); its own "
                f"message says why; checkpoints are kept; remedy: the same command with --resume, "
                f"or torchrun --max-restarts 3, which resumes by itself"
            ) from error
        raise
    except SystemExit as stop:  # so Lightning answers Ctrl-C, and goes on ignoring the key
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from stop


class PeerLost(GoalRankError):
    """A process waits for one that is gone."""


class _StageBar(TQDMProgressBar):
    """Lightning's bar, with the stage's name in front."""

    def __init__(self, stage: str) -> None:
        super().__init__()
        self.stage = stage

    def on_train_epoch_start(self, trainer: L.Trainer, *args: Any) -> None:
        super().on_train_epoch_start(trainer, *args)
        done, last = trainer.current_epoch + 1, trainer.max_epochs
        self.train_progress_bar.set_description(f"{self.stage}, interval {done}/{last}")


def _trainer(
    task: Task, validation: EncodedRequests | None, options: RunOptions
) -> tuple[L.Trainer, ModelCheckpoint | None]:
    loop = task.loop
    folder = options.folder
    checkpoints = folder / "checkpoints"
    callbacks: list[Callback] = [_Resumable(), _StopOnNaN()]
    if options.progress:
        callbacks.append(_StageBar(folder.name))
    has_validation = validation is not None and len(validation) > 0
    best: ModelCheckpoint | None = None
    if has_validation and loop.patience > 0:
        best = ModelCheckpoint(checkpoints, filename="best", monitor="val_score", mode="max")
        stop = EarlyStopping(
            "val_score", mode="max", patience=loop.patience, check_on_train_epoch_end=False
        )
        callbacks += [best, stop]
    else:
        callbacks.append(_KeepLast(folder / _LAST_WEIGHTS))
    callbacks.append(
        ModelCheckpoint(
            checkpoints,
            filename="last",
            save_top_k=1,
            monitor=None,
            enable_version_counter=False,
            save_on_train_epoch_end=True,  # when the interval is over, its validation too
        )
    )
    loggers: list[Any] = [CSVLogger(folder, name="", version="log", flush_logs_every_n_steps=50)]
    if options.tensorboard:
        loggers.append(TensorBoardLogger(folder, name="", version="tensorboard"))
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    check_devices(options.accelerator, options.devices)
    try:
        trainer = L.Trainer(
            # Not max_steps: the last interval's batches end with the last step, and with a limit on
            # steps Lightning takes a finished epoch for an unfinished one when it resumes.
            max_epochs=math.ceil(loop.steps / loop.validate_every),
            accelerator=options.accelerator,
            devices=options.devices,
            strategy=strategy_of(
                options.strategy, options.accelerator, options.is_multi_process, loop.shard_items
            ),
            use_distributed_sampler=False,
            num_nodes=options.nodes or 1,
            precision=loop.precision,
            gradient_clip_val=loop.clip or None,
            reload_dataloaders_every_n_epochs=1,
            num_sanity_val_steps=0,
            log_every_n_steps=LOG_EVERY,
            enable_progress_bar=options.progress,
            enable_model_summary=False,
            callbacks=callbacks,
            logger=loggers,
            plugins=[SafeCheckpointIO()],
        )
    except (ValueError, RuntimeError, ImportError, MisconfigurationException) as error:
        raise ConfigError(
            f"this machine cannot run accelerator={options.accelerator} devices={options.devices} "
            f"strategy={options.strategy}: {error}"
        ) from error
    return trainer, best


class _StopOnNaN(Callback):
    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        due = trainer.global_step % 10 == 0 or trainer.is_last_batch  # a look costs a GPU a wait
        if loss is not None and due and not torch.isfinite(loss):
            raise FloatingPointError(
                f"the loss became {float(loss)} at step {trainer.global_step}; remedy: a lower "
                f"learning rate (--set training.lr=…) or clipping (--set training.clip=1)"
            )


def _set_log_aside(folder: Path) -> None:
    """Keep the log of an interrupted run: the logger would begin by deleting it."""
    log = folder / "log" / "metrics.csv"
    if log.exists():
        count = len(list(log.parent.glob("metrics-*.csv")))
        log.rename(log.with_name(f"metrics-{count:04d}.csv"))


def read_telemetry(folder: Path) -> list[dict[str, float]]:
    """Rows of the stage's CSV log; empty cells are left out.

    Each resumption has a file of its own, which counts from the step where it went on.
    """
    rows: list[dict[str, float]] = []
    for path in [*sorted(folder.glob("log/metrics-*.csv")), folder / "log" / "metrics.csv"]:
        part = _read_log(path) if path.exists() else []
        if part:
            rows = [row for row in rows if row["step"] < part[0]["step"]] + part
    return rows


def _read_log(path: Path) -> list[dict[str, float]]:
    with path.open() as file:
        return [
            {k: float(v) for k, v in row.items() if v not in ("", None)}
            for row in csv.DictReader(file)
        ]
