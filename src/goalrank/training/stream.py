"""An endless, reproducible stream of batches: which batch comes at a step depends on the step."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import IterableDataset

from goalrank.requests import Batch, Columns
from goalrank.training.parallel import Shared


class BatchStream(IterableDataset[Batch | Shared]):
    """Batches of steps first…first+count-1 of an endless shuffled stream.

    Pass p over the requests is shuffled by (seed, p), so that a run resumed at any step sees the
    batches it would have seen.

    Args:
        columns: the requests.
        batch_size: B.
        seed: of the order.
        first: first step.
        count: number of steps.
        rank, ranks: this process and how many there are. Of each batch a process gets every
            `ranks`-th request, as a `Shared`; a single process gets plain batches.
    """

    def __init__(
        self,
        columns: Columns,
        batch_size: int,
        seed: int,
        first: int,
        count: int,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.columns = columns
        self.batch_size = batch_size
        self.seed = seed
        self.first = first
        self.count = count
        self.rank, self.ranks = rank, ranks

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Batch | Shared]:
        per_pass = -(-len(self.columns) // self.batch_size)
        current, order = -1, []
        for step in range(self.first, self.first + self.count):
            p, i = divmod(step, per_pass)
            if p != current:
                seed = int(np.random.SeedSequence([self.seed, p]).generate_state(1)[0])
                current, order = p, self.columns.order(self.batch_size, seed=seed)
            rows = order[i]
            if self.ranks == 1:
                yield self.columns.batch(rows)
            else:
                mine = rows[self.rank :: self.ranks]
                share = self.ranks * len(mine) / len(rows)
                # A process without a request still has to take the step: with weight 0.
                yield Shared(self.columns.batch(mine if len(mine) else rows[:1]), share)


class BatchList(IterableDataset[Batch]):
    """One pass in order, for validation; of several processes each takes its own requests.

    With fewer requests than processes every process takes them all, which changes no mean.
    """

    def __init__(self, columns: Columns, batch_size: int, rank: int = 0, ranks: int = 1) -> None:
        self.columns = columns
        self.batch_size = batch_size
        alone = len(columns) < ranks
        self.rows = np.arange(0 if alone else rank, len(columns), 1 if alone else ranks)

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for at in range(0, len(self.rows), self.batch_size):
            yield self.columns.batch(self.rows[at : at + self.batch_size])
