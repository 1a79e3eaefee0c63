"""Hidden state of a world: users, items, clusters and popularity, from a seed or from factors."""

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
        users: [U, D] user vectors.
        items: [I, D] item vectors.
        cluster: [I] cluster of each item, int64 in 0..C-1.
        complement: [C] the cluster that raises the logits of this one when it comes before it;
            never the cluster itself if C > 1.
        quality: [I] standard normal; raises an item's logit for all users.
        popularity: [I] shares that sum to 1.
        phase: [C] phase of each cluster's season, as a share of the period.
        rotations: [K, D, D] rotation of each feedback type (identity for the click).
    """

    users: Tensor
    items: Tensor
    cluster: Tensor
    complement: Tensor
    quality: Tensor
    popularity: Tensor
    phase: Tensor
    rotations: Tensor

    def to(self, device: torch.device | str) -> Latents:
        """Copy to another device.

        Args:
            device: the device.
        """
        return replace(self, **{f.name: getattr(self, f.name).to(device) for f in fields(self)})


def _unit(x: Tensor) -> Tensor:
    out: Tensor = x / x.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    return out


def _normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def _rotations(kinds: int, dim: int, generator: torch.Generator) -> Tensor:
    """Identity for the click, a random orthogonal matrix for every other type: [K, D, D]."""
    eye = torch.eye(dim, dtype=torch.float64)
    others = [torch.linalg.qr(_normal(generator, dim, dim))[0] for _ in range(kinds - 1)]
    return torch.stack([eye, *others])


def _complements(clusters: int, generator: torch.Generator) -> Tensor:
    """One random cycle through all clusters, so that none complements itself if there are two."""
    order = torch.randperm(clusters, generator=generator)
    complement = torch.empty(clusters, dtype=torch.int64)
    complement[order] = order.roll(1)
    return complement


def _zipf(items: int, skew: float, generator: torch.Generator) -> Tensor:
    rank = torch.randperm(items, generator=generator).to(torch.float64)
    weight = (rank + 1.0).pow(-skew)
    return weight / weight.sum()


def _user_vectors(centres: Tensor, config: WorldConfig, generator: torch.Generator) -> Tensor:
    """Unit vectors [U, D]: weighted means of a few clusters, plus a deviation per user."""
    liked = (
        torch.rand(config.users, config.clusters, generator=generator).topk(config.tastes).indices
    )
    weight = torch.empty(config.users, config.tastes, dtype=torch.float64)
    weight.exponential_(1.0, generator=generator)
    weight = weight / weight.sum(dim=1, keepdim=True)
    deviation = _normal(generator, config.users, config.dim) / math.sqrt(config.dim)
    return _unit(_unit((centres[liked] * weight[..., None]).sum(dim=1)) + config.spread * deviation)


def planted(config: WorldConfig) -> Latents:
    """Plant a world of clusters; the same settings give the same world on every CPU.

    Args:
        config: settings of the world.
    """
    generator = torch.Generator().manual_seed(config.seed)
    centres = _unit(_normal(generator, config.clusters, config.dim))
    # Every cluster gets one item before the others are drawn, so that none is empty.
    cluster = torch.cat(
        [
            torch.arange(config.clusters),
            torch.randint(config.clusters, (config.items - config.clusters,), generator=generator),
        ]
    )
    deviation = _normal(generator, config.items, config.dim) / math.sqrt(config.dim)
    return Latents(
        users=_user_vectors(centres, config, generator),
        items=_unit(centres[cluster] + config.spread * deviation),
        cluster=cluster,
        complement=_complements(config.clusters, generator),
        quality=_normal(generator, config.items),
        popularity=_zipf(config.items, config.popularity_skew, generator),
        phase=torch.rand(config.clusters, generator=generator, dtype=torch.float64),
        rotations=_rotations(len(config.kinds), config.dim, generator),
    )


def _normalised_factors(name: str, factors: Tensor) -> Tensor:
    if factors.ndim != 2 or factors.shape[0] == 0 or not bool(torch.isfinite(factors).all()):
        raise DataError(
            f"{name} of shape {tuple(factors.shape)} must be a non-empty finite matrix "
            "[rows, D]; remedy: pass the factors of a fitted factorisation model"
        )
    factors = factors.to(torch.float64)
    # One scale for the whole matrix keeps the relative lengths of rows: popular items stay long.
    out: Tensor = factors / factors.norm(dim=1).square().mean().sqrt().clamp_min(1e-12)
    return out


def k_means(x: Tensor, clusters: int, generator: torch.Generator, rounds: int = 20) -> Tensor:
    """Cluster unit vectors by Lloyd's algorithm.

    Args:
        x: [I, D], any lengths (rows are normalised).
        clusters: C.
        generator: source of randomness.
        rounds: iterations.

    Returns:
        [I] cluster of each row, in 0..C-1.
    """
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
    """Make the hidden state from factors; clusters come from k-means on the items.

    Args:
        user_factors: [U, D].
        item_factors: [I, D].
        config: settings of the world.
        popularity: [I] interaction counts; None draws Zipf weights.

    Raises:
        DataError: a matrix is empty or not finite, widths differ, or popularity does not fit.
    """
    users = _normalised_factors("user_factors", user_factors)
    items = _normalised_factors("item_factors", item_factors)
    if users.shape[1] != items.shape[1]:
        raise DataError(
            f"user_factors are {users.shape[1]} wide and item_factors {items.shape[1]}; "
            "they must be equal; remedy: take both from the same model"
        )
    generator = torch.Generator().manual_seed(config.seed)
    weight = _zipf(len(items), config.popularity_skew, generator)
    if popularity is not None:
        weight = (
            popularity.to(torch.float64) + 1.0
        )  # an item without interactions keeps a positive share
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
        rotations=_rotations(len(config.kinds), items.shape[1], generator),
    )
