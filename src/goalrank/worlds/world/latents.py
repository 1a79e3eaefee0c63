"""What is planted: tastes, items, clusters, popularity. All from one seed or from given factors."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from goalrank.errors import DataError
from goalrank.worlds.world.config import WorldConfig


@dataclass(frozen=True)
class Latents:
    """The hidden state of a world (float64).

    Attributes:
        users: [U, D] tastes.
        items: [I, D] vectors.
        cluster: [I] cluster of each item, int64 in 0..C-1.
        complement: [C] the cluster that, standing before, helps this one; never itself if C > 1.
        quality: [I] standard normal, what makes an item good for everybody.
        popularity: [I] share of exposure, sums to 1.
        phase: [C] phase of each cluster's season, in turns.
        turns: [K, D, D] rotation of each kind (identity for the click).
    """

    users: Tensor
    items: Tensor
    cluster: Tensor
    complement: Tensor
    quality: Tensor
    popularity: Tensor
    phase: Tensor
    turns: Tensor

    def to(self, device: torch.device | str) -> Latents:
        """A copy on another device."""
        return replace(self, **{f.name: getattr(self, f.name).to(device) for f in fields(self)})


def _unit(x: Tensor) -> Tensor:
    out: Tensor = x / x.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    return out


def _normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def _rotations(kinds: int, dim: int, generator: torch.Generator) -> Tensor:
    """Identity for the click, a random orthogonal matrix for every other kind: [K, D, D]."""
    eye = torch.eye(dim, dtype=torch.float64)
    others = [torch.linalg.qr(_normal(generator, dim, dim))[0] for _ in range(kinds - 1)]
    return torch.stack([eye, *others])


def _complements(clusters: int, generator: torch.Generator) -> Tensor:
    """One random cycle through all clusters, so that none completes itself (if there are two)."""
    order = torch.randperm(clusters, generator=generator)
    complement = torch.empty(clusters, dtype=torch.int64)
    complement[order] = order.roll(1)
    return complement


def _zipf(items: int, skew: float, generator: torch.Generator) -> Tensor:
    rank = torch.randperm(items, generator=generator).to(torch.float64)
    weight = (rank + 1.0).pow(-skew)
    return weight / weight.sum()


def _tastes(centres: Tensor, config: WorldConfig, generator: torch.Generator) -> Tensor:
    """Each user likes a few clusters, unevenly, plus a personal deviation: [U, D] unit vectors."""
    liked = (
        torch.rand(config.users, config.clusters, generator=generator).topk(config.tastes).indices
    )
    weight = torch.empty(config.users, config.tastes, dtype=torch.float64)
    weight.exponential_(1.0, generator=generator)
    weight = weight / weight.sum(dim=1, keepdim=True)
    own = _normal(generator, config.users, config.dim) / math.sqrt(config.dim)
    return _unit(_unit((centres[liked] * weight[..., None]).sum(dim=1)) + config.spread * own)


def planted(config: WorldConfig) -> Latents:
    """Plant a world of clusters; the same config gives the same world on every machine's CPU."""
    generator = torch.Generator().manual_seed(config.seed)
    centres = _unit(_normal(generator, config.clusters, config.dim))
    # Every cluster has an item before the others are drawn, so that none is empty.
    cluster = torch.cat(
        [
            torch.arange(config.clusters),
            torch.randint(config.clusters, (config.items - config.clusters,), generator=generator),
        ]
    )
    own = _normal(generator, config.items, config.dim) / math.sqrt(config.dim)
    return Latents(
        users=_tastes(centres, config, generator),
        items=_unit(centres[cluster] + config.spread * own),
        cluster=cluster,
        complement=_complements(config.clusters, generator),
        quality=_normal(generator, config.items),
        popularity=_zipf(config.items, config.popularity_skew, generator),
        phase=torch.rand(config.clusters, generator=generator, dtype=torch.float64),
        turns=_rotations(len(config.kinds), config.dim, generator),
    )


def _checked(name: str, factors: Tensor) -> Tensor:
    if factors.ndim != 2 or factors.shape[0] == 0 or not bool(torch.isfinite(factors).all()):
        raise DataError(
            f"{name} of shape {tuple(factors.shape)} must be a non-empty finite matrix "
            "[rows, D]; remedy: pass the factors of a fitted factorisation model"
        )
    factors = factors.to(torch.float64)
    # One scale for the whole matrix: rows keep their relative lengths (popular items stay long).
    out: Tensor = factors / factors.norm(dim=1).square().mean().sqrt().clamp_min(1e-12)
    return out


def k_means(x: Tensor, clusters: int, generator: torch.Generator, rounds: int = 20) -> Tensor:
    """Lloyd's algorithm on unit vectors. x [I, D] → cluster of each row [I]."""
    x = _unit(x)
    centres = x[torch.randperm(len(x), generator=generator)[:clusters]]
    nearest = torch.zeros(len(x), dtype=torch.int64)
    for _ in range(rounds):
        nearest = torch.cat([(part @ centres.T).argmax(dim=1) for part in x.split(65_536)])
        sums = torch.zeros_like(centres).index_add_(0, nearest, x)
        empty = sums.norm(dim=1, keepdim=True) < 1e-12
        centres = torch.where(empty, centres, _unit(sums))
    return nearest


def from_factors(
    user_factors: Tensor, item_factors: Tensor, config: WorldConfig, popularity: Tensor | None
) -> Latents:
    """Plant a world on factors fitted elsewhere; clusters come from k-means on the items.

    Raises:
        DataError: a matrix is empty, not finite, or widths differ; popularity does not fit.
    """
    users, items = _checked("user_factors", user_factors), _checked("item_factors", item_factors)
    if users.shape[1] != items.shape[1]:
        raise DataError(
            f"user_factors are {users.shape[1]} wide and item_factors {items.shape[1]}; "
            "they must be equal; remedy: take both from the same model"
        )
    generator = torch.Generator().manual_seed(config.seed)
    weight = _zipf(len(items), config.popularity_skew, generator)
    if popularity is not None:
        weight = popularity.to(torch.float64) + 1.0  # an unseen item keeps a chance
        if weight.shape != (len(items),) or not bool((weight >= 1.0).all()):
            raise DataError(
                f"popularity of shape {tuple(popularity.shape)} must hold a count >= 0 for each "
                f"of the {len(items)} items; remedy: pass interaction counts"
            )
        weight = weight / weight.sum()
    return Latents(
        users=users,
        items=items,
        cluster=k_means(items, config.clusters, generator),
        complement=_complements(config.clusters, generator),
        quality=_normal(generator, len(items)),
        popularity=weight,
        phase=torch.rand(config.clusters, generator=generator, dtype=torch.float64),
        turns=_rotations(len(config.kinds), items.shape[1], generator),
    )
