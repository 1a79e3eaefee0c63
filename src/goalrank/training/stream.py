"""An endless, reproducible stream of batches: which batch comes at a step depends on the step."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import IterableDataset

from goalrank.requests import Batch, Columns


class BatchStream(IterableDataset[Batch]):
    """Batches of steps first…first+count-1 of an endless shuffled stream.

    Pass p over the requests is shuffled by (seed, p), so that a run resumed at any step sees the
    batches it would have seen.

    Args:
        columns: the requests.
        batch_size: B.
        seed: of the order.
        first: first step.
        count: number of steps.
    """

    def __init__(
        self, columns: Columns, batch_size: int, seed: int, first: int, count: int
    ) -> None:
        self.columns = columns
        self.batch_size = batch_size
        self.seed = seed
        self.first = first
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Batch]:
        per_pass = -(-len(self.columns) // self.batch_size)
        current, order = -1, []
        for step in range(self.first, self.first + self.count):
            p, i = divmod(step, per_pass)
            if p != current:
                seed = int(np.random.SeedSequence([self.seed, p]).generate_state(1)[0])
                current, order = p, self.columns.order(self.batch_size, seed=seed)
            yield self.columns.batch(order[i])


class BatchList(IterableDataset[Batch]):
    """One pass in order, for validation."""

    def __init__(self, columns: Columns, batch_size: int) -> None:
        self.columns = columns
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.columns) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        yield from self.columns.batches(self.batch_size)
