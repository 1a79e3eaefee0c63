"""Ranking a whole dataset by parts, here or on a cluster, from and to any store."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl
import pyarrow.parquet as pq

from goalrank.bundles import Bundle
from goalrank.compute import Executor, LocalExecutor
from goalrank.errors import ConfigError
from goalrank.requests import Dataset, Missing, Partition, open_dataset
from goalrank.storage import Location

Progress = Callable[[int, int], None]
DONE = "_lists.json"
_PART_ROWS = 65_536


@dataclass(frozen=True)
class _Job:
    """What every part needs; `folder` is None where the lists go back to the caller."""

    bundle: Bundle
    dataset: Dataset
    source: str
    slots: int | None
    batch_size: int
    device: str
    folder: Location | None
    missing: Missing


def load(folder: str | Path, *, allow: Sequence[str] = ()) -> Bundle:
    """Read a bundle that training wrote; see `Bundle.load`.

    Args:
        folder: of the bundle, or the `out` of a training; a path, or an fsspec address (s3://…).
        allow: packages whose rankers and rewards may be loaded.

    Raises:
        BundleError: no bundle there, a changed byte, a missing file, or a newer format.

    Examples:
        >>> from goalrank import load
        >>> bundle = load(folder)
        >>> bundle.config.name, bundle.config.slots
        ('goalrank', 6)
        >>> bundle.rank(test).height == len(test)
        True
    """
    return Bundle.load(folder, allow=allow)


def rank_dataset(
    bundle: Bundle,
    requests: str,
    out: str,
    slots: int | None = None,
    *,
    executor: Executor | None = None,
    batch_size: int = 256,
    device: str = "cpu",
    part_rows: int = _PART_ROWS,
    progress: Progress | None = None,
    missing: Missing = "refuse",
) -> int:
    """Rank partitioned Parquet by an executor; the lists do not depend on which.

    Args:
        bundle: the ranker and its encoder.
        requests: Parquet file or folder of shards: a path, or an fsspec address (s3://…).
        out: ending in .parquet: one file, which appears whole at the end or not at all. Else a
            folder, which each worker writes its own parts to (`part-000000.parquet`, …, each
            whole); `_lists.json` comes last and names them: without it the folder is incomplete.
        slots: L; None takes the length that the ranker was trained for.
        executor: None ranks in this process, part after part.
        batch_size: requests per batch.
        device: where to compute.
        part_rows: requests per part, held at once by a worker.
        progress: called with (requests done, requests in all).
        missing: what is done where an input that the model was trained with is lacking; see
            `Bundle.rank`.

    Returns:
        Requests ranked.

    Raises:
        ConfigError: `out` is the requests themselves or a folder of finished lists.
        ValidationError: faulty rows.
        DataError: requests missing or damaged, or `out` cannot be written.
        ExecutorError: a store or a worker failed on every try.

    Examples:
        >>> from goalrank.api import load, rank_dataset
        >>> rank_dataset(load(folder), str(folder / "test.parquet"), str(folder / "lists.parquet"))
        60
    """
    target = Location(out)
    if Location(requests).address.rstrip("/") == out.rstrip("/"):
        raise ConfigError(f"'{out}' is the requests table itself; option: out")
    dataset = open_dataset(requests, part_rows)
    one_file = out.endswith(".parquet")
    folder = None if one_file else target
    job = _Job(bundle, dataset, requests, slots, batch_size, device, folder, missing)
    if not one_file:
        _clear(target)
    runner = executor or LocalExecutor(1)

    def results() -> Iterator[Any]:
        return _counted(runner.map(rank_part, job, dataset.parts), dataset, progress)

    if one_file:
        target.write(lambda file: _one_file(file, results()))  # another try starts over
    else:
        names = [str(name) for name in results()]
        about = {"requests": dataset.rows, "parts": names, "ranker": bundle.config.name}
        text = json.dumps(about, indent=1).encode()
        target.child(DONE).write(lambda file: file.write(text))
    return dataset.rows


def rank_part(job: _Job, part: Partition) -> Any:
    """Lists of one part: the table, or the name of the file that holds it."""
    requests = job.dataset.read(part)
    requests.refuse_faults(part.file.address, part.first)
    frame = job.bundle.rank(
        requests, job.slots, batch_size=job.batch_size, device=job.device, missing=job.missing
    )
    if job.folder is None:
        return frame
    number = job.dataset.parts.index(part)
    name = f"part-{number:06d}.parquet"
    job.folder.child(name).write(lambda file: frame.write_parquet(file, compression="zstd"))
    return name


def _counted(results: Iterator[Any], dataset: Dataset, progress: Progress | None) -> Iterator[Any]:
    done = 0
    for part, result in zip(dataset.parts, results):
        done += part.rows
        if progress is not None:
            progress(done, dataset.rows)
        yield result


def _one_file(file: BinaryIO, frames: Iterator[pl.DataFrame]) -> None:
    writer: pq.ParquetWriter | None = None
    try:
        for frame in frames:
            table = frame.to_arrow()
            writer = writer or pq.ParquetWriter(file, table.schema, compression="zstd")
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


def _clear(folder: Location) -> None:
    """Refuse finished lists; remove the files of an interrupted run."""
    if not folder.exists():
        return
    if folder.child(DONE).exists():
        raise ConfigError(f"'{folder.address}' holds finished lists; choose another; option: out")
    left = folder.files(".parquet")
    strange = [file.name for file in left if not file.name.startswith("part-")]
    if strange:
        raise ConfigError(
            f"'{folder.address}' holds other tables ({strange[0]}); choose an empty folder; "
            f"option: out"
        )
    for file in left:
        file.remove()
