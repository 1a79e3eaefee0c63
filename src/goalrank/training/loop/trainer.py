"""Lightning's Trainer for one stage."""

from __future__ import annotations

import logging
import math
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from goalrank.errors import ConfigError
from goalrank.requests import EncodedRequests
from goalrank.training.config import LoopConfig
from goalrank.training.distributed.data_parallel import check_devices
from goalrank.training.distributed.options import RunOptions
from goalrank.training.distributed.strategies import strategy_of
from goalrank.training.loop.callbacks import (
    KeepLastWeights,
    Resumable,
    StageProgressBar,
    StopOnNaN,
    ToldProgress,
)
from goalrank.training.loop.checkpoint import SafeCheckpointIO
from goalrank.training.modules.task import LOG_EVERY

LAST_WEIGHTS = "last-weights.safetensors"


def make_trainer(
    loop: LoopConfig, validation: EncodedRequests | None, options: RunOptions
) -> tuple[L.Trainer, ModelCheckpoint | None]:
    """Make the trainer of a stage.

    Returns:
        the trainer, and the callback that keeps the best weights; None where the last are kept.

    Raises:
        ConfigError: devices or a strategy that this machine does not have.
    """
    has_validation = validation is not None and len(validation) > 0
    folder, best = options.folder, None
    if has_validation and loop.patience > 0:
        checkpoints = folder / "checkpoints"
        best = ModelCheckpoint(checkpoints, filename="best", monitor="val_score", mode="max")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    check_devices(options.accelerator, options.devices)
    try:
        trainer = L.Trainer(
            # Not max_steps: the last interval's batches end with the last step, and with a limit on
            # steps Lightning takes a finished epoch for an unfinished one when it resumes.
            max_time=None
            if options.max_seconds is None
            else timedelta(seconds=options.max_seconds),
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
            callbacks=_callbacks(loop, best, options),
            logger=_loggers(options, folder),
            plugins=[SafeCheckpointIO()],
        )
    except (ValueError, RuntimeError, ImportError, MisconfigurationException) as error:
        raise ConfigError(
            f"this machine cannot run accelerator={options.accelerator} devices={options.devices} "
            f"strategy={options.strategy}: {error}"
        ) from error
    return trainer, best


def _callbacks(
    loop: LoopConfig, best: ModelCheckpoint | None, options: RunOptions
) -> list[Callback]:
    folder = options.folder
    callbacks: list[Callback] = [Resumable(), StopOnNaN()]
    if options.progress:
        callbacks.append(StageProgressBar(folder.name))
    elif options.say is not None:
        callbacks.append(ToldProgress(folder.name, options.say))
    if best is not None:
        stop = EarlyStopping(
            "val_score", mode="max", patience=loop.patience, check_on_train_epoch_end=False
        )
        callbacks += [best, stop]
    else:
        callbacks.append(KeepLastWeights(folder / LAST_WEIGHTS))
    callbacks += options.callbacks_of(folder.name)
    callbacks.append(
        ModelCheckpoint(
            folder / "checkpoints",
            filename="last",
            save_top_k=1,
            monitor=None,
            enable_version_counter=False,
            save_on_train_epoch_end=True,  # when the interval is over, its validation too
        )
    )
    return callbacks


def _loggers(options: RunOptions, folder: Path) -> list[Any]:
    loggers: list[Any] = [CSVLogger(folder, name="", version="log", flush_logs_every_n_steps=50)]
    if options.tensorboard:
        loggers.append(TensorBoardLogger(folder, name="", version="tensorboard"))
    return loggers + options.loggers_of(folder.name)
