"""Every format gives the same log; every fault one screen."""

from __future__ import annotations

import zipfile
from typing import Any

import numpy as np
import polars as pl
import pytest

from goalrank.errors import ConfigError, DataError, GoalRankError, SchemaError
from goalrank.logs import SOURCES, ImportOptions, import_log
from tests.logs.logs_data import exposures, kuairand_folder, movielens_folder, movies, ratings

PLAIN = ImportOptions()


def dat(frame, path):
    lines = ["::".join(str(v) for v in row) for row in frame.iter_rows()]
    path.write_bytes(("\n".join(lines) + "\n").encode("latin-1"))


def write_all(folder):
    """The same ratings in five formats; returns their paths."""
    log, films = ratings(), movies()
    films = films.with_columns(title=pl.col("title").str.replace("Film 3 ", "Café: L'été "))
    (folder / "dat").mkdir()
    dat(log, folder / "dat" / "ratings.dat")
    dat(films, folder / "dat" / "movies.dat")
    with zipfile.ZipFile(folder / "ml.zip", "w") as archive:
        for name in ("ratings", "movies"):
            archive.write(folder / "dat" / f"{name}.dat", f"ml-1m/{name}.dat")
    (folder / "csv").mkdir()
    names = {"user_id": "userId", "item_id": "movieId"}
    log.rename(names).write_csv(folder / "csv" / "ratings.csv")
    films.rename({"item_id": "movieId"}).write_csv(folder / "csv" / "movies.csv")
    with zipfile.ZipFile(folder / "small.zip", "w") as archive:
        for name in ("ratings", "movies"):
            archive.write(folder / "csv" / f"{name}.csv", f"ml-latest-small/{name}.csv")
    movielens_folder(folder / "parquet")
    films.write_parquet(folder / "parquet" / "movies.parquet")
    return [folder / n for n in ("dat", "ml.zip", "csv", "small.zip", "parquet")]


def equal(one: pl.DataFrame | None, other: pl.DataFrame | None) -> bool:
    return one is not None and other is not None and one.equals(other)


def test_movielens_formats_agree(tmp_path):
    logs = [SOURCES["movielens"](path, PLAIN) for path in write_all(tmp_path)]
    for log in logs:
        assert log.events.equals(logs[0].events)
        assert equal(log.items, logs[0].items)
    items: Any = logs[0].items
    assert items.schema["genres"] == pl.List(pl.String)
    assert items["genres"][0].to_list() == ["Action", "Comedy"]
    assert items["genres"][3].to_list() == []
    assert items["year"][3] == 1953
    assert items["title"][3].startswith("Café: L'été")


def test_estimated_times_are_dropped(tmp_path):
    folder = movielens_folder(tmp_path / "m")
    ratings()[:7].select("user_id", "item_id").write_parquet(folder / "approx_timestamps_7.parquet")
    log = SOURCES["movielens"](folder, PLAIN)
    assert log.counts["estimated_times_dropped"] == 7
    assert log.events.height == ratings().height - 7


def test_users_become_categories(tmp_path):
    folder = movielens_folder(tmp_path / "m")
    (folder / "users.dat").write_text("1::F::25::4::12345\n2::M::18::7::00000\n")
    users = SOURCES["movielens"](folder, PLAIN).users
    assert users is not None
    assert users.schema == {
        "user_id": pl.Int64,
        "gender": pl.String,
        "age": pl.String,
        "occupation": pl.String,
    }


def test_amazon_formats(tmp_path):
    log = ratings()
    strings = log.with_columns(
        pl.format("A{}", "user_id").alias("user_id"), pl.format("00{}", "item_id").alias("item_id")
    )
    strings.write_csv(tmp_path / "bare.csv", include_header=False)
    got = SOURCES["amazon"](tmp_path / "bare.csv", PLAIN)
    assert got.kinds == ("rating", "like")
    assert got.events.height == log.height
    assert got.events["user_id"][0] == "A1"
    assert got.events["item_id"].dtype == pl.String
    plain = log.drop("rating").with_columns(pos=pl.int_range(pl.len()))
    (tmp_path / "books").mkdir()
    plain.write_parquet(tmp_path / "books" / "interactions.parquet")
    got = SOURCES["amazon"](tmp_path / "books", PLAIN)
    assert got.kinds == ("interaction",)
    assert got.target == "interaction"


def test_kuairand_publisher_names(tmp_path):
    folder = kuairand_folder(tmp_path / "a")
    log = exposures()
    other = tmp_path / "b" / "data"
    other.mkdir(parents=True)
    pl.concat([log, log[:5]]).rename({"item_id": "video_id"}).write_csv(
        other / "log_standard_4_22_to_5_08_pure.csv"
    )
    items = pl.read_parquet(folder / "item_features.parquet").rename({"item_id": "video_id"})
    items.write_csv(other / "video_features_basic_pure.csv")
    a, b = SOURCES["kuairand"](folder, PLAIN), SOURCES["kuairand"](tmp_path / "b", PLAIN)
    assert b.counts["duplicates_dropped"] == a.counts["duplicates_dropped"] + 5
    assert a.events.equals(b.events)
    assert equal(a.items, b.items)


def test_kuairand_kinds_and_leak_free_items(tmp_path):
    log = SOURCES["kuairand"](kuairand_folder(tmp_path / "a"), PLAIN)
    raw = exposures().unique(maintain_order=True)
    assert log.kinds == ("click", "long_view", "like", "play_time", "play_ratio")
    assert np.allclose(log.events["play_time"], raw["play_time_ms"] / 1000)
    ratio = (raw["play_time_ms"] / raw["duration_ms"]).clip(0, 1)
    assert np.allclose(log.events["play_ratio"], ratio)
    assert log.items is not None
    assert log.items.columns == [
        "item_id",
        "author",
        "video_type",
        "upload_type",
        "music_type",
        "duration",
        "tag",
    ]
    assert log.items["tag"][1].to_list() == ["1", "2"]


def test_earlier_watches_start_the_history(tmp_path):
    folder = kuairand_folder(tmp_path / "a")
    pl.DataFrame(
        {
            "user_id": [0],
            "last_time_ms": [1_500_000_000_000],
            "watch_seq": [[5, 6, 7]],
            "long_watch_seq": [[6, 7]],
            "like_seq": [[7]],
        }
    ).write_parquet(folder / "user_history_sequences.parquet")
    result = import_log("kuairand", folder, {"first_fit": 50})
    first = result.train.frame.filter(pl.col("user_id") == 0).sort("time")
    assert first["history"][0].to_list()[:3] == [5, 6, 7]
    assert first["history_feedback"][0].to_list()[:3] == [1.0, 2.0, 3.0]


def test_interactions_by_mapping(tmp_path):
    names = {"user_id": "who", "item_id": "what", "timestamp": "when", "rating": "stars"}
    ratings().rename(names).write_csv(tmp_path / "log.csv")
    columns = {"user_id": "who", "item_id": "what", "time": "when", "rating": "stars"}
    options = {"columns": columns, "first_fit": 100, "factors": 4, "candidates": 10}
    result = import_log("interactions", tmp_path / "log.csv", options)
    assert result.train.info.target == "like"
    assert result.report["counts"]["rows_read"] == ratings().height


def test_exposures_by_mapping_with_request_ids_and_positions(tmp_path):
    rng = np.random.default_rng(0)
    rows = pl.DataFrame(
        {
            "person": np.repeat(np.arange(20), 16),
            "thing": np.tile(np.arange(8), 40) + np.repeat(np.arange(40), 8),
            "at": np.repeat(np.arange(40) * 3600 + 1_600_000_000, 8),
            "list": np.repeat([f"r{i}" for i in range(40)], 8),
            "slot": np.tile(np.arange(8), 40),
            "bought": rng.integers(0, 2, 320),
            "seconds": rng.random(320) * 30,
        }
    ).sample(fraction=1.0, shuffle=True, seed=1)
    rows.write_parquet(tmp_path / "shown.parquet")
    columns = {
        "user_id": "person", "item_id": "thing", "time": "at", "request_id": "list",
        "position": "slot", "buy": "bought", "seconds": "seconds",
    }  # fmt: skip
    result = import_log(
        "exposures",
        tmp_path / "shown.parquet",
        {"columns": columns, "target": "buy", "first_fit": 50, "fractions": (1.0, 0.0, 0.0)},
    )
    table = result.train
    assert table.info.feedback_kinds == ("buy", "seconds")
    assert len(table) == 40
    for k, row in enumerate(table.frame.sort("time").rows(named=True)):
        assert [row["candidates"][p] for p in row["shown"]] == list(range(k, k + 8))
        want = rows.filter(pl.col("list") == f"r{k}").sort("slot")
        assert row["feedback"]["buy"] == want["bought"].to_list()


@pytest.mark.parametrize("unit", ["s", "ms", "us", "text"])
def test_time_units(tmp_path, unit):
    log = ratings()[:50]
    seconds = log["timestamp"]
    if unit == "text":
        times = pl.from_epoch(seconds, time_unit="s").dt.to_string("%Y-%m-%d %H:%M:%S")
    else:
        times = seconds * {"s": 1, "ms": 1000, "us": 10**6}[unit]
    log.with_columns(timestamp=times).write_csv(tmp_path / "log.csv")
    options = ImportOptions(timezone="UTC") if unit == "text" else PLAIN
    got = SOURCES["interactions"](tmp_path / "log.csv", options)
    assert got.events["time"].to_list() == (seconds * 10**6).to_list()


def broken(tmp_path, what):
    log = ratings(users=3)
    path = tmp_path / "log.csv"
    if what == "misspelt":
        log.rename({"item_id": "itm_id"}).write_csv(path)
    elif what == "missing":
        log.drop("timestamp").write_csv(path)
    elif what == "text rating":
        log.with_columns(rating=pl.lit("good")).write_csv(path)
    elif what == "null id":
        log.with_columns(user_id=pl.when(pl.col("user_id") > 1).then("user_id")).write_csv(path)
    elif what == "bad time":
        log.with_columns(timestamp=pl.lit("soon")).write_csv(path)
    elif what == "header only":
        log.clear().write_csv(path)
    elif what == "empty":
        path.write_bytes(b"")
    elif what == "truncated":
        path = tmp_path / "log.parquet"
        log.write_parquet(path)
        path.write_bytes(path.read_bytes()[:-40])
    elif what == "absent":
        path = tmp_path / "nothing.csv"
    elif what == "ending":
        path = tmp_path / "log.xlsx"
        path.write_bytes(b"x")
    return path


FAULTS = {
    "misspelt": (SchemaError, "did you mean 'itm_id'"),
    "missing": (SchemaError, "time"),
    "text rating": (SchemaError, "'good' in row 0"),
    "null id": (SchemaError, "user_id is empty in row"),
    "bad time": (SchemaError, "soon|unreadable"),
    "header only": (DataError, "no rows"),
    "empty": (DataError, "0 bytes"),
    "truncated": (DataError, "cannot be read as parquet"),
    "absent": (DataError, "nothing found at"),
    "ending": (DataError, "has no rows|unknown"),
}


@pytest.mark.parametrize("what", FAULTS)
def test_errors_are_short_and_name_the_fault(tmp_path, what):
    kind, text = FAULTS[what]
    with pytest.raises(kind, match=text) as caught:
        import_log("interactions", broken(tmp_path, what))
    assert len(str(caught.value)) < 1200
    assert str(caught.value).count("\n") < 10


@pytest.mark.parametrize("keep", ["one user", "one item", "one row"])
def test_tiny_logs_work_or_explain(tmp_path, keep):
    log = ratings()
    log = {
        "one user": log.filter(pl.col("user_id") == 1),
        "one item": log.filter(pl.col("item_id") == 100),
        "one row": log[:1],
    }[keep]
    log.write_csv(tmp_path / "log.csv")
    with pytest.raises(DataError, match="no request is left") as caught:
        import_log(
            "interactions", tmp_path / "log.csv", {"first_fit": 5, "candidates": 10, "factors": 2}
        )
    assert not set("{}") & set(str(caught.value))
    if keep != "one item":
        assert "1 user," in str(caught.value)


def test_a_log_whose_answers_reach_too_far_says_so(tmp_path):
    """Users are at it all the time, so that the next 20 interactions end in the last part."""
    count = 60 * 30
    log = pl.DataFrame(
        {
            "user_id": np.arange(count) % 60,
            "item_id": np.random.default_rng(0).integers(0, 40, count),
            "timestamp": 1_600_000_000 + 600 * np.arange(count),
        }
    )
    log.write_csv(tmp_path / "log.csv")
    options = {"first_fit": 5, "candidates": 10, "factors": 2}
    with pytest.raises(DataError, match=r"left out \d+, whose answers reach.*option: horizon"):
        import_log("interactions", tmp_path / "log.csv", options)
    assert len(import_log("interactions", tmp_path / "log.csv", {**options, "horizon": 3}).train)


def test_damaged_zip(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 nonsense")
    with pytest.raises(DataError, match="damaged zip"):
        import_log("movielens", tmp_path / "a.zip")


@pytest.mark.parametrize(
    ("source", "options", "text"),
    [
        ("netflix", {}, "source 'netflix' is unknown"),
        ("amazon", {}, "needs a file"),
        ("interactions", {}, "needs a file"),
        ("kuairand", {"candiates": 3}, "did you mean 'candidates'"),
        ("kuairand", {"candidates": "many"}, "candidates"),
        ("kuairand", {"fractions": (0.5, 0.1, 0.1)}, "sum to 1"),
        ("kuairand", {"min_list": 9, "max_list": 3}, "max_list"),
        ("kuairand", {"quotas": {"magic": 1.0}}, "quotas.*channel 'magic' is unknown"),
    ],
)
def test_bad_settings(source, options, text):
    with pytest.raises(ConfigError, match=text):
        import_log(source, None, options)


def test_unknown_mapping_and_target(tmp_path):
    ratings().write_csv(tmp_path / "log.csv")
    for options in ({"columns": {"usr": "user_id"}}, {"target": "click"}):
        with pytest.raises(GoalRankError):
            import_log("interactions", tmp_path / "log.csv", options)
