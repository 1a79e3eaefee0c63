"""goalrank store backup, check and compact, beside a store that is written to."""

from __future__ import annotations

import json
import sqlite3
import threading
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from goalrank.cli.application import app
from goalrank.errors import StoreFullError
from goalrank.serving.store import upkeep
from goalrank.serving.store.store import Store
from goalrank.serving.store.upkeep import backup_store, check_store, compact_store
from tests.serving.store.test_store import events, exposures
from tests.serving.store.test_withdrawn import stalled
from tests.tables import NOON, make_table


def ask(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["store", *map(str, arguments)])
    return done.exit_code, done.output


def asked(*arguments: object) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["store", *map(str, arguments), "--json"])
    assert done.exit_code in (0, 3), done.output
    return json.loads(done.stdout)


@pytest.fixture
def file(tmp_path) -> Path:
    """A store of 48 exposures, an hour apart from noon on."""
    table = make_table(48)
    with Store(f"sqlite:///{tmp_path / 's.db'}") as store:
        store.describe(table.info)
        store.record(exposures(table))
        store.feedback(events(table))
    return tmp_path / "s.db"


def ids(path: Path) -> set[str]:
    with Store(f"sqlite:///{path}") as store:
        return {row["request_id"] for part in store.rows() for row in part}


def test_a_copy_is_the_store_of_one_moment_while_others_write(file, tmp_path):
    url = f"sqlite:///{file}"
    rows = exposures(make_table(400, seed=5))
    stop = threading.Event()
    stored: list[set[str]] = [ids(file)]

    def write() -> None:
        for i in range(0, 400, 2):
            if stop.is_set():
                return
            store.record(rows[i : i + 2])
            stored.append(stored[-1] | {each.request_id for each in rows[i : i + 2]})

    with Store(url) as store:
        writer = threading.Thread(target=write)
        writer.start()
        copies = [tmp_path / "copies" / f"{number}.db" for number in range(5)]
        for copy in copies:
            assert asked("backup", "--store", url, "--out", copy)["bytes"] == copy.stat().st_size
        stop.set()
        writer.join()
    found = [ids(copy) for copy in copies]
    print(
        f"copies of {[len(each) for each in found]} exposures while {len(stored[-1])} were stored"
    )
    # A commit may be seen by the copy before the writer is told of it.
    last = stored[-1]
    whole = [{each.request_id for each in rows[i : i + 2]} for i in range(0, 400, 2)]
    for each in found:
        assert stored[0] <= each <= last
        assert all(len(pair & each) in (0, 2) for pair in whole)
    assert all(a <= b for a, b in pairwise(found))
    with Store(f"sqlite:///{copies[0]}") as copy_store, Store(url) as store:
        assert copy_store.info == store.info
        assert copy_store.count()[1] == store.count()[1]


def test_a_copy_replaces_nothing_and_needs_a_store(file, tmp_path):
    url = f"sqlite:///{file}"
    out = tmp_path / "copy.db"
    out.write_text("mine")
    code, said = ask("backup", "--store", url, "--out", out)
    assert code == 2
    assert "exists already" in said
    assert out.read_text() == "mine"
    for verb in (("backup", "--out", tmp_path / "new.db"), ("check",), ("compact",)):
        code, said = ask(*verb, "--store", f"sqlite:///{tmp_path / 'none.db'}")
        assert code != 0
        assert "there is no store at" in said
    assert sorted(path.name for path in tmp_path.iterdir() if "s.db" not in path.name) == [
        "copy.db"
    ]


def damage(path: Path) -> None:
    """Overwrite pages in the middle, as a bad disk does."""
    with path.open("r+b") as opened:
        for page in range(3, path.stat().st_size // 4096):
            opened.seek(page * 4096)
            opened.write(b"\xff" * 100)


def forget_exposures(path: Path) -> None:
    with sqlite3.connect(path) as plain:
        plain.execute("DELETE FROM exposures WHERE request_id = 's0r1'")


def cut_body(path: Path) -> None:
    with sqlite3.connect(path) as plain:
        plain.execute("UPDATE exposures SET body = '{\"a' WHERE request_id = 's0r1'")


@pytest.mark.parametrize("harm", [damage, forget_exposures, cut_body])
def test_damage_is_found_and_not_copied(file, tmp_path, harm):
    url = f"sqlite:///{file}"
    assert asked("check", "--store", url)["faults"] == []
    harm(file)
    found = asked("check", "--store", url)
    print(harm.__name__, found["faults"][:2])
    assert found["faults"]
    code, said = ask("check", "--store", url)
    assert code == 3
    assert "damaged: " in said
    assert "goalrank store backup" in said
    code, said = ask("backup", "--store", url, "--out", tmp_path / "copy.db")
    assert code != 0
    assert not (tmp_path / "copy.db").exists()


def test_another_file_is_no_store(tmp_path):
    path = tmp_path / "other.db"
    path.write_text("no database at all, " * 100)
    assert check_store(f"sqlite:///{path}").faults
    path.unlink()
    with sqlite3.connect(path) as plain:
        plain.execute("CREATE TABLE mine (a)")
    assert check_store(f"sqlite:///{path}").faults == ("it holds no tables of goalrank",)


def test_counts_and_the_hint_of_retention(store_url):
    table = make_table(48)
    with Store(store_url) as store:
        store.record(exposures(table))
        store.feedback(events(table))
        found = asked("check", "--store", store_url)
        assert (found["exposures"], found["feedback"]) == store.count()
    assert found["oldest"] == NOON.isoformat()
    assert found["newest"] == (NOON + timedelta(hours=47)).isoformat()
    assert found["bytes"] > 10_000
    assert found["older"]
    assert "goalrank store purge --days 90" in ask("check", "--store", store_url)[1]
    assert not asked("check", "--store", store_url, "--days", 100_000)["older"]


def test_compacting_gives_space_back_under_an_open_store(store_url):
    rows = exposures(make_table(1500, seed=3))
    with Store(store_url) as store:
        store.record(rows)
        assert store.purge(sorted(each.time for each in rows)[1400]) == 1400
        got = asked("compact", "--store", store_url)
        assert got["after"] < got["before"] / 3
        assert store.count() == (100, 0)
        store.record(exposures(make_table(5, seed=4)))
        assert store.count() == (105, 0)
    assert check_store(store_url).faults == ()
    assert check_store(store_url).exposures == 105


def test_a_store_that_stays_locked_or_a_full_disk_changes_nothing(file, monkeypatch):
    url = f"sqlite:///{file}"
    before = file.read_bytes()
    monkeypatch.setattr(upkeep, "STATEMENT_S", 0.1)
    with stalled(url):
        code, said = ask("compact", "--store", url)
    assert code != 0
    assert "locked" in said
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 9})())
    with pytest.raises(StoreFullError, match="9 are free"):
        compact_store(url)
    assert file.read_bytes() == before


def test_postgresql_has_its_own_copies(postgres, tmp_path):
    code, said = ask("backup", "--store", postgres.new(), "--out", tmp_path / "copy.db")
    assert code == 2
    assert "pg_dump" in said


@pytest.mark.skipif(
    int(sa.__version__.split(".")[1]) == 0,
    reason="SQLAlchemy 2.0 opens the path of an address as it is written",
)
def test_a_path_with_signs_of_an_address(file, tmp_path):
    file.rename(tmp_path / "a b#c?.db")
    url = f"sqlite:///{tmp_path}/a b#c%3F.db"
    assert backup_store(url, tmp_path / "copy.db") > 0
    assert check_store(url).exposures == 48
