"""Logs of the shapes that firms have: nothing is lost, nothing is guessed in silence."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from goalrank.errors import ConfigError, DataError, GoalRankError, SchemaError
from goalrank.logs import ImportNotes, ImportResult, import_log

DAYS = range(1, 21)


def when(day: int, minute: int = 0, month: int = 1) -> str:
    return f"2026-{month:02d}-{day:02d}T10:{minute:02d}:00Z"


def write(folder: Path, rows: list[str], name: str = "log.csv", separator: str = ",") -> Path:
    path = folder / name
    path.write_text("\n".join(row.replace(",", separator) for row in rows) + "\n")
    return path


def lists(extra: str = "", value: str = "", time: Any = when) -> list[str]:
    """A list of four a day for one of three users; item `day % 4` is clicked."""
    rows = [f"request_id,user_id,item_id,time,click{extra}"]
    for day in DAYS:
        for item in range(4):
            click = int(item == day % 4)
            rows.append(f"r{day},u{day % 3},i{item},{time(day)},{click}{value}")
    return rows


def load(path: Path | str, **options: Any) -> ImportResult:
    return import_log("exposures", path, {"min_list": 1, "min_test_list": 1, **options})


def frame(result: ImportResult) -> pl.DataFrame:
    parts = (result.train, result.validation, result.test)
    return pl.concat([part.frame for part in parts], how="diagonal_relaxed").sort("time")


def clicks(table: pl.DataFrame, kind: str = "click") -> dict[str, list[Any]]:
    """Request id → its clicked items."""
    out = {}
    for row in table.iter_rows(named=True):
        values = row["feedback"][kind]
        out[row["request_id"]] = [
            row["candidates"][at] for at, value in zip(row["shown"], values) if value > 0
        ]
    return out


EXPECTED = {f"r{day}": [f"i{day % 4}"] for day in DAYS}


def guesses(result: ImportResult) -> str:
    return str(result.report["guesses"])


# 1
def test_clicks_in_rows_of_their_own_are_merged(tmp_path):
    rows = ["request_id,user_id,item_id,time,click"]
    for day in DAYS:
        rows += [f"r{day},u{day % 3},i{item},{when(day)},0" for item in range(4)]
        rows.append(f"r{day},u{day % 3},i{day % 4},{when(day, 1)},1")
    result = load(write(tmp_path, rows))
    assert clicks(frame(result)) == EXPECTED
    assert frame(result)["candidates"].list.len().to_list() == [4] * 20
    assert result.report["merged"] == [
        {"what": "rows of one showing (same request and item)", "count": 20}
    ]


def test_an_item_shown_twice_keeps_the_click_of_its_second_showing(tmp_path):
    rows = ["user_id,item_id,time,click"]
    for day in DAYS:
        rows += [f"u1,i{item},{when(day, item)},0" for item in range(3)]
        rows.append(f"u1,i0,{when(day, 4)},1")
    table = frame(load(write(tmp_path, rows)))
    assert table["candidates"].list.len().to_list() == [3] * 20
    assert set(map(tuple, clicks(table).values())) == {("i0",)}


# 2
def test_request_ids_that_count_per_user_are_refused_with_the_remedy(tmp_path):
    rows = ["request_id,user_id,item_id,time,click"]
    for month in (1, 3):
        for day in DAYS:
            for item in range(3):
                rows.append(f"{day},u{month},i{item},{when(day, month=month)},{int(item == 1)}")
    path = write(tmp_path, rows)
    with pytest.raises(SchemaError, match=r"id '1' belongs to 2 users .*request_scope=user"):
        load(path)
    table = frame(load(path, request_scope="user"))
    assert table.filter(pl.col("user_id") == "u3")["time"].min() == datetime(
        2026, 3, 1, 10, tzinfo=UTC
    )
    assert "u3/7" in table["request_id"].to_list()


# 3
def test_day_and_month_are_told_apart_or_refused(tmp_path):
    ambiguous = write(tmp_path, lists(time=lambda day: f"0{day % 9 + 1}/02/2026 10:00"))
    with pytest.raises(SchemaError, match=r"day 3, month 2 or as month 3, day 2.*time_format"):
        load(ambiguous, timezone="UTC")
    clear = write(tmp_path, lists(time=lambda day: f"02/{day:02d}/2026 10:00"), "clear.csv")
    result = load(clear, timezone="UTC")
    assert frame(result)["time"].max() == datetime(2026, 2, 20, 10, tzinfo=UTC)
    assert "%m/%d/%Y" in guesses(result)
    told = load(ambiguous, timezone="UTC", time_format="%m/%d/%Y %H:%M")
    assert frame(told)["time"].max() == datetime(2026, 9, 2, 10, tzinfo=UTC)


def test_an_unreadable_time_is_named_with_row_value_and_remedy(tmp_path):
    rows = lists()
    rows[7] = rows[7].replace(when(2), "yesterday")
    with pytest.raises(SchemaError, match=r"'yesterday' in row 7 .*time_format"):
        load(write(tmp_path, rows))


# 4
def test_naive_times_need_a_time_zone(tmp_path):
    path = write(tmp_path, lists(time=lambda day: f"2026-01-{day:02d} 10:00:00"))
    with pytest.raises(SchemaError, match=r"no time zone; remedy: .*--timezone"):
        load(path)
    table = frame(load(path, timezone="Europe/Paris"))
    assert table["time"].min() == datetime(2026, 1, 1, 9, tzinfo=UTC)
    with pytest.raises(ConfigError, match="timezone 'Mars' is unknown"):
        load(path, timezone="Mars")


# 5, 10
def test_numbers_of_the_caller_are_no_feedback(tmp_path):
    path = write(tmp_path, lists(",price,is_new", ",3.5,1"))
    with pytest.raises(ConfigError, match=r"candidates: click \(0/1\), price, is_new \(0/1\)"):
        load(path)
    result = load(path, kinds=("click",), candidate_features=("price", "is_new"))
    assert result.train.info.feedback_kinds == ("click",)
    assert result.train.info.candidate_features[:2] == ("price", "is_new")
    first = frame(result)["candidate_features"][0].to_list()
    assert [row[:2] for row in first] == [[3.5, 1.0]] * 4
    alone = load(write(tmp_path, lists(",price", ",3.5"), "alone.csv"))
    assert alone.train.info.feedback_kinds == ("click",)
    assert "the only column of 0 and 1" in guesses(alone)


def test_propensities_are_honoured(tmp_path):
    result = load(write(tmp_path, lists(",propensity,policy", ",0.25,old")))
    table = frame(result)
    assert result.train.info.feedback_kinds == ("click",)
    assert table["propensity"].to_list() == [0.25] * 20
    assert table["policy"].to_list() == ["old"] * 20
    rows = lists(",propensity", "")
    rows = [rows[0], *(f"{row},{0.1 * (1 + i % 4):.1f}" for i, row in enumerate(rows[1:]))]
    table = frame(load(write(tmp_path, rows, "slots.csv")))
    got = dict(zip(table["candidates"][0].gather(table["shown"][0]), table["slot_propensity"][0]))
    assert got == pytest.approx({"i0": 0.1, "i1": 0.2, "i2": 0.3, "i3": 0.4})
    assert table["propensity"][0] == pytest.approx(0.1 * 0.2 * 0.3 * 0.4)


# 8
def test_lists_without_ids_are_found_by_their_positions(tmp_path):
    rows = ["user_id,item_id,time,position,click"]
    for hour in range(20):
        for place in range(6):
            stamp = f"2026-01-01T{hour:02d}:00:{place:02d}Z"
            rows.append(f"u1,i{place},{stamp},{place},{int(place == hour % 6)}")
    result = load(write(tmp_path, rows))
    assert frame(result)["candidates"].list.len().to_list() == [6] * 20
    assert "positions start again" in guesses(result)


def test_lists_without_ids_and_positions_are_found_by_their_moment(tmp_path):
    rows = ["user_id,item_id,time,click"]
    for minute in range(20):
        rows += [f"u1,i{i},{when(1, minute)},{int(i == minute % 6)}" for i in range(6)]
    result = load(write(tmp_path, rows))
    assert frame(result)["candidates"].list.len().to_list() == [6] * 20
    assert "rows of one user and moment" in guesses(result)


def test_pauses_decide_where_nothing_else_does_and_that_is_said(tmp_path):
    rows = ["user_id,item_id,time,click"]
    for hour in range(20):
        rows += [
            f"u1,i{i},2026-01-01T{hour:02d}:{i:02d}:00Z,{int(i == hour % 6)}" for i in range(6)
        ]
    result = load(write(tmp_path, rows))
    assert frame(result)["candidates"].list.len().to_list() == [6] * 20
    assert "a pause of 30 minutes" in guesses(result)


# 9
@pytest.mark.parametrize("how", ["null position", "shown = 0"])
def test_candidates_that_were_not_shown_stay_candidates(tmp_path, how):
    rows = [f"request_id,user_id,item_id,time,position,{'shown,' if how[0] == 's' else ''}click"]
    for day in DAYS:
        for item in range(50):
            seen = item < 6
            place = item if seen or how[0] == "s" else ""
            flag = f"{seen:d}," if how[0] == "s" else ""
            click = int(item == day % 6) if seen else ""
            rows.append(f"r{day},u{day % 3},i{item},{when(day)},{place},{flag}{click}")
    table = frame(load(write(tmp_path, rows)))
    assert table["candidates"].list.len().to_list() == [50] * 20
    assert table["shown"].list.len().to_list() == [6] * 20
    assert clicks(table) == {f"r{day}": [f"i{day % 6}"] for day in DAYS}
    in_order = table["candidates"][0].gather(table["shown"][0]).to_list()
    assert in_order == [f"i{item}" for item in range(6)]


def test_items_that_were_not_shown_count_as_no_exposure(tmp_path):
    rows = ["request_id,user_id,item_id,time,position,click"]
    for day in DAYS:
        rows += [f"r{day},u1,i0,{when(day)},0,1", f"r{day},u1,i1,{when(day)},,"]
    result = load(write(tmp_path, rows))
    at = result.train.info.candidate_features.index("log_popularity")
    last = frame(result).row(-1, named=True)
    popularity = dict(zip(last["candidates"], (row[at] for row in last["candidate_features"])))
    assert popularity["i1"] == 0.0
    assert popularity["i0"] > 1.0


# 11
def test_an_import_without_training_requests_or_positives_fails(tmp_path):
    with pytest.raises(ConfigError, match="nothing to train on"):
        load(write(tmp_path, lists()), fractions=(0.0, 0.5, 0.5))
    none = [row.rsplit(",", 1)[0] + ",0" if i else row for i, row in enumerate(lists())]
    with pytest.raises(DataError, match=r"no training request has a positive of 'click'.*target"):
        load(write(tmp_path, none, "none.csv"))
    result = load(write(tmp_path, lists(), "all.csv"), fractions=(1.0, 0.0, 0.0))
    assert any("validation" in warning for warning in result.report["warnings"])


# 12
def test_what_is_left_out_is_counted_and_told(tmp_path):
    rows = lists()
    rows += [f"s{day},u9,i0,{when(day)},1" for day in DAYS]
    result = load(write(tmp_path, rows), min_list=2)
    (left,) = [part for part in result.report["left_out"] if part["option"] == "min_list"]
    assert (left["what"], left["count"], left["of"]) == ("rows", 20, 100)
    (told,) = ImportNotes.from_dict(result.report).left_out
    assert str(told) == (
        "20 of 100 rows (20%): in lists of fewer than 2 items  (otherwise: --set min_list=…)"
    )


# 13
def test_the_order_of_rows_in_the_file_changes_nothing(tmp_path):
    rows = ["user_id,item_id,time,rating"]
    for user in range(12):
        for item in range(24):
            day = 1 + (item * 7 + user) % 5  # many ties
            rows.append(f"u{user},i{item},{when(day)},{1 + (item + user) % 5}")
    tables = []
    for seed in (None, 1, 2):
        body = pl.Series(rows[1:])
        body = body if seed is None else body.sample(fraction=1.0, shuffle=True, seed=seed)
        path = write(tmp_path, [rows[0], *body.to_list()], f"log{seed}.csv")
        result = import_log(
            "interactions", path, {"first_fit": 20, "stride": 3, "candidates": 8, "split": "user"}
        )
        tables.append(frame(result))
    assert tables[1].equals(tables[0])
    assert tables[2].equals(tables[0])


# 14
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_ids_of_any_width_come_back_as_they_are(tmp_path, form):
    base = 2**63
    rows = ["request_id,user_id,item_id,time,click"]
    for day in DAYS:
        for item in range(4):
            rows.append(f"r{day},{base + day % 3},{base + item},{when(day)},{int(item == day % 4)}")
    path = write(tmp_path, rows)
    if form == "parquet":
        table = pl.read_csv(path, schema_overrides={"user_id": pl.UInt64, "item_id": pl.UInt64})
        path = tmp_path / "log.parquet"
        table.write_parquet(path)
    assert clicks(frame(load(path))) == {f"r{day}": [str(base + day % 4)] for day in DAYS}


def test_leading_zeros_stay(tmp_path):
    rows = [row.replace(",i", ",00") for row in lists()]
    rows[0] = lists()[0]
    assert clicks(frame(load(write(tmp_path, rows))))["r1"] == ["001"]


def test_ids_of_two_types_are_refused_with_examples_of_both(tmp_path):
    pl.DataFrame({"item_id": [0, 1, 2, 3], "price": [1.0, 2.0, 3.0, 4.0]}).write_parquet(
        tmp_path / "items.parquet"
    )
    with pytest.raises(SchemaError, match=r"\['i0', .*side table \(\[0, 1, 2\]\)"):
        load(write(tmp_path, lists()))


# formats and layouts
def test_every_format_and_layout_gives_the_same_requests(tmp_path):
    rows = lists()
    plain = pl.read_csv(write(tmp_path, rows))
    packed = tmp_path / "log.csv.gz"
    packed.write_bytes(gzip.compress((tmp_path / "log.csv").read_bytes()))
    plain.write_parquet(tmp_path / "log.parquet")
    plain.write_ndjson(tmp_path / "log.jsonl")
    write(tmp_path, rows, "log.tsv", "\t")
    write(tmp_path, rows, "semicolon.csv", ";")
    write(
        tmp_path,
        [",".join(["", rows[0]]), *(f"{i},{r}" for i, r in enumerate(rows[1:]))],
        "index.csv",
    )
    typed = ["request_id:token,user_id:token,item_id:token,time:token,click:float", *rows[1:]]
    write(tmp_path, typed, "log.inter", "\t")
    parts = tmp_path / "parts"
    parts.mkdir()
    plain[:40].write_parquet(parts / "a.parquet")
    plain[40:].write_parquet(parts / "b.parquet")
    for day in DAYS:
        hive = tmp_path / "hive" / f"day={day}"
        hive.mkdir(parents=True)
        plain.filter(pl.col("request_id") == f"r{day}").write_parquet(hive / "part.parquet")
    by_list = plain.group_by("request_id", "user_id", "time", maintain_order=True).agg(
        items=pl.col("item_id"), click=pl.col("click")
    )
    by_list.write_ndjson(tmp_path / "lists.jsonl")
    by_list.with_columns(
        click=pl.col("items").list.gather(pl.col("click").list.eval(pl.arg_where(pl.element() > 0)))
    ).write_ndjson(tmp_path / "ids.jsonl")
    events = [
        *(f"{r.rsplit(',', 1)[0]},impression" for r in rows[1:]),
        *(f"{r.rsplit(',', 1)[0]},click" for r in rows[1:] if r.endswith(",1")),
    ]
    write(tmp_path, [rows[0].replace("click", "event"), *events], "events.csv")
    names = [
        "log.csv", "log.csv.gz", "log.parquet", "log.jsonl", "log.tsv", "semicolon.csv",
        "index.csv", "log.inter", "parts", "hive", "lists.jsonl", "ids.jsonl", "events.csv",
    ]  # fmt: skip
    for name in names:
        kinds = {"kinds": ("click",)} if name == "ids.jsonl" else {}
        assert clicks(frame(load(tmp_path / name, **kinds))) == EXPECTED, name
    assert clicks(frame(load(str(tmp_path / "parts" / "*.parquet")))) == EXPECTED


def test_answers_in_a_second_file_find_their_lists(tmp_path):
    shown = [row.rsplit(",", 1)[0] for row in lists()]
    answers = ["request_id,item_id,time"]
    answers += [f"r{day},i{day % 4},{when(day, 5)}" for day in DAYS]
    answers += [f"r1,i9,{when(1, 5)}", "r2,i2,2026-01-09T10:00:00Z"]
    path = write(tmp_path, answers, "answers.csv")
    result = load(write(tmp_path, shown), feedback=str(path), kinds=("click",))
    assert clicks(frame(result)) == EXPECTED
    reasons = {part["reason"]: part["count"] for part in result.report["left_out"]}
    assert reasons["answers to items that were not shown before"] == 1
    assert reasons["answers later than 24 hours after the showing"] == 1


def test_decimal_commas_and_truth_values(tmp_path):
    rows = [row.replace(",", ";") for row in lists(",price", ",3.5")]
    rows = [rows[0], *(row.replace("3.5", "3,5") for row in rows[1:])]
    rows = [row.replace(";1;", ";True;").replace(";0;", ";False;") for row in rows]
    path = tmp_path / "de.csv"
    path.write_text("\n".join(rows))
    result = load(path, candidate_features=("price",))
    assert clicks(frame(result)) == EXPECTED
    assert frame(result)["candidate_features"][0][0][0] == 3.5
    assert "decimal sign" in guesses(result)


def test_empty_answers_of_shown_items_are_none_and_that_is_said(tmp_path):
    rows = [row[:-1] if row.endswith(",0") else row for row in lists()]
    result = load(write(tmp_path, rows))
    assert clicks(frame(result)) == EXPECTED
    assert "0 in 60 shown rows" in guesses(result)


def test_requests_keep_their_ids(tmp_path):
    assert set(frame(load(write(tmp_path, lists())))["request_id"]) == set(EXPECTED)


@pytest.mark.parametrize("name", ["runs[new].csv", "a*b.csv"])
def test_names_with_signs_of_a_glob(tmp_path, name):
    assert clicks(frame(load(write(tmp_path, lists(), name)))) == EXPECTED


def test_addresses_are_read(tmp_path):
    import fsspec

    path = write(tmp_path, lists())
    with fsspec.open("memory://logs/log.csv", "wb") as file:
        file.write(path.read_bytes())
    assert clicks(frame(load("memory://logs/log.csv"))) == EXPECTED


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("", "is empty"),
        ("a,b\n", "no column for item_id|has no rows"),
        ("user_id,item_id,time,click\nu1,,2026-01-01T00:00:00Z,1\n", "item_id is empty in row 1"),
        ("user_id,item_id,time,click\nu1,i1,2026-01-01T00:00:00Z,much\n", "kinds"),
    ],
)
def test_faults_name_what_is_wrong(tmp_path, content, match):
    path = tmp_path / "log.csv"
    path.write_text(content)
    with pytest.raises(GoalRankError, match=match):
        load(path)


def test_nothing_found_names_what_can_be_given(tmp_path):
    with pytest.raises(DataError, match="a folder of parts, a glob"):
        load(tmp_path / "absent")


def test_rankings_and_interactions_as_metarank_reads_them(tmp_path):
    lines = []
    for day in DAYS:
        items = [{"id": f"i{item}"} for item in range(4)]
        when_ms = 1_700_000_000_000 + 60_000 * day
        ranking = {"event": "ranking", "id": f"r{day}", "user": f"u{day % 3}", "items": items}
        click = {"event": "interaction", "id": f"c{day}", "ranking": f"r{day}", "type": "click"}
        lines.append(json.dumps({**ranking, "timestamp": str(when_ms)}))
        more = {"item": f"i{day % 4}", "user": f"u{day % 3}", "timestamp": str(when_ms + 900)}
        lines.append(json.dumps({**click, **more}))
    path = tmp_path / "events.jsonl"
    path.write_text("\n".join(lines))
    assert clicks(frame(load(path))) == EXPECTED


def test_a_bandits_log_has_all_items_as_candidates(tmp_path):
    rows = ["item_id,time,position,click,propensity"]
    rows += [f"i{k % 5},{when(1, k)},{k % 3},{int(k % 7 == 0)},0.2" for k in range(40)]
    path = write(tmp_path, rows)
    with pytest.raises(SchemaError, match="request_scope=row"):
        load(path)
    table = frame(load(path, request_scope="row", candidate_set="all"))
    assert table.height == 40
    assert table["candidates"].list.len().to_list() == [5] * 40
    assert table["propensity"].to_list() == [0.2] * 40
    assert clicks(table) == {str(k): [f"i{k % 5}"] if k % 7 == 0 else [] for k in range(40)}


def test_an_order_stands_in_for_times(tmp_path):
    rows = ["request_id,item_id,position,click"]
    rows += [f"{r},i{i},{i},{int(i == r % 4)}" for r in range(20) for i in range(4)]
    path = write(tmp_path, rows)
    with pytest.raises(SchemaError, match="--columns order=NAME"):
        load(path)
    result = load(path, columns={"order": "request_id", "request_id": "request_id"})
    assert clicks(frame(result)) == {str(r): [f"i{r % 4}"] for r in range(20)}
    assert "one second per step of 'request_id'" in guesses(result)


def test_shares_of_channels_follow_what_was_found_before(tmp_path):
    """Items are taken by popularity alone: the other channels lose their places."""
    rng = np.random.default_rng(0)
    rows = ["user_id,item_id,time,rating"]
    weight = 1.0 / np.arange(1, 201)
    for user in range(120):
        chosen = rng.choice(200, 40, replace=False, p=weight / weight.sum())
        start = 1_700_000_000 + int(rng.integers(0, 10**6))
        rows += [f"{user},{item},{start + 60 * n},5" for n, item in enumerate(chosen)]
    path = write(tmp_path, rows)
    options = {"first_fit": 500, "stride": 2, "horizon": 6, "candidates": 20}
    learned = import_log("interactions", path, options).report["recall"]
    fixed = {"item_to_item": 0.7, "factorisation": 0.25, "popularity": 0.05}
    given = import_log("interactions", path, {**options, "quotas": fixed}).report["recall"]
    assert given["shares"] == fixed
    assert learned["shares"]["popularity"] > 0.05
    assert learned["test"]["blend"] >= given["test"]["blend"]
    best = max(learned["test"][name] for name in fixed)
    assert learned["test"]["blend"] > 0.93 * best


# Odd values: each is read as it stands, or refused with the remedy.
def test_empty_lines_are_no_rows_and_that_is_said(tmp_path):
    rows = lists()
    result = load(write(tmp_path, [*rows[:9], "", *rows[9:], ""]))
    assert clicks(frame(result)) == EXPECTED


@pytest.mark.parametrize("ids", [["1e2", "100"], ["12345678901234567890123", "7"]])
def test_ids_that_look_like_other_numbers_stay_apart(tmp_path, ids):
    rows = ["request_id,user_id,item_id,time,click"]
    for day in DAYS:
        rows += [f"r{day},u1,{item},{when(day)},{int(item == ids[0])}" for item in ids]
    found = clicks(frame(load(write(tmp_path, rows))))
    assert {tuple(items) for items in found.values()} == {(ids[0],)}


def test_years_of_two_digits_are_refused(tmp_path):
    with pytest.raises(SchemaError, match="time"):
        load(write(tmp_path, lists(time=lambda day: f"{day:02d}/01/26 10:00")))


def test_text_in_brackets_that_is_not_used_is_left_alone(tmp_path):
    rows = [
        {"request_id": f"r{day}", "user_id": day % 3, "time": when(day), "item_id": [1, 2, 3],
         "click": [1, 0, 0], "note": "[see: ticket 7]", "policy": "[old]"}
        for day in DAYS
    ]  # fmt: skip
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    result = load(path)
    assert len(frame(result)) == 20
    assert frame(result)["policy"].unique().to_list() == ["[old]"]
    for used in ({"kinds": ("note",)}, {"candidate_features": ("note",)}):
        with pytest.raises(SchemaError, match=r"note = .*no JSON array"):
            load(path, **used)


def test_dates_and_times_written_as_one_number(tmp_path):
    rows = lists(time=lambda day: f"202601{day:02d}103000")
    table = frame(load(write(tmp_path, rows), timezone="UTC"))
    assert table["time"].min() == datetime(2026, 1, 1, 10, 30, tzinfo=UTC)


def test_times_of_a_wrong_unit_are_refused(tmp_path):
    rows = lists(time=lambda day: f"{10**16 + day}")
    with pytest.raises(SchemaError, match="1900 to 2200"):
        load(write(tmp_path, rows), time_unit="us")


def test_a_time_too_large_to_count_is_named_by_its_row(tmp_path):
    rows = lists(time=lambda day: f"{10**14 if day == 3 else 1_767_225_600 + day}")
    with pytest.raises(SchemaError, match=r"time = 10{14} in row 9 is .* \(4 rows\)"):
        load(write(tmp_path, rows), time_unit="s")


@pytest.mark.parametrize("value", ["1.5", "0", "-0.2"])
def test_a_propensity_is_a_probability(tmp_path, value):
    path = write(tmp_path, lists(",propensity", f",{value}"))
    with pytest.raises(SchemaError, match="no probability above 0"):
        load(path)


def test_empty_features_are_the_mean_and_that_is_said(tmp_path):
    rows = lists(",price")
    rows = [rows[0], *(f"{row},{'' if at == 0 else 2 + at % 2}" for at, row in enumerate(rows[1:]))]
    result = load(write(tmp_path, rows), candidate_features=("price",))
    assert "empty 'price'" in guesses(result)


@pytest.mark.parametrize("name", ["price", "candidate_score"])
def test_empty_values_are_the_mean_of_training_alone(tmp_path, name):
    """Values grow a hundredfold after training; item i0 never has one."""
    rows = [f"{lists()[0]},{name}"]
    for row in lists()[1:]:
        day = int(row.split(",")[0][1:])
        value = "" if ",i0," in row else (100 * day if day > 14 else 2)
        rows.append(f"{row},{value}")
    features = (name,) if name == "price" else ()
    result = load(write(tmp_path, rows), candidate_features=features, computed_features=False)
    assert f"empty '{name}'" in guesses(result)
    column = "candidate_features" if features else name
    table = frame(result).explode("candidates", column)
    values = table[column].arr.first() if features else table[column]
    assert values.filter(table["candidates"] == "i0").to_list() == [2.0] * len(frame(result))


def test_a_feature_without_a_value_in_training_is_refused(tmp_path):
    rows = [f"{lists()[0]},price"]
    rows += [f"{row},{3 if int(row.split(',')[0][1:]) > 18 else ''}" for row in lists()[1:]]
    with pytest.raises(DataError, match=r"price is empty in all 14 training requests.*options"):
        load(write(tmp_path, rows), candidate_features=("price",))


def test_features_of_the_caller_stay_without_ours(tmp_path):
    path = write(tmp_path, lists(",price", ",2.5"))
    result = load(path, candidate_features=("price",), computed_features=False)
    assert list(result.train.info.candidate_features) == ["price"]


def test_a_feature_must_not_be_a_column_with_a_meaning(tmp_path):
    with pytest.raises(ConfigError, match="uses itself"):
        load(write(tmp_path, lists()), candidate_features=("time",))
