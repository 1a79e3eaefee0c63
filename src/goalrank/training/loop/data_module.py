"""Batches of a stage as Lightning asks for them: one validation interval at a time."""

from __future__ import annotations

from typing import Any

import lightning as L
from torch.utils.data import DataLoader

from goalrank.requests import EncodedRequests
from goalrank.training.distributed.data_parallel import SharedBatch, check_shard, part_sizes
from goalrank.training.loop.batch_stream import BatchList, BatchStream, PartStream
from goalrank.training.modules.task import Task


class StageData(L.LightningDataModule):
    """Batches of one validation interval ("epoch") at a time, chosen by the epoch's number.

    Args:
        task: its loop sets the batch size and the interval.
        train, validation: encoded requests; validation may be empty or None.
        split: whether each process has its own part of the requests.
    """

    def __init__(
        self,
        task: Task[Any],
        train: EncodedRequests,
        validation: EncodedRequests | None,
        split: bool,
    ) -> None:
        super().__init__()
        self.task = task
        self.train = train
        self.validation = validation
        self.sizes = part_sizes(train, validation) if split else None
        self.requests = sum(self.sizes[0]) if self.sizes else len(train)

    def train_dataloader(self) -> DataLoader[SharedBatch]:
        """Batches of the current interval between two validations."""
        loop = self.task.loop
        epoch = self.trainer.current_epoch if self.trainer else 0
        first = epoch * loop.validate_every
        count = min(loop.validate_every, loop.steps - first)
        rank, ranks = self._rank_and_ranks()
        check_shard(loop.batch_size, ranks)
        if self.sizes is not None:
            sizes, seed = self.sizes[0], self.task.seed
            parts = PartStream(self.train, sizes, loop.batch_size, seed, first, count, rank)
            return DataLoader(parts, batch_size=None)
        stream = BatchStream(self.train, loop.batch_size, self.task.seed, first, count, rank, ranks)
        return DataLoader(stream, batch_size=None)

    def val_dataloader(self) -> Any:
        """Batches of the validation requests; none without such requests."""
        if self.validation is None or len(self.validation) == 0:
            return []
        size, (rank, ranks) = max(self.task.loop.batch_size, 256), self._rank_and_ranks()
        batches = BatchList(self.validation, size, rank, ranks, self.sizes and self.sizes[1])
        return DataLoader(batches, batch_size=None)

    def _rank_and_ranks(self) -> tuple[int, int]:
        """Rank of this process, and the number of processes."""
        trainer = self.trainer
        return (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
