"""goalrank store: export by time and retention, on every kind of store."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from goalrank.cli.application import app
from goalrank.requests import Requests
from goalrank.serving.store.export import export_store
from goalrank.serving.store.store import Store
from tests.serving.store.test_store import events, exposures
from tests.tables import NOON, make_table


def command(*arguments: object) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["store", *map(str, arguments), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture
def filled(store_url):
    table = make_table(48)  # an hour apart, from noon on
    with Store(store_url) as store:
        store.describe(table.info)
        store.record(exposures(table))
        store.feedback(events(table))
    return store_url, table


def test_export_by_time(filled, tmp_path):
    url, table = filled
    start, end = NOON + timedelta(hours=10), NOON + timedelta(hours=30)
    got = command(
        "export", "--store", url, "--out", tmp_path / "out", "--validation", 0.25,
        "--start", start.strftime("%Y-%m-%dT%H:%M:%S"), "--end", end.strftime("%Y-%m-%dT%H:%M:%S"),
    )  # fmt: skip
    assert got["requests"] == {"train": 15, "validation": 5}
    parts = [Requests.read(tmp_path / "out" / part).frame for part in ("train", "validation")]
    assert [name for part in parts for name in part["request_id"]] == [
        f"s0r{i}" for i in range(10, 30)
    ]
    assert parts[0]["feedback"].equals(table.frame["feedback"][10:25])
    again = CliRunner().invoke(
        app, ["store", "export", "--store", url, "--out", str(tmp_path / "out")]
    )
    assert again.exit_code == 3
    assert "exists already" in again.output


def test_export_in_small_chunks_is_the_same(filled, tmp_path):
    url, _ = filled
    with Store(url) as store:
        for chunk in (7, 10_000):
            export_store(store, tmp_path / str(chunk), chunk=chunk)
    for part in ("train", "validation"):
        few, many = (Requests.read(tmp_path / name / part).frame for name in ("7", "10000"))
        assert few.equals(many)


def test_requests_with_and_without_scores(store_url, tmp_path):
    rows = exposures(make_table(6))
    with Store(store_url) as store:
        store.describe(make_table(1).info)
        store.record([dataclasses.replace(rows[0], candidate_score=None), *rows[1:]])
        export_store(store, tmp_path / "all")
        export_store(store, tmp_path / "later", start=rows[1].time)
    scores = Requests.read(tmp_path / "all" / "train").frame["candidate_score"]
    assert scores.is_null().to_list() == [True, False, False, False, False, False]
    assert Requests.read(tmp_path / "later" / "train").frame["candidate_score"].null_count() == 0


def test_retention(filled):
    url, _ = filled
    assert command("purge", "--store", url, "--before", "2024-05-02T00:00:00")["purged"] == 12
    with Store(url) as store:
        left = [row for part in store.rows() for row in part]
        assert [row["request_id"] for row in left] == [f"s0r{i}" for i in range(12, 48)]
        assert store.count()[1] == sum(len(row["slot_feedback"]) for row in left)
    age = (datetime.now(UTC) - NOON).days + 1
    assert command("purge", "--store", url, "--days", age)["purged"] == 0
    assert command("purge", "--store", url, "--days", 1)["purged"] == 36
    with Store(url) as store:
        assert store.count() == (0, 0)


@pytest.mark.parametrize("options", [(), ("--days", "1", "--before", "2024-05-02")])
def test_retention_needs_one_limit(tmp_path, options):
    done = CliRunner().invoke(
        app, ["store", "purge", "--store", f"sqlite:///{tmp_path / 's.db'}", *options]
    )
    assert done.exit_code == 2
    assert "--days or --before" in done.output
    assert not (tmp_path / "s.db").exists()


def test_purging_in_parts_forgets_all(store_url):
    with Store(store_url) as store:
        store.record(exposures(make_table(25)))
        assert store.purge(NOON + timedelta(hours=24), chunk=5) == 24
        assert store.count() == (1, 0)
