"""Several processes on one batch: each takes its own rows, and gradients equal the whole batch's."""

from __future__ import annotations

import os
from typing import NamedTuple

import torch
from lightning.pytorch.accelerators import AcceleratorRegistry
from torch import Tensor, distributed

from goalrank.errors import ConfigError, DataError
from goalrank.requests import Batch, EncodedRequests
from goalrank.wording import counted


class SharedBatch(NamedTuple):
    """A batch, or one process's rows of it.

    Attributes:
        batch: the rows.
        share: processes · rows here / rows in all: weights this process's mean so that the mean
            over processes is the mean over the whole batch. None where one process has all rows.
    """

    batch: Batch
    share: float | None = None


def check_devices(accelerator: str, devices: int | str) -> None:
    """Refuse an accelerator that this machine does not have, and more devices than it has.

    Args:
        accelerator: "auto", "cpu", "gpu", or another name that Lightning knows.
        devices: number of processes; "auto" takes what is there.

    Raises:
        ConfigError: an unknown accelerator or none of that kind, more processes than cores on a
            CPU, or GPUs that do not exist.
    """
    known = AcceleratorRegistry.available_accelerators()
    if accelerator not in ("auto", "gpu", *known):
        names = ", ".join(["auto", "cpu", "gpu", *sorted({*known} - {"cpu"})])
        raise ConfigError(
            f"accelerator '{accelerator}' is unknown; remedy: one of {names} (option: --accelerator)"
        )
    if (wanted := _count(devices)) is not None:
        _check_count(accelerator, wanted)
    kinds = {"auto": (), "gpu": ("cuda", "mps")}.get(accelerator, (accelerator,))
    if kinds and not any(AcceleratorRegistry[kind]["accelerator"].is_available() for kind in kinds):
        raise ConfigError(
            f"this machine has no accelerator '{accelerator}'; remedy: --accelerator cpu"
        )


def _check_count(accelerator: str, wanted: int) -> None:
    gpu = accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available())
    have = torch.cuda.device_count() if gpu else (os.cpu_count() or 1)
    if accelerator in ("auto", "cpu", "gpu", "cuda") and wanted > have:
        what = counted(have, "GPU" if gpu else "CPU core")
        raise ConfigError(
            f"devices={wanted}, but this machine has {what}; remedy: --devices {have}"
            if have
            else f"devices={wanted}, but this machine has no GPU; remedy: --accelerator cpu"
        )


def is_multi_process(devices: int | str, nodes: int) -> bool:
    """Whether a job has more than one process."""
    return nodes > 1 or (_count(devices) or 1) > 1


def _count(devices: int | str) -> int | None:
    """Number of devices, if the setting gives one."""
    if isinstance(devices, int):
        return devices
    return int(devices) if devices.isdigit() else None


def check_shard(batch_size: int, ranks: int) -> None:
    """Refuse a batch with fewer requests than processes."""
    if batch_size < ranks:
        raise ConfigError(
            f"a batch of {counted(batch_size, 'request')} cannot be shared by {ranks} processes; remedy: a "
            f"larger batch, e.g. --set training.batch_size={ranks}, or fewer --devices"
        )


def part_sizes(
    train: EncodedRequests, validation: EncodedRequests | None
) -> tuple[list[int], list[int]]:
    """Gather how many training and validation requests each process has, where each has its own.

    Raises:
        DataError: a process without training requests.
    """
    mine = [len(train), 0 if validation is None else len(validation)]
    table = torch.zeros(distributed.get_world_size(), 2, dtype=torch.long)
    table[distributed.get_rank()] = torch.tensor(mine)
    distributed.all_reduce(table)
    train_sizes, validation_sizes = table[:, 0].tolist(), table[:, 1].tolist()
    if min(train_sizes) == 0:
        raise DataError(
            f"{counted(sum(train_sizes), 'training request')} for {counted(len(train_sizes), 'process', 'processes')} are too few; remedy: "
            f"fewer processes, or train without --split-data"
        )
    return train_sizes, validation_sizes


def all_reduce_mean(value: Tensor) -> Tensor:
    """Average a scalar over all processes."""
    total = value.clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()


def all_reduce_sums(
    sums: dict[str, float], counts: dict[str, float]
) -> tuple[dict[str, float], ...]:
    """Add up the values of both dictionaries (same keys) over all processes."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return sums, counts
    names = sorted(sums)
    table = torch.tensor([[sums[n] for n in names], [counts[n] for n in names]]).double()
    distributed.all_reduce(table)
    first, second = table.tolist()
    return dict(zip(names, first, strict=True)), dict(zip(names, second, strict=True))
