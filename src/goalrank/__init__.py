"""goalrank: list ranking for recommender systems.

From exposure logs to one model that emits the list::

    from goalrank import Requests, evaluate, fit, load

Names are loaded on first use; importing goalrank loads no heavy library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from goalrank._lazy import lazy_door
from goalrank._version import __version__

if TYPE_CHECKING:
    from goalrank.api import evaluate, fit, load
    from goalrank.requests import Requests

__all__ = ["Requests", "__version__", "evaluate", "fit", "load"]

__getattr__ = lazy_door(
    __name__,
    {
        "Requests": "goalrank.requests",
        "evaluate": "goalrank.api",
        "fit": "goalrank.api",
        "load": "goalrank.api",
    },
)
