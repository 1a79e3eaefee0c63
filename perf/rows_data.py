"""Times of log import: ML-1M, and growth with the number of synthetic rows."""

from __future__ import annotations

import math
import multiprocessing
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from goalrank.logs import data_root, import_log
from timing import exponent


def movielens() -> float:
    """Measure the seconds from ML-1M's raw files to the three requests tables."""
    start = time.perf_counter()
    import_log("movielens", data_root("ml-1m"))
    return time.perf_counter() - start


def synthetic(rows: int, path: Path, seed: int = 0) -> None:
    """Write a log of ratings: 100 per user, items drawn by a power law from 5,000.

    Args:
        rows: number of ratings.
        path: of the file.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    items = (5000 * rng.random(rows) ** 2).astype(np.int64)
    pl.DataFrame(
        {
            "user_id": rng.integers(0, max(rows // 100, 1), rows),
            "item_id": items,
            "time": np.sort(rng.integers(10**9, 10**9 + 10**8, rows)),
            "rating": rng.integers(1, 6, rows).astype(np.float32),
        }
    ).write_parquet(path)


def _peak() -> float:
    """Read the peak of this process's memory in MB; NaN if the system does not report it."""
    status = Path("/proc/self/status")  # not getrusage, which counts the parent's memory too
    lines = status.read_text().splitlines() if status.exists() else []
    peak = [int(x.split()[1]) / 1024 for x in lines if x.startswith("VmHWM")]
    return peak[0] if peak else math.nan


def _import(path: str, out: object) -> None:
    start = time.perf_counter()
    import_log("interactions", path)
    seconds = time.perf_counter() - start
    out.put((seconds, _peak()))  # type: ignore[attr-defined]


def growth(sizes: list[int]) -> tuple[float, dict[str, float]]:
    """Measure how the time of an import grows with its rows.

    Each size is imported by a new process, so that peaks of memory do not mix.

    Args:
        sizes: numbers of rows.

    Returns:
        The exponent of seconds over rows, and seconds and peak MB per size.

    Raises:
        RuntimeError: an import failed.
    """
    context = multiprocessing.get_context("spawn")
    seconds: list[float] = []
    absolute: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for rows in sizes:
            path = Path(folder) / f"{rows}.parquet"
            synthetic(rows, path)
            out = context.SimpleQueue()
            worker = context.Process(target=_import, args=(str(path), out))
            worker.start()
            worker.join()
            if worker.exitcode:
                raise RuntimeError(f"the import of {rows:,} rows failed, see above")
            took, peak = out.get()
            path.unlink()
            seconds.append(took)
            absolute |= {
                f"{rows:,} rows s": round(took, 2),
                f"{rows:,} rows peak MB": round(peak, 0),
            }
    return exponent(sizes, seconds), absolute
