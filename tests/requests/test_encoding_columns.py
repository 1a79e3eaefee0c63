"""Flat arrays to padded batches, against a second implementation that goes row by row."""

from __future__ import annotations

import errno
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.helpers import make_columns

from goalrank.errors import DataError
from goalrank.requests import Batch, EncodedRequests

COLUMNS = st.builds(
    make_columns,
    requests=st.integers(1, 9),
    n=st.integers(1, 6),
    shown=st.integers(1, 4),
    history=st.integers(0, 5),
    features=st.integers(0, 2),
    kinds=st.sampled_from([(), ("click",), ("click", "like")]).map(tuple),
    protocol=st.sampled_from(["exposed", "retrieved", "injected"]),
    seed=st.integers(0, 10**6),
).map(lambda c: replace(c, target=len(c.kinds) - 1))
quick = settings(max_examples=60, deadline=None)


def naive(columns: EncodedRequests, row: int, limit: int) -> dict[str, list[Any]]:
    """One request's entries, unpadded."""
    h = slice(columns.history_start[row], columns.history_start[row + 1])
    c = slice(columns.candidate_start[row], columns.candidate_start[row + 1])
    s = slice(columns.shown_start[row], columns.shown_start[row + 1])
    keep = slice(max(0, (h.stop - h.start) - limit), None)
    ages = np.log1p(np.maximum(columns.time[row] - columns.history_time[h], 0) / 3.6e9)
    n = c.stop - c.start
    relevance = [0.0] * n
    observed = [columns.protocol != "exposed"] * n
    for place, at in enumerate(columns.shown[s]):
        observed[at] = True
        if columns.target >= 0:
            relevance[at] = float(columns.feedback[s][place, columns.target])
    return {
        "history": columns.history[h][keep].tolist(),
        "history_feedback": columns.history_feedback[h][keep].tolist(),
        "history_age": ages[keep].tolist(),
        "candidates": columns.candidates[c].tolist(),
        "candidate_score": columns.candidate_score[c].tolist(),
        "candidate_features": columns.candidate_features[c].tolist(),
        "shown": columns.shown[s].tolist(),
        "feedback": columns.feedback[s].tolist(),
        "relevance": relevance,
        "observed": observed,
    }


@given(COLUMNS, st.integers(0, 6), st.data())
@quick
def test_batch_against_rows(columns, limit, data) -> None:
    columns = replace(columns, history_limit=limit)
    rows = data.draw(st.lists(st.integers(0, len(columns) - 1), min_size=1, max_size=8))
    batch = columns.batch(rows)
    assert batch.size == len(rows)
    assert batch.index.tolist() == rows
    for name in ("key", "user"):
        assert getattr(batch, name).tolist() == getattr(columns, name)[rows].tolist()
    for b, row in enumerate(rows):
        for name, want in naive(columns, row, limit).items():
            got = getattr(batch, name)[b]
            pad = {"shown": -1}.get(name, 0)
            np.testing.assert_allclose(
                got[: len(want)].numpy(),
                np.array(want).reshape(len(want), *got.shape[1:]),
                rtol=1e-5,
            )
            assert (got[len(want) :] == pad).all(), name
        for mask, values in (("history_mask", "history"), ("candidate_mask", "candidates")):
            n = len(naive(columns, row, limit)[values])
            assert getattr(batch, mask)[b].tolist() == [
                i < n for i in range(getattr(batch, mask).shape[1])
            ]
    assert torch.equal(batch.shown_mask, batch.shown >= 0)


def test_padding_holds_nothing_of_another_request() -> None:
    """The first entry of the flat arrays must not leak into padding, be it no number at all."""
    columns = make_columns(6, 5, seed=1)
    for name in ("candidate_score", "history_feedback"):
        getattr(columns, name)[0] = np.nan
    columns.candidate_features[0] = np.inf
    batch = columns.batch([1, 2, 3, 4, 5])
    for name in ("candidate_score", "candidate_features", "history_feedback"):
        assert getattr(batch, name).isfinite().all(), name


def same(a: Batch, b: Batch) -> None:
    for f in fields(a):
        x, y = getattr(a, f.name), getattr(b, f.name)
        if isinstance(x, torch.Tensor):
            torch.testing.assert_close(x, y, equal_nan=True, rtol=0, atol=0)
        else:
            for g in fields(x):
                assert torch.equal(getattr(x, g.name), getattr(y, g.name))


@given(COLUMNS)
@settings(max_examples=15, deadline=None)
def test_saved_and_mapped_is_the_same(tmp_path_factory, columns) -> None:
    folder = tmp_path_factory.mktemp("c") / "columns"
    assert columns.save(folder) == folder
    loaded = EncodedRequests.load(folder)
    for f in fields(columns):
        a, b = getattr(columns, f.name), getattr(loaded, f.name)
        if isinstance(a, np.ndarray):
            assert isinstance(b, np.memmap) or b.size == 0
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
    assert (loaded.kinds, loaded.target, loaded.protocol) == (
        columns.kinds, columns.target, columns.protocol
    )  # fmt: skip
    same(loaded.batch(slice(None)), columns.batch(slice(None)))


def _full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_saving_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    columns, folder = make_columns(3), tmp_path / "c"
    with monkeypatch.context() as patch:
        patch.setattr(np, "save", _full_disk)
        with pytest.raises(DataError, match="free space"):
            columns.save(folder)
    assert list(tmp_path.iterdir()) == []
    columns.save(folder)
    assert [p.name for p in tmp_path.iterdir()] == ["c"]
    same(EncodedRequests.load(folder).batch([0]), columns.batch([0]))
    with pytest.raises(DataError, match="exists already"):
        make_columns(2).save(folder)
    assert [p.name for p in tmp_path.iterdir()] == ["c"]
    assert len(EncodedRequests.load(folder)) == 3


@pytest.mark.parametrize("damage", ["shown.npy", "columns.json", "items.id_row.npy", "cut"])
def test_damage_is_refused(damage, tmp_path: Path) -> None:
    folder = make_columns(3).save(tmp_path / "c")
    if damage == "cut":
        file = folder / "candidates.npy"
        file.write_bytes(file.read_bytes()[:40])
    else:
        (folder / damage).unlink()
    with pytest.raises(DataError, match="encode the requests again"):
        EncodedRequests.load(folder)
    with pytest.raises(DataError):
        EncodedRequests.load(tmp_path / "none")


@given(st.integers(1, 70), st.integers(1, 9), st.none() | st.integers(0, 99))
@quick
def test_order_covers_every_request_once(requests, batch_size, seed) -> None:
    columns = make_columns(requests)
    order = columns.order(batch_size, seed=seed)
    assert sorted(np.concatenate(order).tolist()) == list(range(requests))
    assert max(map(len, order)) <= batch_size
    assert len(order) == -(-requests // batch_size)
    again = columns.order(batch_size, seed=seed)
    assert all(np.array_equal(a, b) for a, b in zip(order, again, strict=True))
    if seed is None:
        assert np.concatenate(order).tolist() == list(range(requests))
    got = [b.index.tolist() for b in columns.batches(batch_size, seed=seed)]
    assert got == [rows.tolist() for rows in order]


def test_shuffled_orders_differ_and_group_like_lengths() -> None:
    columns = make_columns(256, 12)
    orders = [columns.order(8, seed=s) for s in (0, 1)]
    assert not np.array_equal(np.concatenate(orders[0]), np.concatenate(orders[1]))
    size = np.diff(columns.candidate_start)
    spread = [np.ptp(size[rows]) for rows in orders[0]]
    plain = [np.ptp(size[rows]) for rows in columns.order(8)]
    assert np.mean(spread) < 0.3 * np.mean(plain)


@given(COLUMNS, st.data())
@quick
def test_take(columns, data) -> None:
    rows = data.draw(st.lists(st.integers(0, len(columns) - 1), max_size=6))
    part = columns.take(np.array(rows, dtype=np.int64))
    assert len(part) == len(rows)
    assert part.items is columns.items
    if rows:
        want = columns.batch(rows)
        same(part.batch(slice(None)), replace(want, index=torch.arange(len(rows))))
    again = part.take(slice(0, 1))
    assert len(again) == min(1, len(rows))


def test_to_the_same_device_is_itself() -> None:
    batch = make_columns(2).batch([0])
    assert batch.to("cpu") is batch
    assert batch.items.to("cpu") is batch.items
    assert batch.to("meta").candidates.device.type == "meta"
