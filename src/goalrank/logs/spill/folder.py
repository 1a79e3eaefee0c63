"""A folder of temporary files beside the output, with a bound on its life."""

from __future__ import annotations

import mmap
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from goalrank.errors import DataError
from goalrank.storage import Claim

__all__ = ["CHUNK", "ArrayFile", "Spill", "spilling"]

CHUNK = 1 << 21
_NAME = ".import-spill"


class ArrayFile:
    """An array that is written piece by piece and then mapped.

    Args:
        spill: where it lies.
        path: the file.
        dtype: of its elements.
    """

    def __init__(self, spill: Spill, path: Path, dtype: DTypeLike) -> None:
        self._spill, self._path, self._dtype = spill, path, np.dtype(dtype)
        path.write_bytes(b"")

    def add(self, values: NDArray[Any]) -> None:
        """Append values, which are cast to the array's type."""
        with self._path.open("ab") as file:
            np.ascontiguousarray(values, self._dtype).tofile(file)

    def done(self) -> NDArray[Any]:
        """The whole array [n], mapped read-only; its pages come from the file as they are read."""
        return self._spill.mapped(self._path, self._dtype)


class Spill:
    """Temporary files of one import.

    Args:
        folder: an empty folder.
        chunk: rows that are worked on at once; None is `CHUNK`.

    Attributes:
        folder: where the files lie.
        chunk: rows that are worked on at once; it may change between steps.
        peak: bytes that the files took at most, as far as `measure` was called.
    """

    def __init__(self, folder: Path, chunk: int | None = None) -> None:
        self.folder, self.chunk = folder, chunk or CHUNK
        self.peak = 0
        self._maps: list[mmap.mmap] = []

    def array(self, name: str, dtype: DTypeLike) -> ArrayFile:
        """Begin an array.

        Args:
            name: of the file; an older array of that name is replaced.
            dtype: of its elements.
        """
        return ArrayFile(self, self.folder / name, dtype)

    def stored(self, name: str, pieces: Iterable[NDArray[Any]], dtype: DTypeLike) -> NDArray[Any]:
        """Write an array piece by piece, and map it.

        Args:
            name: of the file.
            pieces: consecutive parts of the array.
            dtype: of its elements.
        """
        file = self.array(name, dtype)
        for piece in pieces:
            file.add(piece)
        return file.done()

    def mapped(self, path: Path, dtype: DTypeLike) -> NDArray[Any]:
        """The array in a file [n], read-only."""
        size = path.stat().st_size
        if size == 0:
            return np.zeros(0, dtype)
        with path.open("rb") as file:
            pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._maps.append(pages)
        return np.frombuffer(pages, dtype)

    def release(self) -> None:
        """Let the system take back the memory of mapped pages; they are read again when needed."""
        self.measure()
        if hasattr(mmap, "MADV_DONTNEED"):
            for pages in self._maps:
                pages.madvise(mmap.MADV_DONTNEED)

    def measure(self) -> None:
        """Look how much room the files take now."""
        sizes = (file.stat().st_size for file in self.folder.rglob("*") if file.is_file())
        self.peak = max(self.peak, sum(sizes))


@contextmanager
def spilling(beside: Path, recover: Callable[[Path], None]) -> Iterator[Spill]:
    """A folder of temporary files in a folder; it is removed at the end.

    What an earlier run that was killed has left there is removed first.

    Args:
        beside: the folder, which is made if it is missing.
        recover: called with what a killed run has left, before it is removed.

    Raises:
        DataError: another import writes there now, or the folder cannot be written.
    """
    folder = beside / _NAME
    claim = Claim(beside / f"{_NAME}.lock")
    try:
        if not claim.take():
            raise DataError(
                f"another import writes to '{beside}' now; remedy: wait for it, or choose another "
                f"folder (option: out)"
            )
        try:
            if folder.exists():
                recover(folder)
            _remove(folder)
            folder.mkdir(parents=True)
            yield Spill(folder)
        finally:
            _remove(folder)
            claim.drop()
    except OSError as error:
        raise DataError(
            f"{beside} cannot be written: {error.strerror or error}; remedy: free space on the "
            f"disk, or choose another folder (option: out)"
        ) from error


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
