"""One stage of a job: a task, run by Lightning, resumable and stopped early on validation."""

from __future__ import annotations

import copy
import shutil
import signal
import warnings
from pathlib import Path
from typing import Any

import lightning as L
from safetensors.torch import load_file
from torch import nn

from goalrank.compute import keep_freed_memory
from goalrank.errors import ConfigError
from goalrank.requests import EncodedRequests
from goalrank.storage import move_into_place, surviving_folder
from goalrank.training.distributed.lost_processes import lost_processes
from goalrank.training.distributed.options import RunOptions
from goalrank.training.distributed.process_group import (
    barrier,
    is_distributed,
    is_first,
    process_rank,
)
from goalrank.training.loop.callbacks import model_weights
from goalrank.training.loop.checkpoint import SafeCheckpointIO
from goalrank.training.loop.data_module import StageData
from goalrank.training.loop.start_candidate import StartCandidate, write_comparison
from goalrank.training.loop.telemetry import read_telemetry, set_log_aside
from goalrank.training.loop.tensors import write_tensors
from goalrank.training.loop.trainer import LAST_WEIGHTS, make_trainer
from goalrank.training.modules.task import Task


def run_stage(
    task: Task[Any], train: EncodedRequests, validation: EncodedRequests | None, options: RunOptions
) -> list[dict[str, float]]:
    """Fit a task's model in place and return its telemetry, one row per logged step.

    Weights of the best validation score are kept (the last ones where there is no validation or
    patience is 0); those of a linear start where training is not better (see `StartCandidate`).
    When resuming, a finished stage found in the folder is loaded instead. Where torchrun started
    several processes all of them call this, on a folder that all can access.

    Raises:
        ConfigError: no training requests, devices that do not exist, or a folder that another
            process cannot access.
        FloatingPointError: the loss is no longer a number.
    """
    if len(train) == 0:
        raise ConfigError("there are no training requests; remedy: lower the filters of the import")
    folder = options.folder
    weights = folder / "weights.safetensors"
    if options.resume and weights.exists():
        load_weights(task.model, weights)
        _tell(options, "finished before; its weights are taken over")
        return read_telemetry(folder)
    last = folder / "checkpoints" / "last.ckpt"
    resume = _goes_on(options, last)
    barrier()  # until all have checked
    if is_first():
        if not resume:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        set_log_aside(folder)
    barrier()
    split = options.split_data and is_distributed()
    start = StartCandidate(task, validation, split=split)
    fitted = task.model
    if process_rank() is not None:  # the trained copy may end up sharded; this one stays whole
        task.model = copy.deepcopy(fitted)
    data = StageData(task, train, validation, split)
    task.loop = task.loop.over(data.requests)
    trainer, best = make_trainer(task.loop, validation, options)
    _run(trainer, task, data, last if resume else None)
    task.model = fitted if _has_undrawn_tables(fitted) else fitted.cpu()
    unnamed = folder / LAST_WEIGHTS
    if is_first() and best is not None and best.best_model_path:
        state = SafeCheckpointIO().load_checkpoint(best.best_model_path)["state_dict"]
        write_tensors(unnamed, model_weights(state))
    elif is_first() and best is not None:  # stopped before its first validation
        write_tensors(unnamed, dict(task.model.state_dict()))
    barrier()
    load_weights(fitted, unnamed)
    if best is not None:
        _keep_better(start, unnamed)
    if is_first():
        move_into_place(unnamed, weights)
    barrier()
    return read_telemetry(folder)


def _goes_on(options: RunOptions, checkpoint: Path) -> bool:
    """Whether the stage begins at its last checkpoint."""
    found = options.resume and surviving_folder(checkpoint).exists()
    if found:
        _tell(options, "goes on from its last checkpoint")
    return found


def _tell(options: RunOptions, what: str) -> None:
    if is_first():
        options.tell(f"{options.folder.name}: {what}")


def _keep_better(start: StartCandidate, weights: Path) -> None:
    """Put the weights at the start into the file where training was not better."""
    found = start.choose(load_file(weights))
    barrier()  # until all have read
    if found is None or not is_first():
        return
    write_comparison(weights.parent, found)
    if found.kept == "start":
        write_tensors(weights, dict(start.task.model.state_dict()))


def load_weights(model: nn.Module, weights: Path) -> None:
    """Load a stage's weights into a model, also one whose tables were never drawn.

    Raises:
        ConfigError: the file is not there.
    """
    if not weights.exists():
        raise ConfigError(
            f"'{weights}' was written by the first process and cannot be found here; remedy: "
            f"an --out folder on a file system that all machines share"
        )
    model.load_state_dict(load_file(weights), assign=_has_undrawn_tables(model))


def _has_undrawn_tables(model: nn.Module) -> bool:
    """Whether some tables have no values yet (see `deferred_tables`)."""
    return any(p.is_meta for p in model.parameters())


def _run(trainer: L.Trainer, task: Task[Any], data: StageData, checkpoint: Path | None) -> None:
    keep_freed_memory()
    handler = signal.getsignal(signal.SIGINT)
    try:
        with warnings.catch_warnings(), lost_processes():
            warnings.simplefilter("ignore")
            trainer.fit(task, datamodule=data, ckpt_path=checkpoint)
    except SystemExit as stop:  # Lightning's answer to Ctrl-C, after which it ignores the key
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from stop
