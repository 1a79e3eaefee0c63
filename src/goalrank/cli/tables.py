"""The tables of an imported data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from goalrank.errors import DataError
from goalrank.requests import Requests

_PARTS = ("train", "validation", "test")


def read_data(folder: Path, needed: Sequence[str]) -> dict[str, Requests]:
    """Those of train, validation and test that a folder holds; each may be a file or shards.

    Raises:
        DataError: no such folder, or one that is needed is missing.
    """
    if not folder.is_dir():
        raise DataError(
            f"'{folder}' is not a folder; remedy: give the folder that goalrank data import wrote"
        )
    tables = {}
    for part in _PARTS:
        file, shards = folder / f"{part}.parquet", folder / part
        path = file if file.exists() else shards
        if part in needed and not path.exists():
            raise DataError(
                f"'{folder}' holds no {part}.parquet; remedy: give the folder that goalrank data "
                f"import wrote"
            )
        if path.exists():
            tables[part] = Requests.read(path, allow_empty=True)
    return tables
