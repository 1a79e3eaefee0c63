"""A whole log through a state, compared with its import cell by cell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from goalrank.errors import ConfigError, DataError
from goalrank.logs import LearntRetrieval, import_dataset
from goalrank.logs.events.consumption import to_arrays
from goalrank.logs.options import ImportOptions
from goalrank.logs.readers.sources import SOURCES
from goalrank.logs.retrieval.refits import refit_moments
from goalrank.logs.spill.folder import Spill
from goalrank.requests import ComputedFeatures, LogRule, Requests, TableInfo
from goalrank.serving.state.event_log import EventLog
from goalrank.serving.state.event_rules import EventRules
from goalrank.serving.state.live import Asked, LiveState
from goalrank.serving.state.replay import replay
from goalrank.serving.store.database import open_engine
from tests.logs.logs_data import START, exposures, kuairand_folder, movielens_folder

OPTIONS = {"first_fit": 100, "factors": 4, "candidates": 12, "stride": 5, "history": 20}
PARTS = ("train", "validation", "test")


def every_request(folder):
    tables = [Requests.read(folder / f"{part}.parquet", validate=False) for part in PARTS]
    return pl.concat([table.frame for table in tables]).sort("time"), tables[0].info


def live_of(folder, info, raw):
    live = LiveState(info, LearntRetrieval.load(folder / "retrieval"))
    if raw.prior is not None:
        live.add(raw.prior.with_columns(before=True))
    live.add(raw.events)
    return live


def micros(frame, name):
    return frame[name].cast(pl.Int64)


def compare(live, frame, info, since):
    """Each request against the state at its moment; linked features from the latest refit on."""
    linked = [] if live.linked is None else live.linked.names
    compared = 0
    for row in frame.iter_rows(named=True):
        at = int(row["time"].timestamp() * 1e6 + 0.5)
        asked = Asked(row["user_id"], at, row["candidates"])
        found = live.rows([asked])[0]
        if live.retrieves and at >= since:
            assert found["candidate_score"] == pytest.approx(row["candidate_score"], abs=1e-6)
        for name in ("history", "history_feedback", "history_time"):
            assert found[name] == row[name], (row["request_id"], name)
        mine, theirs = np.array(found["candidate_features"]), np.array(row["candidate_features"])
        for number, name in enumerate(info.candidate_features):
            if name in linked and at < since:
                continue
            np.testing.assert_allclose(
                mine[:, number], theirs[:, number], rtol=0, atol=1e-6, err_msg=name
            )
            compared += 1
    return compared


def imported(source, path, out, options):
    import_dataset(source, path, options, out=out)
    return (*every_request(out), SOURCES[source](path, ImportOptions.from_mapping(options)))


def earlier_views(folder):
    """What users watched before the log, at the time of their last view."""
    pl.DataFrame(
        {
            "user_id": [0, 1, 99],
            "last_time_ms": [START * 1000 - 5, START * 1000 - 9, START * 1000],
            "watch_seq": [[3, 5, 3], [7], [1]],
            "long_watch_seq": [[5], [], []],
            "like_seq": [[5], [7], []],
        }
    ).write_parquet(folder / "user_history_sequences.parquet")


def test_exposures(tmp_path):
    options = {**OPTIONS, "max_list": 6}
    log = exposures(users=20, rows=40)
    path = kuairand_folder(tmp_path / "k", log)
    earlier_views(path)
    frame, info, raw = imported("kuairand", path, tmp_path / "out", options)
    clicked = np.sort(raw.events.filter(pl.col("strength") > 0)["time"].to_numpy())
    since = refit_moments(clicked, 100, 1.5)[-1]
    live = live_of(tmp_path / "out", info, raw)
    assert frame.filter(micros(frame, "time") >= since).height > 5
    assert compare(live, frame, info, since) > 25 * frame.height
    assert live.state.histories([99]).length.tolist() == [1]


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_ratings(tmp_path, exclude_seen):
    options = {**OPTIONS, "exclude_seen": exclude_seen, "min_positives": 0}
    path = movielens_folder(tmp_path / "m")
    frame, info, raw = imported("movielens", path, tmp_path / "out", options)
    since = refit_moments(np.sort(raw.events["time"].to_numpy()), 100, 1.5)[-1]
    live = live_of(tmp_path / "out", info, raw)
    late = frame.filter(micros(frame, "time") >= since)
    assert late.height > 20
    assert compare(live, frame, info, since) > 15 * frame.height


def test_candidates_are_those_of_the_import(tmp_path):
    options = {**OPTIONS, "min_positives": 0}
    path = movielens_folder(tmp_path / "m")
    frame, info, raw = imported("movielens", path, tmp_path / "out", options)
    since = refit_moments(np.sort(raw.events["time"].to_numpy()), 100, 1.5)[-1]
    live = live_of(tmp_path / "out", info, raw)
    late = frame.filter(micros(frame, "time") >= since)
    assert live.linked is not None
    for row in late.iter_rows(named=True):
        live.state.advance(int(row["time"].timestamp() * 1e6 + 0.5))
        found = live.linked.retrieve([row["user_id"]])
        score = dict(zip((live.state.items.ids[c] for c in found.candidates[0]), found.score[0]))
        assert sorted(score) == sorted(row["candidates"])
        expected = dict(zip(row["candidates"], row["candidate_score"]))
        assert score == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("value", "refused"), [(1e6, False), (-1.1e6, True), (2e6, True)])
def test_import_and_replay_refuse_the_same_values(tmp_path, value, refused):
    path = movielens_folder(tmp_path / "log")
    raw = SOURCES["movielens"](path, ImportOptions.from_mapping(OPTIONS))
    large = pl.when(pl.int_range(pl.len()) == 7).then(value).otherwise("like").cast(pl.Float32)
    raw = replace(raw, events=raw.events.with_columns(like=large))
    computed = ComputedFeatures(kinds=raw.rate_kinds)
    info = TableInfo(feedback_kinds=raw.kinds, target=raw.target, computed=computed,
                     log=LogRule(shape="interactions", strength=("rating",), depth=5))  # fmt: skip
    rules = EventRules.from_ids(info, {"users": pl.Int64(), "items": pl.Int64()})
    log = EventLog(open_engine(f"sqlite:///{tmp_path / 'log.db'}"))
    (tmp_path / "spill").mkdir()
    for refuses, act in (
        (ConfigError, lambda: replay(raw, info, rules, log)),
        (DataError, lambda: to_arrays(raw, Spill(tmp_path / "spill"))),
    ):
        if refused:
            with pytest.raises(refuses, match="between -1e6 and 1e6"):
                act()
        else:
            act()
