"""Ledger: one small Parquet file per finished cell, merged when read.

No file is written by two processes, so shards and processes cannot damage each other's rows, and
ledgers of several machines are joined by copying their files.
"""

from __future__ import annotations

import io
import json
import math
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
_SINGLE = 1e-5  # of a mean: values are kept in single precision
_LIBRARIES = ("torch", "lightning", "numpy", "polars", "lightgbm", "xgboost-cpu", "implicit")


@dataclass(frozen=True)
class Values:
    """Metrics of a cell per request.

    Attributes:
        rows: [n] indices of the rows of the test table.
        users: [n] users; the bootstrap draws all requests of a user together.
        columns: label of row → metric → [n].
    """

    rows: NDArray[np.int64]
    users: NDArray[np.int64]
    columns: dict[str, dict[str, NDArray[np.float64]]]


class Ledger:
    """Finished cells in a folder.

    Args:
        folder: of the benchmark; it has the folders `ledger` and `values`.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def path(self, cell: Cell | str) -> Path:
        """Path of the file of a cell's rows.

        Args:
            cell: the cell, or its key.
        """
        return self.folder / "ledger" / f"{cell if isinstance(cell, str) else cell.key}.parquet"

    def has(self, cell: Cell) -> bool:
        """Whether a cell is finished, successful or failed.

        Args:
            cell: the cell.
        """
        return self.path(cell).exists()

    def write(self, cell: Cell, rows: list[dict[str, Any]], values: Values | None = None) -> None:
        """Write a finished cell; the values come first, so that a cell with rows is complete.

        Args:
            cell: the cell.
            rows: one per ranker of the cell.
            values: metrics per request; None for a failed cell.
        """
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
        """Remove a cell, so that it runs again.

        Args:
            cell: the cell.
        """
        self.path(cell).unlink(missing_ok=True)

    def status(self, cell: Cell) -> str | None:
        """Status of a cell: "ok", "failed", or None if it is not finished.

        Args:
            cell: the cell.
        """
        if not self.has(cell):
            return None
        return str(_read(self.path(cell))["status"][0])

    def read(self, keys: Iterable[str] | None = None) -> pl.DataFrame:
        """Read all rows, or those of some cells.

        Args:
            keys: of the cells; None reads all.

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
        """Refuse a ledger of a newer version before anything is run.

        Raises:
            DataError: a file was written by a newer version, or is damaged.
        """
        for path in (self.folder / "ledger").glob("*.parquet"):
            _check_version(path)

    def has_values(self, key: str) -> bool:
        """Whether the metrics of a cell per request are there.

        Args:
            key: of the cell.
        """
        return self._values(key).exists()

    def values(self, key: str) -> Values:
        """Read the metrics of a cell per request.

        Args:
            key: of the cell.

        Raises:
            DataError: the file is missing or cannot be read.
        """
        path = self._values(key)
        try:
            frame = pl.read_parquet(path, glob=False)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise DataError(
                f"'{path}' cannot be read ({error}); remedy: copy values/ with the ledger"
            ) from error
        columns: dict[str, dict[str, NDArray[np.float64]]] = {}
        for name in frame.columns[2:]:
            label, _, metric = name.partition("\t")
            columns.setdefault(label, {})[metric] = frame[name].cast(pl.Float64).to_numpy()
        return Values(frame["row"].to_numpy(), frame["user"].to_numpy(), columns)

    def measured(self, key: str, column: str, metric: str, mean: float) -> Values:
        """Read the metrics of a cell per request, if they are those that its mean was taken of.

        Args:
            key: of the cell.
            column: label of the row.
            metric: with "@L".
            mean: of the metric, as in the ledger.

        Raises:
            DataError: the file is missing, cannot be read or is of another cell.
        """
        found = self.values(key)
        column_values = found.columns.get(column, {}).get(metric)
        here = math.nan if column_values is None else mean_of_defined(column_values)
        if column_values is None or not np.isclose(here, mean, _SINGLE, _SINGLE, equal_nan=True):
            raise DataError(
                f"'{self._values(key)}' gives {metric} {here:.6f} for '{column}' and the ledger "
                f"{mean:.6f}, so one of them was changed or is of another run; remedy: copy ledger and "
                f"values/ of one run, or run the cell again"
            )
        return found

    def _values(self, key: str) -> Path:
        return self.folder / "values" / f"{key}.parquet"


def mean_of_defined(values: NDArray[np.float64]) -> float:
    """Mean of a metric over the requests for which it is defined; NaN if it is for none.

    Args:
        values: [n], NaN where it is not defined.
    """
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else math.nan


def read_published(folder: Path) -> pl.DataFrame:
    """Read the ledger of a folder that `goalrank benchmark publish` wrote.

    Args:
        folder: of the results.

    Raises:
        DataError: there is none, or it is damaged.
    """
    path = folder / "ledger.parquet"
    try:
        return _renamed(pl.read_parquet(path, glob=False))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(
            f"'{path}' cannot be read ({error}); remedy: name a folder that goalrank benchmark publish "
            f"wrote (option: --results)"
        ) from error


def _check_version(path: Path) -> None:
    try:
        found = int((pq.read_metadata(path).metadata or {})[_KEY])
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"'{path}' is not a ledger file or is damaged; remedy: remove it, its cell runs again"
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
        return _renamed(pl.read_parquet(path, glob=False))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(
            f"'{path}' is damaged ({error}); remedy: remove it, its cell runs again"
        ) from error


def _renamed(rows: pl.DataFrame) -> pl.DataFrame:
    """Rename the columns and labels of format 1 to those of format 2."""
    if "rule" not in rows.columns:
        return rows
    label = pl.col("ranker").str.replace("^rule: ", BASELINE_PREFIX)
    return rows.rename({"rule": "baseline"}).with_columns(
        kind=pl.col("kind").replace("rules", "baselines"),
        ranker=pl.when("baseline").then(label).otherwise("ranker"),
    )


def provenance() -> dict[str, Any]:
    """Describe where a result was made: commit, versions, machine."""
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
    """Commit of the source, with "+" if files differ from it; None outside a repository."""
    try:
        head = _git("rev-parse", "HEAD")
        dirty = _git("status", "--porcelain", "-uno", ".")
    except (OSError, subprocess.TimeoutExpired):
        return None
    if head.returncode != 0:
        return None
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603  fixed arguments
        ["git", *arguments],  # noqa: S607  the user's git, wherever it is
        cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=False,
    )  # fmt: skip


def cell_facts(suite: str, cell: Cell) -> Mapping[str, Any]:
    """List the facts of a cell that do not depend on its result.

    Args:
        suite: name of the suite.
        cell: the cell.
    """
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
    """Make the row of a failed cell.

    Args:
        suite: name of the suite.
        cell: the cell.
        reason: why it failed.
        seconds: since it was started.
    """
    return {
        **cell_facts(suite, cell),
        **provenance(),
        "status": "failed",
        "reason": reason[:2000],
        "seconds": seconds,
    }
