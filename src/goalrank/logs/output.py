"""Writing of an import: three tables, their side tables and the report."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from goalrank.errors import DataError
from goalrank.logs.candidates.store import SHARD, RequestStore
from goalrank.logs.events.split import TEST, TRAIN, VALIDATION
from goalrank.logs.making import MadeRequests
from goalrank.logs.spill.folder import Spill
from goalrank.requests import Requests
from goalrank.storage import move_into_place, write_json

if TYPE_CHECKING:
    from goalrank.logs.importer import ImportResult

__all__ = ["write_import", "write_made"]

_PARTS = {"train": TRAIN, "validation": VALIDATION, "test": TEST}


def write_import(result: ImportResult, out_dir: str | Path) -> Path:
    """Write train, validation and test.parquet, items and users.parquet, and import.json.

    Each file is written whole or not at all. import.json is written last, so that its presence
    means that the import is complete.

    Args:
        result: the import.
        out_dir: folder to write to; it is made if it is missing.

    Returns:
        The folder.

    Raises:
        DataError: the folder cannot be written.
    """
    folder = Path(out_dir)
    report = folder / "import.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        report.unlink(missing_ok=True)
        for name in _PARTS:
            getattr(result, name).write(folder / f"{name}.parquet")
        write_json(report, result.report)
    except OSError as error:
        raise DataError(
            f"{folder} cannot be written: {error.strerror}; choose another folder"
        ) from None
    return folder


def write_made(made: MadeRequests, folder: Path, spill: Spill) -> None:
    """Write the tables of an import; all are on the disk before the first takes its name.

    A part of more than a shard of requests is a folder of that name with shards. import.json is
    removed first and written last, so that its presence means that the import is complete. It says
    how much room the import took on the disk.

    Args:
        made: the requests.
        folder: to write to.
        spill: room for the tables before they take their names.
    """
    ready = spill.folder / "ready"
    ready.mkdir()
    store = made.store
    for name, number in _PARTS.items():
        _write_part(store, made.part == number, ready / f"{name}.parquet")
    sides = Requests(
        pl.DataFrame(store.frame(np.zeros(len(made.part), bool))),
        items=store.items, users=store.users, info=store.info,
    )  # fmt: skip
    sides.write(ready / "none.parquet")
    (ready / "none.parquet").unlink()
    spill.measure()
    made.report["disk"] = {"spilled_mb": round(spill.peak / 1e6, 1)}
    (folder / "import.json").unlink(missing_ok=True)
    for made_file in sorted(ready.iterdir()):
        _replace(made_file, folder / made_file.name)
    write_json(folder / "import.json", made.report)


def _write_part(store: RequestStore, chosen: NDArray[np.bool_], path: Path) -> None:
    if int(chosen.sum()) <= SHARD:
        store.table(store.frame(chosen)).write(path)
        return
    path.mkdir()
    for number, (shard, frame) in enumerate(store.pieces(chosen)):
        target = path / f"part-{number:06d}.parquet"
        if shard is not None:
            move_into_place(shard, target)
        elif frame is not None and len(frame):
            store.table(frame).write(target)


def _replace(source: Path, target: Path) -> None:
    """Give what was made its name; a folder or file of that name goes away."""
    if target.is_dir():
        shutil.rmtree(target)
    elif source.is_dir():
        target.unlink(missing_ok=True)
    if source.is_dir():
        source.replace(target)
    else:
        move_into_place(source, target)
