"""Writing of an import: three tables, their side tables and the report."""

from __future__ import annotations

from pathlib import Path

from goalrank.errors import DataError
from goalrank.logs.importer import ImportResult
from goalrank.storage import write_json

__all__ = ["write_import"]


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
        for name in ("train", "validation", "test"):
            getattr(result, name).write(folder / f"{name}.parquet")
        write_json(report, result.report)
    except OSError as error:
        raise DataError(
            f"{folder} cannot be written: {error.strerror}; choose another folder"
        ) from None
    return folder
