"""Sources: log readers by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from goalrank.logs.options import ImportOptions
from goalrank.logs.readers.raw_log import RawLog
from goalrank.registry import Registry

__all__ = ["SOURCES", "Reader"]

# (path, or None for shipped data; settings of the import) → the log in our own column names.
# A reader raises `ConfigError` where it needs a path, `DataError` where the log breaks a rule.
Reader = Callable[[Path | None, ImportOptions], RawLog]

SOURCES: Registry[Reader] = Registry(
    "source",
    "goalrank.sources",
    {
        "amazon": "goalrank.logs.readers.amazon:read_amazon",
        "exposures": "goalrank.logs.readers.table:read_exposures",
        "interactions": "goalrank.logs.readers.table:read_interactions",
        "kuairand": "goalrank.logs.readers.kuairand:read_kuairand",
        "movielens": "goalrank.logs.readers.movielens:read_movielens",
    },
    option="source",
)
