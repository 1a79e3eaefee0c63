"""Order of a log: codes by first appearance in time, rows by user and time, in bounded memory.

Rows of one time are ordered by what the log knows of their order (request, position, order), then
by a hash of their ids; rows that agree in all that keep the order of the file. An item-sorted file
therefore gives the same log as a shuffled one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from goalrank.logs.events.arrays import Codes, Ints, stable_hashes
from goalrank.logs.events.copies import COPY
from goalrank.logs.events.id_coding import IdCoder
from goalrank.logs.spill.buckets import Buckets, Records, chunk_ranges
from goalrank.logs.spill.folder import Spill
from goalrank.requests import mix64

__all__ = ["OrderedRows", "is_ordered", "order_rows", "row_ties"]

_KNOWN = ("request_id", "position", "order")


@dataclass(frozen=True)
class OrderedRows:
    """Rows of a log by user and time, bucket by bucket.

    Attributes:
        users, items: codes by first appearance in time.
        buckets: records with user and item (codes), time, prior (rows of before the log), row (of
            the log's frame) and the value columns; read once.
    """

    users: Codes
    items: Codes
    buckets: Iterator[Records]


def order_rows(
    events: pl.DataFrame,
    prior: pl.DataFrame | None,
    columns: Sequence[str],
    *,
    seed: int,
    drop_copies: bool,
    spill: Spill,
) -> OrderedRows:
    """Order a log.

    Args:
        events: user_id, item_id, time and value columns; perhaps request_id, position, order.
        prior: user_id, item_id, time of rows that come before all others of their time, or None.
        columns: value columns to keep.
        seed: of the hash that orders rows of one time.
        drop_copies: whether rows that equal another in all columns are left out.
        spill: room for rows on disk.
    """
    users, items = IdCoder(), IdCoder()
    known = _known_order(events)
    rows = _Rows(spill, users, items)
    if prior is not None:
        rows.add(prior, pl.DataFrame(), (), prior=True)
    for part in chunk_ranges(events.height, spill.chunk):
        rows.add(events[part], known[part], columns, prior=False)
    tie = _Tie(stable_hashes(users.ids), stable_hashes(items.ids), seed)
    firsts = _first_rows(rows, tie)
    user_codes, new_user = _codes(users.ids, firsts["user"], "user", tie)
    item_codes, new_item = _codes(items.ids, firsts["item"], "item", tie)
    tie = _Tie(user_codes.hashes, item_codes.hashes, seed)
    dealt = _by_user(rows, new_user, new_item, len(user_codes), spill)
    ordered = (_sorted_rows(bucket, tie, drop_copies) for bucket in dealt)
    return OrderedRows(user_codes, item_codes, ordered)


def is_ordered(events: pl.DataFrame) -> bool:
    """Whether a log knows something of the order of rows that share a time."""
    return any(name in events.columns for name in _KNOWN)


def row_ties(users: NDArray[np.uint64], items: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """Keys by which rows of one time are ordered where nothing else is known: [n].

    Args:
        users: [n] hashes of the rows' users.
        items: [n] hashes of their items.
        seed: of the order.
    """
    start = mix64(np.array([seed], dtype=np.int64).view(np.uint64))
    return mix64(mix64(users ^ start) ^ items)


def _known_order(events: pl.DataFrame) -> pl.DataFrame:
    """What a log knows of the order of its rows, as dense ranks; nothing known is last."""
    last = pl.lit(np.iinfo(np.uint32).max, pl.UInt32)
    return events.select(
        pl.col(name).rank("dense").cast(pl.UInt32).fill_null(last)
        for name in _KNOWN
        if name in events.columns
    )


@dataclass(frozen=True)
class _Tie:
    """The hash by which rows of one time are ordered."""

    users: NDArray[np.uint64]
    items: NDArray[np.uint64]
    seed: int

    def of(self, rows: Records) -> NDArray[np.uint64]:
        tie = row_ties(self.users[rows["user"]], self.items[rows["item"]], self.seed)
        return np.where(rows["prior"], np.uint64(0), tie)

    def keys(self, rows: Records) -> list[NDArray[Any]]:
        """Keys of the order within one time, the last one first, as `np.lexsort` takes them."""
        known = [rows[name] for name in rows.dtype.names or () if name.startswith("known ")]
        return [self.of(rows), *reversed(known), ~rows["prior"]]


class _Rows:
    """Rows in the order of the file, with provisional codes, on disk."""

    def __init__(self, spill: Spill, users: IdCoder, items: IdCoder) -> None:
        self._path = spill.folder / "rows"
        self._path.write_bytes(b"")
        self._users, self._items = users, items
        self._pieces: list[tuple[int, np.dtype[Any]]] = []

    def add(
        self, rows: pl.DataFrame, known: pl.DataFrame, columns: Sequence[str], *, prior: bool
    ) -> None:
        fields: list[tuple[str, Any]] = [
            ("user", np.int32), ("item", np.int32), ("time", np.int64), ("prior", np.bool_),
            ("row", np.int64), *((f"known {name}", np.uint32) for name in known.columns),
            *((name, np.float32) for name in columns),
        ]  # fmt: skip
        if COPY in rows.columns:
            fields.append((COPY, np.uint64))
        out = np.zeros(rows.height, fields)
        out["user"] = self._users.add(rows["user_id"])
        out["item"] = self._items.add(rows["item_id"])
        out["time"], out["prior"] = rows["time"].to_numpy(), prior
        count = sum(n for n, _ in self._pieces)
        out["row"] = np.arange(count, count + len(out))
        for name in known.columns:
            out[f"known {name}"] = known[name].to_numpy()
        for name in (*columns, *((COPY,) if COPY in rows.columns else ())):
            out[name] = rows[name].to_numpy()
        with self._path.open("ab") as file:
            out.tofile(file)
        self._pieces.append((len(out), out.dtype))

    def __len__(self) -> int:
        return sum(count for count, _ in self._pieces)

    def __iter__(self) -> Iterator[Records]:
        """Pieces of one type; those of before the log have zeros where it has values."""
        dtype = self._pieces[-1][1]
        offset = 0
        for count, own in self._pieces:
            read = np.fromfile(self._path, own, count, offset=offset)
            offset += read.nbytes
            if own != dtype:
                full = np.zeros(count, dtype)
                for name in own.names or ():
                    full[name] = read[name]
                read = full
            yield read

    def remove(self) -> None:
        self._path.unlink()


def _first_rows(rows: _Rows, tie: _Tie) -> dict[str, Records]:
    """The first row of each user and of each item in the order of the log."""
    sizes_of = {"user": len(tie.users), "item": len(tie.items)}
    earliest = {n: np.full(size, np.iinfo(np.int64).max) for n, size in sizes_of.items()}
    for piece in rows:
        for name, least in earliest.items():
            np.minimum.at(least, piece[name], piece["time"])
    firsts: dict[str, Records] = {}
    for piece in rows:
        for name, least in earliest.items():
            some = piece[piece["time"] == least[piece[name]]]
            if name in firsts:
                some = np.concatenate([firsts[name], some])
            order = np.lexsort([*tie.keys(some), some["time"], some[name]])
            code = some[name][order]
            new = np.append(np.ones(min(len(code), 1), bool), code[1:] != code[:-1])
            firsts[name] = some[np.sort(order[new])]
    return firsts


def _codes(ids: pl.Series, first: Records, name: str, tie: _Tie) -> tuple[Codes, Ints]:
    """Codes by first appearance, and the final code of each provisional one."""
    order = np.lexsort([*tie.keys(first), first["time"]])
    provisional = first[name][order]
    final = np.empty(len(ids), np.int32)
    final[provisional] = np.arange(len(ids), dtype=np.int32)
    unique = ids.gather(provisional)
    return Codes(unique, stable_hashes(unique), first["time"][order].copy()), final


def _by_user(
    rows: _Rows, new_user: Ints, new_item: Ints, users: int, spill: Spill
) -> Iterator[Records]:
    """Rows with final codes, dealt to buckets of consecutive users."""
    counts = np.zeros(users, np.int64)
    for piece in rows:
        counts += np.bincount(new_user[piece["user"]], minlength=users)
    bucket_of = (np.cumsum(counts) - counts) // spill.chunk
    number = np.unique(bucket_of, return_inverse=True)[1] if users else bucket_of
    dealt = Buckets(spill, "by-user", int(number.max(initial=0)) + 1)
    for piece in rows:
        piece["user"], piece["item"] = new_user[piece["user"]], new_item[piece["item"]]
        dealt.add(piece, number[piece["user"]])
    rows.remove()
    return iter(dealt)


def _sorted_rows(rows: Records, tie: _Tie, drop_copies: bool) -> Records:
    """Rows of a bucket by user, time and the order within a time; copies left out if asked."""
    keys = pl.DataFrame({"user": rows["user"], "time": rows["time"]})
    order = keys.select(pl.arg_sort_by("user", "time", maintain_order=True)).to_series().to_numpy()
    rows = rows[order]
    same = (rows["user"][1:] == rows["user"][:-1]) & (rows["time"][1:] == rows["time"][:-1])
    tied = np.append(same, False) | np.append(False, same)
    group = np.cumsum(~np.append(False, same))[tied]
    some = rows[tied]
    rows[tied] = some = some[np.lexsort([*tie.keys(some), group])]
    if drop_copies and len(some):
        frame = pl.DataFrame({n: some[n] for n in some.dtype.names or () if n != "row"})
        keep = np.ones(len(rows), bool)
        keep[tied] = frame.select(pl.struct(pl.all()).is_first_distinct()).to_series().to_numpy()
        rows = rows[keep]
    return rows
