"""The table of id vectors: whole in one process, or its rows spread over several."""

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

LARGE = 1 << 22  # rows; from here on a table is drawn block by block, and can be left undrawn
_BLOCK = 1 << 16
_STD = 0.02

_deferred = False


@contextmanager
def deferred_tables(wanted: bool = True) -> Iterator[None]:
    """Leave large tables made inside the block undrawn, so that no process ever holds one whole.

    `IdTable.shard_` then draws the rows of its own process, the same numbers that a whole table
    would have.
    """
    global _deferred
    before, _deferred = _deferred, wanted
    try:
        yield
    finally:
        _deferred = before


class IdTable(nn.Embedding):
    """Vectors by id row; row 0 is padding and stays zero.

    Args:
        rows: of the table.
        width: D.

    Attributes:
        spread: whether `weight` is a distributed tensor.
    """

    spread = False

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
        """Initial rows first…last-1; block b of the table depends on the seed and b only."""
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
        """Whether every process would get rows."""
        return -(-self.num_embeddings // -(-self.num_embeddings // ranks)) == ranks

    def shard_(self, mesh: DeviceMesh) -> None:
        """Keep this process's block of rows only: a distributed tensor over the mesh.

        Gradients are means over the mesh's processes, as data parallelism has them.
        """
        ranks, (rank,) = mesh.size(), mesh.get_coordinate() or (0,)
        first, last = block_of(self.num_embeddings, rank, ranks)
        if self.weight.is_meta:
            mine = self._drawn(first, last)
        else:
            mine = self.weight.detach()[first:last].clone()
        self.weight = nn.Parameter(as_block(mine.to(mesh.device_type), mesh, self.weight.shape))
        self.spread = True

    def forward(self, input: Tensor) -> Tensor:
        """Rows [n] → [n, D]."""
        return _ask(self.weight, input) if self.spread else super().forward(input)


def id_tables(model: nn.Module) -> dict[str, IdTable]:
    """Find the id tables of a model, by module name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, IdTable)}


def block_of(rows: int, rank: int, ranks: int) -> tuple[int, int]:
    """First and last+1 of the rows that a process holds (as `Shard(0)` has them)."""
    size = -(-rows // ranks)
    return min(rank * size, rows), min((rank + 1) * size, rows)


def as_block(mine: Tensor, mesh: DeviceMesh, shape: torch.Size) -> DTensor:
    """A tensor of that shape whose rows lie spread over the mesh; these are this process's."""
    from torch.distributed.tensor import DTensor, Shard

    stride = torch.empty(shape, device="meta").stride()
    return DTensor.from_local(mine, mesh, [Shard(0)], run_check=False, shape=shape, stride=stride)


def _ask(weight: Tensor, rows: Tensor) -> Tensor:
    """Rows [n] of a spread table → [n, D], where n may differ between processes.

    Each asks all for its distinct rows; each answers with the rows it holds, and zero for others;
    sums go back to who asked. A plain embedding of a distributed tensor would do the same, but
    its gradient is as large as the whole table.
    """
    from torch.distributed.tensor import DTensor, Partial, Shard

    assert isinstance(weight, DTensor)
    mesh = weight.device_mesh
    distinct, inverse = rows.unique(return_inverse=True)
    most = torch.tensor(len(distinct), device=rows.device)
    torch.distributed.all_reduce(most, torch.distributed.ReduceOp.MAX, mesh.get_group())
    asked = F.pad(distinct, (0, int(most) - len(distinct)))
    everyone = DTensor.from_local(asked, mesh, [Shard(0)], run_check=False).full_tensor()
    first, last = block_of(weight.shape[0], mesh.get_local_rank(), mesh.size())
    mine = (everyone >= max(first, 1)) & (everyone < last)  # row 0 is padding
    held = F.embedding(torch.where(mine, everyone - first, 0), weight.to_local())
    held = torch.where(mine[:, None], held, 0.0)
    answer = DTensor.from_local(held, mesh, [Partial()], run_check=False)
    mine_back = answer.redistribute(placements=[Shard(0)]).to_local()
    if mine_back.requires_grad:
        mine_back.register_hook(lambda grad: grad / mesh.size())
    return mine_back[inverse]
