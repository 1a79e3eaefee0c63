"""Lists for requests: right ids, right order, in memory and file to file."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import polars as pl
import pytest
import torch

from goalrank.errors import ConfigError, DataError, UnorderedListsWarning, ValidationError
from goalrank.requests import Requests
from tests.bundles.kit import make_bundle
from tests.tables import make_table


@pytest.fixture(scope="module")
def bundle():
    return make_bundle(reward=False)


def test_lists_are_the_rankers_own(bundle):
    table = make_table(40, seed=3)
    lists = bundle.rank(table, slots=4, batch_size=7)
    assert lists["request_id"].to_list() == table.frame["request_id"].to_list()
    assert lists["user_id"].to_list() == table.frame["user_id"].to_list()
    batch = bundle.encoder.encode(table).batch(slice(0, 40))
    with torch.inference_mode():
        wanted = bundle.ranker.rank(batch, 4)
        log_prob = bundle.ranker.log_prob(batch, wanted.unsqueeze(1)).squeeze(1)
    for r, row in enumerate(lists.iter_rows(named=True)):
        positions = [p for p in wanted[r].tolist() if p >= 0]
        assert row["positions"] == positions
        assert row["items"] == [table.frame["candidates"][r][p] for p in positions]
    assert np.allclose(lists["log_prob"].to_numpy(), log_prob.numpy(), atol=1e-5)


@pytest.mark.parametrize("strings", [False, True])
def test_types_of_the_columns(strings):
    bundle = make_bundle(train=make_table(strings=strings), reward=False)
    lists = bundle.rank(make_table(5, seed=1, strings=strings))
    identity = pl.String if strings else pl.Int64
    assert lists.schema == {
        "request_id": pl.String,
        "user_id": identity,
        "items": pl.List(identity),
        "positions": pl.List(pl.Int32),
        "log_prob": pl.Float64,
    }


def test_lists_of_a_model_without_numbers_are_named(monkeypatch):
    """Their log-probability is NaN in the table; nobody reads 10,000 rows to find that out."""
    bundle, table = make_bundle(reward=False), make_table(20, seed=3)
    usual, calls = bundle.ranker.list_log_prob, []

    def damaged(state, batch, lists):
        calls.append(batch.size)
        out = usual(state, batch, lists).clone()
        out[-1] = float("nan")
        return out

    monkeypatch.setattr(bundle.ranker, "list_log_prob", damaged)
    first = table.frame["request_id"][6]
    with pytest.warns(UnorderedListsWarning, match=rf"^3 lists of 20 .* request '{first}'"):
        lists = bundle.rank(table, slots=4, batch_size=7)
    assert calls == [7, 7, 6]
    assert lists["log_prob"].is_nan().sum() == 3


def test_fewer_candidates_than_slots_give_them_all(bundle):
    table = make_table(30, seed=4)
    lists = bundle.rank(table, slots=7)
    sizes = table.frame["candidates"].list.len().to_list()
    assert lists["items"].list.len().to_list() == [min(n, 7) for n in sizes]
    assert min(sizes) < 7


def test_batches_do_not_matter(bundle):
    table = make_table(50, seed=5)
    whole, single = bundle.rank(table, batch_size=50), bundle.rank(table, batch_size=1)
    assert whole.drop("log_prob").equals(single.drop("log_prob"))
    assert np.allclose(whole["log_prob"], single["log_prob"], atol=1e-4)


def test_feedback_is_not_looked_at(bundle):
    table = make_table(20, seed=6)
    blind = Requests(
        table.frame.drop("shown", "feedback"), items=table.items, users=table.users, info=table.info
    )
    assert bundle.rank(blind).equals(bundle.rank(table))


def test_no_requests_no_lists(bundle):
    assert bundle.rank(make_table(5).head(0)).height == 0


@pytest.mark.parametrize("option", [{"slots": 0}, {"batch_size": 0}])
def test_numbers_out_of_range(bundle, option):
    with pytest.raises(ConfigError, match=next(iter(option))):
        bundle.rank(make_table(5), **option)


def test_file_to_file_equals_in_memory(bundle, tmp_path):
    table = make_table(50, seed=7)
    table.write(tmp_path / "requests.parquet")
    seen = []
    out = bundle.rank_file(
        tmp_path / "requests.parquet", tmp_path / "out" / "lists.parquet",
        shard_rows=11, progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert pl.read_parquet(out).drop("log_prob").equals(bundle.rank(table).drop("log_prob"))
    assert seen == [(11, 50), (22, 50), (33, 50), (44, 50), (50, 50)]


def test_shards_are_ranked_in_order(bundle, tmp_path):
    table = make_table(30, seed=8)
    table.head(20).write(tmp_path / "shards")
    Requests.append(tmp_path / "shards", table.take(range(20, 30)))
    bundle.rank_file(tmp_path / "shards", tmp_path / "lists.parquet")
    lists = pl.read_parquet(tmp_path / "lists.parquet")
    assert lists["request_id"].to_list() == table.frame["request_id"].to_list()


def test_faulty_rows_leave_no_file(bundle, tmp_path):
    table = make_table(20, seed=9)
    broken = table.frame.with_columns(shown=pl.lit([99], dtype=pl.List(pl.Int32)))
    Requests(broken, items=table.items, users=table.users, info=table.info).write(
        tmp_path / "requests.parquet"
    )
    with pytest.raises(ValidationError, match="lists were not written"):
        bundle.rank_file(tmp_path / "requests.parquet", tmp_path / "lists.parquet")
    assert not (tmp_path / "lists.parquet").exists()


def test_out_must_be_another_parquet_file(bundle, tmp_path):
    make_table(5).write(tmp_path / "requests.parquet")
    with pytest.raises(ConfigError, match=r"\.parquet"):
        bundle.rank_file(tmp_path / "requests.parquet", tmp_path / "lists.csv")
    with pytest.raises(ConfigError, match="itself"):
        bundle.rank_file(tmp_path / "requests.parquet", tmp_path / "requests.parquet")
    with pytest.raises(DataError, match="does not exist"):
        bundle.rank_file(tmp_path / "absent.parquet", tmp_path / "lists.parquet")


_FULL_DISK = """
    import resource, sys
    from goalrank.errors import DataError
    from tests.bundles.kit import make_bundle
    bundle = make_bundle(reward=False)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
    try:
        bundle.rank_file(sys.argv[1], sys.argv[2], shard_rows=100)
    except DataError as error:
        print(error)
        sys.exit(3)
"""


def test_a_full_disk_leaves_what_was_there(tmp_path):
    make_table(2000).write(tmp_path / "requests.parquet")
    out = tmp_path / "lists.parquet"
    out.write_bytes(b"yesterday's lists")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_FULL_DISK), str(tmp_path / "requests.parquet"), str(out)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "untouched" in done.stdout
    assert out.read_bytes() == b"yesterday's lists"
    assert {p.name for p in tmp_path.iterdir()} == {
        "requests.parquet", "items.parquet", "users.parquet", "lists.parquet",
    }  # fmt: skip
