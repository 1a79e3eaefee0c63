"""Encoders on disk: what is read back is what was written, bit for bit."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as options
from tests.requests.requests_tables import tables
from tests.tables import make_table

from goalrank.errors import BundleError, GoalRankError
from goalrank.requests import (
    EncodedRequests,
    Encoder,
    EncoderConfig,
    Requests,
    load_encoder,
    save_encoder,
)


def same_columns(a: EncodedRequests, b: EncodedRequests) -> bool:
    """Equality of every array and table."""
    for f in fields(EncodedRequests):
        x, y = getattr(a, f.name), getattr(b, f.name)
        if f.name in ("items", "users"):
            if not all(torch.equal(getattr(x, g.name), getattr(y, g.name)) for g in fields(x)):
                return False
        elif isinstance(x, np.ndarray):
            if x.dtype != y.dtype or not np.array_equal(x, y, equal_nan=x.dtype.kind == "f"):
                return False
        elif x != y:
            return False
    return True


@pytest.mark.parametrize("strings", [False, True])
def test_round_trip_with_every_feature_type(tmp_path, strings):
    train, new = make_table(strings=strings), make_table(20, seed=1, strings=strings, items=60)
    encoder = Encoder.fit(train, EncoderConfig(history=3, item_buckets=5, min_count=2))
    save_encoder(encoder, tmp_path)
    again = load_encoder(tmp_path)
    assert again.spec == encoder.spec
    assert again.config == encoder.config
    assert again.info == encoder.info
    for table in (train, new):
        assert same_columns(again.encode(table), encoder.encode(table))


@options(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(table=tables())
def test_round_trip_of_any_table(tmp_path_factory, table):
    folder = tmp_path_factory.mktemp("encoder")
    encoder = Encoder.fit(table)
    save_encoder(encoder, folder)
    again = load_encoder(folder)
    assert again.spec == encoder.spec
    assert same_columns(again.encode(table), encoder.encode(table))


def test_table_without_side_tables_and_scores(tmp_path):
    full = make_table()
    bare = Requests(
        full.frame.drop("candidate_score", "candidate_features"),
        info=full.info.replace(candidate_features=()),
    )
    encoder = Encoder.fit(bare)
    save_encoder(encoder, tmp_path)
    again = load_encoder(tmp_path)
    assert again.score is None
    assert again.candidate.shape == (0, 2)
    assert same_columns(again.encode(bare), encoder.encode(bare))


def test_files_hold_no_pickle(tmp_path):
    save_encoder(Encoder.fit(make_table()), tmp_path)
    assert {p.suffix for p in tmp_path.iterdir()} == {".json", ".parquet", ".safetensors"}


@pytest.mark.parametrize(
    "name", ["encoder.json", "encoder.safetensors", "items.ids.parquet", "users.categories.parquet"]
)
@pytest.mark.parametrize("how", ["missing", "cut"])
def test_damage_is_our_error(tmp_path, name, how):
    save_encoder(Encoder.fit(make_table()), tmp_path)
    file = tmp_path / name
    if how == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(BundleError, match="remedy"):
        load_encoder(tmp_path)


def test_ids_keep_their_type(tmp_path):
    save_encoder(Encoder.fit(make_table(strings=True)), tmp_path)
    again = load_encoder(tmp_path)
    assert again.items.vocabulary.ids.dtype == pl.String
    with pytest.raises(GoalRankError, match="cast"):
        again.encode(make_table(strings=False))
