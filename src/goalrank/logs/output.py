"""Writing of an import: three tables, their side tables and the report."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from goalrank.errors import DataError
from goalrank.logs.importer import ImportResult
from goalrank.storage import local_draft, write_json

__all__ = ["write_import"]

_REPORT = "import.json"
Folder = TypeVar("Folder", str, Path)


def write_import(result: ImportResult, out_dir: Folder) -> Folder:
    """Write train, validation and test.parquet, items and users.parquet, and import.json.

    Each file is written whole or not at all. import.json is written last, so that its presence
    means that the import is complete.

    Args:
        result: the import.
        out_dir: folder to write to, which is made if it is missing; or an fsspec address (s3://…).

    Returns:
        The folder.

    Raises:
        DataError: the folder cannot be written.
        ConfigError: an address of an unknown protocol.
    """
    with local_draft(out_dir, last=_REPORT) as folder:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / _REPORT).unlink(missing_ok=True)
            for name in ("train", "validation", "test"):
                getattr(result, name).write(folder / f"{name}.parquet")
            write_json(folder / _REPORT, result.report)
        except OSError as error:
            raise DataError(
                f"{folder} cannot be written: {error.strerror}; choose another folder"
            ) from None
    return out_dir
