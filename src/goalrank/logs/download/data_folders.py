"""Data folders: shipped with the package, or named by the variable ``GOALRANK_DATA``."""

from __future__ import annotations

import os
from pathlib import Path

from goalrank.errors import DataError

__all__ = ["data_root", "shipped_path"]


def shipped_path(name: str) -> Path:
    """Folder of a shipped data set.

    Args:
        name: ``kuairand`` or ``movielens-small``.

    Raises:
        DataError: the folder is missing.
    """
    folder = Path(__file__).parents[1] / "shipped" / name
    if not folder.is_dir():
        raise DataError(f"{folder} is missing; the installation of goalrank is incomplete")
    return folder


def data_root(name: str | None = None) -> Path | None:
    """Folder named by the environment variable ``GOALRANK_DATA``, or a data set in it.

    Args:
        name: a data set, such as ``ml-1m``, ``amazon2014-book-1M`` or ``kuairand-pure``; ``None``
            is the folder itself.

    Returns:
        The folder, or ``None`` if the variable is not set or the folder is missing.
    """
    value = os.environ.get("GOALRANK_DATA")
    if not value:
        return None
    folder = Path(value) if name is None else Path(value) / name
    return folder if folder.is_dir() else None
