"""Where data lies: shipped with the package, or in the folder named by ``GOALRANK_DATA``."""

from __future__ import annotations

import os
from pathlib import Path

from goalrank.errors import DataError

__all__ = ["data_root", "shipped_path"]


def shipped_path(name: str) -> Path:
    """The folder of a shipped data set: ``kuairand`` or ``movielens-small``."""
    folder = Path(__file__).parents[1] / "shipped" / name
    if not folder.is_dir():
        raise DataError(f"{folder} is missing; the installation of goalrank is incomplete")
    return folder


def data_root(name: str | None = None) -> Path | None:
    """The folder named by the environment variable ``GOALRANK_DATA``, or a data set inside.

    Args:
        name: for instance ``ml-1m``, ``amazon2014-book-1M`` or ``kuairand-pure``.

    Returns:
        The folder, or ``None`` if the variable is unset or the folder absent.
    """
    value = os.environ.get("GOALRANK_DATA")
    if not value:
        return None
    folder = Path(value) if name is None else Path(value) / name
    return folder if folder.is_dir() else None
