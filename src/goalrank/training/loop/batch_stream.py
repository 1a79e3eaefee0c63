"""Endless, reproducible streams of batches: the batch of a step depends on the step alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import IterableDataset

from goalrank.nn import mixed_seed
from goalrank.requests import EncodedRequests
from goalrank.training.distributed.data_parallel import SharedBatch


class BatchStream(IterableDataset[SharedBatch]):
    """Batches of steps first…first+count-1 of an endless shuffled stream.

    Pass p over the requests is shuffled by (seed, p), so that a run resumed at any step sees the
    batches it would have seen.

    Args:
        columns: the requests.
        batch_size: B.
        seed: of the order.
        first: first step.
        count: number of steps.
        rank, ranks: of this process, and the number of processes. Of each batch a process gets
            every `ranks`-th request.
    """

    def __init__(
        self,
        columns: EncodedRequests,
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

    def __iter__(self) -> Iterator[SharedBatch]:
        per_pass = -(-len(self.columns) // self.batch_size)
        current, order = -1, []
        for step in range(self.first, self.first + self.count):
            p, i = divmod(step, per_pass)
            if p != current:
                seed = mixed_seed(self.seed, p)
                current, order = p, self.columns.order(self.batch_size, seed=seed)
            rows = order[i]
            if self.ranks == 1:
                yield SharedBatch(self.columns.batch(rows))
            else:
                mine = rows[self.rank :: self.ranks]
                share = self.ranks * len(mine) / len(rows)
                # A process without a request still has to take the step: with weight 0.
                yield SharedBatch(self.columns.batch(mine if len(mine) else rows[:1]), share)


class PartStream(IterableDataset[SharedBatch]):
    """As `BatchStream`, where each process has its own part of the requests and none has all of them.

    Every process gives an even share of each batch, drawn from a shuffled pass over its own
    requests; the few at the end of a pass that fill no batch are skipped, others in each pass.

    Args:
        columns: this process's requests.
        sizes: number of requests of each process.
        batch_size: B, of all processes together.
        seed, first, count, rank: as in `BatchStream`.
    """

    def __init__(
        self,
        columns: EncodedRequests,
        sizes: Sequence[int],
        batch_size: int,
        seed: int,
        first: int,
        count: int,
        rank: int,
    ) -> None:
        self.columns = columns
        wanted = [batch_size * (r + 1) // len(sizes) - batch_size * r // len(sizes)
                  for r in range(len(sizes))]  # fmt: skip
        given = [min(w, size) for w, size in zip(wanted, sizes, strict=True)]
        self.batch_size = given[rank]
        self.share = len(sizes) * given[rank] / sum(given)
        self.seed, self.first, self.count, self.rank = seed, first, count, rank

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[SharedBatch]:
        per_pass = len(self.columns) // self.batch_size
        current, order = -1, []
        for step in range(self.first, self.first + self.count):
            p, i = divmod(step, per_pass)
            if p != current:
                seed = mixed_seed(self.seed, p, self.rank)
                batches = self.columns.order(self.batch_size, seed=seed)
                current, order = p, [b for b in batches if len(b) == self.batch_size]
            yield SharedBatch(self.columns.batch(order[i]), self.share)


class BatchList(IterableDataset[SharedBatch]):
    """One pass in order, for validation; of several processes each takes its own requests.

    With fewer requests than processes every process takes them all, which changes no mean. All
    take the same number of batches: a process that lacks one takes a request of weight 0.

    Args:
        columns: the requests.
        batch_size: of one process.
        rank, ranks: of this process, and the number of processes.
        sizes: number of requests of each process, where each has its own already.
    """

    def __init__(
        self,
        columns: EncodedRequests,
        batch_size: int,
        rank: int = 0,
        ranks: int = 1,
        sizes: Sequence[int] | None = None,
    ) -> None:
        self.columns = columns
        self.batch_size = batch_size
        self.ranks = ranks
        whole = sizes is not None or len(columns) < ranks
        self.rows = np.arange(0 if whole else rank, len(columns), 1 if whole else ranks)
        most = max(sizes) if sizes else len(columns) if whole else -(-len(columns) // ranks)
        self.count = -(-most // batch_size)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[SharedBatch]:
        for i in range(self.count):
            rows = self.rows[i * self.batch_size : (i + 1) * self.batch_size]
            batch = self.columns.batch(rows if len(rows) else self.rows[:1])
            yield SharedBatch(batch, None if self.ranks == 1 else float(len(rows) > 0))
