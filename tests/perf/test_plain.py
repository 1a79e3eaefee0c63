"""The plain PRM that ours is measured against: right by its definition, and measured by turns."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from goalrank.nn import softmax_cross_entropy
from tests.rankers.kit import padded, rich_columns, spec_of

PERF = str(Path(__file__).resolve().parents[2] / "perf")
COLUMNS = rich_columns(6, 6, seed=8)


@pytest.fixture
def perf(monkeypatch):
    monkeypatch.syspath_prepend(PERF)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(PERF):
            del sys.modules[name]


@pytest.fixture
def plain(perf) -> Any:
    from plain_prm import PlainPRM

    torch.manual_seed(0)
    return PlainPRM(spec_of(COLUMNS), width=16, layers=1, heads=2).eval()


@torch.no_grad()
def test_padding_changes_no_score(plain):
    batch = COLUMNS.batch(slice(None))
    real = batch.candidate_mask
    torch.testing.assert_close(plain(padded(batch, 2, 3))[:, :-2][real], plain(batch)[real])


def test_its_loss_is_that_of_the_library_where_each_request_has_a_positive(plain):
    batch = COLUMNS.batch(slice(None))
    batch = replace(batch, relevance=batch.candidate_mask.cumsum(1) * batch.candidate_mask / 2)
    want = softmax_cross_entropy(plain(batch), batch.relevance, batch.candidate_mask)
    got = plain.loss(batch)
    torch.testing.assert_close(got, want)
    got.backward()
    assert all(p.grad is not None for p in plain.parameters())


def test_every_comparison_has_its_ratio_and_quartiles(perf):
    from rows_plain import against_plain

    found = {name: (least, result) for name, least, result in against_plain(history=3, pairs=2)}
    assert {least for least, _ in found.values()} == {1.2, 1.5}
    assert len(found) == 3
    for _, result in found.values():
        low, high = result.quartiles
        assert 0 < low <= round(result.ratio, 3) <= high
        assert set(result.ms) == {"plain", "prm"}


def test_the_stages_of_prm_are_those_that_it_has(perf):
    import prm_stages
    from workloads import Sizes, make_models

    models = make_models(Sizes(width=16, layers=1, history=3, features=4, candidates=5), requests=8)
    stages = prm_stages.Stages()
    prm_stages.watch(models, stages)
    models.prm.scores(models.columns.batch(slice(0, 4)))
    named = {"features", "history", "attention", "head", "feed-forward network"}
    assert named <= {name for name, ms in stages.ms.items() if ms >= 0}
