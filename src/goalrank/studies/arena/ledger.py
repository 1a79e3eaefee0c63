"""The ledger: one small Parquet file a finished cell, merged when read.

No file is ever written by two processes, so shards and processes cannot spoil each other's rows, and
ledgers of several machines are joined by copying files.
"""

from __future__ import annotations

import io
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from numpy.typing import NDArray

from goalrank._version import __version__
from goalrank.errors import DataError
from goalrank.storage import whole_file
from goalrank.studies.common import Cell

LEDGER_VERSION = 2  # 1 called baselines rules: its rows are read under the names of today
BASELINE_PREFIX = "baseline: "  # begins the label of a baseline's row
_KEY = b"goalrank.ledger"
_LIBRARIES = ("torch", "lightning", "numpy", "polars", "lightgbm", "implicit")


@dataclass(frozen=True)
class Values:
    """Metrics of a cell, request by request.

    Attributes:
        rows: [n] rows of the test table.
        users: [n] who asked; requests of a user are drawn together in the bootstrap.
        columns: row label → metric → [n].
    """

    rows: NDArray[np.int64]
    users: NDArray[np.int64]
    columns: dict[str, dict[str, NDArray[np.float64]]]


class Ledger:
    """Finished cells in a folder.

    Args:
        folder: the benchmark's folder; `ledger/` and `values/` lie inside.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def path(self, cell: Cell | str) -> Path:
        """The file of a cell's rows."""
        return self.folder / "ledger" / f"{cell if isinstance(cell, str) else cell.key}.parquet"

    def has(self, cell: Cell) -> bool:
        """Whether the cell is finished, well or badly."""
        return self.path(cell).exists()

    def write(self, cell: Cell, rows: list[dict[str, Any]], values: Values | None = None) -> None:
        """Write a finished cell, its values first: a row in the ledger means that all is there."""
        if values is not None:
            columns = {"row": values.rows, "user": values.users}
            for label, each in values.columns.items():
                for metric, column in each.items():
                    columns[f"{label}\t{metric}"] = column.astype(np.float32)
            with whole_file(self._values(cell.key)) as temporary:
                pl.DataFrame(columns).write_parquet(temporary, compression="zstd")
        table = pl.DataFrame(rows, infer_schema_length=None).to_arrow()
        meta = {**(table.schema.metadata or {}), _KEY: str(LEDGER_VERSION).encode()}
        buffer = io.BytesIO()
        pq.write_table(table.replace_schema_metadata(meta), buffer)
        with whole_file(self.path(cell)) as temporary:
            temporary.write_bytes(buffer.getvalue())

    def forget(self, cell: Cell) -> None:
        """Take a cell out, so that it runs again."""
        self.path(cell).unlink(missing_ok=True)

    def status(self, cell: Cell) -> str | None:
        """ "ok", "failed" or None for a cell that is not finished."""
        if not self.has(cell):
            return None
        return str(_read(self.path(cell))["status"][0])

    def read(self, keys: Iterable[str] | None = None) -> pl.DataFrame:
        """All rows, or those of some cells.

        Raises:
            DataError: no rows, a damaged file, or one written by a newer version.
        """
        names = None if keys is None else set(keys)
        paths = sorted((self.folder / "ledger").glob("*.parquet"))
        paths = [p for p in paths if names is None or p.stem in names]
        if not paths:
            raise DataError(
                f"'{self.folder}' holds no finished cell; remedy: goalrank benchmark run SUITE "
                f"--out {self.folder}"
            )
        return pl.concat([_read(p) for p in paths], how="diagonal_relaxed")

    def check(self) -> None:
        """Refuse a ledger of a newer version before anything is run."""
        for path in (self.folder / "ledger").glob("*.parquet"):
            _check_version(path)

    def values(self, key: str) -> Values:
        """Per-request metrics of a cell."""
        path = self._values(key)
        try:
            frame = pl.read_parquet(path)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise DataError(
                f"'{path}' cannot be read ({error}); remedy: copy values/ with the ledger"
            ) from error
        columns: dict[str, dict[str, NDArray[np.float64]]] = {}
        for name in frame.columns[2:]:
            label, _, metric = name.partition("\t")
            columns.setdefault(label, {})[metric] = frame[name].cast(pl.Float64).to_numpy()
        return Values(frame["row"].to_numpy(), frame["user"].to_numpy(), columns)

    def _values(self, key: str) -> Path:
        return self.folder / "values" / f"{key}.parquet"


def _check_version(path: Path) -> None:
    try:
        found = int((pq.read_metadata(path).metadata or {})[_KEY])
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"'{path}' is no ledger file or is damaged; remedy: remove it, its cell runs again"
        ) from error
    if found > LEDGER_VERSION:
        raise DataError(
            f"'{path}' has ledger format {found}, written by a newer goalrank; this one reads "
            f"formats up to {LEDGER_VERSION}; remedy: pip install --upgrade goalrank, or --out "
            f"another folder"
        )


def _read(path: Path) -> pl.DataFrame:
    _check_version(path)
    try:
        return _renamed(pl.read_parquet(path))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(
            f"'{path}' is damaged ({error}); remedy: remove it, its cell runs again"
        ) from error


def _renamed(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of format 1 or 2 under the names of format 2."""
    if "rule" not in rows.columns:
        return rows
    label = pl.col("ranker").str.replace("^rule: ", BASELINE_PREFIX)
    return rows.rename({"rule": "baseline"}).with_columns(
        kind=pl.col("kind").replace("rules", "baselines"),
        ranker=pl.when("baseline").then(label).otherwise("ranker"),
    )


def provenance() -> dict[str, Any]:
    """Where a number came from: commit, versions, machine."""
    return {
        "commit": _commit(),
        "goalrank": __version__,
        "versions": json.dumps({name: _version(name) for name in _LIBRARIES}),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count() or 0,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the source, "+" where files differ from it; None outside a repository."""
    try:
        here = {"cwd": Path(__file__).parent, "capture_output": True, "text": True, "timeout": 10}
        head = subprocess.run(["git", "rev-parse", "HEAD"], **here)  # type: ignore[call-overload]
        dirty = subprocess.run(["git", "status", "--porcelain", "-uno", "."], **here)  # type: ignore[call-overload]
    except (OSError, subprocess.TimeoutExpired):
        return None
    if head.returncode != 0:
        return None
    return str(head.stdout).strip() + ("+" if str(dirty.stdout).strip() else "")


def cell_facts(suite: str, cell: Cell) -> Mapping[str, Any]:
    """What a cell is, whatever comes of it."""
    return {
        "key": cell.key,
        "suite": suite,
        "dataset": cell.dataset.name,
        "ranker": cell.row.label,
        "kind": cell.row.name,
        "objective": cell.row.objective,
        "baseline": cell.row.name == "baselines",
        "seed": cell.seed,
        "size": cell.size.name,
        "config_hash": cell.config_hash,
        "row_settings": cell.row.model_dump_json(),
        "dataset_settings": cell.dataset.model_dump_json(),
    }


def failure(suite: str, cell: Cell, reason: str, seconds: float) -> dict[str, Any]:
    """The row of a cell that came to nothing."""
    return {
        **cell_facts(suite, cell),
        **provenance(),
        "status": "failed",
        "reason": reason[:2000],
        "seconds": seconds,
    }
