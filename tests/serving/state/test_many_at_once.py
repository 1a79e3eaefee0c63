"""Many requests to a state at once get what each gets alone; those that wait are filled together."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pytest

from goalrank.errors import ConfigError, OverloadError
from goalrank.logs import LearntRetrieval, import_dataset
from goalrank.logs.options import ImportOptions
from goalrank.logs.readers.sources import SOURCES
from goalrank.requests import Requests, TableInfo
from goalrank.serving.http.schemas import RankBody
from goalrank.serving.ranking.batcher import Batcher
from goalrank.serving.state.filling import Filler
from goalrank.serving.state.keeper import StateKeeper
from goalrank.serving.state.live import Asked, LiveState, Wished
from goalrank.serving.state.pending import PendingRows
from tests.logs.logs_data import movielens_folder
from tests.serving.state.kit import empty_state

OPTIONS = {"first_fit": 100, "factors": 4, "candidates": 12, "stride": 5, "history": 20}


@pytest.fixture(scope="module")
def live(tmp_path_factory) -> LiveState:
    return made_live(tmp_path_factory.mktemp("many"))


def made_live(folder: Path, **more: Any) -> LiveState:
    """A state after the log that was imported."""
    path, options = movielens_folder(folder / "log"), {**OPTIONS, **more}
    import_dataset("movielens", path, options, out=folder / "data")
    info = Requests.read(folder / "data" / "test.parquet").info
    made = LiveState(info, LearntRetrieval.load(folder / "data" / "retrieval"))
    made.add(SOURCES["movielens"](path, ImportOptions.from_mapping(options)).events)
    return made


def test_users_for_whom_nothing_is_found_get_none_in_each_way(tmp_path):
    """Links alone find nothing for a user without a history."""
    live = made_live(tmp_path, quotas={"item_to_item": 1.0})
    known, now = live.state.users.ids[0], int(datetime.now(UTC).timestamp() * 1e6)
    for seen in (None, True, False):
        assert live.retrieve([Wished(987_654, now, None, seen)])[0]["candidates"] == []
        both = live.retrieve([Wished(user, now, None, seen) for user in (987_654, known)])
        assert [bool(row["candidates"]) for row in both] == [False, True]


def test_what_the_state_did_not_keep_cannot_be_left_out(tmp_path):
    live = made_live(tmp_path, exclude_seen=False)
    user, now = live.state.users.ids[0], live.state.newest + 1
    with pytest.raises(ConfigError, match=r"exclude_seen is true.*remedy: leave exclude_seen out"):
        live.retrieve([Wished(user, now, 12, True)])
    assert live.retrieve([Wished(user, now, 12)]) == live.retrieve([Wished(user, now, 12, False)])


def close(one: Any, other: Any) -> bool:
    """Whether two rows are equal, numbers to 10⁻⁶: sums of products depend on how many there are."""
    if isinstance(one, float):
        return one == pytest.approx(other, abs=1e-6)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(close(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(close, one, other))
    return bool(one == other)


def asked(live: LiveState, count: int) -> list[Asked]:
    """Requests of known and unknown users for candidates of several numbers."""
    rng, items = np.random.default_rng(0), live.state.items.ids
    users = [*live.state.users.ids[: count - 1], 987_654]
    sizes = rng.integers(1, 9, count)
    return [
        Asked(user, live.state.clock + 5, [items[at] for at in rng.permutation(len(items))[:size]])
        for user, size in zip(users, sizes)
    ]


@pytest.mark.parametrize("most", [2_000_000, 1, 200])
def test_rows_of_many_are_those_of_each(live, monkeypatch, most):
    monkeypatch.setattr("goalrank.serving.state.live._MOST_SCORES", most)
    wanted = asked(live, 9)
    found = live.rows(wanted)
    assert len(found) == 9
    assert all(close(row, live.rows([each])[0]) for row, each in zip(found, wanted))
    assert live.rows([]) == []


@pytest.mark.parametrize("most", [2_000_000, 1])
def test_candidates_of_many_are_those_of_each(live, monkeypatch, most):
    monkeypatch.setattr("goalrank.serving.state.live._MOST_SCORES", most)
    users, now = [*live.state.users.ids[:8], 987_654], live.state.clock + 5
    counts, seen = [None, 3, 7, 3], [None, True, False]
    wished = [Wished(u, now, counts[i % 4], seen[i % 3]) for i, u in enumerate(users)]
    found = live.retrieve(wished)
    assert [len(row["candidates"]) for row in found[1:4]] == [3, 7, 3]
    assert all(close(row, live.retrieve([each])[0]) for row, each in zip(found, wished))


def test_scores_of_all_items_are_held_for_few_requests_at_once(live, monkeypatch):
    """A batch of 1,000 requests on 10⁵ items would hold 10⁸ scores per channel."""
    sizes = []
    of = live.linked.of

    def noted(users: list[Any], candidates: Any) -> Any:
        sizes.append(len(users))
        return of(users, candidates)

    monkeypatch.setattr("goalrank.serving.state.live._MOST_SCORES", 4 * live.linked.known)
    monkeypatch.setattr(live.linked, "of", noted)
    live.rows(asked(live, 10))
    assert sizes == [4, 4, 2]


@dataclass
class Keeper:
    """A keeper whose first answer can be held up; an unknown user is refused."""

    held: threading.Event = field(default_factory=threading.Event)
    begun: threading.Event = field(default_factory=threading.Event)
    sizes: list[int] = field(default_factory=list)

    @property
    def live(self) -> Any:
        @dataclass
        class Live:
            info: TableInfo
            retrieves: bool = False

        return Live(TableInfo(feedback_kinds=("click",), target="click"))

    def rows(self, wanted: list[Asked]) -> list[dict[str, Any]]:
        self.sizes.append(len(wanted))
        self.begun.set()
        assert self.held.wait(10)
        if any(each.user_id < 0 for each in wanted):
            raise ConfigError("no such user")
        return [
            {"history": [each.user_id], "history_feedback": [1.0], "history_time": []}
            for each in wanted
        ]

    def ahead(self, moment: datetime) -> float:
        return 0.0


def filled(jobs: list[list[int]]) -> tuple[Keeper, list[Any]]:
    """Fill in jobs of users, all but the first of which wait for it."""
    keeper = Keeper()
    filler = Filler(cast(StateKeeper, keeper))
    bodies = [[RankBody(user_id=user, candidates=[1, 2]) for user in job] for job in jobs]
    futures = [filler.submit(bodies[0])]
    assert keeper.begun.wait(10)
    futures += [filler.submit(each) for each in bodies[1:]]
    keeper.held.set()
    wait(futures, 10)
    filler.close(5)
    return keeper, futures


def test_what_waits_is_filled_together():
    keeper, futures = filled([[5], [6], [7, 8], [9]])
    assert keeper.sizes == [1, 4]
    found = [[body.history for body in each.result().bodies] for each in futures]
    assert found == [[[5]], [[6]], [[7], [8]], [[9]]]
    assert [each.result().ahead for each in futures] == [[0.0], [0.0], [0.0, 0.0], [0.0]]
    assert futures[0].result().now <= futures[1].result().now <= datetime.now(UTC)


def test_a_fault_stays_alone():
    keeper, futures = filled([[5], [6], [-7], [8, 9]])
    assert keeper.sizes == [1, 4, 1, 1, 2]
    with pytest.raises(ConfigError, match="no such user"):
        futures[2].result()
    assert [body.history for body in futures[3].result().bodies] == [[8], [9]]


def test_what_comes_after_the_end_is_refused():
    """Nobody would fill it in: who waited for it would wait for ever."""
    filler = Filler(cast(StateKeeper, Keeper()))
    filler.close(5)
    with pytest.raises(OverloadError):
        filler.submit([RankBody(user_id=1, candidates=[1])])


def test_a_panic_of_the_work_goes_to_its_caller():
    """A thread that it ended would leave all who come later waiting."""

    def work(jobs: Sequence[int]) -> Sequence[int]:
        if 0 in jobs:
            raise pl.exceptions.PanicException("made up")
        return jobs

    batcher: Batcher[int, int] = Batcher(work)
    with pytest.raises(RuntimeError, match="made up"):
        batcher.submit(0).result(5)
    assert batcher.submit(3).result(5) == 3
    batcher.close(5)


def test_rows_that_were_taken_keep_no_memory():
    pending = PendingRows(np.zeros(0, [("time", np.int64)]))
    for part in np.split(np.arange(10_000), 20):
        pending.add(part.astype(pending.rows.dtype))
    for moment in range(0, 9_900, 100):
        assert pending.take_before(moment)["time"].tolist() == list(
            range(max(moment - 100, 0), moment)
        )
        whole = pending.rows if pending.rows.base is None else pending.rows.base
        assert len(whole) <= 2 * len(pending)


def test_a_metric_does_not_touch_what_waits():
    """Sizes are read without the lock: rows sorted meanwhile would lose those that come just then."""
    pending = PendingRows(np.zeros(0, [("time", np.int64)]))
    for time in (9, 3, 7):
        pending.add(np.array([(time,)], pending.rows.dtype))
    before = [part.tolist() for part in pending._more]
    assert pending.bytes == 3 * 8
    assert [part.tolist() for part in pending._more] == before
    assert pending.rows["time"].tolist() == [3, 7, 9]
    state = empty_state("interactions")
    state.pending = pending
    pending.add(np.array([(1,)], pending.rows.dtype))
    none = empty_state("interactions").bytes
    assert state.bytes - none == 4 * 8
    assert len(pending._more) == 1
