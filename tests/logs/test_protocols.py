"""What candidates, positives, order and splits mean."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from goalrank.errors import ConfigError
from goalrank.logs import INJECTED_WARNING, import_log
from tests.logs.logs_data import kuairand_folder, movielens_folder, ratings

OPTIONS = {"first_fit": 100, "factors": 4, "candidates": 20, "stride": 5}


def parts(result):
    return [result.train, result.validation, result.test]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return movielens_folder(tmp_path_factory.mktemp("m"))


@pytest.fixture(scope="module")
def retrieved(folder):
    return import_log("movielens", folder, OPTIONS)


@pytest.fixture(scope="module")
def injected(folder):
    return import_log("movielens", folder, {**OPTIONS, "protocol": "injected"})


def test_tables_are_valid(retrieved, injected):
    for table in parts(retrieved) + parts(injected):
        assert len(table) > 0
        assert table.validate() == []


def test_shown_are_the_next_interactions_that_were_retrieved(retrieved):
    log = ratings()
    for table in parts(retrieved):
        for row in table.frame.rows(named=True):
            mine = log.filter(
                (pl.col("user_id") == row["user_id"])
                & (pl.col("timestamp") >= int(row["time"].timestamp()))
            ).sort("timestamp", maintain_order=True)
            mine = mine.filter(pl.col("timestamp") <= mine["timestamp"][min(19, len(mine) - 1)])
            expected = [row["candidates"][p] for p in row["shown"]]
            times = dict(zip(mine["item_id"], mine["timestamp"]))
            assert [times[i] for i in expected] == sorted(times[i] for i in expected)
            certain = mine.filter(pl.col("timestamp") < mine["timestamp"][-1])["item_id"]
            assert {i for i in certain if i in row["candidates"]} <= set(expected)
            stars = dict(zip(mine["item_id"], mine["rating"]))
            assert row["feedback"]["rating"] == [stars[i] for i in expected]
            assert row["feedback"]["like"] == [float(stars[i] >= 4) for i in expected]
            assert max(row["feedback"]["like"]) == 1  # min_positives


def test_candidates_are_distinct_and_unseen(retrieved):
    for table in parts(retrieved):
        for row in table.frame.rows(named=True):
            assert len(set(row["candidates"])) == len(row["candidates"]) == 20
            assert not set(row["candidates"]) & set(row["history"])


def test_injected_includes_all_positives_and_warns(injected):
    for table in parts(injected):
        assert table.info.warning == INJECTED_WARNING
        assert table.info.target == "consumed"
        for row in table.frame.rows(named=True):
            assert len(row["shown"]) == 6
            assert len(row["candidates"]) == 20
    assert INJECTED_WARNING in injected.report["warnings"]


def test_injected_holds_the_last_six_of_every_user(folder):
    log = ratings(ties=False)
    movielens_folder(folder.parent / "noties", log)
    result = import_log(
        "movielens", folder.parent / "noties",
        {**OPTIONS, "protocol": "injected", "fractions": (1.0, 0.0, 0.0)},
    )  # fmt: skip
    last = log.sort("timestamp").group_by("user_id").agg(pl.col("item_id").tail(6))
    wanted = dict(last.iter_rows())
    found: dict[int, list[list[int]]] = {u: [] for u in wanted}
    for row in result.train.frame.rows(named=True):
        found[row["user_id"]].append([row["candidates"][p] for p in row["shown"]])
    ordered = log.sort("timestamp").group_by("user_id").agg(pl.col("timestamp").tail(7))
    clear = {user for user, times in ordered.iter_rows() if len(set(times)) == 7}  # no ties
    assert len(clear) > 40
    hits = [wanted[u] in lists for u, lists in found.items() if u in clear]
    assert all(hits), [(u, wanted[u], found[u]) for u in clear if wanted[u] not in found[u]]


def test_minus_the_retriever_beats_the_retriever_when_injected(injected):
    """The protocol's known fault: no learning, yet far above chance."""
    hits = {1: 0, -1: 0}
    total = 0
    for table in parts(injected):
        for row in table.frame.rows(named=True):
            score = np.array(row["candidate_score"])
            for sign in hits:
                top = np.argsort(-sign * score, kind="stable")[:6]
                hits[sign] += len(set(top.tolist()) & set(row["shown"]))
            total += 6
    assert hits[-1] / total > 0.5 > 0.3 > hits[1] / total


def test_exposed_needs_exposures(folder):
    with pytest.raises(ConfigError, match="retrieved"):
        import_log("movielens", folder, {"protocol": "exposed"})


def test_exposures_can_be_retrieved(tmp_path):
    options = {
        **OPTIONS,
        "protocol": "retrieved",
        "candidates": 10,
        "stride": 2,
        "exclude_seen": False,
    }
    result = import_log("kuairand", kuairand_folder(tmp_path / "k"), options)
    assert result.train.info.protocol == "retrieved"
    assert all(t.validate() == [] for t in parts(result))


def test_order_of_candidates_carries_no_information(injected):
    places = np.concatenate(
        [np.concatenate(table.frame["shown"].to_numpy()) for table in parts(injected)]
    )
    counts = np.bincount(places, minlength=20)
    expected = len(places) / 20
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert chi_square < 45.3  # 99.9 % quantile for 19 degrees of freedom is 43.8


def test_order_of_exposed_candidates_is_not_the_order_shown(tmp_path):
    result = import_log("kuairand", kuairand_folder(tmp_path / "k"), {"first_fit": 100})
    first = np.concatenate([t.frame["shown"].list.first().to_numpy() for t in parts(result)])
    size = np.concatenate([t.frame["shown"].list.len().to_numpy() for t in parts(result)])
    assert abs((first / (size - 1)).mean() - 0.5) < 0.12


def test_time_split_has_no_overlap(retrieved):
    train, validation, test = (t.frame["time"] for t in parts(retrieved))
    assert train.max() < validation.min()
    assert validation.max() < test.min()
    # nor does the feedback of a part lie in the next
    log = ratings()
    for row in retrieved.train.frame.rows(named=True):
        now = int(row["time"].timestamp())
        mine = log.filter((pl.col("user_id") == row["user_id"]) & (pl.col("timestamp") >= now))
        last = mine.sort("timestamp", maintain_order=True)["timestamp"][:20].max()
        assert last < validation.min().timestamp()


def test_user_split_orders_each_user(folder):
    result = import_log(
        "movielens", folder, {**OPTIONS, "split": "user", "fractions": (0.5, 0.25, 0.25)}
    )
    frames = [
        t.frame.select("user_id", "time", pl.lit(k).alias("part"))
        for k, t in enumerate(parts(result))
    ]
    joined = pl.concat(frames).sort("user_id", "time")
    steps = joined.select(pl.col("part").diff().over("user_id")).to_series().drop_nulls()
    assert (steps >= 0).all()
    assert joined["part"].n_unique() == 3


def test_recall_counts_positives_among_the_first_n(retrieved):
    recall = retrieved.report["recall"]
    assert recall["at"] == 20
    for part in ("all", "test"):
        assert set(recall[part]) == {"item_to_item", "factorisation", "popularity", "blend"}
        assert all(0 < v <= 1 for v in recall[part].values())
