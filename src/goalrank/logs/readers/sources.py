"""Sources: log readers by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from goalrank.logs.options import ImportOptions
from goalrank.logs.readers.amazon import read_amazon
from goalrank.logs.readers.kuairand import read_kuairand
from goalrank.logs.readers.movielens import read_movielens
from goalrank.logs.readers.raw_log import RawLog
from goalrank.logs.readers.table import read_exposures, read_interactions

SOURCES: dict[str, Callable[[Path | None, ImportOptions], RawLog]] = {
    "amazon": read_amazon,
    "exposures": read_exposures,
    "interactions": read_interactions,
    "kuairand": read_kuairand,
    "movielens": read_movielens,
}
