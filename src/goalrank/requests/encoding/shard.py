"""One process's even shard of a dataset, and statistics over the shards of all processes."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from goalrank.errors import DataError
from goalrank.requests.encoding.arrays import entries, feature_matrix, history_ages
from goalrank.requests.table import parquet as io
from goalrank.requests.table.columns import conform
from goalrank.requests.table.info import PROBABILITY, Bounds, TableInfo
from goalrank.requests.table.requests import Requests, _key_types, _read_sides
from goalrank.requests.table.validation import validation_error

Exchange = Callable[[bytes], list[bytes]]
"""Gives this process's bytes to all processes and returns those of each, in their order."""


def alone(mine: bytes) -> list[bytes]:
    """The exchange of a process without others."""
    return [mine]


def list_rows(path: str | Path) -> dict[Path, int]:
    """Rows of each shard, by what their footers say.

    Raises:
        DataError: nothing there, or a damaged shard (by name).
    """
    rows = {}
    for shard in io.shard_files(Path(path)):
        with io.open_table(shard) as (file, _):
            rows[shard] = int(file.metadata.num_rows)
    return rows


def read_shard(path: str | Path, rank: int, ranks: int, exchange: Exchange = alone) -> Requests:
    """The rows of one process: an even run of the dataset's rows, from the shards that hold it.

    Runs differ by one row at most, for any file sizes; a file that is within one run is
    opened by its process only. With fewer rows than processes every process gets all.

    Args:
        path: file or folder of shards.
        rank: of this process, from 0.
        ranks: number of processes.
        exchange: by which the processes compare their lists of shards.

    Raises:
        DataError: a shard is missing here or damaged; the message names it.
        ValidationError: rows of the run break rules.
    """
    path = Path(path)
    rows = list_rows(path)
    _compare(path, rows, exchange)
    total = sum(rows.values())
    if total < ranks:
        return Requests.read(path, allow_empty=True)
    first, last = total * rank // ranks, total * (rank + 1) // ranks
    sides = _read_sides(path, None, None)
    parts: list[tuple[pl.DataFrame, TableInfo]] = []
    at = 0
    for shard, count in rows.items():
        low, high = max(first - at, 0), min(last - at, count)
        at += count
        if low >= high:
            continue
        frame, told = _read_rows(shard, low, high, *_key_types(sides))
        if parts:
            io.check_alike(f"'{shard}'", frame, told, *parts[0])
        parts.append((frame, told))
    requests = Requests._trusted(pl.concat([frame for frame, _ in parts]), *sides, parts[0][1])
    faults = requests.validate()
    if faults:
        raise validation_error(faults, f"{path} (rows {first} … {last - 1})", len(requests))
    return requests


def _read_rows(
    shard: Path, low: int, high: int, item_id: pl.DataType | None, user_id: pl.DataType | None
) -> tuple[pl.DataFrame, TableInfo]:
    """Rows low…high-1 of a shard; only the row groups that hold them are read."""
    with io.open_table(shard) as (file, told):
        counts = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        starts = np.concatenate([[0], np.cumsum(counts)])
        groups = [i for i in range(len(counts)) if starts[i] < high and starts[i + 1] > low]
        table = file.read_row_groups(groups).slice(low - int(starts[groups[0]]), high - low)
    whole = pa.Table.from_batches(table.to_batches(), table.schema)
    frame = cast(pl.DataFrame, pl.from_arrow(whole))
    try:
        return conform(frame, told, item_id=item_id, user_id=user_id)
    except DataError as error:
        raise type(error)(f"'{shard}': {error}") from error


def _compare(path: Path, rows: dict[Path, int], exchange: Exchange) -> None:
    """Refuse to start where processes see different shards."""
    mine = "\n".join(f"{shard.name}\t{count}" for shard, count in rows.items())
    seen = [set(part.decode().split("\n")) for part in exchange(mine.encode())]
    odd = sorted({line for part in seen for line in part if any(line not in s for s in seen)})
    if odd:
        lacking = [rank for rank, part in enumerate(seen) if odd[0] not in part]
        name = odd[0].split("\t")[0]
        raise DataError(
            f"processes {lacking[:8]} lack shard '{name}' of '{path}', or have another with "
            f"other rows; remedy: put the same shards at that path on every machine"
        )


def gather_frames(frame: pl.DataFrame, exchange: Exchange) -> pl.DataFrame:
    """The rows of all processes' frames, in the order of processes."""
    return pl.concat(_frames(frame, exchange))


def _frames(frame: pl.DataFrame, exchange: Exchange) -> list[pl.DataFrame]:
    buffer = BytesIO()
    frame.write_ipc(buffer)
    return [pl.read_ipc(BytesIO(part)) for part in exchange(buffer.getvalue())]


def seen_ids(frame: pl.DataFrame, least: int, exchange: Exchange) -> pl.Series:
    """Item ids that occur at least `least` times among all processes' candidates and histories."""
    ids = pl.concat([frame["candidates"].explode(), frame["history"].explode()]).drop_nulls()
    counts = ids.alias("id").to_frame().group_by("id").len()
    whole = gather_frames(counts, exchange).group_by("id").agg(pl.col("len").sum())
    return whole.filter(pl.col("len") >= least)["id"]


def feedback_range(frame: pl.DataFrame, exchange: Exchange) -> tuple[float, float] | None:
    """Mean and deviation of the feedback to history items; None if no process knows any."""
    values = entries(frame["history_feedback"]).cast(pl.Float64).drop_nulls().drop_nans()
    return _range(values.to_numpy(), exchange)


def age_range(frame: pl.DataFrame, exchange: Exchange) -> tuple[float, float] | None:
    """Mean and deviation of the age of history items, log(1 + hours); None if no times are known."""
    times = frame.select(
        event=pl.col("history_time"), at=pl.col("time").repeat_by(pl.col("history_time").list.len())
    )
    event, at = (entries(times[name]).to_physical().to_numpy() for name in ("event", "at"))
    return _range(history_ages(at, event), exchange)


def _range(values: NDArray[Any], exchange: Exchange) -> tuple[float, float] | None:
    n, mean, std = _moments(values, exchange)
    return (float(mean[0]), float(std[0])) if n[0] else None


def kind_ranges(frame: pl.DataFrame, info: TableInfo, exchange: Exchange) -> dict[str, Bounds]:
    """Range of each feedback kind: as declared, else [0, 1] where all processes' values lie in it.

    Training takes the same kinds for probabilities. Other kinds have no bounds.
    """
    fields = frame["feedback"].struct.fields
    lists = {k: pl.col("feedback").struct.field(k) for k in info.feedback_kinds if k in fields}
    found = frame.select(
        ((each.list.min() >= 0) & (each.list.max() <= 1)).all().alias(kind)
        for kind, each in lists.items()
    )
    whole = gather_frames(found, exchange)
    bounds = {k: PROBABILITY if whole[k].all() else (None, None) for k in whole.columns}
    return bounds | info.feedback_ranges


def gaps(frame: pl.DataFrame, exchange: Exchange) -> tuple[str, ...]:
    """Inputs along the candidates that some requests of all processes have and others lack."""
    names = [n for n in ("candidate_score", "candidate_features") if n in frame.columns]
    found = frame.select(pl.col(name).is_null().any() for name in names)
    if "candidate_features" in names:
        inner = entries(frame["candidate_features"]).explode().is_null().any()
        found = found.with_columns(candidate_features=pl.col("candidate_features") | inner)
    parts = gather_frames(found, exchange)
    return tuple(name for name in parts.columns if parts[name].any())


def score_range(frame: pl.DataFrame, exchange: Exchange) -> tuple[float, float] | None:
    """Mean and deviation of the retriever's score over all processes; None if there is none."""
    if "candidate_score" not in frame.columns:
        return None
    n, mean, std = _moments(entries(frame["candidate_score"]).to_numpy(), exchange)
    return (float(mean[0]), float(std[0]) or 1.0) if n[0] else None


def feature_range(frame: pl.DataFrame, width: int, exchange: Exchange) -> NDArray[np.float64]:
    """[F, 2] mean and deviation of the candidate features over all processes."""
    if width == 0:
        return np.zeros((0, 2))
    values = feature_matrix(frame, width).astype(np.float64)
    _, mean, std = _moments(values, exchange)
    return np.stack([mean, np.where(std > 0, std, 1.0)], 1)


Moments = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]
"""Number [F] of values, their mean [F] and their standard deviation [F]."""


def _moments(values: NDArray[Any], exchange: Exchange) -> Moments:
    """Moments of the columns of all processes' values [n] or [n, F].

    NaN is a value that is not known, and not counted. Those of each process are merged one after
    another, so that one process alone gets its own.
    """
    known = np.atleast_1d((~np.isnan(values)).sum(0))
    if (known < len(values)).any():
        columns = [column[~np.isnan(column)] for column in values.reshape(len(values), -1).T]
        pairs = [(c.mean(), c.std()) if len(c) else (0.0, 0.0) for c in columns]
        mean, std = (np.array(each) for each in zip(*pairs, strict=True))
    else:
        size = len(values)
        mean, std = (values.mean(0), values.std(0)) if size else (np.zeros(values.shape[1:]),) * 2
    mean, std = (np.atleast_1d(each).astype(np.float64) for each in (mean, std))
    mine = pl.DataFrame({"n": known, "mean": mean, "std": std})
    parts = _frames(mine, exchange)
    return reduce(
        _merged, ((p["n"].to_numpy(), p["mean"].to_numpy(), p["std"].to_numpy()) for p in parts)
    )


def _merged(a: Moments, b: Moments) -> Moments:
    """Moments of two samples together.

    Source: Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample
    variances", COMPSTAT 1982.
    """
    n, step = a[0] + b[0], b[1] - a[1]
    some = np.maximum(n, 1)
    squares = a[0] * a[2] ** 2 + b[0] * b[2] ** 2 + step**2 * (a[0] * b[0] / some)
    mean, std = a[1] + step * (b[0] / some), np.sqrt(squares / some)
    for one, other in ((a, b), (b, a)):  # nothing is rounded where one has all values
        mean, std = (np.where(other[0] == 0, one[i], each) for i, each in ((1, mean), (2, std)))
    return n, mean, std
