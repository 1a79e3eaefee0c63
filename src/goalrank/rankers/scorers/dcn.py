"""DCN-v2: explicit feature crosses beside a deep network (Wang et al., 2021, arXiv 2008.13535)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from goalrank.encoders import EncoderSizes, RequestEncoder, Wide
from goalrank.errors import ConfigError
from goalrank.nn import Linear, at_least_single, mlp, zeroed
from goalrank.rankers.base import Scorer
from goalrank.rankers.initial_order import pointwise_loss
from goalrank.requests import Batch, InputSpec


class DCN(Scorer):
    """A scorer of feature crosses x_{l+1} = x_0 ⊙ (W x_l + b) + x_l, l = 0 … crosses − 1.

    Each layer raises the degree of the polynomial in the inputs by one. The inputs x_0 are the
    item's embedding, the candidate with user and history, the user's context, and the plain
    features as they are. It is pointwise, trained by binary cross-entropy.

    The paper's settings: 2 cross layers, a deep network beside them ("parallel") or on top of them
    ("stacked"), both tried; W of full rank, or W = U Vᵀ of low rank, best at a quarter of the width
    or more. The paper's mixture of low-rank experts is left out.

    Args:
        spec: shapes of the batches.
        sizes: sizes of the network; the deep network has `sizes.layers` layers of 2 D, none for 0.
        crosses: cross layers; 0 leaves the deep network alone (for ablation).
        rank: of W; 0 is full rank.
        structure: "stacked" or "parallel".

    Raises:
        ConfigError: another structure, or a negative number.
    """

    has_graph = True

    def __init__(
        self,
        spec: InputSpec,
        sizes: EncoderSizes,
        *,
        crosses: int = 2,
        rank: int = 0,
        structure: str = "stacked",
    ) -> None:
        super().__init__()
        _check(crosses, rank, structure)
        d = sizes.width
        self.encoder = RequestEncoder(spec, replace(sizes, layers=0))
        width = 3 * d + self.encoder.features.width
        self.crosses = nn.ModuleList([_matrix(width, rank) for _ in range(crosses)])
        self.parallel = structure == "parallel"
        hidden = [2 * d] * sizes.layers
        self.head = zeroed(mlp(width, *hidden, 1, dropout=sizes.dropout))
        self.cross_head = zeroed(nn.Linear(width, 1)) if self.parallel else None
        self.wide = Wide(spec, probabilities=True)

    def scores(self, batch: Batch) -> Tensor:
        """Score the candidates: [B, N]."""
        encoded = self.encoder(batch)
        context = encoded.context[:, None, :].expand_as(encoded.candidates)
        first = torch.cat([encoded.items, encoded.candidates, context, encoded.plain], -1)
        crossed = first
        for matrix in self.crosses:
            crossed = first * matrix(crossed) + crossed
        scores = self.head(crossed if self.cross_head is None else first)
        if self.cross_head is not None:
            scores = scores + self.cross_head(crossed)
        out: Tensor = (at_least_single(scores) + self.wide(batch, encoded.plain)).squeeze(-1)
        return out

    def loss(self, batch: Batch, slots: int) -> Tensor:
        """Binary cross-entropy on candidates with known feedback, a scalar."""
        return pointwise_loss(self.scores(batch), batch)


def _matrix(width: int, rank: int) -> nn.Module:
    """W x + b, with W of full rank or a product of two narrow matrices."""
    if rank == 0:
        return Linear(width, width)
    return nn.Sequential(Linear(width, rank, bias=False), Linear(rank, width))


def _check(crosses: int, rank: int, structure: str) -> None:
    if structure not in ("stacked", "parallel"):
        raise ConfigError(
            f"structure '{structure}' must be stacked or parallel; option: ranker.options.structure"
        )
    for name, value in (("crosses", crosses), ("rank", rank)):
        if value < 0:
            raise ConfigError(f"{name} {value} must be at least 0; option: ranker.options.{name}")
