"""Bundles with random weights: what they do is checked, not how well."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import torch

from goalrank.bundles import Bundle
from goalrank.encoders import EncoderSizes
from goalrank.rankers import RankerConfig, build_ranker
from goalrank.requests import Encoder, Requests
from goalrank.rewards import Ensemble, ListReward, Reward
from goalrank.testing import shake
from tests.tables import make_table

SIZES = EncoderSizes(width=16, layers=1, heads=2, dropout=0.0)
ITEMS = pl.DataFrame(
    {
        "item_id": range(40),
        "colour": [("red", "blue", "green")[i % 3] for i in range(40)],
        "maker": [i // 4 for i in range(40)],
        "paid": [i % 5 == 0 for i in range(40)],
    }
)


def make_reward(encoder: Encoder, seed: int = 0, **arguments: Any) -> ListReward:
    torch.manual_seed(seed)
    return ListReward(
        encoder.spec, SIZES, ("click", "long"), (1.0, 0.5), slots=6, **arguments
    ).eval()


def make_bundle(
    name: str = "goalrank",
    train: Requests | None = None,
    *,
    reward: bool = True,
    slots: int = 4,
    **settings: Any,
) -> Bundle:
    """An untrained (or, where closed form, quickly fitted) ranker in a bundle."""
    train = make_table() if train is None else train
    encoder = Encoder.fit(train)
    torch.manual_seed(0)
    config = RankerConfig(name=name, width=16, layers=1, heads=2, slots=slots, **settings)
    ranker = build_ranker(encoder.spec, config)
    if ranker.closed_form:
        ranker.fit_closed_form(encoder.encode(train), None, slots, 0)
    elif ranker.wide_path is not None:
        shake(ranker)  # untrained its networks give 0
    model: Reward | None = None
    if reward:
        model = Ensemble([make_reward(encoder, 0), make_reward(encoder, 1)], 0.3)
    return Bundle(ranker, config, encoder, model, {"dataset": "small", "seeds": [0]})


def requests_of(n: int, rows: int = 1, seed: int = 0) -> Requests:
    """Requests of exactly n candidates; the colours and makers recur."""
    rng = np.random.default_rng(seed)
    frame = make_table(rows, seed=seed).frame
    frame = frame.with_columns(
        candidates=pl.Series([rng.choice(12, n, replace=False).tolist() for _ in range(rows)]),
        candidate_score=pl.Series([rng.normal(size=n).tolist() for _ in range(rows)]),
        candidate_features=pl.Series(
            rng.normal(size=(rows, n, 2)).tolist(), dtype=pl.List(pl.Array(pl.Float32, 2))
        ),
        shown=pl.lit([], dtype=pl.List(pl.Int32)),
    ).drop("feedback")
    return Requests(frame, info=make_table(1).info)
