"""What events say of items and users is in the side tables that a retraining learns from."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from goalrank.api import retrain
from goalrank.api.retraining import pool as pool_module
from goalrank.api.retraining.pool import export_new, read_pool
from goalrank.bundles import Bundle
from goalrank.errors import DataError
from goalrank.models import ModelRegistry
from goalrank.requests import Encoder
from goalrank.serving import Store
from goalrank.serving.state.event_log import EventLog
from goalrank.serving.state.logged import LoggedColumns
from tests.api.retraining.kit import day, serve, settings, warm

PRICES = pl.DataFrame({"item_id": list(range(60)), "price": [float(n) for n in range(60)]})
TOLD = (
    LoggedColumns("items", 5, 2, {"price": 9.5, "colour": "red"}),
    LoggedColumns("items", 5, 1, {"price": 1.0}),  # came later, held earlier
    LoggedColumns("items", 777, 3, {"price": 70.0}),
    LoggedColumns("users", 3, 3, {"age": 40}),
)


@pytest.fixture
def shop(tmp_path) -> Path:
    """Training data with prices, and a store in which day 0 was served and events came."""
    data = warm(tmp_path / "data")
    PRICES.write_parquet(data / "items.parquet")
    serve(url(tmp_path), day(0))
    tell(tmp_path, *TOLD)
    return tmp_path


def url(shop: Path) -> str:
    return f"sqlite:///{shop / 'store.db'}"


def tell(shop: Path, *told: LoggedColumns) -> None:
    with Store(url(shop)) as store:
        EventLog(store.engine).append(told)


def again(shop: Path, **options: Any) -> Any:
    return retrain(shop / "data", shop / "models", url(shop), settings=settings(), **options)


def prices(shop: Path) -> dict[int, float]:
    items = read_pool([shop / "data"]).table.items
    assert items is not None
    assert items.columns == ["item_id", "price"]
    return dict(items.iter_rows())


def test_a_model_is_trained_on_what_was_told_last(shop):
    found = again(shop)
    expected = dict(PRICES.iter_rows()) | {5: 9.5, 777: 70.0}
    assert prices(shop) == expected
    assert "columns of 2 items as events told them last" in found.said
    assert "events tell columns of 1 user, but the data have no side table of users" in found.said
    bundle = Bundle.load(ModelRegistry(shop / "models").pointer())
    table = read_pool([shop / "data"]).table
    fitted = Encoder.fit(table.take(range(found.version.record.trained.requests))).items
    rows = bundle.encoder.items.vocabulary.rows(PRICES["item_id"])
    assert bundle.encoder.items.table.numeric[rows].equal(fitted.table.numeric[rows])
    assert pl.read_parquet(shop / "data" / "items.parquet").equals(PRICES)


def test_each_export_takes_what_holds_then(shop):
    with Store(url(shop)) as store:
        export_new(store, shop / "data")
    tell(shop, LoggedColumns("items", 5, 4, {"price": 3.0}))
    assert prices(shop)[5] == 9.5
    serve(url(shop), day(1))
    with Store(url(shop)) as store:
        export_new(store, shop / "data")
    assert prices(shop)[5] == 3.0


def test_a_dry_run_learns_it_too_and_keeps_nothing(shop):
    found = again(shop, dry_run=True)
    assert "columns of 2 items as events told them last" in found.said
    assert prices(shop) == dict(PRICES.iter_rows())


def test_without_events_nothing_is_said(tmp_path):
    warm(tmp_path / "data")
    serve(url(tmp_path), day(0))
    assert not any("told" in sentence for sentence in again(tmp_path).said)


def test_what_is_left_out_is_said_and_kept_with_the_version(shop):
    """Ids and values of another type, and columns that the table lacks, were counted as taken."""
    tell(
        shop,
        LoggedColumns("items", "5", 2, {"price": 9.5}),
        LoggedColumns("items", 6, 2, {"price": "dear"}),
        LoggedColumns("items", 7, 2, {"colour": "blue"}),
    )
    found = again(shop)
    assert "columns of 2 items as events told them last" in found.said
    left = (
        "left out of what events told of items: 1 item with an id of another type than the table's; "
        "column 'colour' of 2 items, which the table has not, or no value of; "
        "column 'price' of 1 item, as a value of another type or length"
    )
    assert left in found.said
    note = found.version.record.note
    assert note.startswith(left)
    assert "events tell columns of 1 user, but the data have no side table of users" in note


def test_no_event_stops_every_retraining(shop):
    """A date that no calendar has was stored by the server, and ended each export with an internal
    fault from then on."""
    dates = pl.Series("born", [date(2020, 1, 1)] * PRICES.height)
    count = pl.Series("count", [1] * PRICES.height, dtype=pl.UInt8)
    PRICES.with_columns(dates, count).write_parquet(shop / "data" / "items.parquet")
    tell(shop, LoggedColumns("items", 7, 2, {"born": 1e15, "count": 300, "price": 3e38}))
    assert again(shop).outcome == "promoted"
    items = read_pool([shop / "data"]).table.items
    assert items is not None
    assert items.row(7, named=True) == pytest.approx(
        {"item_id": 7, "price": 3e38, "born": 1e15, "count": 300}
    )
    assert items["born"][0] == 18_262


def test_what_holds_after_the_moment_is_not_exported(shop):
    """A retraining until a moment learnt what was told after it."""
    until = datetime(2024, 1, 5, tzinfo=UTC)
    tell(shop, LoggedColumns("items", 5, int(until.timestamp() * 1e6), {"price": 3.0}))
    again(shop, until=until)
    assert prices(shop)[5] == 9.5


def known_ages(shop: Path) -> list[int]:
    users = read_pool([shop / "data"]).table.users
    assert users is not None
    return users["age"].to_list()


def test_the_next_export_forgets_whom_the_store_forgot(shop):
    ages = pl.DataFrame({"user_id": list(range(150)), "age": [30] * 150})
    ages.write_parquet(shop / "data" / "users.parquet")
    again(shop)
    assert 40 in known_ages(shop)
    with Store(url(shop)) as store:
        EventLog(store.engine).forget(3)
    serve(url(shop), day(1))
    again(shop)
    assert 40 not in known_ages(shop)
    assert prices(shop)[5] == 9.5


def test_a_kill_between_what_was_told_and_the_requests_changes_nothing(shop, monkeypatch):
    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pool_module, "put_in_place", killed)
        with pytest.raises(KeyboardInterrupt):
            again(shop)
    tell(shop, LoggedColumns("items", 5, 4, {"price": 3.0}))
    found = again(shop)
    assert (found.outcome, found.version.number) == ("promoted", 1)
    assert prices(shop)[5] == 3.0
    tell(shop, LoggedColumns("items", 5, 5, {"price": 4.0}))
    assert again(shop).outcome == "known"  # nothing to judge it on; the next export takes it
    assert prices(shop)[5] == 3.0


def test_a_damaged_file_is_named(shop):
    again(shop)
    (shop / "data" / "served" / "told.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(DataError, match=r"told.parquet' is damaged .* the next export writes it"):
        read_pool([shop / "data"])
