"""From raw logs to requests: ML-1M in seconds, and growth with synthetic rows."""

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
    """Seconds from ML-1M's raw files to the three tables of requests."""
    start = time.perf_counter()
    import_log("movielens", data_root("ml-1m"))
    return time.perf_counter() - start


def synthetic(rows: int, path: Path, seed: int = 0) -> None:
    """A log of ratings: 100 a user, items drawn by a power law from 5,000."""
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
    """Most memory this process has held, in MB; NaN where the system does not tell."""
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
    """Exponent of seconds over rows; seconds and peak MB at each size.

    Each size is imported by a fresh process, so that its memory is its own.
    """
    context = multiprocessing.get_context("spawn")
    seconds, absolute = [], {}
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
