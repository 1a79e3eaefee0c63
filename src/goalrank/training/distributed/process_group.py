"""The process group of a job: rank of this process, and collective operations over all of them.

Processes are started by torchrun, which tells each its rank by environment variables, or by a stage
itself (several devices of one machine), in which case this code runs before they exist.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import distributed

from goalrank.errors import ConfigError, DataError
from goalrank.training.distributed.options import RunOptions

STRATEGIES = ("auto", "ddp", "fsdp")


class ProcessRank(NamedTuple):
    """Rank of one process among those that torchrun started.

    Attributes:
        rank, ranks: of this process, and the number of processes on all machines.
        local_rank, local_ranks: the same on this machine.
        restarts: how often torchrun has restarted all of them.
    """

    rank: int
    ranks: int
    local_rank: int
    local_ranks: int
    restarts: int


def process_rank() -> ProcessRank | None:
    """Read the rank that torchrun gave; None without torchrun, or where it started one process."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    if any(name not in os.environ for name in names):
        return None
    rank, ranks, local_rank, local_ranks = (int(os.environ[name]) for name in names)
    restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    return ProcessRank(rank, ranks, local_rank, local_ranks, restarts) if ranks > 1 else None


def is_first() -> bool:
    """Whether this is the only process of the job, or the one of rank 0."""
    here = process_rank()
    return here is None or here.rank == 0


def resolve_options(options: RunOptions) -> RunOptions:
    """Resolve devices and nodes to what torchrun started, and resume after a restart.

    Raises:
        ConfigError: other numbers than torchrun's, or several machines without torchrun.
    """
    here = process_rank()
    if here is None:
        if (options.nodes or 1) > 1:
            raise ConfigError(
                f"nodes={options.nodes}, but torchrun did not start this process; remedy: on each "
                f"machine torchrun --nnodes {options.nodes} --nproc-per-node DEVICES --rdzv-backend "
                f"c10d --rdzv-endpoint HOST:29400 -m goalrank train …"
            )
        return replace(options, nodes=1)
    _check_multi_process(options.strategy)
    nodes = options.nodes or max(here.ranks // here.local_ranks, 1)
    devices = here.local_ranks if options.devices == "auto" else options.devices
    if isinstance(devices, str) and devices.isdigit():
        devices = int(devices)
    if isinstance(devices, int) and nodes * devices != here.ranks:
        raise ConfigError(
            f"--nodes {nodes} times --devices {devices} is {nodes * devices}, but torchrun started "
            f"{here.ranks} processes ({here.local_ranks} on this machine); remedy: leave both "
            f"options out, or torchrun --nnodes {nodes} --nproc-per-node {devices}"
        )
    resume = options.resume or here.restarts > 0
    return replace(options, nodes=nodes, devices=devices, resume=resume)


def _check_multi_process(strategy: str) -> None:
    if not distributed.is_available():
        raise ConfigError(
            "this PyTorch is built without torch.distributed, so it trains in one process only; "
            "remedy: install a build of PyTorch with it, or run without torchrun and --devices"
        )
    if strategy not in STRATEGIES:
        raise ConfigError(
            f"strategy '{strategy}' cannot run several processes here; remedy: --strategy ddp or "
            f"--strategy fsdp"
        )


def backend(accelerator: str) -> str:
    """Name the backends of `torch.distributed`: gloo, and NCCL for tensors on GPUs."""
    gpu = accelerator not in ("cpu", "tpu") and torch.cuda.is_available()
    return "cpu:gloo,cuda:nccl" if gpu else "gloo"


def join_process_group(options: RunOptions) -> None:
    """Join the process group of torchrun's processes; does nothing without torchrun."""
    here = process_rank()
    if here is None or distributed.is_initialized():
        return
    if options.accelerator != "cpu" and torch.cuda.is_available():
        torch.cuda.set_device(here.local_rank % torch.cuda.device_count())
    limit = timedelta(minutes=30)
    if here.ranks > here.local_ranks:  # each machine counts its own restarts
        distributed.init_process_group(backend(options.accelerator), timeout=limit)
        return
    # PyTorch's store outlives a restart and still holds the addresses of ended processes.
    store, rank, ranks = next(distributed.rendezvous("env://", timeout=limit))  # type: ignore[attr-defined]
    own = distributed.PrefixStore(f"restart {here.restarts}", store)  # type: ignore[attr-defined]
    distributed.init_process_group(
        backend(options.accelerator), store=own, rank=rank, world_size=ranks, timeout=limit
    )


def is_distributed() -> bool:
    """Whether this process is in a process group."""
    return distributed.is_available() and distributed.is_initialized()


def barrier() -> None:
    """Wait until all processes have called this."""
    if is_distributed():
        distributed.barrier()


def gather_bytes(mine: bytes) -> list[bytes]:
    """Gather the bytes of every process in all processes, in the order of ranks."""
    if not is_distributed():
        return [mine]
    ranks = distributed.get_world_size()
    sizes = [torch.zeros(1, dtype=torch.long) for _ in range(ranks)]
    distributed.all_gather(sizes, torch.tensor([len(mine)]))
    longest = max(int(size) for size in sizes)
    padded = torch.zeros(longest, dtype=torch.uint8)
    if mine:
        padded[: len(mine)] = torch.frombuffer(bytearray(mine), dtype=torch.uint8)
    parts = [torch.zeros(longest, dtype=torch.uint8) for _ in range(ranks)]
    distributed.all_gather(parts, padded)
    return [part[: int(size)].numpy().tobytes() for part, size in zip(parts, sizes, strict=True)]


def all_reduce_max(values: ArrayLike) -> NDArray[np.float64]:
    """Compute the element-wise maximum of all processes' values."""
    table = torch.from_numpy(np.array(values, dtype=np.float64))
    if is_distributed():
        distributed.all_reduce(table, distributed.ReduceOp.MAX)
    return table.numpy()


def check_equal(facts: Mapping[str, str | bytes]) -> None:
    """Refuse to train together on different settings or data.

    Args:
        facts: values that must be the same in every process, by a name that a user understands.

    Raises:
        ConfigError: settings differ between processes.
        DataError: data differ between processes.
    """
    if not is_distributed():
        return
    own = b"".join(
        hashlib.sha256(v.encode() if isinstance(v, str) else v).digest() for v in facts.values()
    )
    every = gather_bytes(own)
    for i, name in enumerate(facts):
        digests = [part[32 * i : 32 * (i + 1)] for part in every]
        different = [rank for rank, digest in enumerate(digests) if digest != digests[0]]
        if different:
            error = DataError if "data" in name else ConfigError
            raise error(
                f"{name} of processes {different[:8]} differ from those of process 0; remedy: give "
                f"every machine the same command, files and version of goalrank"
            )
