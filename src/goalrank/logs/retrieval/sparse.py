"""SciPy's sparse matrices, loaded on first use."""

from __future__ import annotations

from typing import Any

from goalrank.errors import MissingExtraError

__all__ = ["load_sparse"]


def load_sparse() -> Any:
    """Load the module ``scipy.sparse``.

    Raises:
        MissingExtraError: SciPy is not installed.
    """
    try:
        from scipy import sparse
    except ImportError:
        raise MissingExtraError("importing logs (item-to-item links)", "retrieval") from None
    return sparse
