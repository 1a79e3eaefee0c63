"""Requests and side tables made from tensors of a world."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
import torch
from torch import Tensor

from goalrank.requests import Requests, TableInfo
from goalrank.worlds.sampling.request_draws import DrawnRequests
from goalrank.worlds.world.world import PlantedWorld

_TIME = pl.Datetime("us", "UTC")


def _lists(name: str, values: Tensor, keep: Tensor | None, inner: pl.DataType) -> pl.Series:
    """A list column from values [B, W], of which ``keep`` [B, W] are real."""
    rows, width = values.shape
    if keep is None:
        lengths, flat = np.full(rows, width), values.reshape(-1).numpy()
    else:
        lengths, flat = keep.sum(dim=1).numpy(), values[keep].numpy()
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    column = pa.LargeListArray.from_arrays(pa.array(starts), pa.array(flat))
    return pl.Series(name, column).cast(pl.List(inner))


def _info(world: PlantedWorld) -> TableInfo:
    return TableInfo(
        dataset=world.config.name,
        protocol="exposed",
        feedback_kinds=tuple(kind.name for kind in world.config.kinds),
        target="click",
    )


def _feature_vectors(world: PlantedWorld, vectors: Tensor, side: int) -> pl.Series:
    """A noisy copy of latent vectors; the noise depends on the world alone, not on the table."""
    generator = torch.Generator().manual_seed(world.config.seed * 4 + side)
    noise = torch.randn(vectors.shape, generator=generator, dtype=torch.float64)
    shown = vectors.cpu() + world.config.vector_noise * noise
    return _lists("vector", shown, None, pl.Float32())


def item_table(world: PlantedWorld) -> pl.DataFrame:
    """Side table of all items: item_id and the features that the settings expose.

    Args:
        world: the world of the items.
    """
    columns = [pl.Series("item_id", np.arange(world.config.items, dtype=np.int64))]
    if world.config.cluster_feature:
        columns.append(pl.Series("cluster", [f"c{c}" for c in world.latents.cluster.tolist()]))
    columns.append(
        pl.Series("log_popularity", world.popularity_score.cpu().numpy().astype(np.float32))
    )
    if world.config.vector_features:
        columns.append(_feature_vectors(world, world.latents.items, 1))
    return pl.DataFrame(columns)


def user_table(world: PlantedWorld) -> pl.DataFrame | None:
    """Side table of all users; None if the settings expose no user features.

    Args:
        world: the world of the users.
    """
    if not world.config.user_features:
        return None
    ids = pl.Series("user_id", np.arange(world.config.users, dtype=np.int64))
    return pl.DataFrame([ids, _feature_vectors(world, world.latents.users, 2)])


def _history_columns(drawn: DrawnRequests) -> list[pl.Series]:
    width = drawn.history.shape[1]
    real = torch.arange(width) >= width - drawn.history_length[:, None]
    clicked = torch.ones(drawn.history.shape, dtype=torch.float32)
    return [
        _lists("history", drawn.history, real, pl.Int64()),
        _lists("history_feedback", clicked, real, pl.Float32()),
        _lists("history_time", drawn.history_us, real, _TIME),
    ]


def to_table(
    drawn: DrawnRequests,
    lists: Tensor,
    feedback: Tensor,
    propensity: Tensor | None,
    policy: str | None,
    *,
    slot_propensity: Tensor | None = None,
    sides: bool = True,
) -> Requests:
    """Make the requests table of requests with lists and feedback.

    Args:
        drawn: B requests.
        lists: [B, L] shown positions; -1 in empty slots.
        feedback: [B, L, K] aligned with ``lists``.
        propensity: [B] P(list), or None for no column.
        policy: name for the ``policy`` column, or None for no column.
        slot_propensity: [B, L] P(item | items before it), or None for no column.
        sides: whether to attach the side tables.
    """
    world, real = drawn.world, lists >= 0
    number = np.arange(drawn.first, drawn.first + len(drawn.users))
    kinds = [
        _lists(kind.name, feedback[..., k], real, pl.Float32())
        for k, kind in enumerate(world.config.kinds)
    ]
    columns = [
        pl.Series("request_id", number).cast(pl.String),
        pl.Series("user_id", drawn.users.numpy()),
        pl.Series("time", drawn.time_us.numpy()).cast(_TIME),
        *_history_columns(drawn),
        _lists("candidates", drawn.items, None, pl.Int64()),
        _lists("candidate_score", drawn.scores, None, pl.Float32()),
        _lists("shown", lists, real, pl.Int32()),
        pl.DataFrame(kinds).to_struct("feedback"),
    ]
    if propensity is not None:
        columns.append(pl.Series("propensity", propensity.numpy()))
    if slot_propensity is not None:
        columns.append(_lists("slot_propensity", slot_propensity, real, pl.Float64()))
    if policy is not None:
        columns.append(pl.Series("policy", [policy] * len(number)))
    frame = pl.DataFrame(columns).with_columns(
        pl.lit(f"{world.config.name}-").add(pl.col("request_id")).alias("request_id")
    )
    items, users = (item_table(world), user_table(world)) if sides else (None, None)
    return Requests(frame, items=items, users=users, info=_info(world))


def drawn_table(drawn: DrawnRequests) -> Requests:
    """Make the requests table of requests without lists yet.

    Args:
        drawn: B requests.
    """
    rows, kinds = len(drawn.users), len(drawn.world.config.kinds)
    no_lists = torch.empty(rows, 0, dtype=torch.int64)
    return to_table(drawn, no_lists, torch.empty(rows, 0, kinds), None, None)
