"""Lightning's strategies for several processes: replicated models (ddp) or sharded ones (fsdp)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.optim import Optimizer

from goalrank.encoders import as_block, block_of, id_tables
from goalrank.nn import sharing
from goalrank.training.distributed.process_group import STRATEGIES, backend, process_rank
from goalrank.training.loop.tensors import is_sharded
from goalrank.training.modules.task import Task


class MultiProcessStrategy(DDPStrategy):
    """Data parallelism over all processes, with tables or all parameters sharded if wanted.

    The batch is shared (see `SharedBatch`), so gradients are weighted means over processes. Sharded
    tensors are PyTorch's distributed tensors (`torch.distributed.tensor`), rows in even blocks.

    Args:
        shard_tables: keep a block of rows of each id table (and of its gradient and Adam's
            moments) in each process; rows are fetched over the network.
        shard_all: keep a block of every parameter (`fully_shard`); each module that is marked as a
            `shard_unit` is gathered when it is computed.
    """

    def __init__(self, *, shard_tables: bool, shard_all: bool, **options: Any) -> None:
        super().__init__(**options)
        self.shard_tables = shard_tables
        self.shard_all = shard_all

    @property
    def shards(self) -> bool:
        """Whether any parameter may be a distributed tensor."""
        return self.shard_tables or self.shard_all

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        """Whether a checkpoint is loaded after the weights were split: where they are split."""
        return self.shards

    def model_to_device(self) -> None:
        """Split the id tables over the processes, then move the model to its device."""
        self._tables: list[str] = []
        if self.shards:
            from torch.distributed.device_mesh import init_device_mesh

            self._mesh = init_device_mesh(self.root_device.type, (self.world_size,))
        if self.shard_tables:
            for name, table in id_tables(cast(torch.nn.Module, self.model)).items():
                if table.shardable(self.world_size):
                    table.shard_(self._mesh)
                    self._tables.append(f"{name}.weight")
        super().model_to_device()

    def configure_ddp(self) -> None:
        """Wrap the model: copies in each process, or all weights split over them."""
        model = cast(torch.nn.Module, self.model)
        if not self.shard_all:
            torch.nn.parallel.DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(
                model, self._tables
            )
            super().configure_ddp()
            return
        from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

        tables = {model.get_parameter(name) for name in self._tables}
        for module in list(model.modules()):
            if getattr(module, "shard_unit", False):
                fully_shard(module, mesh=self._mesh)
        fully_shard(model, mesh=self._mesh, ignored_params=tables)
        for method in ("training_step", "validation_step"):
            register_fsdp_forward_method(model, method)

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the loss with this process's share of the batch."""
        with sharing(getattr(self.lightning_module, "share", None)):
            return super().training_step(*args, **kwargs)

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint; every process takes part."""
        # Every process sends its rows; the first writes.
        self.checkpoint_io.save_checkpoint(checkpoint, filepath, storage_options=storage_options)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Load the weights of a checkpoint, each process its own part."""
        module = cast(torch.nn.Module, self.lightning_module)
        mine = module.state_dict()
        state = {k: _sharded_like(v, mine.get(k)) for k, v in checkpoint["state_dict"].items()}
        module.load_state_dict(state, strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Load the optimizer states of a checkpoint, each process its own part."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            optimizer.load_state_dict(_shard_state(optimizer, state))

    def teardown(self) -> None:
        """Release the split weights, so that they are not gathered again."""
        if self.shards and self.lightning_module is not None:
            # The weights are on disk; without this every process would gather them once more.
            cast("Task[Any]", self.lightning_module).release_weights()
        super().teardown()


def strategy_of(name: str, accelerator: str, multi_process: bool, shard_tables: bool) -> Any:
    """Make the strategy of that name; `auto` is ddp where there are several processes.

    Uses the processes that torchrun started; without torchrun each stage starts its own.
    """
    if name not in STRATEGIES or not multi_process:
        return "auto" if name in STRATEGIES else name
    return MultiProcessStrategy(
        shard_tables=shard_tables,
        shard_all=name == "fsdp",
        process_group_backend=backend(accelerator),
        start_method="spawn" if process_rank() is None else "popen",
        # Which parameters a loss reaches depends on the objective and on the data.
        find_unused_parameters=True,
        gradient_as_bucket_view=True,
    )


def _sharded_like(value: Any, model: Any) -> Any:
    """Shard a tensor from a checkpoint as `model` is sharded."""
    if not is_sharded(model):
        return value
    mesh = model.device_mesh
    first, last = block_of(model.shape[0], mesh.get_local_rank(), mesh.size())
    mine = value[first:last].to(mesh.device_type).clone()
    return as_block(mine, mesh, model.shape)


def _shard_state(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    indices = [i for group in state["param_groups"] for i in group["params"]]
    of = dict(zip(indices, parameters, strict=True))
    sharded = {
        i: {
            name: _sharded_like(v, of[i]) if isinstance(v, Tensor) and v.shape == of[i].shape else v
            for name, v in values.items()
        }
        for i, values in state["state"].items()
    }
    return {**state, "state": sharded}
