"""Requests that are made, in order of time: a few in memory, the others in shards on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from goalrank.logs.candidates.empty_values import TrainingMeans, holds_empty
from goalrank.logs.spill.folder import Spill
from goalrank.requests import Requests, TableInfo

__all__ = ["SHARD", "RequestStore"]

SHARD = 65_536  # requests of a file; a table of no more is one file


class RequestStore:
    """Requests by time; what was added last stays in memory until it fills a shard.

    Args:
        spill: room for shards.
        info: description of the table.
        items: side table, for the types of ids.
        users: side table, for the types of ids.
    """

    def __init__(
        self,
        spill: Spill,
        info: TableInfo,
        items: pl.DataFrame | None,
        users: pl.DataFrame | None,
    ) -> None:
        self._folder = spill.folder / "requests"
        self._folder.mkdir()
        self.info, self.items, self.users = info, items, users
        self._shards: list[tuple[Path, int]] = []
        self._frames: list[pl.DataFrame] = []
        self._has_empty = False
        self._means: TrainingMeans | None = None

    def add(self, frame: pl.DataFrame) -> None:
        """Append requests."""
        self._has_empty = self._has_empty or holds_empty(frame)
        self._frames.append(frame)
        while sum(f.height for f in self._frames) > SHARD:
            held = pl.concat(self._frames)
            self._write(held.head(SHARD))
            self._frames = [held.slice(SHARD)]

    def _write(self, frame: pl.DataFrame) -> None:
        path = self._folder / f"part-{len(self._shards):06d}.parquet"
        if self._has_empty:  # no table yet: what stands for empty values is known at the end
            frame.write_parquet(path)
        else:
            self.table(frame).write(path)
        self._shards.append((path, frame.height))

    def fill_empty(self, train: NDArray[np.bool_]) -> None:
        """Let means over the training requests stand for empty scores and features.

        Args:
            train: [B] the training requests.

        Raises:
            DataError: a column is empty in all of them.
        """
        if self._has_empty:
            frames = (frame for _, frame in self._kept(train) if frame is not None)
            features = self.info.candidate_features
            self._means = TrainingMeans(frames, features, self.info.dataset)
            for _ in self.pieces(np.ones(len(train), bool)):
                pass  # a column that cannot be filled is found before anything is written

    def table(self, frame: pl.DataFrame) -> Requests:
        """A requests table of some rows, without side tables."""
        typed = Requests(frame, items=_ids(self.items), users=_ids(self.users), info=self.info)
        return Requests(typed.frame, info=typed.info)

    def pieces(
        self, chosen: NDArray[np.bool_]
    ) -> Iterator[tuple[Path | None, pl.DataFrame | None]]:
        """The chosen requests in order: shards of which all are, and frames of the others.

        Args:
            chosen: [B] of all requests that were added.

        Yields:
            A file or a frame; the other is None.
        """
        for path, frame in self._kept(chosen):
            if frame is None or self._means is None:
                yield path, frame
            else:
                yield None, self.table(self._means.fill(frame)).frame

    def _kept(self, chosen: NDArray[np.bool_]) -> Iterator[tuple[Path | None, pl.DataFrame | None]]:
        """As `pieces`, with empty values as they are."""
        start = 0
        for path, count in self._shards:
            some = chosen[start : start + count]
            start += count
            if self._has_empty:
                yield None, pl.read_parquet(path).filter(pl.Series(some))
            elif some.all():
                yield path, None
            elif some.any():
                yield None, Requests.read(path, validate=False).frame.filter(pl.Series(some))
        if self._frames:
            held = pl.concat(self._frames)
            held = held if self._has_empty else self.table(held).frame
            yield None, held.filter(pl.Series(chosen[start:]))

    def frame(self, chosen: NDArray[np.bool_]) -> pl.DataFrame:
        """The chosen requests as one frame."""
        frames = [
            Requests.read(path, validate=False).frame if path is not None else frame
            for path, frame in self.pieces(chosen)
        ]
        return pl.concat([frame for frame in frames if frame is not None])


def _ids(side: pl.DataFrame | None) -> pl.DataFrame | None:
    """The first column of ids of a side table, whose type the requests take over."""
    if side is None:
        return None
    return side.select("item_id" if "item_id" in side.columns else "user_id").head(1)
