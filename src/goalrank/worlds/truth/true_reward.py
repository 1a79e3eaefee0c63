"""The true expected reward as a Reward: an unbiased teacher, or the measure of rankers."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from goalrank.errors import DataError
from goalrank.requests import Batch, EncodedRequests, Requests
from goalrank.rewards import Reward
from goalrank.worlds.world.world import DAY_US, EPOCH_US, PlantedWorld


class TrueReward(Reward):
    """The true reward r* of lists, for batches of a table that a world sampled.

    Encoding turns ids into rows and merges unknown ids. Therefore this class stores the table's
    user and item numbers and finds them by the batch's ``key``; batches may select and order the
    requests in any way.

    Args:
        world: the world that sampled the table.
        requests: R requests of the world.
        columns: ``encoder.encode(requests)``.

    Raises:
        DataError: table and columns differ in length, or ids are not numbers of this world.
    """

    _key: Tensor
    _users: Tensor
    _items: Tensor
    _days: Tensor

    def __init__(self, world: PlantedWorld, requests: Requests, columns: EncodedRequests) -> None:
        super().__init__()
        frame = requests.frame
        types = [frame["user_id"].dtype, frame["candidates"].dtype]
        if len(frame) != len(columns) or types != [pl.Int64(), pl.List(pl.Int64)]:
            raise DataError(
                f"TrueReward: {len(frame)} requests with ids of type {types} and {len(columns)} "
                "encoded ones; remedy: give a table sampled by this world, and encoder.encode of it"
            )
        self.world = world
        order = np.argsort(columns.key, kind="stable")
        days = (frame["time"].dt.timestamp("us").to_numpy() - EPOCH_US) / DAY_US
        self._register("_key", columns.key[order])
        self._register("_users", frame["user_id"].to_numpy()[order])
        self._register("_items", _padded(frame["candidates"])[order])
        self._register("_days", days[order])

    def _register(self, name: str, values: NDArray[Any]) -> None:
        self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(values)), persistent=False)

    def _apply(self, fn: Any, recurse: bool = True) -> TrueReward:
        # `.to(device)` moves the world too. Its tensors and the time stay float64.
        days = self._days
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._days = days.to(self._key.device)
        if self.world.latents.items.device != self._key.device:
            self.world = self.world.to(self._key.device)
        return self

    def rows(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Users [B], items [B, N] (-1 pads) and time [B] in days of a batch's requests.

        Args:
            batch: B requests of the table.

        Raises:
            DataError: a request or its candidates are not of the table.
        """
        key, device = batch.key.to(self._key.device), self._key.device
        at = torch.searchsorted(self._key, key).clamp_max(len(self._key) - 1)
        mask = batch.candidate_mask.to(device)
        n, width = mask.shape[1], self._items.shape[1]
        items = self._items[at][:, :n].to(torch.int64)
        if n > width:
            items = torch.nn.functional.pad(items, (0, n - width), value=-1)
        if bool((self._key[at] != key).any()) or bool(((items >= 0) != mask).any()):
            raise DataError(
                "TrueReward: the batch holds requests that are not of its table; remedy: build "
                "TrueReward from the table that the batches come from"
            )
        return self._users[at], items, self._days[at]

    def forward(self, batch: Batch, lists: Tensor) -> Tensor:
        """True expected rewards [B, G] float32 of lists, on the device of ``lists``.

        Args:
            batch: B requests of the table.
            lists: [B, G, L] positions, -1 in empty slots.

        Raises:
            DataError: a request is not of the table, or a position has no candidate.
        """
        users, items, days = self.rows(batch)
        reward = self.world.reward(users, items, lists.to(users.device), days)
        return reward.to(device=lists.device, dtype=torch.float32)


def _padded(candidates: pl.Series) -> NDArray[np.int32]:
    """Item numbers [R, N] of a list column, -1 where a row is shorter."""
    length = candidates.list.len().to_numpy()
    real = np.arange(int(length.max(initial=1))) < length[:, None]
    items = np.full(real.shape, -1, np.int32)
    items[real] = candidates.explode().drop_nulls().to_numpy()
    return items
