"""Every feature against a second, row-by-row implementation."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from goalrank.logs import import_log
from tests.logs.logs_data import exposures, kuairand_folder, movielens_folder, movies, ratings

FIRST_FIT, GROWTH = 100, 1.5


def column(requests, row, name):
    at = requests.info.candidate_features.index(name)
    return [vector[at] for vector in requests.frame["candidate_features"][row].to_list()]


def refit_moment(times, now):
    """The latest refit at or before ``now``, or None."""
    ordered, size, moment = sorted(times), float(FIRST_FIT), None
    while size < len(ordered):
        if ordered[int(size)] <= now:
            moment = ordered[int(size)]
        size = max(size * GROWTH, size + 1)
    return moment


def links(sequences, moment, reach=20):
    """S[a][b] by loops over users, of rows before ``moment``."""
    count: dict[int, int] = {}
    pairs: dict[tuple[int, int], float] = {}
    for rows in sequences.values():
        seen = [item for time, item in rows if time < moment]
        for later, b in enumerate(seen):
            count[b] = count.get(b, 0) + 1
            for step in range(1, min(reach, later) + 1):
                a = seen[later - step]
                pairs[a, b] = pairs.get((a, b), 0.0) + step**-0.25
    return {(a, b): w / count[a] / count[b] ** 0.1 for (a, b), w in pairs.items()}


@pytest.fixture(scope="module")
def exposed(tmp_path_factory):
    folder = kuairand_folder(tmp_path_factory.mktemp("k"))
    result = import_log("kuairand", folder, {"first_fit": FIRST_FIT})
    return exposures().unique(maintain_order=True), result.train


def test_counted_features_of_exposures(exposed):
    log, table = exposed
    rows = log.rows(named=True)
    for k in range(0, len(table), 7):
        now = table.frame["time"][k].timestamp() * 1000
        user = table.frame["user_id"][k]
        past = [r for r in rows if r["time_ms"] < now - 1e-3]
        mean = sum(r["is_click"] for r in past) / max(len(past), 1)
        expected: dict[str, list[float]] = {
            n: []
            for n in ("log_popularity", "click_rate", "item_age", "item_idle", "user_item_count")
        }
        for item in table.frame["candidates"][k]:
            mine = [r for r in past if r["item_id"] == item]
            times = [r["time_ms"] for r in mine]
            expected["log_popularity"].append(math.log1p(len(mine)))
            clicks = sum(r["is_click"] for r in mine)
            expected["click_rate"].append((clicks + 10 * mean) / (len(mine) + 10))
            age = (now - min(times)) / 86_400_000 if mine else 0
            idle = (now - max(times)) / 3_600_000 if mine else 0
            expected["item_age"].append(math.log1p(age))
            expected["item_idle"].append(math.log1p(idle))
            own = sum(r["user_id"] == user for r in mine)
            expected["user_item_count"].append(math.log1p(own))
        for name, values in expected.items():
            assert np.allclose(column(table, k, name), values, atol=1e-5), name


def decayed(rows, now, hours):
    """Count and clicks of rows, each weighed by its age."""
    weights = [2.0 ** (-(now - r["time_ms"]) / 3_600_000 / hours) for r in rows]
    return sum(weights), sum(w * r["is_click"] for w, r in zip(weights, rows))


def test_features_of_late(exposed):
    log, table = exposed
    rows = log.rows(named=True)
    for k in range(3, len(table), 23):
        now = table.frame["time"][k].timestamp() * 1000
        past = [r for r in rows if r["time_ms"] < now - 1e-3]
        mean = sum(r["is_click"] for r in past) / max(len(past), 1)
        for at, item in enumerate(table.frame["candidates"][k]):
            mine = [r for r in past if r["item_id"] == item]
            rate = (sum(r["is_click"] for r in mine) + 10 * mean) / (len(mine) + 10)
            day, clicks = decayed(mine, now, 24)
            week, _ = decayed(mine, now, 168)
            expected = {
                "log_popularity_1d": math.log1p(day),
                "log_popularity_7d": math.log1p(week),
                "popularity_trend": math.log((1 + day) / (1 + week / 7)),
                "click_rate_1d": (clicks + 10 * rate) / (day + 10),
            }
            for name, value in expected.items():
                assert column(table, k, name)[at] == pytest.approx(value, abs=1e-5), name


def test_features_of_the_user(exposed):
    log, table = exposed
    rows = log.sort("user_id", "time_ms", maintain_order=True).rows(named=True)
    positions = set()
    for k in range(1, len(table), 13):
        now = table.frame["time"][k].timestamp() * 1000
        past = [r for r in rows if r["time_ms"] < now - 1e-3]
        mean = sum(r["is_click"] for r in past) / max(len(past), 1)
        mine = [r for r in past if r["user_id"] == table.frame["user_id"][k]]
        rate = (sum(r["is_click"] for r in mine) + 10 * mean) / (len(mine) + 10)
        times = [now, *(r["time_ms"] for r in reversed(mine))]
        session = 0
        while session < min(len(mine), 50) and times[session] - times[session + 1] <= 1_800_000:
            session += 1
        positions.add(session)
        expected = {
            "user_count": math.log1p(len(mine)),
            "user_click_rate": rate,
            "session_position": math.log1p(session),
            "user_idle": math.log1p((now - times[1]) / 3_600_000) if mine else 0,
        }
        for name, value in expected.items():
            got = column(table, k, name)
            assert got == pytest.approx([value] * len(got), abs=1e-5), name
        for at, item in enumerate(table.frame["candidates"][k]):
            same = [r for r in mine[-100:] if r["item_id"] % 7 == item % 7]
            clicks = (sum(r["is_click"] for r in same) + 10 * rate) / (len(same) + 10)
            assert column(table, k, "user_author_click_rate")[at] == pytest.approx(clicks, abs=1e-5)
            count = math.log1p(len(same))
            assert column(table, k, "user_author_count")[at] == pytest.approx(count, abs=1e-5)
    assert len(positions) > 3


def test_linked_features_of_exposures(exposed):
    log, table = exposed
    clicked = log.filter(pl.col("is_click") > 0).sort("user_id", "time_ms", maintain_order=True)
    sequences: dict[int, list[tuple[int, int]]] = {}
    for r in clicked.rows(named=True):
        sequences.setdefault(r["user_id"], []).append((r["time_ms"], r["item_id"]))
    author = {i: i % 7 for i in range(40)}
    checked = 0
    for k in range(0, len(table), 9):
        now = round(table.frame["time"][k].timestamp() * 1000)
        moment = refit_moment(clicked["time_ms"].to_list(), now)
        history = [i for t, i in sequences.get(table.frame["user_id"][k], []) if t < now]
        if moment is None:
            assert not any(column(table, k, "transition_recent"))
            continue
        table_of = links(sequences, moment)
        known = {i for rows in sequences.values() for t, i in rows if t < moment}
        known |= {r["item_id"] for r in log.rows(named=True) if r["time_ms"] < moment}
        recent = history[::-1][:20]
        for at, item in enumerate(table.frame["candidates"][k]):
            want = sum(
                0.87**age * table_of.get((a, item), 0) for age, a in enumerate(recent) if a in known
            )
            assert column(table, k, "transition_recent")[at] == pytest.approx(
                want, rel=1e-4, abs=1e-6
            )
            last = table_of.get((recent[0], item), 0) if recent else 0
            assert column(table, k, "transition_last")[at] == pytest.approx(
                last, rel=1e-4, abs=1e-6
            )
            window = [a for a in history[-50:] if a in known]
            share = np.mean([author[a] == author[item] for a in window]) if window else 0
            share = share if item in known else 0
            assert column(table, k, "author_affinity")[at] == pytest.approx(share, abs=1e-5)
            checked += want > 0
    assert checked > 20


def test_history_is_the_positive_past(exposed):
    log, table = exposed
    for k in range(0, len(table), 11):
        now = round(table.frame["time"][k].timestamp() * 1000)
        mine = log.filter(
            (pl.col("user_id") == table.frame["user_id"][k])
            & (pl.col("time_ms") < now)
            & (pl.col("is_click") > 0)
        ).sort("time_ms", maintain_order=True)
        assert table.frame["history"][k].to_list() == mine["item_id"].to_list()[-50:]


def test_ratings_features(tmp_path):
    folder = movielens_folder(tmp_path / "m")
    table = import_log(
        "movielens", folder, {"first_fit": FIRST_FIT, "candidates": 10, "stride": 5, "factors": 4}
    ).train
    rows = ratings().rows(named=True)
    genres = dict(zip(movies()["item_id"], movies()["genres"].str.split("|")))
    for k in range(0, len(table), 17):
        now = table.frame["time"][k].timestamp()
        past = [r for r in rows if r["timestamp"] < now - 1e-6]
        mean = np.mean([r["rating"] >= 4 for r in past])
        history = table.frame["history"][k].to_list()
        for at, item in enumerate(table.frame["candidates"][k]):
            mine = [r["rating"] >= 4 for r in past if r["item_id"] == item]
            rate = (sum(mine) + 10 * mean) / (len(mine) + 10)
            assert column(table, k, "like_rate")[at] == pytest.approx(rate, abs=1e-5)
            assert column(table, k, "log_popularity")[at] == pytest.approx(
                math.log1p(len(mine)), abs=1e-5
            )
            kept = [g for g in genres[item] if g != "(no genres listed)"]
            share = 0.0
            for g in kept:
                for h in history:
                    of_h = [x for x in genres[h] if x != "(no genres listed)"]
                    share += (g in of_h) / max(len(of_h), 1) / len(history) / len(kept)
            assert column(table, k, "genres_affinity")[at] == pytest.approx(share, abs=1e-4)
