"""Metrics against ranx, an independent library, on requests where both follow one convention.

They agree on ndcg (linear and exponential gain) and hit rate everywhere; on recall and average precision where
no request has more positives than slots (here both divide by min(#positives, L), there by #positives); on F1
where, besides, every slot can be filled.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from goalrank.evaluation.ranking import metrics as m

os.environ.setdefault("NUMBA_DISABLE_JIT", "1")  # compiling takes minutes, interpreting a second
ranx = pytest.importorskip("ranx", reason="ranx is not installed (extra: dev)")

B, N, L = 300, 12, 6
BOTH = {
    "ndcg@6": lambda v, _: m.ndcg(v),
    "ndcg_burges@6": lambda _, v: m.ndcg(v),
    "hit_rate@6": lambda v, _: m.hit_rate(v),
    "recall@6": lambda v, _: m.recall(v),
    "map@6": lambda v, _: m.average_precision(v),
    "f1@6": lambda v, _: m.f1(v),
}


@pytest.fixture(scope="module")
def compared() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Values [B] of each metric by ranx and by us, for graded relevance and distinct scores."""
    rng = np.random.default_rng(5)
    relevance = np.zeros((B, N))
    for row in relevance:
        chosen = rng.choice(N, rng.integers(1, L + 1), replace=False)
        row[chosen] = rng.integers(1, 5, len(chosen))
    scores = rng.permuted(np.tile(np.arange(N, dtype=float), (B, 1)), axis=1)
    names = [f"d{i:02d}" for i in range(N)]
    qrels = ranx.Qrels(
        {
            f"q{b:03d}": {names[i]: int(relevance[b, i]) for i in np.flatnonzero(relevance[b])}
            for b in range(B)
        }
    )
    run = ranx.Run({f"q{b:03d}": dict(zip(names, scores[b], strict=True)) for b in range(B)})
    theirs = ranx.evaluate(qrels, run, list(BOTH), return_mean=False)
    order = torch.from_numpy(np.argsort(-scores, 1)[:, :L].copy())
    truth, mask = torch.from_numpy(relevance), torch.ones(B, N, dtype=torch.bool)
    linear = m.from_lists(order, truth, mask)
    exponential = m.from_lists(order, truth, mask, gain="exponential")
    ours = {name: of(linear, exponential).numpy() for name, of in BOTH.items()}
    return theirs, ours


@pytest.mark.parametrize("name", BOTH)
def test_each_request_has_the_same_value(compared, name):
    theirs, ours = compared
    np.testing.assert_allclose(ours[name], theirs[name], atol=1e-9)
    assert np.ptp(ours[name]) > 0.5  # the cases differ, so that equality says something
