"""Requests that are made, in order of time: a few in memory, the others in shards on disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from goalrank.logs.candidates.empty_values import TrainingMeans, holds_empty
from goalrank.logs.spill.folder import Spill
from goalrank.requests import Requests, TableInfo

__all__ = ["SHARD", "RequestStore"]

SHARD = 65_536  # requests of a file; a table of no more is one file
Piece = tuple[Path | None, Iterable[pl.DataFrame]]


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
            frames = chain.from_iterable(frames for _, frames in self._kept(train))
            features = self.info.candidate_features
            self._means = TrainingMeans(frames, features, self.info.dataset)
            for _ in self.frames(np.ones(len(train), bool)):
                pass  # a column that cannot be filled is found before anything is written

    def table(self, frame: pl.DataFrame) -> Requests:
        """A requests table of some rows, without side tables."""
        typed = Requests(frame, items=_ids(self.items), users=_ids(self.users), info=self.info)
        return Requests(typed.frame, info=typed.info)

    def pieces(self, chosen: NDArray[np.bool_]) -> Iterator[Piece]:
        """The chosen requests in order: shards of which all are, and frames of the others.

        Args:
            chosen: [B] of all requests that were added.

        Yields:
            A file, or None and frames of no more than a shard.
        """
        for path, frames in self._kept(chosen):
            if path is not None or self._means is None:
                yield path, frames
            else:
                yield None, map(self._filled, frames)

    def _filled(self, frame: pl.DataFrame) -> pl.DataFrame:
        return frame if self._means is None else self.table(self._means.fill(frame)).frame

    def _kept(self, chosen: NDArray[np.bool_]) -> Iterator[Piece]:
        """As `pieces`, with empty values as they are."""
        start = 0
        for path, count in self._shards:
            some = chosen[start : start + count]
            start += count
            if self._has_empty:
                yield None, [pl.read_parquet(path).filter(pl.Series(some))]
            elif some.all():
                yield path, ()
            elif some.any():
                yield None, [Requests.read(path, validate=False).frame.filter(pl.Series(some))]
        if self._frames:
            yield None, self._held(chosen[start:])

    def _held(self, chosen: NDArray[np.bool_]) -> Iterator[pl.DataFrame]:
        """The chosen of those in memory, one frame after another, so that none is held twice."""
        start = 0
        for frame in self._frames:
            some = pl.Series(chosen[start : start + frame.height])
            start += frame.height
            yield (frame if self._has_empty else self.table(frame).frame).filter(some)

    def frames(self, chosen: NDArray[np.bool_]) -> Iterator[pl.DataFrame]:
        """The chosen requests in order, of which not all are in memory at once."""
        for path, frames in self.pieces(chosen):
            if path is not None:
                yield Requests.read(path, validate=False).frame
            yield from frames

    def frame(self, chosen: NDArray[np.bool_]) -> pl.DataFrame:
        """The chosen requests as one frame."""
        return pl.concat(list(self.frames(chosen)))


def _ids(side: pl.DataFrame | None) -> pl.DataFrame | None:
    """The first column of ids of a side table, whose type the requests take over."""
    if side is None:
        return None
    return side.select("item_id" if "item_id" in side.columns else "user_id").head(1)
