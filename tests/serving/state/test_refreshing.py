"""Retrieval learnt anew from a store's events: as the import learnt it, then with what came later."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from goalrank.api import RetrainSettings
from goalrank.api.retraining.pool import read_pool
from goalrank.api.retraining.retrain import _refreshed, _Run
from goalrank.errors import ConfigError
from goalrank.logs import LearntRetrieval, LogRows, import_dataset, read_log, refresh
from goalrank.models import ModelRegistry
from goalrank.requests import Requests
from goalrank.serving import Store, refreshed_retrieval
from goalrank.serving.state.event_log import EventLog
from goalrank.serving.state.event_rules import EventRules
from goalrank.serving.state.live import LiveState, Wished
from goalrank.serving.state.logged import LoggedEvent
from goalrank.serving.state.replay import replay, rows_for
from goalrank.training import build_config
from tests.logs.logs_data import exposures, kuairand_folder, movielens_folder
from tests.serving.state.test_replay import OPTIONS, earlier_views

LATER = datetime(2025, 1, 1, tzinfo=UTC)


def moment(micros: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)


@pytest.fixture(scope="module", params=["ratings", "exposures", "clicks"])
def replayed(request, tmp_path_factory):
    """An imported log whose rows are events of a store: info, what was learnt, address, side table."""
    folder = tmp_path_factory.mktemp(request.param)
    source = "movielens"
    options: dict[str, Any] = {**OPTIONS, "min_positives": 0}
    if request.param == "ratings":
        path = movielens_folder(folder / "log")
    else:
        source, path = "kuairand", kuairand_folder(folder / "log", exposures(users=20, rows=40))
        earlier_views(path)
        exposed = request.param == "exposures"
        options |= {"max_list": 6} if exposed else {"protocol": "retrieved"}
    import_dataset(source, path, options, out=folder / "data")
    table = Requests.read(folder / "data" / "train.parquet")
    info, learnt = table.info, LearntRetrieval.load(folder / "data" / "retrieval")
    raw = rows_for(read_log(source, path, {}), info)
    url = f"sqlite:///{folder / 's.db'}"
    with Store(url) as store:
        replay(
            raw,
            info,
            EventRules.from_ids(info, {"users": pl.Int64(), "items": pl.Int64()}),
            EventLog(store.engine),
        )
    return info, learnt, url, table.items


@pytest.fixture
def told() -> list[str]:
    return []


def retraining(url: str, told: list[str], folder: Path, learnt: Any) -> _Run:
    data = Path(url.removeprefix("sqlite:///")).parent / "data"
    return _Run(
        ModelRegistry(folder), read_pool([data]), RetrainSettings(), build_config({}), told.append,
        store=url, learnt=learnt,
    )  # fmt: skip


def test_a_retraining_learns_it_anew(replayed, told, tmp_path):
    _, learnt, url, _ = replayed
    run = retraining(url, told, tmp_path, learnt)
    found = _refreshed(run)
    assert found is not None
    newest = run.pool.table.frame["time"][-1]
    assert found.refits == (*learnt.refits, int(newest.timestamp() * 1e6))
    new = found.known - learnt.known
    [said] = told
    assert said.startswith("retrieval learnt anew from the store's events to ")
    assert said.endswith(f": {found.known} items, {new} of them new")
    assert _refreshed(replace(run, store=None)) is learnt


def same(one: LearntRetrieval, other: LearntRetrieval) -> None:
    assert one.arrays.keys() == other.arrays.keys()
    for channel, arrays in other.arrays.items():
        assert one.arrays[channel].keys() == arrays.keys()
        for name, values in arrays.items():
            np.testing.assert_array_equal(one.arrays[channel][name], values, f"{channel} {name}")


def test_at_the_same_moment_it_learns_what_the_import_learnt(replayed):
    info, learnt, url, _ = replayed
    with Store(url) as store:
        found = refreshed_retrieval(store, info, learnt, until=moment(learnt.moment))
    known = learnt.known
    assert found.known == known
    assert found.items.head(known).equals(learnt.items.head(known))
    assert found.items.sort("item_id").equals(learnt.items.sort("item_id"))
    same(found, learnt)
    assert replace(found, items=learnt.items, arrays={}) == replace(learnt, arrays={})


def test_later_events_bring_new_items(replayed):
    info, learnt, url, side = replayed
    values = dict.fromkeys(info.feedback_kinds, 1.0)
    begin = int(LATER.timestamp() * 1e6)
    fans = list(range(900_000, 900_030))
    events = [
        LoggedEvent(fan, item, begin + 60_000_000 * step, values)
        for fan in fans
        for step, item in enumerate((777_001, 777_002))
    ]
    with Store(url) as store:
        log = EventLog(store.engine)
        before = refreshed_retrieval(store, info, learnt, until=LATER, side=side)
        log.append(events)
        found = refreshed_retrieval(store, info, learnt, until=LATER + timedelta(days=1), side=side)
        again = refreshed_retrieval(store, info, learnt, until=LATER + timedelta(days=1), side=side)
    assert found.refits[: len(learnt.refits)] == learnt.refits
    assert found.known == before.known + 2
    same(again, found)
    assert found.items["item_id"].gather([found.known - 2, found.known - 1]).to_list() == [777_001, 777_002]  # fmt: skip
    live = LiveState(info, found)
    live.add(log_rows(url))
    if live.linked is not None and live.linked.channels:
        row = live.retrieve([Wished(fans[0], begin + 40_000_000, 8, exclude_seen=False)])[0]
        assert 777_002 in row["candidates"]  # who took the first took the second


def log_rows(url: str):
    with Store(url) as store:
        parts = [part.events for part in EventLog(store.engine).after(0)]
    return pl.concat(parts, how="diagonal")


def test_events_that_lack_the_imported_log_are_refused(replayed, tmp_path):
    info, learnt, _, _ = replayed
    with Store(f"sqlite:///{tmp_path / 'other.db'}") as store:
        for events in ([], [LoggedEvent(1, 999_999, 10**15, {})]):
            EventLog(store.engine).append(events)
            with pytest.raises(
                ConfigError, match=r"hold 0% of the items .* goalrank events replay"
            ):
                refreshed_retrieval(store, info, learnt, until=LATER)


@pytest.mark.parametrize(("share", "said"), [(0.8, "forgets"), (0.3, "would forget")])
def test_a_replay_that_was_cut_off_is_seen(replayed, told, tmp_path, share, said):
    """Every item was there in a part of the log, and the rest of it was forgotten without a word."""
    info, learnt, url, _ = replayed
    rows = log_rows(url).filter(pl.col("time") < learnt.moment)
    kept = [
        LoggedEvent(
            row["user_id"], row["item_id"], row["time"],
            {k: v for k, v in row.items() if k in (*info.feedback_kinds, "strength") and v},
            shown=row["shown"], before=row["before"], copy=number,
        )
        for number, row in enumerate(rows.iter_rows(named=True))
    ]  # fmt: skip
    kept = kept[: int(share * len(kept))]
    first = {each.item_id for each in kept}
    few = replace(learnt, known=sum(1 for _ in _while_in(learnt.items["item_id"], first)))
    address = f"sqlite:///{tmp_path / 'cut.db'}"
    with Store(address) as store:
        EventLog(store.engine).append(kept)
    run = retraining(url, told, tmp_path, few)
    found = _refreshed(replace(run, store=address))
    assert (found is few) == (said == "would forget")
    assert any(re.search(rf"hold \d\d% of the rows of the .* retrieval {said}", t) for t in told)
    assert run.notes


def _while_in(ids: pl.Series, known: set[Any]) -> Iterator[Any]:
    return itertools.takewhile(known.__contains__, ids)


@pytest.mark.parametrize("chunk", [1, 50_000])
def test_events_of_two_models_are_refused(replayed, tmp_path, monkeypatch, chunk):
    """Ids of both types ended a retraining with an internal fault."""
    info, learnt, _, _ = replayed
    with Store(f"sqlite:///{tmp_path / 'both.db'}") as store:
        log = EventLog(store.engine)
        values = dict.fromkeys(info.feedback_kinds, 1.0)
        log.append([LoggedEvent(one, one, 10**15, values) for one in (1, "a")])
        real = EventLog.after
        monkeypatch.setattr(EventLog, "after", lambda self, at: real(self, at, chunk))
        with pytest.raises(ConfigError, match=r"some ids as texts and others as numbers"):
            refreshed_retrieval(store, info, learnt, until=LATER)


def test_a_moment_before_the_import_is_refused(replayed):
    info, learnt, url, _ = replayed
    with Store(url) as store, pytest.raises(ConfigError, match="cannot be learnt anew"):
        refreshed_retrieval(store, info, learnt, until=moment(learnt.moment - 1))


def test_files_of_version_0_2_0_are_read(replayed, tmp_path):
    _, learnt, _, _ = replayed
    learnt.save(tmp_path)
    path = tmp_path / "retrieval.json"
    kept = json.loads(path.read_text())
    for name in ("refits", "growth", "factors"):
        del kept[name]
    path.write_text(json.dumps({**kept, "moment": learnt.moment}))
    found = LearntRetrieval.load(tmp_path)
    assert found is not None
    assert found.refits == (learnt.moment,)
    assert (found.every_refit, learnt.every_refit) == (False, True)
    if "factorisation" in learnt.arrays:
        assert found.factors == learnt.factors
    found.save(tmp_path)
    again = LearntRetrieval.load(tmp_path)
    assert again is not None
    assert not again.every_refit


def test_what_version_0_2_0_did_not_keep_is_said(replayed, told, tmp_path):
    """Popularity weighed all events before the latest refit alike, and nobody knew."""
    _, learnt, url, _ = replayed
    old = replace(learnt, refits=(learnt.moment,), every_refit=False)
    run = retraining(url, told, tmp_path, old)
    assert _refreshed(run) is not None
    [_, said] = told
    assert said.startswith("retrieval was imported by goalrank 0.2.0")
    assert said.endswith("remedy: import the log again")
    assert run.notes == [said]


def test_times_that_are_left_out_are_not_learnt(replayed, told, tmp_path):
    """A spammed day was left out of the requests, and its links and counts were learnt."""
    info, learnt, url, side = replayed
    begin = LATER + timedelta(days=100)
    values = dict.fromkeys(info.feedback_kinds, 1.0)
    events = [
        LoggedEvent(user, 666_000, int(begin.timestamp() * 1e6) + user, values)
        for user in range(800_000, 800_030)
    ]
    spam, until = (begin, begin + timedelta(days=1)), begin + timedelta(days=2)
    with Store(url) as store:
        before = refreshed_retrieval(store, info, learnt, until=until, side=side)
        EventLog(store.engine).append(events)
        learnt_too = refreshed_retrieval(store, info, learnt, until=until, side=side)
        found = refreshed_retrieval(store, info, learnt, until=until, side=side, exclude=[spam])
    assert learnt_too.known == before.known + 1
    same(found, before)
    run = retraining(url, told, tmp_path, learnt)
    run = replace(run, settings=RetrainSettings(exclude=(spam,)))
    _refreshed(run)
    assert ", without those of the times that are left out: " in told[-1]


def test_who_came_first_may_be_forgotten(replayed, tmp_path):
    """The refits of the import stay; at the first of them nobody may be known any more."""
    info, learnt, url, side = replayed
    early = replace(learnt, refits=(1, *learnt.refits))
    with Store(url) as store:
        found = refreshed_retrieval(store, info, early, until=LATER, side=side)
        expected = refreshed_retrieval(store, info, learnt, until=LATER, side=side)
    same(found, expected)


def test_a_side_table_without_the_categories_is_refused(replayed, told, tmp_path):
    info, learnt, url, side = replayed
    if not learnt.categories:
        pytest.skip("no categories were imported")
    said = f"the side table of items lacks {', '.join(learnt.categories)}"
    run = retraining(url, told, tmp_path, learnt)
    table = run.pool.table
    bare = Requests(table.frame, items=side.select("item_id"), users=table.users, info=info)
    assert _refreshed(replace(run, pool=replace(run.pool, table=bare))) is learnt
    assert told[0].startswith(f"retrieval stays as imported: {said}")


def test_no_event_before_the_moment_is_refused(replayed):
    _, learnt, _, _ = replayed
    none = np.zeros(0, np.int64)
    ids = pl.Series([], dtype=pl.Int64)
    flags = np.zeros(0, bool)
    rows = LogRows(ids, ids, none, none, none, none.astype(np.uint64), flags, flags)
    with pytest.raises(ConfigError, match="no events to learn from"):
        refresh(learnt, rows, until=learnt.moment)
