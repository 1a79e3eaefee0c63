"""Work in pieces on disk gives what plain work in memory gives, bit for bit."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from pyarrow.parquet import ParquetFile

from goalrank.errors import DataError
from goalrank.logs import import_dataset, import_log
from goalrank.logs.candidates.features import LogFeatures
from goalrank.logs.events.ordering import order_rows
from goalrank.logs.events.past_sums import PastSums
from goalrank.logs.events.running_counts import RunningCounts
from goalrank.logs.events.time_index import TimeIndex
from goalrank.logs.retrieval.learned_blend import BlendLearner, share_choices
from goalrank.logs.spill.folder import Spill, spilling
from goalrank.requests import Requests
from tests.logs.logs_data import kuairand_folder, movielens_folder
from tests.logs.plain_arrays import build_events, fit_codes, time_order

PARTS = ("train", "validation", "test")
rows = st.lists(
    st.tuples(
        st.integers(0, 4), st.integers(0, 6), st.integers(0, 5), st.integers(0, 1),
        st.none() | st.integers(0, 2),
    ),
    min_size=1, max_size=40,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(rows, rows, st.booleans(), st.booleans(), st.booleans(), st.integers(1, 9))
def test_order_in_pieces_is_plain_order(
    tmp_path_factory, given_rows, earlier, text, with_prior, drop_copies, chunk
):
    frame = pl.DataFrame(
        given_rows, schema=["user_id", "item_id", "time", "rating", "order"], orient="row"
    ).with_columns(pl.col("rating").cast(pl.Float32))
    prior = None
    if with_prior:
        prior = pl.DataFrame([r[:3] for r in earlier], schema=["user_id", "item_id", "time"],
                             orient="row")  # fmt: skip
    if text:
        named = pl.format("i{}", "item_id").alias("item_id")
        frame = frame.with_columns(named)
        prior = None if prior is None else prior.with_columns(named)
    spill = Spill(tmp_path_factory.mktemp("spill"), chunk=chunk)
    got = order_rows(
        frame, prior, ("rating",), seed=3, drop_copies=drop_copies, spill=spill
    )  # fmt: skip
    table = np.concatenate(list(got.buckets))
    plain = time_order(frame.unique(maintain_order=True) if drop_copies else frame, 3)
    base = plain.select("user_id", "item_id", "time")
    if prior is not None:
        base = pl.concat([prior, base]).sort("time", maintain_order=True)
    users, items = (fit_codes(base[n], base["time"]) for n in ("user_id", "item_id"))
    want = build_events(plain, users, items, ("rating",))
    for mine, theirs in ((got.users, users), (got.items, items)):
        assert mine.ids.to_list() == theirs.ids.to_list()
        np.testing.assert_array_equal(mine.hashes, theirs.hashes)
        np.testing.assert_array_equal(mine.first_time, theirs.first_time)
    own = table[~table["prior"]]
    for name in ("user", "item", "time"):
        np.testing.assert_array_equal(own[name], getattr(want, name))
    np.testing.assert_array_equal(own["rating"], want.values["rating"])
    everything = build_events(base, users, items, ())
    if not drop_copies or prior is None:
        np.testing.assert_array_equal(table["item"], everything.item)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**31).map(np.random.default_rng), st.integers(1, 40))
def test_running_counts_are_sums_over_earlier_rows(rng, window):
    count, items = int(rng.integers(0, 60)), 6
    time = np.sort(rng.integers(0, 20, count))
    item = rng.integers(0, items, count).astype(np.int32)
    values = rng.random(count).astype(np.float32)
    running = RunningCounts(TimeIndex(time, item, {"v": values}), items, ("v",), window=window)
    asked = np.sort(rng.integers(-2, 24, 30))
    candidates = rng.integers(-1, items, (30, 4)).astype(np.int32)
    each = PastSums(item, time, [values]).before(candidates, asked)
    everything = PastSums(np.zeros(count, np.int8), time, [values]).before(
        np.zeros(30, np.int8), asked
    )
    for part in (slice(0, 7), slice(7, 7), slice(7, 30)):
        found = running.before(candidates[part], asked[part])
        mine, whole = found.each, found.whole
        for name in ("count", "first_time", "last_time"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(each, name)[part])
        np.testing.assert_array_equal(mine.sums[0], each.sums[0][part])
        np.testing.assert_array_equal(whole.count, everything.count[part])
        np.testing.assert_array_equal(whole.sums[0], everything.sums[0][part])


def plain_choice(choices, recall, positives, known):
    """The choice of `BlendLearner` from all judged requests at once."""
    if positives[known].sum() < 200:
        return None
    table = recall[known].astype(np.float64)
    best = int(table.mean(axis=0).argmax())
    gain = table[:, best] - table[:, 0]
    return choices[best if gain.mean() > gain.std() / np.sqrt(len(gain)) else 0]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31).map(np.random.default_rng), st.integers(1, 60))
def test_running_sums_choose_the_blend_of_all_judged_requests(rng, step):
    count = 240
    choices = share_choices([0.7, 0.3])
    end = rng.integers(0, 1000, count)
    learner = BlendLearner([0.7, 0.3], np.zeros(count, np.uint64), end, fixed=False)
    positives = rng.integers(1, 21, count)
    chance = rng.random(len(choices)) * 0.3 + 0.3
    hits = rng.binomial(positives[:, None], chance)
    recall = (hits / positives[:, None]).astype(np.float32)
    taken = choices[0]
    for start in range(0, count, step):
        part = np.arange(start, min(start + step, count))
        learner.keep(part, hits[part], positives[part])
        moment = int(rng.integers(0, 1100))
        moment = max([moment, *(m for m, _ in learner.taken)])
        learner.advance(moment)
        known = (end < moment) & (np.arange(count) < part[-1] + 1)
        taken = plain_choice(choices, recall, positives, known) or taken
        assert learner.shares == taken


@pytest.mark.parametrize("protocol", ["retrieved", "injected", "exposed"])
def test_small_pieces_and_shards_give_the_same_tables(tmp_path, monkeypatch, protocol):
    exposed = protocol == "exposed"
    source = "kuairand" if exposed else "movielens"
    log = (kuairand_folder if exposed else movielens_folder)(tmp_path / "log")
    options = {"first_fit": 100, "protocol": protocol}
    if not exposed:
        options |= {"factors": 4, "candidates": 20, "stride": 5}
    whole = import_log(source, log, options)
    monkeypatch.setattr("goalrank.logs.importer.rows_at_once", lambda _: 37)
    monkeypatch.setattr("goalrank.logs.candidates.store.SHARD", 29)
    monkeypatch.setattr("goalrank.logs.output.SHARD", 29)
    monkeypatch.setattr("goalrank.logs.candidates.protocols._CELLS", 700)
    out = tmp_path / "out"
    report = import_dataset(source, log, options, out=out)
    assert (out / "train.parquet").is_dir()
    for part in PARTS:
        want, got = getattr(whole, part), Requests.read(out / f"{part}.parquet", allow_empty=True)
        assert_frame_equal(got.frame, want.frame, check_exact=True)
        assert got.info == want.info
        for side in ("items", "users"):
            mine, theirs = getattr(got, side), getattr(want, side)
            assert (mine is None) == (theirs is None)
            assert mine is None or mine.equals(theirs)
    changing = {"seconds", "disk"}
    assert {k: v for k, v in report.items() if k not in changing} == {
        k: v for k, v in whole.report.items() if k not in changing
    }
    assert json.loads((out / "import.json").read_text()) == json.loads(json.dumps(report))
    assert report["disk"]["spilled_mb"] > 0


def test_temporary_files_go_away_also_after_a_crash(tmp_path):
    log = movielens_folder(tmp_path / "log")
    left = tmp_path / "out" / ".import-spill" / "rows"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"left by a killed run")
    import_dataset("movielens", log, {"first_fit": 100, "factors": 4}, out=tmp_path / "out")
    assert not left.parent.exists()
    with pytest.raises(DataError, match="lists nothing"), spilling(tmp_path / "out", print):
        raise DataError("lists nothing")
    assert not left.parent.exists()


def test_two_imports_do_not_write_to_one_folder(tmp_path):
    log = movielens_folder(tmp_path / "log")
    with spilling(tmp_path, print), pytest.raises(DataError, match="another import"):
        import_dataset("movielens", log, {"first_fit": 100, "factors": 4}, out=tmp_path)


def test_a_large_table_replaces_a_small_one_and_the_other_way(tmp_path, monkeypatch):
    log, out = movielens_folder(tmp_path / "log"), tmp_path / "out"
    options = {"first_fit": 100, "factors": 4, "stride": 5}
    import_dataset("movielens", log, options, out=out)
    small = Requests.read(out / "train.parquet").frame
    with monkeypatch.context() as patch:
        patch.setattr("goalrank.logs.output.SHARD", 29)
        import_dataset("movielens", log, options, out=out)
        assert (out / "train.parquet").is_dir()
    import_dataset("movielens", log, options, out=out)
    assert (out / "train.parquet").is_file()
    assert Requests.read(out / "train.parquet").frame.equals(small)


def test_tables_are_written_piece_by_piece_and_features_made_for_kept_requests_alone(
    tmp_path, monkeypatch
):
    folder = movielens_folder(tmp_path / "m")
    options = {"first_fit": 100, "factors": 4, "candidates": 20, "stride": 5, "threads": 2}
    whole = import_log("movielens", folder, options)
    monkeypatch.setattr("goalrank.logs.candidates.protocols._CELLS", 40)
    featured = []
    original = LogFeatures.of

    def counting(self, points, candidates):
        featured.append(len(points))
        return original(self, points, candidates)

    monkeypatch.setattr(LogFeatures, "of", counting)
    report = import_dataset("movielens", folder, options, out=tmp_path / "out")
    for part in ("train", "validation", "test"):
        path = tmp_path / "out" / f"{part}.parquet"
        written = Requests.read(path)
        assert_frame_equal(written.frame, getattr(whole, part).frame, check_exact=True)
        assert written.info == getattr(whole, part).info
    groups = ParquetFile(tmp_path / "out/train.parquet").metadata
    assert groups.num_row_groups > 1
    assert min(groups.row_group(g).num_rows for g in range(groups.num_row_groups)) > 0
    counts = report["counts"]
    assert counts["dropped_few_positives"] > 0
    dropped = counts["dropped_few_positives"] + counts["dropped_single_candidate"]
    assert sum(featured) == counts["requests_placed"] - dropped
