"""Times, memory and disk of log import: ML-1M, growth with synthetic rows, and appending rows.

``python perf/rows_data.py 100000000`` measures one size; the log, the tables and the temporary
files take about 100 bytes a row of disk.
"""

from __future__ import annotations

import math
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from goalrank.logs import append_rows, data_root, import_dataset
from timing import exponent

_PIECE = 5_000_000  # rows of a synthetic log that are made at once


@dataclass(frozen=True)
class ImportCost:
    """Cost of an import in a process of its own, which has no children.

    Attributes:
        seconds: from the raw files to the tables on the disk.
        cpu: seconds of all threads.
        peak_mb: highest resident memory, pages of mapped files included.
        disk_mb: temporary files at most.
    """

    seconds: float
    cpu: float
    peak_mb: float
    disk_mb: float


def movielens() -> ImportCost:
    """Measure ML-1M from its raw files to the three requests tables."""
    return _measured(_import, "movielens", str(data_root("ml-1m")))


def synthetic(rows: int, path: Path, seed: int = 0, start: int = 10**9) -> None:
    """Write a log of ratings: 100 per user, items drawn by a power law from 5,000.

    Args:
        rows: number of ratings.
        path: of the file.
        seed: of the draws.
        start: seconds of the first rating at the earliest; the last is 10^8 later.
    """
    rng = np.random.default_rng(seed)
    users, span = max(rows // 100, 1), 10**8
    pieces = max(1, -(-rows // _PIECE))
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        for piece in range(pieces):  # consecutive stretches of time
            count = rows // pieces + (piece < rows % pieces)
            low, high = (start + span * end // pieces for end in (piece, piece + 1))
            pl.DataFrame(
                {
                    "user_id": rng.integers(0, users, count),
                    "item_id": (5000 * rng.random(count) ** 2).astype(np.int64),
                    "time": np.sort(rng.integers(low, high, count)),
                    "rating": rng.integers(1, 6, count).astype(np.float32),
                }
            ).write_parquet(Path(folder) / f"{piece:04d}.parquet")
        pl.scan_parquet(f"{folder}/*.parquet").sink_parquet(path)


def _peak() -> float:
    """Read the peak of this process's memory in MB; NaN if the system does not report it."""
    status = Path("/proc/self/status")  # not getrusage, which counts the parent's memory too
    lines = status.read_text().splitlines() if status.exists() else []
    peak = [int(x.split()[1]) / 1024 for x in lines if x.startswith("VmHWM")]
    return peak[0] if peak else math.nan


def _import(source: str, path: str, out: str) -> float:
    return float(import_dataset(source, path, out=out)["disk"]["spilled_mb"])


def _append(dataset: str, path: str, _: str) -> float:
    return float(append_rows(dataset, path)["disk"]["spilled_mb"])


def _cost(work: Callable[[str, str, str], float], first: str, second: str, out: object) -> None:
    start, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory(dir=Path(second).parent) as folder:
        disk = work(first, second, f"{folder}/data")
        seconds = time.perf_counter() - start
    out.put(ImportCost(seconds, time.process_time() - cpu, _peak(), disk))  # type: ignore[attr-defined]


def _measured(work: Callable[[str, str, str], float], first: str, second: str) -> ImportCost:
    """Cost of work in a new process, so that peaks of memory do not mix.

    Raises:
        RuntimeError: it failed.
    """
    context = multiprocessing.get_context("spawn")
    out = context.SimpleQueue()
    worker = context.Process(target=_cost, args=(work, first, second, out))
    worker.start()
    worker.join()
    if worker.exitcode:
        raise RuntimeError(f"{work.__name__} of {second} failed, see above")
    cost: ImportCost = out.get()
    return cost


def imported(rows: int) -> ImportCost:
    """Cost of importing a synthetic log."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{rows}.parquet"
        synthetic(rows, path)
        return _measured(_import, "interactions", str(path))


def growth(sizes: list[int]) -> tuple[float, dict[str, float]]:
    """Measure how the time of an import grows with its rows.

    Args:
        sizes: numbers of rows.

    Returns:
        The exponent of seconds over rows, and seconds, peak MB and MB of disk per size.
    """
    costs = [imported(rows) for rows in sizes]
    absolute: dict[str, float] = {}
    for rows, cost in zip(sizes, costs, strict=True):
        absolute |= {
            f"{rows:,} rows s": round(cost.seconds, 2),
            f"{rows:,} rows peak MB": round(cost.peak_mb, 0),
            f"{rows:,} rows disk MB": round(cost.disk_mb, 0),
        }
    return exponent(sizes, [cost.seconds for cost in costs]), absolute


def appended(rows: int) -> tuple[float, dict[str, float]]:
    """Measure appending 1 % of later rows against one import of all rows.

    Args:
        rows: of the log that they are appended to.

    Returns:
        Seconds of appending over seconds of the import, and both.
    """
    more = max(rows // 100, 1)
    with tempfile.TemporaryDirectory() as folder:
        old, new, both = (Path(folder) / f"{name}.parquet" for name in ("old", "new", "both"))
        synthetic(rows, old)
        synthetic(more, new, seed=1, start=11 * 10**8)
        pl.scan_parquet([old, new]).sink_parquet(both)
        import_dataset("interactions", old, out=Path(folder) / "data")
        append = _measured(_append, f"{folder}/data", str(new))
        whole = _measured(_import, "interactions", str(both))
    absolute = {"append s": round(append.seconds, 2), "import s": round(whole.seconds, 2)}
    return append.seconds / whole.seconds, absolute


if __name__ == "__main__":
    for size in sys.argv[1:]:
        print(f"{int(size):,} rows: {imported(int(size))}")
