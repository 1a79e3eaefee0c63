"""From tensors of a world to the requests table."""

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
    """[B, W] values, of which ``keep`` [B, W] are real, as a list column."""
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
    """A noisy copy of latent vectors; the noise is planted too, so every table shows the same."""
    generator = torch.Generator().manual_seed(world.config.seed * 4 + side)
    noise = torch.randn(vectors.shape, generator=generator, dtype=torch.float64)
    shown = vectors.cpu() + world.config.vector_noise * noise
    return _lists("vector", shown, None, pl.Float32())


def item_table(world: PlantedWorld) -> pl.DataFrame:
    """Side table of all items: item_id and the features that the settings expose."""
    columns = [pl.Series("item_id", np.arange(world.config.items, dtype=np.int64))]
    if world.config.cluster_feature:
        columns.append(pl.Series("cluster", [f"c{c}" for c in world.latents.cluster.tolist()]))
    columns.append(pl.Series("log_popularity", world.fame.cpu().numpy().astype(np.float32)))
    if world.config.vector_features:
        columns.append(_feature_vectors(world, world.latents.items, 1))
    return pl.DataFrame(columns)


def user_table(world: PlantedWorld) -> pl.DataFrame | None:
    """Side table of all users, or None when the settings expose nothing of them."""
    if not world.config.user_features:
        return None
    ids = pl.Series("user_id", np.arange(world.config.users, dtype=np.int64))
    return pl.DataFrame([ids, _feature_vectors(world, world.latents.users, 2)])


def _past_columns(asked: DrawnRequests) -> list[pl.Series]:
    width = asked.past.shape[1]
    real = torch.arange(width) >= width - asked.past_length[:, None]
    clicked = torch.ones(asked.past.shape, dtype=torch.float32)
    return [
        _lists("history", asked.past, real, pl.Int64()),
        _lists("history_feedback", clicked, real, pl.Float32()),
        _lists("history_time", asked.past_us, real, _TIME),
    ]


def to_table(
    asked: DrawnRequests,
    lists: Tensor,
    feedback: Tensor,
    propensity: Tensor | None,
    policy: str | None,
    *,
    slot_propensity: Tensor | None = None,
    sides: bool = True,
) -> Requests:
    """The requests table of answered requests.

    Args:
        asked: B requests.
        lists: [B, L] what was shown; -1 where nothing was.
        feedback: [B, L, K] aligned with ``lists``.
        propensity: [B] P(list), or None.
        slot_propensity: [B, L] P(item | items before it), or None for no column.
        policy: name for the ``policy`` column, or None for no column.
        sides: whether to attach the side tables.
    """
    world, real = asked.world, lists >= 0
    number = np.arange(asked.first, asked.first + len(asked.users))
    kinds = [
        _lists(kind.name, feedback[..., k], real, pl.Float32())
        for k, kind in enumerate(world.config.kinds)
    ]
    columns = [
        pl.Series("request_id", number).cast(pl.String),
        pl.Series("user_id", asked.users.numpy()),
        pl.Series("time", asked.time_us.numpy()).cast(_TIME),
        *_past_columns(asked),
        _lists("candidates", asked.items, None, pl.Int64()),
        _lists("candidate_score", asked.scores, None, pl.Float32()),
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


def drawn_table(asked: DrawnRequests) -> Requests:
    """The requests table of requests to which nothing has been shown yet."""
    rows, kinds = len(asked.users), len(asked.world.config.kinds)
    nothing = torch.empty(rows, 0, dtype=torch.int64)
    return to_table(asked, nothing, torch.empty(rows, 0, kinds), None, None)
