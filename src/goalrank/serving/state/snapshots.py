"""Snapshots of a state: arrays and ids in a folder, with hashes and without pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from goalrank.errors import DataError, StoreError
from goalrank.features import DecayedTotals, ItemSets, KeyTotals, RowPool
from goalrank.serving.state.logged import SideTable
from goalrank.serving.state.state import State
from goalrank.storage import remove_folder, whole_folder, write_json

__all__ = ["Snapshot", "load_snapshot", "remove_snapshot"]

_FORMAT = 3
_MANIFEST, _ARRAYS = "snapshot.json", "arrays.npz"
_IDS: tuple[SideTable, ...] = ("users", "items")
_ENDS = (".parquet", "-columns.parquet")
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Snapshot:
    """A copy of a state, taken at once and written at leisure.

    Attributes:
        ids: users and items, in the order of codes.
        columns: what is said of users and items.
        arrays: everything else.
        said: position in the event log, clock, counts, and what the arrays mean.
    """

    ids: dict[str, list[Any]]
    columns: dict[str, pl.DataFrame]
    arrays: Arrays
    said: dict[str, Any]

    @classmethod
    def of(cls, state: State, position: int, log: str = "") -> Snapshot:
        """Copy a state.

        Args:
            state: the state.
            position: how far in the event log it has come.
            log: identity of the event log.
        """
        return cls(
            {name: list(getattr(state, name).ids) for name in _IDS},
            {name: state.columns[name].frame() for name in _IDS},
            dict(_arrays(state)),
            {
                "position": position, "clock": int(state.clock), "newest": int(state.newest),
                "taken": state.taken, "rows": state.memory.rows, "model": fingerprint(state),
                "log": log,
            },
        )  # fmt: skip

    def write(self, folder: Path) -> None:
        """Write it, whole or not at all; a snapshot that is there is replaced.

        Args:
            folder: to write to.

        Raises:
            DataError: the folder cannot be written.
        """
        with whole_folder(folder, replace=True, error=DataError) as draft:
            np.savez(draft / _ARRAYS, **self.arrays)  # type: ignore[arg-type]
            for name, ids in self.ids.items():
                pl.DataFrame({"id": ids}).write_parquet(draft / f"{name}.parquet")
            for name, frame in self.columns.items():
                frame.write_parquet(draft / f"{name}-columns.parquet")
            files = (_ARRAYS, *(f"{name}{end}" for name in _IDS for end in _ENDS))
            hashes = {name: _digest(draft / name) for name in files}
            write_json(draft / _MANIFEST, {"format": _FORMAT, **self.said, "sha256": hashes})


def load_snapshot(state: State, folder: Path, log: str = "") -> int | None:
    """Fill an empty state from a snapshot.

    Args:
        state: that has seen nothing.
        folder: of `Snapshot.write`.
        log: identity of the event log.

    Returns:
        How far in the event log the snapshot has come; None where it cannot be used, because it is
        missing, damaged, of another version or event log, or of a model with other features. The
        state is then as it was.
    """
    manifest = _manifest(folder)
    made_of = {"model": fingerprint(state), "log": log}
    if manifest is None or any(manifest.get(name) != said for name, said in made_of.items()):
        return None
    hashes = manifest["sha256"]
    if any(
        not (folder / n).is_file() or _digest(folder / n) != digest for n, digest in hashes.items()
    ):
        return None
    for name in _IDS:
        getattr(state, name).restore(pl.read_parquet(folder / f"{name}.parquet")["id"].to_list())
        state.columns[name].restore(pl.read_parquet(folder / f"{name}-columns.parquet"))
    with np.load(folder / _ARRAYS) as arrays:
        _restore(state, arrays)
    state.clock, state.newest = manifest["clock"], manifest["newest"]
    state.taken = manifest["taken"]
    state.memory.rows = manifest["rows"]
    position: int = manifest["position"]
    return position


def remove_snapshot(folder: Path) -> None:
    """Remove a snapshot; the next start reads all events.

    Args:
        folder: of `Snapshot.write`.

    Raises:
        StoreError: it cannot be removed.
    """
    remove_folder(folder)
    if folder.exists():
        raise StoreError(
            f"the snapshot '{folder}' cannot be removed; nothing was forgotten; remedy: the rights "
            f"of its folder (option: state)"
        )


def fingerprint(state: State) -> str:
    """A hash of what a state's arrays mean: the rule of the log, the features, the first items."""
    said = {
        "rule": state.rule.model_dump(mode="json"),
        "features": state.memory.plan.described.model_dump(mode="json"),
        "names": state.memory.plan.names,
        "items": hashlib.sha256(state.first_items.tobytes()).hexdigest(),
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _totals(state: State) -> Iterator[tuple[str, KeyTotals]]:
    memory = state.memory
    yield from (("all", memory.all), ("item", memory.items), ("user", memory.users))


def _decayed(state: State) -> Iterator[tuple[str, DecayedTotals]]:
    for number, totals in enumerate(state.memory.decayed.values()):
        yield f"decayed {number}", totals


_TOTALS, _DECAYED = ("count", "sums", "first", "last"), ("epoch", "older", "current")


def _arrays(state: State) -> Iterator[tuple[str, NDArray[Any]]]:
    """Copies of all arrays."""
    for name, totals in _totals(state):
        yield from ((f"{name} {field}", getattr(totals, field).copy()) for field in _TOTALS)
    for name, decayed in _decayed(state):
        yield from ((f"{name} {field}", getattr(decayed, field).copy()) for field in _DECAYED)
    for name, rows in _rows(state):
        yield from ((f"{name} {field}", array) for field, array in rows.arrays().items())
    yield from zip(("pairs keys", "pairs counts"), state.memory.pairs.arrays())
    waiting = state.pending.rows
    yield from ((f"pending {field}", waiting[field].copy()) for field in waiting.dtype.names or ())


def _rows(state: State) -> tuple[tuple[str, RowPool | ItemSets], ...]:
    return ("latest", state.latest), ("seen", state.seen)


def _restore(state: State, arrays: Any) -> None:
    for name, totals in _totals(state):
        for field in _TOTALS:
            setattr(totals, field, arrays[f"{name} {field}"])
    for name, decayed in _decayed(state):
        for field in _DECAYED:
            setattr(decayed, field, arrays[f"{name} {field}"])
    for name, rows in _rows(state):
        rows.restore(partial(_part, arrays, name))
    state.memory.pairs.restore(arrays["pairs keys"], arrays["pairs counts"])
    waiting = np.zeros(len(arrays["pending user"]), state.pending.rows.dtype)
    for field in waiting.dtype.names or ():
        waiting[field] = arrays[f"pending {field}"]
    state.pending.add(waiting)


def _part(arrays: Any, name: str, field: str) -> NDArray[Any]:
    """An array of a part; it is read from the file here."""
    array: NDArray[Any] = arrays[f"{name} {field}"]
    return array


def _manifest(folder: Path) -> dict[str, Any] | None:
    try:
        kept = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return kept if isinstance(kept, dict) and kept.get("format") == _FORMAT else None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
