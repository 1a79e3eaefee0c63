"""A log as arrays by plain sorting in memory: what the import's own order is checked against."""

from __future__ import annotations

import numpy as np
import polars as pl

from goalrank.logs.events.arrays import Codes, Events, stable_hashes
from goalrank.requests import mix64


def time_order(frame: pl.DataFrame, seed: int = 0) -> pl.DataFrame:
    """Rows by time; ties by what the log knows of their order, then by a hash of their ids.

    The order of rows in a file says nothing, so that it cannot leak: an item-sorted file gives the
    same log as a shuffled one.

    Args:
        frame: user_id, item_id, time; perhaps request_id, position and order.
        seed: of the hash.
    """
    known = [name for name in ("request_id", "position", "order") if name in frame.columns]
    start = mix64(np.array([seed], dtype=np.int64).view(np.uint64))
    tie = mix64(mix64(stable_hashes(frame["user_id"]) ^ start) ^ stable_hashes(frame["item_id"]))
    return (
        frame.with_columns(_tie=pl.Series(tie))
        .sort("time", *known, "_tie", maintain_order=True, nulls_last=True)
        .drop("_tie")
    )


def fit_codes(ids: pl.Series, times: pl.Series) -> Codes:
    """Number ids by first appearance.

    Args:
        ids: [E] ids, rows sorted by time.
        times: [E] microseconds.
    """
    frame = pl.DataFrame({"id": ids, "time": times})
    first = frame.unique("id", keep="first", maintain_order=True)
    unique = first["id"]
    return Codes(unique, stable_hashes(unique), first["time"].to_numpy())


def build_events(
    frame: pl.DataFrame,
    users: Codes,
    items: Codes,
    columns: tuple[str, ...],
    carried: tuple[str, ...] = (),
) -> Events:
    """Make arrays from a table.

    Args:
        frame: rows sorted by time.
        users: codes of users.
        items: codes of items.
        columns: columns to take as values.
        carried: columns to keep as they are.
    """
    coded = pl.DataFrame(
        {
            "user": users.encode(frame["user_id"]),
            "item": items.encode(frame["item_id"]),
            "time": frame["time"],
            **{name: frame[name] for name in columns},
            **({"request": frame["request_id"]} if "request_id" in frame.columns else {}),
            **{f"carried {name}": frame[name] for name in carried},
        }
    ).sort("user", "time", maintain_order=True)
    user = coded["user"].to_numpy()
    counts = np.bincount(user, minlength=len(users))
    return Events(
        user=user,
        item=coded["item"].to_numpy(),
        time=coded["time"].to_numpy(),
        values={name: coded[name].cast(pl.Float32).to_numpy() for name in columns},
        user_start=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        request=coded["request"].to_numpy() if "request" in coded.columns else None,
        carried=(
            coded.select(pl.col(f"carried {name}").alias(name) for name in carried)
            if carried
            else None
        ),
    )
