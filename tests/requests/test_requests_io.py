"""Files: what is written comes back; failures leave the old file; damage is told in words."""

from __future__ import annotations

import errno
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from tests.requests.requests_tables import INFO, hand_frame, hand_table, tables

from goalrank.errors import ConfigError, DataError, SchemaError, ValidationError
from goalrank.requests.table import parquet as io
from goalrank.requests.table.info import FORMAT_VERSION, METADATA_KEY, TableInfo
from goalrank.requests.table.requests import Requests

ITEMS = pl.DataFrame(
    {"item_id": [10, 11, 12], "genre": ["a", "b", "a"], "tags": [["x"], [], ["y"]]}
)
USERS = pl.DataFrame({"user_id": [0, 1], "vector": [[1.0, 2.0], [3.0, 4.0]]})


def same(left: Requests, right: Requests) -> None:
    assert_frame_equal(left.frame, right.frame)
    assert left.info == right.info
    for ours, theirs in ((left.items, right.items), (left.users, right.users)):
        assert (ours is None) == (theirs is None)
        if ours is not None and theirs is not None:
            assert_frame_equal(ours, theirs)


def full_disk(monkeypatch: pytest.MonkeyPatch, after: int) -> list[int]:
    """Let the disk be full after `after` row groups."""
    calls: list[int] = []
    real = pq.ParquetWriter.write_table

    def write_table(self: Any, *args: Any, **options: Any) -> None:
        calls.append(1)
        if len(calls) > after:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(self, *args, **options)

    monkeypatch.setattr(pq.ParquetWriter, "write_table", write_table)
    return calls


@given(tables(min_rows=0), st.sampled_from(["t.parquet", "folder"]))
@settings(max_examples=40, deadline=None)
def test_round_trip(table: Requests, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = table.write(Path(folder) / name)
        same(Requests.read(path, allow_empty=True), table)


@pytest.mark.parametrize("name", ["t.parquet", "folder", "new/deep/t.parquet"])
def test_side_tables_lie_beside(tmp_path: Path, name: str) -> None:
    table = Requests(hand_frame(), items=ITEMS, users=USERS, info=INFO)
    path = table.write(tmp_path / name)
    same(Requests.read(path), table)
    home = path if path.is_dir() else path.parent
    assert {p.name for p in home.glob("*s.parquet")} == {"items.parquet", "users.parquet"}
    other = Requests.read(path, items=ITEMS.head(1))
    assert other.items is not None
    assert other.items.height == 1


def test_side_tables_of_another_id_type_are_refused(tmp_path: Path) -> None:
    path = hand_table().write(tmp_path / "t.parquet")
    with pytest.raises(
        SchemaError, match=r"t.parquet': id types differ: 'items.item_id' is String"
    ):
        Requests.read(path, items=ITEMS.with_columns(pl.col("item_id").cast(pl.String)))


def test_side_table_is_rewritten_only_if_it_differs(tmp_path: Path) -> None:
    path, side = tmp_path / "t.parquet", tmp_path / "items.parquet"
    Requests(hand_frame(), items=ITEMS).write(path)
    before = side.stat().st_ino
    Requests(hand_frame(), items=ITEMS).write(path)
    assert side.stat().st_ino == before
    Requests(hand_frame(), items=ITEMS.head(2)).write(path)
    assert pl.read_parquet(side).height == 2


@pytest.mark.parametrize("after", [0, 1])
def test_a_full_disk_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    path = tmp_path / "t.parquet"
    Requests(hand_frame(), items=ITEMS, info=INFO).write(path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    monkeypatch.setattr(io, "ROW_GROUP", 2)
    calls = full_disk(monkeypatch, after)
    with pytest.raises(
        DataError, match=r"t.parquet.*No space left on device.*untouched; remedy: free"
    ):
        Requests(hand_frame(9, start=20), items=ITEMS.head(1)).write(path)
    calls.clear()
    with pytest.raises(DataError, match="untouched"):
        Requests.append(path, hand_table(9, start=20))
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_an_interrupt_leaves_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pq.ParquetWriter, "write_table", stop)
    with pytest.raises(KeyboardInterrupt):
        hand_table().write(tmp_path / "t.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("a file, not a folder")
    with pytest.raises(DataError, match=r"could not write .*remedy"):
        hand_table().write(tmp_path / "plain" / "t.parquet")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_truncated_files(tmp_path: Path, share: float) -> None:
    path = hand_table().write(tmp_path / "t.parquet")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    for attempt in (lambda: Requests.read(path), lambda: list(Requests.iter_shards(path))):
        with pytest.raises(DataError, match=r"t.parquet' is (no readable Parquet|empty).*remedy"):
            attempt()


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    """Random numbers do not compress, so that only the page's checksum can tell."""
    noise = pl.Series(np.random.default_rng(0).uniform(0.1, 1.0, 500))
    frame = hand_frame(500).with_columns(propensity=noise)
    path = Requests(frame, info=INFO).write(tmp_path / "t.parquet")
    group = pq.ParquetFile(path).metadata.row_group(0)
    columns = [group.column(i) for i in range(group.num_columns)]
    column = next(c for c in columns if c.path_in_schema == "propensity")
    data = bytearray(path.read_bytes())
    data[column.dictionary_page_offset + column.total_compressed_size // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="no readable Parquet"):
        Requests.read(path, validate=False)


def test_paths_that_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        Requests.read(tmp_path / "nowhere.parquet")
    with pytest.raises(DataError, match="does not exist"):
        Requests.iter_shards(tmp_path / "nowhere.parquet")
    with pytest.raises(DataError, match="holds no requests"):
        Requests.read(tmp_path)
    path = hand_table().head(0).write(tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"holds no requests; .*allow_empty=True"):
        Requests.read(path)
    with pytest.raises(DataError, match="holds no requests"):
        list(Requests.iter_shards(path))
    assert len(Requests.read(path, allow_empty=True)) == 0


def test_reading_validates_unless_told_not_to(tmp_path: Path) -> None:
    bad = Requests(hand_frame().with_columns(propensity=pl.lit(2.0)), info=INFO)
    path = bad.write(tmp_path / "t.parquet")
    with pytest.raises(ValidationError, match="4 faults in 4 requests") as caught:
        Requests.read(path)
    assert len(caught.value.faults) == 4
    same(Requests.read(path, validate=False), bad)


def tampered(path: Path, entry: bytes) -> None:
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({METADATA_KEY: entry}), path)


def test_newer_formats_are_refused(tmp_path: Path) -> None:
    path = hand_table().write(tmp_path / "t.parquet")
    entry = json.loads(pq.read_schema(path).metadata[METADATA_KEY])
    entry["format_version"] = FORMAT_VERSION + 1
    entry["info"]["a field of the future"] = 1
    tampered(path, json.dumps(entry).encode())
    with pytest.raises(
        DataError, match=rf"format {FORMAT_VERSION + 1}.*up to {FORMAT_VERSION}.*upgrade"
    ):
        Requests.read(path)


@pytest.mark.parametrize("entry", [b"{", b"[]", b"{}", b'{"format_version": 1, "info": {"x": 1}}'])
def test_damaged_descriptions_are_refused(tmp_path: Path, entry: bytes) -> None:
    path = hand_table().write(tmp_path / "t.parquet")
    tampered(path, entry)
    with pytest.raises(DataError, match=r"description is damaged.*remedy"):
        Requests.read(path)


def test_a_plain_parquet_file_is_welcome(tmp_path: Path) -> None:
    hand_frame().write_parquet(tmp_path / "own.parquet")
    table = Requests.read(tmp_path / "own.parquet")
    assert table.info.feedback_kinds == ("click", "rating")
    assert table.info.target == "click"
    hand_frame().drop("time").write_parquet(tmp_path / "own.parquet")
    with pytest.raises(SchemaError, match=r"own.parquet': missing column 'time'"):
        Requests.read(tmp_path / "own.parquet")


@pytest.mark.parametrize("name", ["t.parquet", "folder"])
def test_append(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for start in (0, 5, 10):  # the first one makes the dataset
        Requests.append(path, hand_table(5, start))
    same(Requests.read(path), hand_table(15))
    assert path.is_dir() == (name == "folder")
    assert len(list(tmp_path.rglob("*.parquet"))) == (3 if name == "folder" else 1)
    before = {p: p.stat().st_ino for p in tmp_path.rglob("*.parquet")}
    Requests.append(path, hand_table(0))
    assert {p: p.stat().st_ino for p in tmp_path.rglob("*.parquet")} == before


@pytest.mark.parametrize("name", ["t.parquet", "folder"])
def test_append_refuses_what_does_not_fit(tmp_path: Path, name: str) -> None:
    path = hand_table(5).write(tmp_path / name)
    cases = [
        (hand_table(3, start=4), r"\['r4'\].*nothing was appended"),
        (Requests(hand_frame(2, 9).drop("policy"), info=INFO), "column 'policy' is absent"),
        (
            Requests(hand_frame(2, 9).with_columns(pl.col("user_id").cast(pl.String)), info=INFO),
            "column 'user_id' is String, before Int64",
        ),
        (
            Requests(hand_frame(2, 9), info=INFO.replace(dataset="b")),
            "TableInfo.dataset is 'b', before",
        ),
        (Requests(pl.concat([hand_frame(1, 9)] * 2), info=INFO), "come twice"),
    ]
    for more, message in cases:
        with pytest.raises(DataError, match=message):
            Requests.append(path, more)
    same(Requests.read(path), hand_table(5))


def test_append_gives_a_plain_file_its_description(tmp_path: Path) -> None:
    path = tmp_path / "own.parquet"
    hand_frame(2).write_parquet(path)
    Requests.append(path, hand_table(2, start=2))
    same(Requests.read(path), hand_table(4))


def test_a_folder_of_shards_is_not_overwritten(tmp_path: Path) -> None:
    path = hand_table().write(tmp_path / "folder")
    with pytest.raises(DataError, match=r"holds shards already; remedy: Requests\.append"):
        hand_table().write(path)


def test_shards_that_differ_are_named(tmp_path: Path) -> None:
    hand_table(2).write(tmp_path / "a.parquet")
    Requests(hand_frame(2, 2), info=INFO.replace(target="rating")).write(tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"b.parquet' does not match.*TableInfo.target is 'rating'"):
        Requests.read(tmp_path)


@given(st.lists(st.integers(0, 7), min_size=1, max_size=4), st.integers(1, 9), st.booleans())
@settings(max_examples=40, deadline=None)
def test_shards_equal_the_whole(sizes: list[int], rows: int, one_file: bool) -> None:
    total = max(sum(sizes), 1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / ("t.parquet" if one_file else "t")
        Requests(hand_frame(0), items=ITEMS, info=INFO).write(folder)
        start = 0
        for size in [*sizes, total - sum(sizes)]:
            Requests.append(folder, hand_table(size, start))
            start += size
        shards = list(Requests.iter_shards(folder, rows))
        assert_frame_equal(pl.concat([s.frame for s in shards]), hand_table(total).frame)
        assert [len(s) for s in shards[:-1]] == [rows] * (len(shards) - 1)
        assert all(s.items is shards[0].items is not None and s.info == INFO for s in shards)


def test_streaming_reads_no_more_than_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = hand_table(1000).write(tmp_path / "t.parquet")
    sizes: list[int] = []
    real = io.conform  # type: ignore[attr-defined]  # imported there, and replaced there below

    def counted(frame: pl.DataFrame, *args: Any, **options: Any) -> Any:
        sizes.append(frame.height)
        return real(frame, *args, **options)

    monkeypatch.setattr(io, "conform", counted)
    first = next(Requests.iter_shards(path, 64))
    assert len(first) == 64
    assert sizes == [64]
    sizes.clear()
    assert sum(len(s) for s in Requests.iter_shards(path, 64)) == 1000
    assert max(sizes) <= 64


def test_rows_of_a_shard(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="rows = 0"):
        Requests.iter_shards(hand_table().write(tmp_path / "t.parquet"), rows=0)


def test_description_survives(tmp_path: Path) -> None:
    info = TableInfo(
        dataset="d", protocol="injected", feedback_kinds=("k",), warning="easy to game"
    )
    table = Requests(hand_frame().drop("feedback", "shown", "candidate_features"), info=info)
    assert Requests.read(table.write(tmp_path / "t.parquet")).info == info
