"""Readers: each turns one kind of raw log into a ``RawLog``."""

from collections.abc import Callable
from pathlib import Path

from goalrank.logs.options import ImportOptions
from goalrank.logs.raw import RawLog
from goalrank.logs.sources.amazon import read_amazon
from goalrank.logs.sources.kuairand import read_kuairand
from goalrank.logs.sources.movielens import read_movielens
from goalrank.logs.sources.table import read_exposures, read_interactions

__all__ = ["SOURCES"]

SOURCES: dict[str, Callable[[Path | None, ImportOptions], RawLog]] = {
    "amazon": read_amazon,
    "exposures": read_exposures,
    "interactions": read_interactions,
    "kuairand": read_kuairand,
    "movielens": read_movielens,
}
