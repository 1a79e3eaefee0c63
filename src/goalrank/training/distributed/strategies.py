"""Lightning's strategies for several processes: whole models (ddp) or spread ones (fsdp)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.optim import Optimizer

from goalrank.encoders import IdTable, as_block, block_of
from goalrank.nn import Block, InducedBlock, sharing
from goalrank.training.distributed.process_group import STRATEGIES, backend, process_rank
from goalrank.training.loop.tensors import is_spread
from goalrank.training.modules.tasks import Task


class MultiProcessStrategy(DDPStrategy):
    """Data parallel over all processes; what else is spread over them is optional.

    The batch is shared (see `Shared`), so gradients are weighted means over processes. Spread
    tensors are PyTorch's distributed tensors (`torch.distributed.tensor`), rows in even blocks.

    Args:
        spread_tables: keep a block of rows of each id table (and of its gradient and Adam's
            moments) in each process; rows are asked for over the network.
        spread_all: keep a block of every parameter (`fully_shard`); each block of layers is put
            together when it is computed.
    """

    def __init__(self, *, spread_tables: bool, spread_all: bool, **options: Any) -> None:
        super().__init__(**options)
        self.spread_tables = spread_tables
        self.spread_all = spread_all

    @property
    def spreads(self) -> bool:
        """Whether any parameter may be a distributed tensor."""
        return self.spread_tables or self.spread_all

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        return self.spreads

    def model_to_device(self) -> None:
        self._tables: list[str] = []
        if self.spreads:
            from torch.distributed.device_mesh import init_device_mesh

            self._mesh = init_device_mesh(self.root_device.type, (self.world_size,))
        if self.spread_tables:
            assert self.model is not None
            for name, module in self.model.named_modules():
                if isinstance(module, IdTable) and module.shardable(self.world_size):
                    module.shard_(self._mesh)
                    self._tables.append(f"{name}.weight")
        super().model_to_device()

    def configure_ddp(self) -> None:
        model = self.model
        assert model is not None
        if not self.spread_all:
            torch.nn.parallel.DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(
                model, self._tables
            )
            super().configure_ddp()
            return
        from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

        tables = {model.get_parameter(name) for name in self._tables}
        for module in list(model.modules()):
            if isinstance(module, Block | InducedBlock):
                fully_shard(module, mesh=self._mesh)
        fully_shard(model, mesh=self._mesh, ignored_params=tables)
        for method in ("training_step", "validation_step"):
            register_fsdp_forward_method(model, method)

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        with sharing(getattr(self.lightning_module, "share", None)):
            return super().training_step(*args, **kwargs)

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any = None
    ) -> None:
        # Every process has its rows to give; the first writes.
        self.checkpoint_io.save_checkpoint(checkpoint, filepath, storage_options=storage_options)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        assert self.lightning_module is not None
        mine = self.lightning_module.state_dict()
        state = {k: _like(v, mine.get(k)) for k, v in checkpoint["state_dict"].items()}
        self.lightning_module.load_state_dict(state, strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            optimizer.load_state_dict(_spread_state(optimizer, state))

    def teardown(self) -> None:
        if self.spreads and isinstance(self.lightning_module, Task):
            # The weights are on disk; without this every process would gather them once more.
            self.lightning_module.let_go = True
        super().teardown()


def strategy_of(name: str, accelerator: str, several: bool, spread_tables: bool) -> Any:
    """The strategy of that name; `auto` is ddp where there are several processes.

    Processes that torchrun started are used; else they are started around a stage's fitting alone.
    """
    if name not in STRATEGIES or not several:
        return "auto" if name in STRATEGIES else name
    return MultiProcessStrategy(
        spread_tables=spread_tables,
        spread_all=name == "fsdp",
        process_group_backend=backend(accelerator),
        start_method="spawn" if process_rank() is None else "popen",
        # Which parameters a loss reaches depends on the objective and on the data.
        find_unused_parameters=True,
        gradient_as_bucket_view=True,
    )


def _like(whole: Any, model: Any) -> Any:
    """A tensor from a checkpoint, spread as `model` is."""
    if not is_spread(model):
        return whole
    mesh = model.device_mesh
    first, last = block_of(model.shape[0], mesh.get_local_rank(), mesh.size())
    mine = whole[first:last].to(mesh.device_type).clone()
    return as_block(mine, mesh, model.shape)


def _spread_state(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    indices = [i for group in state["param_groups"] for i in group["params"]]
    of = dict(zip(indices, parameters, strict=True))
    spread = {
        i: {
            name: _like(v, of[i]) if isinstance(v, Tensor) and v.shape == of[i].shape else v
            for name, v in values.items()
        }
        for i, values in state["state"].items()
    }
    return {**state, "state": spread}
