"""Table of id vectors: whole in one process, or its rows sharded over several."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:  # builds of PyTorch without it train in one process
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor

LARGE = 1 << 22  # rows from which a table is drawn in blocks, and can be deferred
_BLOCK = 1 << 16
_STD = 0.02

_deferred = False


@contextmanager
def deferred_tables(wanted: bool = True) -> Iterator[None]:
    """Defer the initial values of large tables made inside the block.

    No process then holds a whole table: `IdTable.shard_` draws the rows of its own process, with
    the same values that a whole table would have.

    Args:
        wanted: False leaves tables as usual.
    """
    global _deferred  # noqa: PLW0603  reset at the block's end
    before, _deferred = _deferred, wanted
    try:
        yield
    finally:
        _deferred = before


class IdTable(nn.Embedding):
    """Vectors per id row; row 0 is padding and stays zero.

    Args:
        rows: rows of the table.
        width: D.

    Attributes:
        sharded: whether `weight` is a distributed tensor.
    """

    sharded = False

    def __init__(self, rows: int, width: int) -> None:
        if rows < LARGE:
            super().__init__(rows, width, padding_idx=0)
            nn.init.normal_(self.weight, std=_STD)
            with torch.no_grad():
                self.weight[0].zero_()
            return
        self.seed = int(torch.randint(2**62, (1,)))
        meta = torch.empty(rows, width, device="meta")
        super().__init__(rows, width, padding_idx=0, _weight=meta)
        if not _deferred:
            self.weight = nn.Parameter(self._drawn(0, rows))

    def _drawn(self, first: int, last: int) -> Tensor:
        """Initial rows first…last-1; block b of the table depends on the seed and b alone."""
        out = torch.empty(last - first, self.embedding_dim)
        for block in range(first // _BLOCK, -(-last // _BLOCK)):
            rng = torch.Generator().manual_seed((self.seed + block) % 2**63)
            start = block * _BLOCK
            values = torch.randn(_BLOCK, self.embedding_dim, generator=rng) * _STD
            low, high = max(first, start), min(last, start + _BLOCK)
            out[low - first : high - first] = values[low - start : high - start]
        if first == 0 and last > 0:
            out[0] = 0.0
        return out

    def shardable(self, ranks: int) -> bool:
        """Whether every process would get rows.

        Args:
            ranks: number of processes.
        """
        return -(-self.num_embeddings // -(-self.num_embeddings // ranks)) == ranks

    def shard_(self, mesh: DeviceMesh) -> None:
        """Shard the rows over the processes of a mesh; `weight` becomes a distributed tensor.

        Gradients are means over the processes, as in data parallelism.

        Args:
            mesh: one-dimensional mesh of the processes.
        """
        ranks, (rank,) = mesh.size(), mesh.get_coordinate() or (0,)
        first, last = block_of(self.num_embeddings, rank, ranks)
        if self.weight.is_meta:
            mine = self._drawn(first, last)
        else:
            mine = self.weight.detach()[first:last].clone()
        self.weight = nn.Parameter(as_block(mine.to(mesh.device_type), mesh, self.weight.shape))
        self.sharded = True

    def forward(self, input: Tensor) -> Tensor:
        """Look up rows: [n] → [n, D]."""
        return _sharded_lookup(self.weight, input) if self.sharded else super().forward(input)


def id_tables(model: nn.Module) -> dict[str, IdTable]:
    """Find the id tables of a model, by module name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, IdTable)}


def block_of(rows: int, rank: int, ranks: int) -> tuple[int, int]:
    """First row and last row + 1 that a process holds, as in `Shard(0)`.

    Args:
        rows: rows of the table.
        rank: number of the process, in 0..ranks-1.
        ranks: number of processes.
    """
    size = -(-rows // ranks)
    return min(rank * size, rows), min((rank + 1) * size, rows)


def as_block(mine: Tensor, mesh: DeviceMesh, shape: torch.Size) -> DTensor:
    """Make a distributed tensor from this process's block of rows.

    Args:
        mine: rows that this process holds.
        mesh: one-dimensional mesh of the processes.
        shape: shape of the whole tensor.
    """
    from torch.distributed.tensor import DTensor, Shard

    stride = torch.empty(shape, device="meta").stride()
    return DTensor.from_local(mine, mesh, [Shard(0)], run_check=False, shape=shape, stride=stride)


def _sharded_lookup(weight: Tensor, rows: Tensor) -> Tensor:
    """Look up rows [n] of a sharded table → [n, D]; n may differ between processes.

    Each process sends its distinct rows to all processes. Each process returns the rows that it
    holds and zeros for others; the sums go back to the sender. A plain embedding of a distributed
    tensor gives the same result, but its gradient is as large as the whole table.
    """
    from torch.distributed.tensor import DTensor, Partial, Shard

    if not isinstance(weight, DTensor):
        raise TypeError("the weight of a sharded table must be a DTensor; call IdTable.shard_")
    mesh = weight.device_mesh
    distinct, inverse = rows.unique(return_inverse=True)
    most = torch.tensor(len(distinct), device=rows.device)
    torch.distributed.all_reduce(most, torch.distributed.ReduceOp.MAX, mesh.get_group())
    requested = F.pad(distinct, (0, int(most) - len(distinct)))
    all_rows = DTensor.from_local(requested, mesh, [Shard(0)], run_check=False).full_tensor()
    first, last = block_of(weight.shape[0], mesh.get_local_rank(), mesh.size())
    local = (all_rows >= max(first, 1)) & (all_rows < last)  # row 0 is padding
    vectors = F.embedding(torch.where(local, all_rows - first, 0), weight.to_local())
    vectors = torch.where(local[:, None], vectors, 0.0)
    partial = DTensor.from_local(vectors, mesh, [Partial()], run_check=False)
    received = partial.redistribute(placements=[Shard(0)]).to_local()
    if received.requires_grad:
        received.register_hook(lambda grad: grad / mesh.size())
    return received[inverse]
