"""Estimates of the memory that the steps of an import need."""

from __future__ import annotations

from pathlib import Path

from goalrank.logs.candidates.store import SHARD
from goalrank.logs.events.consumption import ConsumptionLog
from goalrank.logs.options import ImportOptions, Protocol
from goalrank.logs.retrieval.pair_counts import pair_bytes
from goalrank.logs.retrieval.refit_scoring import chunk_size, worker_count
from goalrank.logs.spill.memory import Needs

__all__ = ["needs_of_reading", "needs_of_requests"]

_READ = 12.0  # bytes in memory per byte of a file: text, columns and their copies
_PARQUET_ROW = 72.0  # bytes per row of Parquet files that are read column by column
_CELL = 64.0  # bytes per request and item while a chunk is scored
_FIT_ROW = 32.0  # bytes per row of a factorisation: its matrix, weighted and transposed
_COPIES = 2.5  # of requests while they are written
_FEATURES = 36  # of a candidate, about
_SENTENCE_MODEL = 1e9  # bytes of libraries and weights, about
_EMBEDDING = 384 * 12  # bytes per text: an embedding and its copy in double precision


def needs_of_reading(path: object, source: str) -> Needs:
    """Memory for reading a log, from what its files say before they are read.

    Args:
        path: file or folder; nothing is known of addresses and shipped data.
        source: name of the reader.
    """
    files = _files(path)
    parquet = [f for f in files if f.suffix in (".parquet", ".pq")]
    if source == "interactions" and files and len(parquet) == len(files):
        import polars as pl

        rows = 0
        for file in parquet:
            try:
                rows += pl.scan_parquet(file, glob=False).select(pl.len()).collect().item()
            except (pl.exceptions.PolarsError, OSError):
                continue  # the reader says what is wrong with it
        return Needs("reading the log", {"columns of rows": rows * _PARQUET_ROW})
    return Needs("reading the log", {"its files": _READ * sum(f.stat().st_size for f in files)})


def needs_of_requests(log: ConsumptionLog, protocol: Protocol, options: ImportOptions) -> Needs:
    """Memory for making the requests of a log that lies in order on the disk.

    Args:
        log: the log as arrays.
        protocol: where candidates come from.
        options: settings of the import.
    """
    rows, items, users = len(log.history), len(log.items), len(log.users)
    retrieved = protocol != "exposed"
    width = options.candidates if retrieved else options.max_list
    stride = {"retrieved": options.stride, "injected": options.injected, "exposed": 2}[protocol]
    requests = len(log.events) / stride
    request = width * (12 + 4 * _FEATURES) + options.history * 20
    parts = {
        "pairs of items": pair_bytes(items, 20 * rows),
        "scores": _CELL * worker_count(options.threads) * chunk_size(items) * items,
        "requests": min(requests, SHARD) * request * _COPIES + 64 * requests,
    }
    if retrieved and "factorisation" in options.shares:
        parts["factorisation"] = _FIT_ROW * rows + 12.0 * (users + items) * options.factors
    return Needs("making the requests", parts)


def needs_of_texts(items: int) -> Needs:
    """Memory for vectors of texts.

    Args:
        items: how many have a text.
    """
    parts = {"sentence model": _SENTENCE_MODEL, "embeddings": float(_EMBEDDING * items)}
    return Needs("reading the items' texts", parts)


def _files(path: object) -> list[Path]:
    if not isinstance(path, str | Path) or "://" in str(path):
        return []
    place = Path(path)
    if place.is_dir():
        return [file for file in place.rglob("*") if file.is_file()]
    return [place] if place.is_file() else []
