"""Codes of ids, in the order in which they come."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from goalrank.logs import stable_hashes

__all__ = ["IdCodes"]

Ints = NDArray[np.int32]


class IdCodes:
    """Numbers ids from 0 on.

    Args:
        first: ids that get the first numbers.

    Attributes:
        ids: the ids; the code of an id is its place.
    """

    def __init__(self, first: Iterable[Any] = ()) -> None:
        self.ids: list[Any] = []
        self._codes: dict[Any, int] = {}
        self._hashes: NDArray[np.uint64] = np.zeros(0, np.uint64)
        self.add(list(first))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """64 bits per code, functions of the ids alone."""
        return self._hashes[: len(self.ids)]

    def add(self, ids: Sequence[Any]) -> Ints:
        """Codes of ids [n]; new ones get the next numbers.

        Args:
            ids: all integers, or all strings.
        """
        codes = self._codes
        begin = len(codes)
        out = np.fromiter((codes.setdefault(i, len(codes)) for i in ids), np.int32, len(ids))
        if len(codes) > begin:
            fresh = list(codes)[begin:] if begin == 0 else _last(codes, len(codes) - begin)
            self.ids += fresh
            self._keep(stable_hashes(pl.Series(fresh)), begin)
        return out

    def _keep(self, hashes: NDArray[np.uint64], begin: int) -> None:
        end = begin + len(hashes)
        if end > len(self._hashes):
            more = np.zeros(max(end, end + end // 4) - len(self._hashes), np.uint64)
            self._hashes = np.concatenate([self._hashes, more])
        self._hashes[begin:end] = hashes

    def find(self, ids: Sequence[Any]) -> Ints:
        """Codes of ids [n]; -1 for unknown ones."""
        return np.fromiter((self._codes.get(i, -1) for i in ids), np.int32, len(ids))


def _last(codes: dict[Any, int], count: int) -> list[Any]:
    """The ids that were added last, in their order."""
    newest = reversed(codes)
    return [next(newest) for _ in range(count)][::-1]
