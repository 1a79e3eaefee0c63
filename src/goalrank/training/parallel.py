"""Several processes on one batch: each takes its own rows, and gradients equal the whole batch's."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import distributed

from goalrank.errors import ConfigError
from goalrank.requests import Batch


class Shared(NamedTuple):
    """One process's rows of a batch.

    Attributes:
        batch: the rows.
        share: processes · rows here / rows in all: weighs this process's mean so that the mean
            over processes is the mean over the whole batch.
    """

    batch: Batch
    share: float


def check_devices(accelerator: str, devices: int | str) -> None:
    """Refuse more devices than this machine has.

    Raises:
        ConfigError: more processes than cores on a CPU, or GPUs that do not exist.
    """
    wanted = _count(devices)
    if wanted is None:
        return
    gpu = accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available())
    have = torch.cuda.device_count() if gpu else (os.cpu_count() or 1)
    if accelerator in ("auto", "cpu", "gpu", "cuda") and wanted > have:
        what = "GPU(s)" if gpu else "CPU core(s)"
        raise ConfigError(
            f"devices={wanted}, but this machine has {have} {what}; remedy: --devices {have}"
            if have
            else f"devices={wanted}, but this machine has no GPU; remedy: --accelerator cpu"
        )


def _count(devices: int | str) -> int | None:
    """How many, if the setting says so."""
    if isinstance(devices, int):
        return devices
    return int(devices) if devices.isdigit() else None


def strategy_of(name: str, accelerator: str, devices: int | str, nodes: int) -> Any:
    """Lightning's strategy of that name.

    Plain `ddp` (also what `auto` means for several devices) on one machine starts its processes around a stage's fitting alone (under torchrun
    they exist already); without a GPU they talk through gloo.
    """
    several = nodes > 1 or (_count(devices) or 1) > 1
    if name != "ddp" and not (name == "auto" and several):
        return name
    started = "LOCAL_RANK" in os.environ or nodes > 1
    cpu = accelerator == "cpu" or not torch.cuda.is_available()
    # Which parameters a loss reaches depends on the objective and on the data.
    return DDPStrategy(
        process_group_backend="gloo" if cpu else None,
        start_method="popen" if started else "spawn",
        find_unused_parameters=True,
    )


def check_share(batch_size: int, ranks: int) -> None:
    """Refuse a batch with fewer requests than processes."""
    if batch_size < ranks:
        raise ConfigError(
            f"a batch of {batch_size} request(s) cannot be shared by {ranks} processes; remedy: a "
            f"larger batch, e.g. --set training.batch_size={ranks}, or fewer --devices"
        )


def summed(sums: dict[str, float], counts: dict[str, float]) -> tuple[dict[str, float], ...]:
    """Both dictionaries (same keys) with values added up over all processes."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return sums, counts
    names = sorted(sums)
    table = torch.tensor([[sums[n] for n in names], [counts[n] for n in names]]).double()
    if distributed.get_backend() == "nccl":
        table = table.cuda()
    distributed.all_reduce(table)
    first, second = table.tolist()
    return dict(zip(names, first, strict=True)), dict(zip(names, second, strict=True))
