"""What events say of items and users is in the side tables that a retraining learns from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from goalrank.api import retrain
from goalrank.api.retraining.pool import export_new, read_pool
from goalrank.bundles import Bundle
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
