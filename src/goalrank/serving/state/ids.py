"""Codes of ids, in the order in which they come."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from goalrank.logs import stable_hashes

__all__ = ["IdCodes", "hash_of"]

Ints = NDArray[np.int32]


def hash_of(value: int | str) -> int:
    """64 bits of an id, the same in every process.

    Args:
        value: the id.
    """
    return int(stable_hashes(pl.Series([value]))[0])


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
        codes, known = self._codes, self.ids
        begin = len(known)
        out = np.empty(len(ids), np.int32)
        for at, each in enumerate(ids):
            code = codes.get(each)
            if code is None:
                code = codes[each] = len(known)
                known.append(each)
            out[at] = code
        if len(known) > begin:
            self._keep(stable_hashes(pl.Series(known[begin:])), begin)
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

    def with_hash(self, value: int) -> Any:
        """The id of a hash, None if there is none.

        Args:
            value: of `hash_of`.
        """
        codes = np.flatnonzero(self.hashes == np.uint64(value)).tolist()
        return next((self.ids[code] for code in codes if self.ids[code] is not None), None)

    def remove(self, code: int) -> None:
        """Forget an id; its code is not given again."""
        del self._codes[self.ids[code]]
        self.ids[code] = None

    def restore(self, ids: Sequence[Any]) -> None:
        """Take over the ids of another run, forgotten ones as None."""
        self.ids = list(ids)
        self._codes = {each: code for code, each in enumerate(self.ids) if each is not None}
        self._hashes = np.zeros(0, np.uint64)
        known = pl.Series(self.ids) if self.ids else pl.Series(self.ids, dtype=pl.Int64)
        filled = known.fill_null("" if known.dtype == pl.String else 0)
        self._keep(stable_hashes(filled), 0)
