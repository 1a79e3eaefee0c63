"""The contract of log readers, as tests to inherit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import polars as pl
import pytest

from goalrank.logs import SOURCES, ImportOptions, RawLog, import_log

_FIRST, _LAST = 315_532_800_000_000, 4_102_444_800_000_000  # 1980 and 2100 in microseconds


class ReaderContract:
    """What every log reader promises.

    Inherit it in a class whose name begins with Test, say which reader, and write a small log ::

        class TestMine(ReaderContract):
            source = "package.module:read_mine"

            @pytest.fixture
            def path(self, tmp_path): ...

    The log must be large enough to import: some users with a dozen events each.

    Attributes:
        source: registered name or "package.module:function".
        settings: of the import, where the reader or the log needs others than the defaults.
    """

    source: ClassVar[str] = ""
    settings: ClassVar[Mapping[str, Any]] = {}

    @pytest.fixture
    def path(self) -> Path | None:
        """The log; None where the reader finds its own."""
        return None

    @pytest.fixture
    def log(self, path: Path | None) -> RawLog:
        """What the reader gives."""
        return SOURCES[self.source](path, ImportOptions.from_mapping(self.settings))

    def test_events_have_the_columns_that_were_promised(self, log: RawLog) -> None:
        """Users, items, times in microseconds, and a column of numbers per kind."""
        assert isinstance(log, RawLog)
        assert log.shape in ("interactions", "exposures")
        assert log.events.height > 0
        assert log.events.schema["time"] == pl.Int64
        assert log.target in log.kinds
        named = dict.fromkeys((*log.kinds, *log.rate_kinds, log.strength))
        assert {"user_id", "item_id", "time", *named} <= set(log.events.columns)
        for kind in named:
            assert log.events.schema[kind] == pl.Float32, kind
        ids = log.events.select("user_id", "item_id", "time")
        assert ids.null_count().row(0) == (0, 0, 0)

    def test_times_are_microseconds(self, log: RawLog) -> None:
        """Times are between 1980 and 2100, so that no unit was mistaken for another."""
        low, high = log.events["time"].min(), log.events["time"].max()
        assert isinstance(low, int)
        assert isinstance(high, int)
        assert _FIRST <= low <= high <= _LAST

    def test_rates_are_rates(self, log: RawLog) -> None:
        """Kinds whose averages become features are in [0, 1]."""
        for kind in log.rate_kinds:
            assert log.events[kind].is_between(0.0, 1.0).all(), kind

    def test_something_is_relevant(self, log: RawLog) -> None:
        """The target is above 0 somewhere."""
        assert (log.events[log.target] > 0).any()

    def test_side_tables_have_each_id_once(self, log: RawLog) -> None:
        """Items and users have one row per id, and features only for what they name."""
        for table, key in ((log.items, "item_id"), (log.users, "user_id")):
            if table is not None:
                assert table[key].is_unique().all()
                assert table.schema[key] == log.events.schema[key]
        if log.categories:
            assert log.items is not None
            assert set(log.categories) <= set(log.items.columns)

    def test_reading_twice_gives_the_same(self, log: RawLog, path: Path | None) -> None:
        """A reader draws nothing at random."""
        again = SOURCES[self.source](path, ImportOptions.from_mapping(self.settings))
        assert again.events.equals(log.events)
        assert (again.kinds, again.target, again.strength) == (log.kinds, log.target, log.strength)

    def test_the_log_becomes_requests(self, path: Path | None) -> None:
        """An import gives requests whose histories are strictly before them."""
        result = import_log(self.source, path, self.settings)
        parts = [result.train, result.validation, result.test]
        assert sum(len(part) for part in parts) > 0
        for part in parts:
            latest = part.frame.select(pl.col("history_time").list.max() < pl.col("time"))
            assert latest.to_series().fill_null(True).all()
            assert not part.validate()
