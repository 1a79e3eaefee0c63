"""Lists for requests: in memory, and file to file."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from goalrank.errors import ConfigError, UnorderedListsWarning
from goalrank.rankers import Ranker
from goalrank.requests import Absent, EncodedRequests, Encoder, Missing, Requests
from goalrank.storage import whole_file
from goalrank.wording import counted

Progress = Callable[[int, int], None]


def list_frame(
    ranker: Ranker,
    encoder: Encoder,
    requests: Requests,
    *,
    slots: int,
    batch_size: int,
    device: torch.device | str,
    progress: Progress | None,
    missing: Missing = "refuse",
) -> pl.DataFrame:
    """See `Bundle.rank`."""
    for name, value in (("slots", slots), ("batch_size", batch_size)):
        if value < 1:
            raise ConfigError(f"{name} is {value}, but must be at least 1 (option: {name})")
    flat, sides = encoder.flat_table(requests), (requests.items, requests.users)
    columns = encoder.encode_flat(flat, *sides, missing)
    columns = replace(columns, items=columns.items.to(device), users=columns.users.to(device))
    ranker.to(device)
    parts = list(_batches(ranker, columns, slots, batch_size, device, progress))
    lists = np.concatenate([lists for lists, _ in parts] or [np.zeros((0, slots), np.int64)])
    log_prob = np.concatenate([values for _, values in parts] or [np.zeros(0)])
    _warn_of_no_numbers(requests.frame, log_prob)
    frame = _frame(requests.frame, columns.candidate_start, lists, log_prob)
    if missing == "refuse":
        return frame
    return frame.with_columns(_filled(encoder.absent(flat, *sides), frame.height))


def _warn_of_no_numbers(frame: pl.DataFrame, log_prob: NDArray[np.float64]) -> None:
    rows = np.flatnonzero(np.isnan(log_prob))
    if not len(rows):
        return
    first = frame["request_id"][int(rows[0])]
    warnings.warn(
        f"{counted(len(rows), 'list')} of {len(log_prob)} without an order, the first of request "
        f"'{first}': the model gave no numbers (log_prob is NaN); remedy: look at the features of "
        f"these requests, or train anew",
        UnorderedListsWarning,
        stacklevel=4,
    )


def _filled(absent: Absent, rows: int) -> pl.Series:
    """Names of the inputs of each request that are the training mean."""
    marks = pl.DataFrame({name: pl.Series(where) for name, where in absent.items()})
    named = [pl.when(pl.col(name)).then(pl.lit(name)) for name in absent]
    if not named:
        return pl.Series("filled", [[]], dtype=pl.List(pl.String)).new_from_index(0, rows)
    return marks.select(pl.concat_list(named).list.drop_nulls().alias("filled"))["filled"]


def _batches(
    ranker: Ranker,
    columns: EncodedRequests,
    slots: int,
    batch_size: int,
    device: torch.device | str,
    progress: Progress | None,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Lists [b, L] and their log-probabilities [b], batch by batch."""
    done = 0
    for plain in columns.batches(batch_size):
        batch = plain.to(device)
        with torch.inference_mode():
            state = ranker.encode(batch)
            lists = ranker.best(state, batch, slots)
            log_prob = ranker.list_log_prob(state, batch, lists.unsqueeze(1)).squeeze(1)
        done += batch.size
        if progress is not None:
            progress(done, len(columns))
        yield lists.cpu().numpy(), log_prob.double().cpu().numpy()


def _frame(
    frame: pl.DataFrame,
    start: NDArray[np.int64],
    lists: NDArray[np.int64],
    log_prob: NDArray[np.float64],
) -> pl.DataFrame:
    """Positions to ids, for all requests at once; empty slots (-1) are cut off."""
    real = lists >= 0
    at = (start[:-1, None] + lists)[real]
    ids = frame["candidates"].explode(empty_as_null=False, keep_nulls=False).gather(at)
    row = np.nonzero(real)[0]
    flat = pl.DataFrame({"row": row, "items": ids, "positions": lists[real].astype(np.int32)})
    grouped = flat.group_by("row", maintain_order=True).agg("items", "positions")
    out = frame.select("request_id", "user_id").with_columns(
        row=pl.int_range(pl.len(), dtype=pl.Int64), log_prob=pl.Series(log_prob, dtype=pl.Float64)
    )
    out = out.join(grouped, on="row", how="left", maintain_order="left")
    return out.select("request_id", "user_id", "items", "positions", "log_prob")


def rank_file(
    rank: Callable[[Requests], pl.DataFrame],
    requests: Path,
    out: Path,
    shard_rows: int,
    progress: Progress | None,
) -> Path:
    """See `Bundle.rank_file`."""
    if out.suffix != ".parquet":
        raise ConfigError(
            f"lists are written as Parquet, but '{out}' does not end in .parquet; option: out"
        )
    if out.exists() and requests.exists() and out.samefile(requests):
        raise ConfigError(f"'{out}' is the requests table itself; option: out")
    total = _rows(requests)
    done = 0
    with whole_file(out) as temporary:
        writer: pq.ParquetWriter | None = None
        try:
            for shard in Requests.iter_shards(requests, shard_rows):
                shard.refuse_faults(requests, done)
                table = rank(shard).to_arrow()
                if writer is None:
                    writer = pq.ParquetWriter(temporary, table.schema, compression="zstd")
                writer.write_table(table)
                done += len(shard)
                if progress is not None:
                    progress(done, max(total, done))
        finally:
            if writer is not None:
                writer.close()
    return out


def _rows(path: Path) -> int:
    """Requests of a file or folder, from the files' footers; 0 if they cannot be read."""
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    try:
        return sum(
            pq.ParquetFile(file).metadata.num_rows
            for file in files
            if file.name not in ("items.parquet", "users.parquet")
        )
    except (OSError, ValueError):
        return 0  # reading will say what is wrong
