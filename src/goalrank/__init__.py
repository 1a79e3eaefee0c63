"""goalrank: list ranking for recommender systems.

From exposure logs to one model that emits the list::

    from goalrank import Requests, evaluate, fit, load

Names are loaded on first use; importing goalrank loads no heavy library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from goalrank._version import __version__

if TYPE_CHECKING:
    from goalrank.api import evaluate, fit, load
    from goalrank.requests import Requests

__all__ = ["Requests", "__version__", "evaluate", "fit", "load"]

_HOME = {
    "Requests": "goalrank.requests",
    "evaluate": "goalrank.api",
    "fit": "goalrank.api",
    "load": "goalrank.api",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'goalrank' has no attribute {name!r}")
